"""What a worker does, written like the runbook it replaces: named steps, each with its undo.

A procedure is a class with a `steps` table and one method a step. Methods take the `StepContext` and return nothing;
what a later step needs is put into `ctx.remember(...)`. Steps are idempotent: after a worker's death the same step may
run again with a higher `ctx.attempt`. An undo tolerates that its step never began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from core.scopes import CONTROL
from operations.exceptions import OperationError

if TYPE_CHECKING:
    from django.db.models import Model

    from core.models import User
    from operations.context import StepContext
    from operations.models import Operation


@dataclass(frozen=True)
class Step:
    """One line of the runbook. `name` is the method that does it, `undo` the method that takes it back."""

    name: str
    title: str
    undo: str = ""
    by_hand: bool = True
    """False when a person cannot do it: what it makes is the portal's own record."""


class AfterInterruption(Enum):
    """What the next worker does when the one before it died."""

    RESUME = "resume"
    UNDO = "undo"


@dataclass
class PlannedStep:
    """A line of a dry run: what the step would do to this target, secrets masked."""

    name: str
    title: str
    commands: Sequence[str] = field(default_factory=tuple)
    note: str = ""


class Procedure:
    """Base of every procedure. Subclasses set `name`, `steps`, `permission` and define the step methods."""

    name: ClassVar[str]
    title: ClassVar[str]
    steps: ClassVar[tuple[Step, ...]]
    permission: ClassVar[str]
    """Needed to request, cancel, retry and take over operations of this kind."""
    scope: ClassVar[str] = CONTROL
    """What a token needs to have it done again."""
    queue: ClassVar[str] = "operations"

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    @classmethod
    def step(cls, name: str) -> Step:
        """The step of that name. Raises OperationError when this version has none."""
        for step in cls.steps:
            if step.name == name:
                return step
        raise OperationError(f"This version of the portal has no step {name} in {cls.name}.")

    def after_interruption(self, ctx: StepContext) -> AfterInterruption:
        """Called by the worker that takes over; it may look at the outside world first."""
        return AfterInterruption.RESUME

    def prepare(self, ctx: StepContext) -> None:
        """Called at the start of every attempt, before any step or undo: end what earlier attempts left running."""

    def abandon(self, ctx: StepContext) -> None:
        """Called when this attempt has come too late: a later one has begun the same step, or the operation has ended.

        Remove what carries this attempt's number, where waking up in `ctx.step` may have made it after the successor
        had cleaned up, and touch nothing else.
        """

    def close(self) -> None:
        """Called when this attempt is over, however it ended: let go of what was held open, such as a tunnel."""

    def preview(self) -> Mapping[str, PlannedStep | Sequence[str]]:
        """Commands or sentences per step name, for the dry run. Touches nothing."""
        return {}

    def adopt(self, step: str, ctx: StepContext) -> None:
        """Called once for a step that a person has done: look at reality and record what the step would have."""

    def on_end(self) -> None:
        """Inside the transaction that ends the operation: bring the domain row to its final state."""

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        """Ask for the same thing again. Raises OperationError when that makes no sense."""
        raise OperationError("This kind of operation cannot be retried. Start it again from the page it belongs to.")

    @property
    def typed_name(self) -> str:
        """What a person types before this is asked for again, because it replaces or destroys it; empty: nothing."""
        return ""

    @property
    def subject(self) -> Model | None:
        """The record this operation works on, with `get_absolute_url()`, for the link on its page."""
        return None

    def dry_run(self) -> list[PlannedStep]:
        """Every step in order, with what it would run."""
        planned = self.preview()
        result = []
        for step in self.steps:
            found = planned.get(step.name, ())
            if isinstance(found, PlannedStep):
                result.append(found)
            else:
                result.append(PlannedStep(step.name, step.title, tuple(found)))
        return result


_registry: dict[str, type[Procedure]] = {}


def register(procedure: type[Procedure]) -> type[Procedure]:
    """Class decorator: make the procedure known by its name."""
    names = [step.name for step in procedure.steps]
    if len(set(names)) != len(names):
        raise ValueError(f"{procedure.name} has two steps of one name")
    for step in procedure.steps:
        for method in (step.name, step.undo):
            if method and not callable(getattr(procedure, method, None)):
                raise ValueError(f"{procedure.name} has no method {method}")
    _registry[procedure.name] = procedure
    return procedure


def get(name: str) -> type[Procedure]:
    """The procedure class of that name; OperationError when this version of the portal has none."""
    try:
        return _registry[name]
    except KeyError:
        raise OperationError(
            f"This version of the portal does not know the procedure {name}. Run the version that asked for it."
        ) from None


def registered() -> dict[str, type[Procedure]]:
    return dict(_registry)
