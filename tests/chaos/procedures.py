"""Small procedures of the harness itself: one done right, and two that must be caught."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from operations.context import StepContext
from operations.procedures import Procedure, Step, register


@register
class Counting(Procedure):
    """Leaves one mark, whatever happens to its workers."""

    name = "chaos.counting"
    title = "Counting"
    permission = "operations.control_operation"
    steps = (Step("work", "Take some time"), Step("mark", "Leave one mark"))

    @property
    def marks(self) -> Path:
        return Path(self.operation.params["folder"]) / f"op{self.operation.pk}"

    def work(self, ctx: StepContext) -> None:
        for _ in range(int(self.operation.params["seconds"] / 0.05)):
            time.sleep(0.05)
            ctx.check()

    def mark(self, ctx: StepContext) -> None:
        if not self.marks.exists():
            self._leave(ctx)
        self.work(ctx)

    def _leave(self, ctx: StepContext) -> None:
        fd = os.open(self.marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{ctx.attempt}\n".encode())
        os.close(fd)


@register
class Careless(Counting):
    """Does not look whether an attempt before it has been there: the harness has to find it out."""

    name = "chaos.careless"

    def mark(self, ctx: StepContext) -> None:
        self._leave(ctx)
        self.work(ctx)


@register
class Leaky(Counting):
    """Starts a program past the command runner, so that nothing ends it when the worker dies."""

    name = "chaos.leaky"

    def work(self, ctx: StepContext) -> None:
        subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
        super().work(ctx)
