"""A row of the matrix as something to climb: its steps, when each is due, and what comes after one was taken."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Prefetch, prefetch_related_objects

from catalog import business_time
from catalog.exceptions import CatalogError
from catalog.models import BusinessHours, Service
from contacts.models import Escalation, Rule, Step, StepRun, Target

logger = logging.getLogger(__name__)

ANSWER_WITHIN = timedelta(minutes=15)
"""So long somebody has to answer after the last step, before the fallback is told. A row that repeats has its own."""

INSTANT = timedelta(microseconds=1)
"""No time at all is over at night too; one instant of business time is over when it opens."""

State = Escalation.State
Outcome = StepRun.Outcome

TARGETS = Target.objects.select_related("contact__business_hours", "team", "role", "oncall", "queue", "channel")
STEPS = Prefetch("steps", Step.objects.prefetch_related(Prefetch("targets", TARGETS)))


@dataclass(frozen=True)
class Ladder:
    """The steps of a row. A ladder without a row has none: it ends at once."""

    rule: Rule | None
    steps: tuple[Step, ...] = ()
    calendar: BusinessHours | None = None  # where times count within it only

    def due(self, position: int, since: datetime) -> datetime | None:
        """When a step is due that counts from `since`; None for one that waits for a person. The first always is."""
        after = self.steps[position].after
        if after is None:
            return since if position == 0 else None
        if self.calendar is None:
            return since + after
        try:
            return business_time.after(since, after + INSTANT, self.calendar) - INSTANT
        except CatalogError as error:  # too early is better than never
            logger.warning("the times of “%s” count by the clock: %s", self.rule, error)
            return since + after

    def targets(self, position: int) -> list[Target]:
        return list(self.steps[position].targets.all()) if self.has(position) else []

    @property
    def repeats(self) -> int:
        return self.rule.repeats if self.rule is not None else 0

    @property
    def pause(self) -> timedelta:
        """Between the last step and what comes then: the ladder again, or its end."""
        return (self.rule.repeat_after if self.rule is not None else None) or ANSWER_WITHIN

    def has(self, position: int) -> bool:
        return position < len(self.steps)


def ladder_of(rule: Rule | None, service: Service | None) -> Ladder:
    """The ladder of a row, with all that its steps name."""
    if rule is None:
        return Ladder(None)
    return _ladder(rules_with_steps([rule.pk])[rule.pk], service)


def ladders_of(rows: Iterable[Escalation]) -> dict[int, Ladder]:
    """The ladder of each escalation, by its number. Those of one row of the matrix are read once."""
    wanted = list(rows)
    rules = rules_with_steps({row.rule_id for row in wanted if row.rule_id is not None})
    known: dict[tuple[int, int | None], Ladder] = {}
    found = {}
    for row in wanted:
        if row.rule_id is None:
            found[row.pk] = Ladder(None)
            continue
        key = (row.rule_id, row.service_id)  # times count within the hours of the service
        if key not in known:
            rule = rules[row.rule_id]
            known[key] = _ladder(rule, row.service if rule.in_business_hours else None)
        found[row.pk] = known[key]
    return found


def rules_with_steps(numbers: Iterable[int]) -> dict[int, Rule]:
    rows = Rule.objects.filter(pk__in=list(numbers)).prefetch_related(STEPS)
    return {rule.pk: rule for rule in rows}


def _ladder(rule: Rule, service: Service | None) -> Ladder:
    calendar = service.business_hours if service is not None and rule.in_business_hours else None
    if calendar is not None:
        prefetch_related_objects([calendar], "openings", "holidays")
    return Ladder(rule, tuple(rule.steps.all()), calendar)


def begin_round(row: Escalation, ladder: Ladder, now: datetime) -> None:
    """Stand before the first step. Times count from now."""
    row.state, row.round_at, row.position = State.ACTIVE, now, 0
    row.due_at = ladder.due(0, now) if ladder.steps else now


def move_on(
    row: Escalation, ladder: Ladder, outcome: str, now: datetime, taken: Mapping[int, str] | None = None
) -> None:
    """Stand before what comes after a step that was taken just now.

    What reached nobody lets the next one come at once. What went into a queue at the end waits there. `taken` holds
    the outcomes of this round by position: a level that somebody called by hand is not called again, and what comes
    after it depends on how that one ended.
    """
    taken = taken or {}
    row.position += 1
    while ladder.has(row.position) and row.position in taken:
        outcome = taken[row.position]
        row.position += 1
    nobody = outcome == Outcome.NOBODY
    row.state, row.due_at = State.ACTIVE, None
    if ladder.has(row.position):
        row.due_at = ladder.due(row.position, row.round_at)
        if row.due_at is not None and nobody:
            row.due_at = min(row.due_at, now)
    elif outcome != Outcome.QUEUED:
        last_chance = nobody and row.round >= ladder.repeats
        row.due_at = now if last_chance else now + ladder.pause
    if row.due_at is None:
        row.state = State.WAITING


def lateness_from(row: Escalation, ladder: Ladder) -> datetime:
    """When the step that is taken should have been: also where trouble has pushed its due time ahead."""
    assert row.due_at is not None
    planned = ladder.due(row.position, row.round_at)
    return min(row.due_at, planned) if planned is not None else row.due_at
