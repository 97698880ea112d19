"""A stand-in for the ERP application: `python service.py start|stop|status FOLDER`.

Start leaves a process in a session of its own, so it outlives the worker that asked for it, and ends when the stack
that was running on this machine's data at the time ends: it watches that supervisor's process. Status ends with 0 when
it runs and with 3 when it does not. FOLDER keeps who it is.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

STOPPED = 3
LOOK_S = 0.5
END_WITHIN_S = 10.0


def start_time(pid: int) -> int | None:
    """When a living process began, in the kernel's ticks; None when it is gone. With the pid it names a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def running(folder: Path) -> int | None:
    """Process id of the stand-in, None when it does not run."""
    try:
        entry = json.loads((folder / "erp.json").read_text())
        pid = int(entry["pid"])
        return pid if start_time(pid) == entry["start_time"] else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def start(folder: Path) -> int:
    if pid := running(folder):
        print(f"The ERP runs already (process {pid}).")
        return 0
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        deadline = time.monotonic() + END_WITHIN_S
        while (pid := running(folder)) is None:
            if time.monotonic() > deadline:
                print("The ERP did not come up.", file=sys.stderr)
                return 1
            time.sleep(0.02)
        print(f"The ERP runs (process {pid}).")
        return 0
    os.setsid()
    if os.fork():
        os._exit(0)
    serve(folder)
    os._exit(0)


def serve(folder: Path) -> None:
    """Be the ERP until told to stop, or until the supervisor of the stack is gone."""
    os.chdir("/")
    with open(os.devnull, "r+b") as nothing:
        for number in (0, 1, 2):
            os.dup2(nothing.fileno(), number)
    os.closerange(3, 256)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    stack = supervisor(folder)
    scratch = folder / "erp.json.new"
    scratch.write_text(json.dumps({"pid": os.getpid(), "start_time": start_time(os.getpid())}))
    scratch.replace(folder / "erp.json")
    while stack is None or start_time(stack[0]) == stack[1]:
        time.sleep(LOOK_S)


def supervisor(folder: Path) -> tuple[int, int] | None:
    """The process that holds DATA_DIR, as the lock beside our folder says; None when none is alive."""
    try:
        pid = int(json.loads((folder.parent / "lock").read_text())["pid"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    begun = start_time(pid)
    return None if begun is None else (pid, begun)


def stop(folder: Path) -> int:
    pid = running(folder)
    if pid is None:
        print("The ERP does not run.")
        return 0
    begun = start_time(pid)
    for number, patience_s in ((signal.SIGTERM, END_WITHIN_S), (signal.SIGKILL, END_WITHIN_S)):
        if start_time(pid) == begun:
            os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while start_time(pid) == begun:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            print("The ERP has stopped.")
            return 0
    print(f"The ERP (process {pid}) does not end.", file=sys.stderr)
    return 1


def status(folder: Path) -> int:
    pid = running(folder)
    print(f"The ERP runs (process {pid})." if pid else "The ERP does not run.")
    return 0 if pid else STOPPED


def main() -> int:
    actions = {"start": start, "stop": stop, "status": status}
    if len(sys.argv) != 3 or sys.argv[1] not in actions:
        print("Use: service.py start|stop|status FOLDER", file=sys.stderr)
        return 2
    return actions[sys.argv[1]](Path(sys.argv[2]))


if __name__ == "__main__":
    sys.exit(main())
