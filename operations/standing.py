"""Schedules that the portal brings along, such as its own backup and its housekeeping.

A room declares one; the control worker makes the rows when it starts, so that nobody has to set them up. Their times
come from the settings and follow them.

    standing.declare(Standing("operations.housekeeping", "Housekeeping", cron=lambda: settings.HOUSEKEEPING_CRON, ...))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from django.db import connection, transaction
from django.utils import timezone

from core.models import User
from operations import actions, scheduling
from operations.models import Operation, Schedule

# Any number that no other advisory lock of the portal uses: two control workers must not make a schedule twice.
ADVISORY_LOCK = 7_204_311_905
LATEST = timedelta(hours=24)


class Request(Protocol):
    """What asks for the operation, by a slot or by a person's click."""

    def __call__(self, *, by: User | None, trigger: str, key: str | None) -> Operation: ...


@dataclass(frozen=True)
class Standing:
    """`cron` gives five fields read in UTC, or "" for switched off. `preview` says what a run would do now.

    at_once  the first run follows as soon as the schedule is made, and not only at its first time
    """

    handler: str
    name: str
    cron: Callable[[], str]
    permission: str
    request: Request
    preview: Callable[[], str]
    at_once: bool = False


_declared: dict[str, Standing] = {}


def declare(entry: Standing) -> None:
    """Make a schedule known, and what its slots start."""

    def start(schedule: Schedule, at: datetime, key: str) -> Operation:
        return entry.request(by=None, trigger=Operation.Trigger.SCHEDULE, key=key)

    _declared[entry.handler] = entry
    scheduling.handler(entry.handler)(start)


def of(schedule: Schedule) -> Standing | None:
    """The declaration behind a schedule; None for one that belongs to something else."""
    return _declared.get(schedule.handler)


def ensure() -> None:
    """Make the schedules that are missing, and let the others follow the settings."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        for entry in _declared.values():
            _ensure(entry)


def _ensure(entry: Standing) -> None:
    cron = entry.cron().strip()
    schedule = Schedule.objects.select_related("crontab").filter(handler=entry.handler).order_by("pk").first()
    if not cron:
        Schedule.objects.filter(handler=entry.handler).update(enabled=False)
        return
    made = actions.set_schedule(
        schedule, handler=entry.handler, name=entry.name, cron=cron, time_zone="UTC", enabled=True, max_lateness=LATEST
    )
    if schedule is None and entry.at_once:
        # The slot before now is due, and within the lateness that is allowed.
        made.decided_until = timezone.now() - LATEST
        made.save(update_fields=["decided_until"])
