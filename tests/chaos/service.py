"""A service to stop and start: `python service.py start|stop|status FOLDER`. It holds a lock file while it runs."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STOPPED = 3
WITHIN_S = 10


def running(folder: Path) -> bool:
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait(folder: Path, wanted: bool) -> int:
    deadline = time.monotonic() + WITHIN_S
    while running(folder) is not wanted:
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.01)
    return 0


def serve(folder: Path) -> None:
    file = (folder / "lock").open("r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    while os.path.exists(folder / "lock"):  # it ends with the folder of the harness
        time.sleep(0.5)


def main() -> int:
    word, folder = sys.argv[1], Path(sys.argv[2])
    if word == "serve":
        serve(folder)
        return 0
    if word == "status":
        return 0 if running(folder) else STOPPED
    if word == "start":
        if not running(folder):
            subprocess.Popen(
                [sys.executable, "-S", __file__, "serve", str(folder)],
                env={},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        return wait(folder, True)
    if running(folder):
        os.kill(int((folder / "lock").read_text()), signal.SIGTERM)
    return wait(folder, False)


if __name__ == "__main__":
    sys.exit(main())
