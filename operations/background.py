"""A command that runs beside the work, such as a tunnel, and ends with it."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from operations import commands
from operations.commands import Command, Result
from operations.exceptions import CommandFailed

KEPT_LINES = 20


class Background:
    """The command runs while the block does. Like every command it does not outlive the worker.

    A thread of its own starts and watches it: the kernel tells a guard of its parent's death when that very thread
    ends.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.result: Result | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"background {command.program}", daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join(commands.GRACE_S + 10)

    def _run(self) -> None:
        try:
            self.result = commands.run(
                self.command,
                on_line=lambda stream, text: self.lines.append(text),
                should_stop=lambda: "no longer needed" if self._enough.is_set() else None,
                poll_s=0.05,
            )
        except CommandFailed as error:
            self.result = error.result

    @property
    def running(self) -> bool:
        return self._thread.is_alive()
