"""A ladder that is climbed under a frozen clock, and who was told at which minute."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine

from catalog.models import Service, Severity
from contacts import engine
from contacts.actions import escalation as actions
from contacts.models import Contact, Escalation, EscalationPolicy, Notification
from tests.contacts.factories import ContactFactory, SeverityFactory, rule
from tests.factories import ServiceFactory

MONDAY = datetime(2026, 3, 2, 10, tzinfo=UTC)
NOW = timedelta(0)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def people(*names: str) -> list[Contact]:
    return [ContactFactory(name=name) for name in names]


class Story:
    """`story.at(5)` climbs at minute 5 and returns whom that told, in order."""

    def __init__(self, start: datetime = MONDAY, **values: Any) -> None:
        self.start, self.seen = start, set(Notification.objects.values_list("pk", flat=True))
        service = values.pop("service")
        subject = values.pop("subject", service)
        with time_machine.travel(start, tick=False):
            self.row: Escalation = actions.start(subject, title="The shop is down", service=service, **values)

    def at(self, minute: float) -> list[str]:
        with time_machine.travel(self.start + minutes(minute), tick=False):
            engine.climb_due()
        self.row.refresh_from_db()
        return self.told()

    def told(self) -> list[str]:
        """Who was told since the last look."""
        rows = Notification.objects.exclude(pk__in=self.seen).select_related("contact", "channel").order_by("pk")
        self.seen |= {row.pk for row in rows}
        return [str(row.contact or row.channel) for row in rows]

    def through(self, until: int, every: int = 1) -> dict[int, list[str]]:
        """Every minute at which somebody was told, with whom."""
        return self.around(range(0, until + 1, every), by=0)

    def around(self, times: Iterable[int], by: int = 1) -> dict[int, list[str]]:
        """The same, looked at a minute before, at and after each of these."""
        looks = sorted({max(0, minute + more) for minute in times for more in (-by, 0, by)})
        return {minute: told for minute in looks if (told := self.at(minute))}

    def when(self, minute: float) -> time_machine.travel:
        return time_machine.travel(self.start + minutes(minute), tick=False)


def matrix(
    service: Service | None = None, *rows: tuple[Severity | None, str, Sequence[tuple[timedelta | None, list[Any]]]]
) -> EscalationPolicy:
    """A policy with these rows."""
    policy = EscalationPolicy.objects.create(service=service)
    for severity, situation, steps in rows:
        rule(policy, *steps, severity=severity, situation=situation)
    return policy


def scheme(*codes: str) -> tuple[Service, dict[str, Severity]]:
    """A service with severities of these codes, the worst first."""
    service = ServiceFactory()
    found = {
        code: SeverityFactory(service=service, code=code, name=code, rank=rank)
        for rank, code in enumerate(codes, start=1)
    }
    return service, found
