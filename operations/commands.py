"""Runs programs: no shell, a short list of environment variables, secrets by file descriptor, an end in every case.

Nothing in here knows of the portal's tables. Every command runs below ``operations/guard.py``, which ends it and all
its descendants within a second when the worker dies.
"""

from __future__ import annotations

import io
import os
import re
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from operations.exceptions import CommandFailed
from operations.masking import MASK, Masker, mask
from operations.secret_files import secret_files

GUARD = Path(__file__).with_name("guard.py")
GRACE_S = 5.0
KEPT_BYTES = 64 * 1024
LONGEST_LINE = 16 * 1024
READ_BYTES = 256 * 1024
DRAIN_READS = 16  # after the end: what was in the pipes, but not for ever when a daemon left behind goes on writing

OnLine = Callable[[str, str], None]
OnStdout = Callable[[bytes], None]
ShouldStop = Callable[[], str | None]


@dataclass(frozen=True)
class Command:
    """A program with its arguments and everything it is given.

    ``env`` is added to the allow-list (PATH, HOME, TMPDIR, LANG, LC_ALL, TZ); nothing else of the worker's environment
    reaches the program. ``secrets`` are masked wherever they would appear. ``secret_files`` maps the name of an
    environment variable to the content of a file that exists only in memory (mode 0600) and whose path the variable
    gets, e.g. PGPASSFILE. ``explain`` may know better than the exit code what a failure means.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    secret_files: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 3600
    cwd: Path | None = None
    explain: Callable[[Result], str] | None = field(default=None, repr=False, compare=False)

    def shown(self) -> str:
        """The command as a page displays it: shell quoting, secrets masked, secret files named but not opened."""
        words = [f"{name}={shlex.quote(mask(value, self.secrets))}" for name, value in self.env.items()]
        words += [f"{name}={MASK}" for name in self.secret_files]
        words += [shlex.quote(mask(word, self.secrets)) for word in self.argv]
        return " ".join(words)

    @property
    def program(self) -> str:
        """The program's name without its folder."""
        return os.path.basename(self.argv[0]) if self.argv else ""


@dataclass(frozen=True)
class Result:
    """How a command ended. ``code`` is 128+n after signal n; ``stdout`` and ``stderr`` are masked and capped tails."""

    code: int
    seconds: float
    stdout: bytes = b""
    stderr: str = ""
    dropped_bytes: int = 0
    timed_out: bool = False
    cancelled: bool = False
    stop_reason: str = ""


def base_environment() -> dict[str, str]:
    """What every command sees of the world: where programs and the home folder are, English and UTC."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if os.environ.get(name)}
    return {"PATH": os.defpath, **kept, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run(
    command: Command,
    *,
    stdin: BinaryIO | None = None,
    on_stdout: OnStdout | None = None,
    on_line: OnLine | None = None,
    should_stop: ShouldStop = lambda: None,
    poll_s: float = 0.2,
) -> Result:
    """Run the command to its end and say how it ended; a non-zero code is not an error here.

    ``on_stdout`` gets the raw bytes of standard output as they come (unmasked, not kept). Without it standard output
    is handled like standard error: ``on_line(stream, text)`` gets every masked line and the tail is kept.
    ``should_stop`` is asked every ``poll_s`` seconds; a reason ends the command (SIGTERM, five seconds, SIGKILL).
    An exception out of a callback kills the command at once and is passed on.

    Raises ``CommandFailed`` when the program cannot be started.
    """
    with ExitStack() as stack:
        process, control = _start(command, stdin, stack)
        watcher = _Watcher(command, process, control, on_stdout, on_line, should_stop)
        return watcher.watch(poll_s)


def run_checked(command: Command, *, ok_codes: tuple[int, ...] = (0,), **options: object) -> Result:
    """``run``, but raises ``CommandFailed`` with a sentence when the command did not end well."""
    result = run(command, **options)  # type: ignore[arg-type]
    if result.timed_out or result.cancelled or result.code not in ok_codes:
        raise CommandFailed(_sentence(command, result), result)
    return result


def _sentence(command: Command, result: Result) -> str:
    name = command.program
    if result.cancelled:
        return f"{name} was stopped: {result.stop_reason}"
    if result.timed_out:
        return (
            f"{name} was still running after {command.timeout_s:g} seconds and was ended. "
            "Allow more time, or look at what it waits for."
        )
    if command.explain and (sentence := command.explain(result)):
        return sentence
    how = f"exit code {result.code}" if result.code < 128 else f"signal {result.code - 128}"
    last = [line for line in result.stderr.strip().splitlines() if line.strip()][-2:]
    said = " It said: " + " / ".join(last)[-500:] if last else " It said nothing; look at the log of the operation."
    return f"{name} failed ({how}).{said}"


def _start(command: Command, stdin: BinaryIO | None, stack: ExitStack) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the guard with the command; everything opened for it is closed with ``stack``."""
    environment = {**base_environment(), **command.env}
    _check(command, environment)
    control, guard_end = socket.socketpair()
    stack.callback(control.close)
    environment.update(stack.enter_context(secret_files(command.secret_files)))
    with guard_end:
        guard = [sys.executable, "-I", "-S", str(GUARD), str(guard_end.fileno()), str(os.getpid()), "--"]
        source, feeder = _stdin(stdin)
        try:
            process = subprocess.Popen(
                [*guard, *command.argv],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=command.cwd,
                start_new_session=True,
                pass_fds=(guard_end.fileno(),),
                bufsize=0,
            )
        except OSError as error:
            raise _not_started(f"{command.program} could not be started: {error.strerror or error}.") from error
    stack.callback(_end, process, control)
    if feeder and process.stdin:
        threading.Thread(target=_feed, args=(feeder, process.stdin), daemon=True).start()
    return process, control


