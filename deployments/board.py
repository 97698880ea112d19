"""What is live where: a line for each environment. However many there are, the number of queries is the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from django.db.models import Exists, OuterRef, Prefetch

from catalog.models import Environment, Service
from deployments.models import Deployment, DeploymentProfile, LiveState
from deployments.querysets import LiveStateQuerySet
from operations.models import OperationStep

State = Deployment.State
UNFINISHED = (State.WAITING, *Deployment.ACTIVE)
# The way of a release; a service has most often one environment of each kind.
KINDS = (Environment.Kind.DEVELOPMENT, Environment.Kind.STAGING, Environment.Kind.PRODUCTION)


@dataclass
class Line:
    """One environment. `live` is None where nobody has looked yet. `next` waits for time, gates or approvals."""

    environment: Environment
    live: LiveState | None
    running: Deployment | None = None
    last: Deployment | None = None
    next: Deployment | None = None
    waiting: int = 0

    @property
    def has_profile(self) -> bool:
        """Whether anybody has said how it is deployed to."""
        return self.live is None or bool(getattr(self.live, "has_profile", False))

    @property
    def can_roll_back(self) -> bool:
        """Whether there is a release before; another one can still be chosen on the environment's page."""
        if self.running is not None:
            return not self.running.is_rollback
        return self.live is not None and self.live.release_id is not None and self.live.previous_id is not None

    @property
    def status(self) -> str:
        if self.running is not None:
            return "running"
        if self.live is None:
            return "neutral"
        return "bad" if self.is_suspect else self.live.status

    @property
    def word(self) -> str:
        if self.running is not None:
            operation = self.running.operation
            if operation is not None and (operation.is_undoing or operation.cancel_requested_at is not None):
                return "Going back"
            if self.running.state == State.VERIFYING:
                return "Being verified"
            return "Being rolled back" if self.running.is_rollback else "Being deployed"
        if self.live is None:
            return "Never looked at"
        return State.SUSPECT.label if self.is_suspect and not self.live.drift else self.live.state_word

    @property
    def is_suspect(self) -> bool:
        row = self.live.deployment if self.live is not None else None
        return row is not None and row.state == State.SUSPECT

    @property
    def step(self) -> OperationStep | None:
        """The step at work."""
        return next((step for step in self._steps if step.status == "running"), None)

    @property
    def done(self) -> int:
        return sum(step.status == "ok" for step in self._steps)

    @property
    def total(self) -> int:
        return len(self._steps)

    @property
    def _steps(self) -> list[OperationStep]:
        row = self.running
        return list(row.operation.steps.all()) if row is not None and row.operation is not None else []


@dataclass
class Row:
    """One service; `cells` stand under the kinds of the board, each with the environments of that kind."""

    service: Service
    cells: list[tuple[str, list[Line]]] = field(default_factory=list)


def states() -> LiveStateQuerySet:
    """The lines' rows, each with `has_profile`."""
    known = DeploymentProfile.objects.filter(environment=OuterRef("environment"))
    return LiveState.objects.with_place().select_related("deployment__archive").annotate(has_profile=Exists(known))


def never_looked_at() -> list[Line]:
    """Environments that have a profile and no row yet."""
    found = DeploymentProfile.objects.filter(environment__live=None).select_related("environment__service")
    return [Line(profile.environment, None) for profile in found]


def lines(rows: Iterable[LiveState]) -> list[Line]:
    """What these rows say, with what runs, what waits and what was last."""
    found = {row.environment_id: Line(row.environment, row) for row in rows}
    unfinished = (
        Deployment.objects.filter(environment__in=found, state__in=UNFINISHED)
        .select_related("release", "operation", "requested_by")
        .prefetch_related(Prefetch("operation__steps", OperationStep.objects.in_order()))
        .order_by("not_before", "requested_at")
    )
    for each in unfinished:
        line = found[each.environment_id]
        if each.state != State.WAITING:
            line.running = each
            continue
        line.waiting += 1
        line.next = line.next or each
    ended = (
        Deployment.objects.filter(environment__in=found, state__in=Deployment.TERMINAL)
        .select_related("release")
        .order_by("environment_id", "-requested_at", "-pk")
        .distinct("environment_id")
    )
    for each in ended:
        found[each.environment_id].last = each
    return list(found.values())


def matrix(found: Sequence[Line]) -> tuple[list[str], list[Row]]:
    """The kinds that occur, as headings, and a row for each service."""
    kinds = [kind for kind in KINDS if any(line.environment.kind == kind for line in found)]
    ordered = sorted(found, key=lambda line: (line.environment.service.name, line.environment.name))
    rows = []
    for service, group in groupby(ordered, key=lambda line: line.environment.service):
        of_service = list(group)
        cells = [(kind.label, [line for line in of_service if line.environment.kind == kind]) for kind in kinds]
        rows.append(Row(service, cells))
    return [kind.label for kind in kinds], rows
