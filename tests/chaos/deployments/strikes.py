"""What is struck at the place of a deployment, by the worker that deploys. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tests.chaos import faults
from tests.chaos.faults import Fault

FOUND_WITHIN_S = 5.0
PAUSE_S = 0.002


def kill_agent(fault: Fault) -> None:
    """The agent program, so long after it was first seen. One that has ended before leaves it to the next one."""
    seen: dict[int, float] = {}
    give_up = time.monotonic() + FOUND_WITHIN_S
    while time.monotonic() < give_up:
        for pid in faults.below(os.getpid()):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[1:3] == [b"-I", b"-"]:
                since = seen.setdefault(pid, time.monotonic())
                if time.monotonic() >= since + fault.into_s:
                    os.kill(pid, signal.SIGKILL)
                    return
        time.sleep(PAUSE_S)


def slots(root: Path) -> dict[str, dict[str, object]]:
    """What is written down about each slot's program."""
    found = {}
    for path in sorted(root.glob("slots/*/state.json")):
        try:
            found[path.parent.name] = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
    return found


def named(root: Path) -> str:
    """What the proxy reads: a port, or the path of a socket; empty when there is none."""
    link, file = root / "active.sock", root / "active_port"
    if link.is_symlink():
        return os.path.normpath(root / os.readlink(link))
    return file.read_text().strip() if file.exists() else ""


def kill_program(root: Path, *, live: bool) -> None:
    """The program of the live slot, or of the other one, and all of its session."""
    goes = named(root)
    for known in slots(root).values():
        if (str(known.get("listens")) == goes) is live and known.get("pid"):
            try:
                os.killpg(int(str(known["pid"])), signal.SIGKILL)
            except ProcessLookupError:
                pass


faults.ACTIONS.update(
    {
        "kill agent": kill_agent,
        "kill live": lambda fault: kill_program(Path(fault.place), live=True),
        "kill idle": lambda fault: kill_program(Path(fault.place), live=False),
    }
)