def _check(command: Command, environment: Mapping[str, str]) -> None:
    """Refuse what cannot be started, with a sentence."""
    if not command.argv or not command.argv[0]:
        raise _not_started("The command is empty. Correct the settings it is made from.")
    if any("\0" in text for text in (*command.argv, *environment.values(), *environment)):
        raise _not_started(
            f"{command.program} was given a text with a zero byte in it. Correct the value it comes from."
        )
    if command.cwd is not None and not command.cwd.is_dir():
        raise _not_started(f"The folder {command.cwd} does not exist. Create it or correct the setting.")
    if shutil.which(command.argv[0], path=environment["PATH"]) is None:
        where = "" if os.sep in command.argv[0] else f" on the PATH ({environment['PATH']})"
        raise _not_started(
            f"The program {command.argv[0]} was not found{where}, or may not be run. "
            "Install it or correct its path in the settings."
        )


def _not_started(message: str) -> CommandFailed:
    return CommandFailed(message, Result(code=127, seconds=0.0, stderr=message))


def _stdin(stdin: BinaryIO | None) -> tuple[int, BinaryIO | None]:
    """What Popen gets as standard input, and what has to be pumped into it because it is not a real file."""
    if stdin is None:
        return subprocess.DEVNULL, None
    try:
        return stdin.fileno(), None
    except (io.UnsupportedOperation, AttributeError):
        return subprocess.PIPE, stdin


def _feed(source: BinaryIO, target: IO[bytes]) -> None:
    """Copy into the command's standard input as it comes; a command that stops reading just ends the copy."""
    try:
        with target:
            while data := source.read(READ_BYTES):
                view = memoryview(data)
                while view:
                    view = view[target.write(view) :]
    except (OSError, ValueError):
        pass


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    """Whatever happened before: nothing of the command is left when this returns."""
    control.close()  # tells a guard that still runs to end everything
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        pass
    if process.poll() in (None, -signal.SIGKILL):  # the guard hangs or was itself killed: its group is still ours
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


class _Text:
    """One stream of text: masks, splits into lines, keeps the tail."""

    def __init__(self, stream: str, secrets: tuple[str, ...], on_line: OnLine | None) -> None:
        self.stream, self.on_line, self.masker = stream, on_line, Masker(secrets)
        self.tail, self.total, self.line = bytearray(), 0, b""

    def take(self, data: bytes) -> None:
        self._masked(self.masker.feed(data))

    def end(self) -> None:
        self._masked(self.masker.flush())
        if self.line:
            self._say(self.line)
            self.line = b""

    def _masked(self, data: bytes) -> None:
        self.total += len(data)
        self.tail += data
        if len(self.tail) > KEPT_BYTES:
            del self.tail[:-KEPT_BYTES]
        if self.on_line is None:
            return
        *lines, self.line = (self.line + data).split(b"\n")
        for line in lines:
            self._say(line)
        while len(self.line) > LONGEST_LINE:
            self._say(self.line[:LONGEST_LINE])
            self.line = self.line[LONGEST_LINE:]

    def _say(self, line: bytes) -> None:
        if self.on_line:
            self.on_line(self.stream, _readable(line).rstrip("\r"))


