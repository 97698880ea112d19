"""Procedures that do what a test tells them, and remember that they did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from operations.context import StepContext
from operations.procedures import AfterInterruption, Procedure, Step, register


class Died(BaseException):
    """The worker's process is gone at this point: nothing after it runs, nothing is recorded."""


class Script:
    """What the sample procedures do, by the name of the method. Names without an entry do nothing."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.acts: dict[str, Callable[[StepContext], Any]] = {}

    def on(self, name: str, act: Callable[[StepContext], Any]) -> None:
        self.acts[name] = act

    def play(self, name: str, ctx: StepContext | None) -> Any:
        self.calls.append(name)
        return self.acts[name](ctx) if name in self.acts else None  # type: ignore[arg-type]


script = Script()


@register
class Sample(Procedure):
    """Three steps, the first two with an undo. Resumes after an interruption unless the script says otherwise."""

    name = "tests.sample"
    title = "Sample"
    permission = "operations.add_schedule"
    steps = (
        Step("one", "First", undo="undo_one"),
        Step("two", "Second", undo="undo_two"),
        Step("three", "Third"),
    )

    def prepare(self, ctx: StepContext) -> None:
        script.play("prepare", ctx)

    def after_interruption(self, ctx: StepContext) -> AfterInterruption:
        return script.play("after_interruption", ctx) or AfterInterruption.RESUME

    def abandon(self, ctx: StepContext) -> None:
        script.play("abandon", ctx)

    def on_end(self) -> None:
        script.play(f"on_end:{self.operation.state}", None)
        script.play("on_end", None)

    def one(self, ctx: StepContext) -> None:
        script.play("one", ctx)

    def undo_one(self, ctx: StepContext) -> None:
        script.play("undo_one", ctx)

    def two(self, ctx: StepContext) -> None:
        script.play("two", ctx)

    def undo_two(self, ctx: StepContext) -> None:
        script.play("undo_two", ctx)

    def three(self, ctx: StepContext) -> None:
        script.play("three", ctx)


@register
class Child(Procedure):
    """One step, for procedures that start another."""

    name = "tests.child"
    title = "Child"
    permission = "operations.add_slot"
    steps = (Step("work", "Work"),)

    def work(self, ctx: StepContext) -> None:
        script.play("work", ctx)
