"""One supervised process: how it is started, watched, described and stopped."""

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opsportal.stack.identity import Account

LOG_LIMIT_BYTES = 10_000_000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class NotYet(Exception):
    """A service cannot start this moment, but will be able to soon; the message says what it waits for."""


@dataclass
class Service:
    """A process that the supervisor keeps alive."""

    name: str  # of its log file
    title: str  # for people
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path = Path("/")
    account: Account | None = None
    stage: int = 0  # stages stop from the highest to the lowest
    stop_signal: signal.Signals = signal.SIGTERM
    stop_limit_s: float = 10
    orphan_signal: signal.Signals = signal.SIGKILL  # what the kernel sends it when the supervisor dies
    prepare: Callable[[], None] = lambda: None  # before every start; may raise NotYet
    is_ready: Callable[[int], bool] = lambda pid: True
    last_resort: signal.Signals = signal.SIGKILL


@dataclass
class Process:
    """A running instance of a program, its log, and its place in the kernel's table."""

    popen: subprocess.Popen[bytes]
    log: Path
    log_start: int
    started: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def poll(self) -> int | None:
        """Exit code once it ended, after ending what is left of its process group; None while it runs."""
        if self.popen.returncode is None:
            # Look without reaping: until it is reaped the group's number cannot belong to anybody else.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.signal_group(signal.SIGKILL)
            self.popen.wait()
        return self.popen.returncode

    def signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def last_lines(self, count: int = 6) -> list[str]:
        """What it last wrote during this run."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(min(self.log_start, size), size - 8192))
                return file.read().decode(errors="replace").splitlines()[-count:]
        except OSError:
            return []


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    account: Account | None = None,
    orphan_signal: signal.Signals = signal.SIGKILL,
) -> Process:
    """Start a program in its own session, writing to its log, bound to our own life.

    Must be called from the main thread: the kernel's parent-death signal fires when the spawning *thread* ends.
    Raises OSError when the program cannot be executed.
    """
    cap_log(log)
    with log.open("ab") as output:
        log_start = output.tell()  # before the child writes: it shares the position
        popen = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            preexec_fn=die_with_parent(orphan_signal),
            **(account.popen_args() if account else {}),
        )
        return Process(popen, log, log_start)


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A preexec_fn after which the kernel sends the child that signal as soon as we are gone.

    It runs after the change of user (which would reset it) and survives exec. The supervisor has no threads, so
    running Python between fork and exec is safe.
    """
    parent = os.getpid()

    def bind() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # we died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


def cap_log(log: Path) -> None:
    """Keep one older part of a log that has grown too long; the writer's file stays the same (it appends)."""
    try:
        if log.stat().st_size <= LOG_LIMIT_BYTES:
            return
        older = log.with_suffix(".log.1")
        with log.open("rb") as source, older.open("wb") as target:
            source.seek(-LOG_LIMIT_BYTES, os.SEEK_END)
            while part := source.read(1 << 20):
                target.write(part)
        os.truncate(log, 0)
    except FileNotFoundError:
        return


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def start_time(pid: int) -> int | None:
    """When a living process began, in the kernel's ticks; with the pid it names a process for good. None if dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def record(path: Path, processes: Mapping[str, int]) -> None:
    """Write down which processes are ours, so that the next start can wait for what a crash left behind."""
    entries = {name: {"pid": pid, "start_time": start_time(pid)} for name, pid in processes.items()}
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(entries))
    scratch.replace(path)


def recorded(path: Path) -> dict[str, int]:
    """The processes written down there that are still alive: name -> pid."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {
        name: entry["pid"]
        for name, entry in entries.items()
        if entry["start_time"] is not None and start_time(entry["pid"]) == entry["start_time"]
    }