def _readable(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


class _Watcher:
    """Reads what a running command says until it has ended, and ends it when it has to be."""

    def __init__(
        self,
        command: Command,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        on_stdout: OnStdout | None,
        on_line: OnLine | None,
        should_stop: ShouldStop,
    ) -> None:
        self.command, self.process, self.control = command, process, control
        self.on_stdout, self.should_stop = on_stdout, should_stop
        self.out = _Text("stdout", command.secrets, on_line)
        self.err = _Text("stderr", command.secrets, on_line)
        self.started = time.monotonic()
        self.word = b""
        self.ended = self.timed_out = self.cancelled = False
        self.reason = ""
        self.kill_at: float | None = None

    def watch(self, poll_s: float) -> Result:
        """Until the guard has said its word, or is gone."""
        assert self.process.stdout and self.process.stderr
        takers = {self.process.stdout: self._stdout, self.process.stderr: self.err.take}
        with selectors.DefaultSelector() as selector:
            for pipe, take in takers.items():
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, take)
            selector.register(self.control, selectors.EVENT_READ, None)
            next_ask = 0.0
            while not self.ended:
                for key, _ in selector.select(poll_s):
                    if key.data is None:
                        self._hear()
                    elif self._read(key.fd, key.data) == b"":
                        selector.unregister(key.fileobj)
                if not self.ended and time.monotonic() >= next_ask:
                    self._ask()
                    next_ask = time.monotonic() + poll_s
        for pipe, take in takers.items():
            for _ in range(DRAIN_READS):
                if not self._read(pipe.fileno(), take):
                    break
        self.out.end()
        self.err.end()
        return self._result()

    def _stdout(self, data: bytes) -> None:
        if self.on_stdout:
            self.on_stdout(data)
        else:
            self.out.take(data)

    @staticmethod
    def _read(fd: int, take: Callable[[bytes], None]) -> bytes | None:
        """One piece, which is empty at the end of the stream; None when there is nothing now."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return None
        if data:
            take(data)
        return data

    def _hear(self) -> None:
        try:
            data = self.control.recv(256)
        except ConnectionError:
            data = b""
        self.word += data
        self.ended = not data

    def _ask(self) -> None:
        """Has the command to end, and has it had its grace?"""
        now = time.monotonic()
        if self.kill_at is not None:
            if now >= self.kill_at:
                self._tell(b"K")
                self.ended = now >= self.kill_at + 2  # a guard that does not answer is dealt with by _end
            return
        reason = self.should_stop()
        self.cancelled, self.reason = bool(reason), reason or ""
        self.timed_out = not reason and now - self.started > self.command.timeout_s
        if not (self.cancelled or self.timed_out):
            return
        self._tell(b"T")
        self.kill_at = now + GRACE_S

    def _tell(self, word: bytes) -> None:
        try:
            self.control.send(word)
        except OSError:
            pass

    def _result(self) -> Result:
        _end(self.process, self.control)
        said = re.match(rb"([XSE])(\d+)\n", self.word)
        kind, number = (said[1], int(said[2])) if said else (b"S", signal.SIGKILL)
        if kind == b"E":
            raise _not_started(
                f"The program {self.command.argv[0]} could not be started: {os.strerror(number)}. "
                "Check the file and its permissions."
            )
        kept = len(self.out.tail) + len(self.err.tail)
        return Result(
            code=number if kind == b"X" else 128 + number,
            seconds=time.monotonic() - self.started,
            stdout=bytes(self.out.tail),
            stderr=_readable(bytes(self.err.tail)),
            dropped_bytes=self.out.total + self.err.total - kept,
            timed_out=self.timed_out,
            cancelled=self.cancelled,
            stop_reason=self.reason,
        )
