"""What is to go wrong, and where. Written by the harness, struck by the worker that gets there first."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

BEFORE, INSIDE, UNSAVED, AFTER, UNDO = "before", "inside", "unsaved", "after", "undo"
POINTS = (BEFORE, INSIDE, AFTER)


@dataclass(frozen=True)
class Fault:
    """Do something to processes at a point of a step, once.

    `before` is before the step is recorded as begun, `inside` while its method runs, `unsaved` before the transaction
    commits in which the method writes its domain rows, `after` when the step is recorded as done, `undo` while its undo
    runs. `delay_s` counts from the beginning of the method; where the method is quicker the
    fault strikes at its end.
    """

    procedure: str
    step: str
    point: str
    action: str  # "kill worker", "kill child", "stop worker", "freeze worker", "freeze all", "kill groups", "cancel"
    delay_s: float = 0.0
    groups: list[int] = field(default_factory=list)
    number: int = 0
    weaken: bool = False  # switches the fence off in the worker it strikes: for the harness's own test
    place: str = ""  # the folder of an environment, for what strikes there
    into_s: float = 0.0  # how old a short program is when it is struck


ACTIONS: dict[str, Callable[[Fault], None]] = {}
"""What else can be done, by name; filled by whoever brings it."""


@dataclass(frozen=True)
class Strike:
    """A fault that has struck."""

    number: int
    at: float  # Unix time
    worker_pid: int  # Celery's main process
    operation: int
    attempt: int


class Faults:
    """The armed faults of a case, in a folder that the harness and the workers share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._plan = folder / "plan.json"

    def arm(self, faults: list[Fault]) -> None:
        for path in self.folder.glob("*"):
            path.unlink()
        scratch = self.folder / "plan.new"
        scratch.write_text(json.dumps([{**asdict(fault), "number": n} for n, fault in enumerate(faults)]))
        scratch.rename(self._plan)

    def armed(self, procedure: str, step: str, point: str) -> Fault | None:
        """The fault for this point that has not struck yet."""
        try:
            plan = [Fault(**values) for values in json.loads(self._plan.read_text())]
        except FileNotFoundError:
            return None
        for fault in plan:
            if (fault.procedure, fault.step, fault.point) == (procedure, step, point) and not self._file(
                fault
            ).exists():
                return fault
        return None

    def strikes(self) -> list[Strike]:
        found = []
        for path in sorted(self.folder.glob("struck-*")):
            try:
                found.append(Strike(**json.loads(path.read_text())))
            except ValueError:
                continue  # being written
        return found

    def _file(self, fault: Fault) -> Path:
        return self.folder / f"struck-{fault.number}"

    # -- in the worker --------------------------------------------------------------------------------------------

    def strike(self, fault: Fault, operation: int, attempt: int) -> None:
        """Write down that it struck, then do it. The second to come does nothing."""
        strike = Strike(fault.number, time.time(), os.getppid(), operation, attempt)
        try:
            fd = os.open(self._file(fault), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return
        os.write(fd, json.dumps(asdict(strike)).encode())
        os.close(fd)
        if fault.action == "kill worker":
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.action == "kill child":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.action == "stop worker":
            os.kill(os.getppid(), signal.SIGTERM)
        elif fault.action == "freeze worker":
            os.killpg(0, signal.SIGSTOP)
        elif fault.action == "freeze all":
            for pid in below(os.getpid()):
                os.kill(pid, signal.SIGSTOP)
            os.killpg(0, signal.SIGSTOP)
        elif fault.action in ACTIONS:
            ACTIONS[fault.action](fault)
        for group in fault.groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass

    @contextmanager
    def during(self, fault: Fault, operation: int, attempt: int) -> Iterator[None]:
        """Strike `delay_s` after the beginning of the block, or at its end when that comes first."""
        timer = threading.Timer(fault.delay_s, self.strike, (fault, operation, attempt))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            self.strike(fault, operation, attempt)


def below(top: int) -> list[int]:
    """The descendants of a process."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {top}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(family - {top})
