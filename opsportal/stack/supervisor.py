"""Keeps processes alive, in order, and takes every one of them down again.

One thread, one loop: start, look who died, restart with a growing pause, stop in reverse order. Every child is bound
to our life by the kernel, so that nothing survives even a killed supervisor.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from opsportal.stack import StackError
from opsportal.stack.process import NotYet, Process, Service, cap_log, describe_exit, record, recorded, spawn

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
HEALTHY_AFTER_S = 60.0
NOT_YET_PAUSE_S = 0.3
NOT_YET_LIMIT_S = 40.0
LEFTOVER_LIMIT_S = 10.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# What it is called, the process, how to ask, how to force, how long to wait in seconds.
_Ending = tuple[str, Process, signal.Signals, signal.Signals, float]


class Stopped(Exception):
    """A person or the system asked us to stop."""


@dataclass
class _Watched:
    service: Service
    process: Process | None = None
    pause_s: float = FIRST_PAUSE_S
    due: float = 0.0  # monotonic time of the next start
    waiting_since: float | None = None


class Supervisor:
    """Runs services until told to stop. Use as a context manager: leaving it stops everything."""

    def __init__(self, *, logs: Path, register: Path, say: Callable[[str], None]) -> None:
        self.logs = logs
        self.register = register
        self.say = say
        self.stops_asked = 0
        self.last_signal = 0
        self.found_leftovers = False  # of a killed supervisor, when we began
        self._watched: list[_Watched] = []
        self._tasks: dict[str, Process] = {}
        self._caps_due = 0.0

    # --- life ---------------------------------------------------------------------------------------------------------
    def __enter__(self) -> "Supervisor":
        self._wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only to wake the loop
        for number in _STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup keeps its meaning
                signal.signal(number, self._on_stop)
        self._end_leftovers()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        # A service manager may signal us and our parent, which passes it on: only Ctrl-C can mean "now, at once".
        if number == signal.SIGINT or not self.stops_asked:
            self.stops_asked += 1
        self.last_signal = number

    def check_stop(self) -> None:
        """Raise Stopped once somebody asked for it."""
        if self.stops_asked:
            raise Stopped

    # --- starting -----------------------------------------------------------------------------------------------------
    def start(self, *services: Service) -> None:
        """Start services now and keep them alive from here on."""
        for service in services:
            watched = _Watched(service)
            self._watched.append(watched)
            self._launch(watched)

    def wait_ready(self, services: Iterable[Service], *, limit_s: float) -> None:
        """Wait until all of them are ready. Raises StackError with the log's last lines, or Stopped."""
        waiting = [w for w in self._watched if w.service in list(services)]
        deadline = time.monotonic() + limit_s
        while waiting := [w for w in waiting if not (w.process and w.service.is_ready(w.process.pid))]:
            self.check_stop()
            if time.monotonic() > deadline:
                service = waiting[0].service
                lines = _indented(waiting[0].process.last_lines()) if waiting[0].process else ""
                raise StackError(
                    f"The {service.title} was not ready after {limit_s:.0f} s.{lines}\nLog: {self._log(service.name)}"
                )
            self.tend()
            self.sleep(0.05)

    def begin_task(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Process:
        """Start a program that is expected to end, such as a migration."""
        process = spawn(argv, env=env, cwd=cwd, log=self._log(name), orphan_signal=signal.SIGTERM)
        self._tasks[name] = process
        self._record()
        return process

    def end_task(self, process: Process) -> int:
        """Wait for a task while looking after the services; its exit code. Raises Stopped."""
        while (code := process.poll()) is None:
            self.check_stop()
            self.tend()
            self.sleep(0.2)
        self._tasks = {name: task for name, task in self._tasks.items() if task is not process}
        return code

    def _launch(self, watched: _Watched) -> None:
        service = watched.service
        now = time.monotonic()
        try:
            service.prepare()
        except NotYet as reason:
            watched.waiting_since = watched.waiting_since or now
            if now - watched.waiting_since < NOT_YET_LIMIT_S:
                watched.due = now + NOT_YET_PAUSE_S
            else:
                self._put_off(watched, f"The {service.title} cannot start: {reason}.")
            return
        except OSError as error:
            self._put_off(watched, f"The {service.title} cannot start: {error}.")
            return
        watched.waiting_since = None
        try:
            watched.process = spawn(
                service.argv,
                env=service.env,
                cwd=service.cwd,
                log=self._log(service.name),
                account=service.account,
                orphan_signal=service.orphan_signal,
            )
        except OSError as error:
            self._put_off(watched, f"The {service.title} cannot start: {error}.")
            return
        self._record()

    # --- keeping alive ------------------------------------------------------------------------------------------------
    def tend(self) -> None:
        """One look at everybody: notice who ended, start again whose pause is over, cap long logs."""
        now = time.monotonic()
        for watched in self._watched:
            process = watched.process
            if process is None:
                if now >= watched.due:
                    self._launch(watched)
            elif (code := process.poll()) is not None:
                watched.process = None
                if now - process.started >= HEALTHY_AFTER_S:
                    watched.pause_s = FIRST_PAUSE_S
                lines = _indented(process.last_lines())
                self._put_off(watched, f"The {watched.service.title} ended ({describe_exit(code)}).{lines}")
        if now >= self._caps_due:
            self._caps_due = now + 60
            for watched in self._watched:
                cap_log(self._log(watched.service.name))

    def sleep(self, limit_s: float) -> None:
        """Sleep, but wake up as soon as a child ends or a signal arrives."""
        try:
            select.select([self._wake_reader], [], [], limit_s)
            while os.read(self._wake_reader, 512):
                pass
        except BlockingIOError:
            pass

    def running(self) -> dict[str, int]:
        """Process ids by name."""
        found = {w.service.name: w.process.pid for w in self._watched if w.process}
        return found | {name: task.pid for name, task in self._tasks.items()}

    def _put_off(self, watched: _Watched, what: str) -> None:
        watched.due = time.monotonic() + watched.pause_s
        log = self._log(watched.service.name)
        self.say(f"{what}\n  Starting it again in {watched.pause_s:.0f} s. Log: {log}")
        watched.pause_s = min(watched.pause_s * 2, LONGEST_PAUSE_S)

    # --- stopping -----------------------------------------------------------------------------------------------------
    def stop(self) -> None:
        """Stop tasks, then services stage by stage from the highest; a further request to stop kills what is left."""
        heard = self.stops_asked
        tasks = [(name, task, signal.SIGTERM, signal.SIGKILL, 5.0) for name, task in self._tasks.items()]
        self._end(tasks, heard)
        running = [(w.service, w.process) for w in self._watched if w.process]
        for stage in sorted({service.stage for service, _ in running}, reverse=True):
            self._end(
                [
                    (service.title, process, service.stop_signal, service.last_resort, service.stop_limit_s)
                    for service, process in running
                    if service.stage == stage
                ],
                heard,
            )
        self._watched, self._tasks = [], {}
        self.register.unlink(missing_ok=True)

    def _end(self, group: list[_Ending], heard: int) -> None:
        """End processes together: ask, wait up to the longest of their limits, then force."""
        for _, process, ask, _, _ in group:
            process.signal(ask)
        begun = time.monotonic()
        limit_s = max((entry[4] for entry in group), default=0.0)
        spoken = False
        while late := [title for title, process, *_ in group if process.poll() is None]:
            waited_s = time.monotonic() - begun
            if waited_s > limit_s or self.stops_asked > heard:
                break
            if waited_s > 3 and not spoken:
                spoken = True
                self.say(f"Waiting up to {limit_s:.0f} s for: {', '.join(late)}. Ctrl-C again kills.")
            self.sleep(0.2)
        for title, process, _, force, _ in group:
            if process.poll() is None:
                self.say(
                    f"Killing {title}" + ("." if self.stops_asked > heard else f": still there after {limit_s:.0f} s.")
                )
                process.signal(force)
                self._wait_end(process, 3)
                process.signal_group(signal.SIGKILL)
                self._wait_end(process, 3)

    def _wait_end(self, process: Process, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while process.poll() is None and time.monotonic() < deadline:
            self.sleep(0.05)

    # --- after a crash ------------------------------------------------------------------------------------------------
    def _end_leftovers(self) -> None:
        """Wait for the processes of a killed supervisor, which the kernel told to end, and end the stubborn ones."""
        deadline = time.monotonic() + LEFTOVER_LIMIT_S
        while left := recorded(self.register):
            self.found_leftovers = True
            if time.monotonic() > deadline:
                for name, pid in left.items():
                    self.say(f"Ending {name} (process {pid}), left over from an earlier run.")
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                deadline += 2
            self.check_stop()
            self.sleep(0.1)
        self.register.unlink(missing_ok=True)

    def _record(self) -> None:
        record(self.register, self.running())

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def _indented(lines: list[str]) -> str:
    return "".join(f"\n    {line}" for line in lines)
