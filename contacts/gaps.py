"""A duty of the control worker: who is on call is kept as fact, and administrators hear of gaps before they hurt.

A gap is told once: when it begins within a day, or when it is there. One that was mended and opens again is a new one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction
from django.utils import timezone

from contacts import news, policy, records, rota
from contacts.models import Level, Notification, OnCallRecord, OnCallSchedule, Target
from contacts.notifying import notify_administrators
from operations import duties, events

logger = logging.getLogger(__name__)

EVERY_S = 20.0
AHEAD = timedelta(hours=24)


@dataclass(frozen=True)
class Gap:
    """Nobody answers a level. Without an end it stays so for a year at least."""

    schedule: OnCallSchedule
    level: Level
    starts_at: datetime
    ends_at: datetime | None
    bare: bool = False  # no layer says who answers, and the matrix counts on somebody

    @property
    def key(self) -> str:
        if self.bare:
            return f"{self.level.value}:no layer"  # one and the same, whenever it is looked at
        return f"{self.level.value}:{self.starts_at.isoformat()}"

    def sentence(self, now: datetime) -> str:
        """In the words of a message, in the schedule's zone."""
        if self.bare:
            which = self.level.label.lower()
            return f"The escalation matrix calls {self.schedule} ({which}), and no layer of it says who answers."
        when = f"from {self._shown(self.starts_at)}" if self.starts_at > now else "now"
        until = f"until {self._shown(self.ends_at)}" if self.ends_at else "and nobody follows"
        return f"Nobody is on call for {self.schedule} ({self.level.label.lower()}) {when} {until}."

    def _shown(self, at: datetime) -> str:
        return f"{at.astimezone(ZoneInfo(self.schedule.time_zone)):%a %d %b %H:%M %Z}"


def gaps_of(book: rota.Book, start: datetime, end: datetime) -> list[Gap]:
    """The gaps of a schedule that reach into this time, in order. The first may have begun before."""
    found = [
        Gap(book.schedule, level, shift.starts_at, _end_of(book, level, shift, end))
        for level in book.layered
        for shift in book.shifts(level, start, end)
        if shift.contact is None
    ]
    return sorted(found, key=lambda gap: (gap.starts_at, gap.level))


def levels_without_layers(book: rota.Book, at: datetime) -> list[Gap]:
    """The levels that a matrix in force calls and that nobody was ever put into: an override ends, this stays."""
    rules = policy.rules_in_force()
    named = Target.objects.filter(kind=Target.Kind.ONCALL, oncall=book.schedule, step__rule__in=rules)
    levels = sorted(set(named.values_list("level", flat=True)))
    return [
        Gap(book.schedule, Level(level), at, None, bare=True) for level in levels if Level(level) not in book.layered
    ]


def _end_of(book: rota.Book, level: Level, shift: rota.Shift, horizon: datetime) -> datetime | None:
    if shift.ends_at < horizon:
        return shift.ends_at
    change = book.rotas[level].next_change(shift.starts_at)
    return change.starts_at if change else None


def look() -> None:
    """A round over all schedules. Trouble with one costs no other its turn."""
    for schedule in OnCallSchedule.objects.all():
        try:
            look_at(schedule)
        except Exception:
            logger.exception("on-call schedule “%s” could not be looked at", schedule)


@transaction.atomic
def look_at(schedule: OnCallSchedule, now: datetime | None = None) -> None:
    """Keep the facts up to now, and tell of new gaps."""
    row = records.keep(schedule, now)
    now = now or timezone.now()
    gaps = _alarming(rota.book(row, since=now), now) if row.alarm_gaps else []
    told = set(row.gaps_told)
    for gap in gaps:
        if gap.key not in told:
            _tell(gap, now)
    there_are = [gap.key for gap in gaps]
    if there_are != row.gaps_told:
        row.gaps_told = there_are
        row.save(update_fields=["gaps_told"])


def _alarming(book: rota.Book, now: datetime) -> list[Gap]:
    return levels_without_layers(book, now) + _with_their_beginning(gaps_of(book, now, now + AHEAD), now)


def _with_their_beginning(gaps: list[Gap], now: datetime) -> list[Gap]:
    """A gap that is there began when the facts say so."""
    return [
        Gap(gap.schedule, gap.level, _began(gap, now), gap.ends_at) if gap.starts_at <= now else gap for gap in gaps
    ]


def _began(gap: Gap, now: datetime) -> datetime:
    last = OnCallRecord.objects.filter(schedule=gap.schedule, level=gap.level, ends_at__lte=now).order_by("-ends_at")
    record = last.first()
    goes_on = record is not None and record.contact_id is None and record.ends_at == gap.schedule.recorded_until
    return record.starts_at if record is not None and goes_on else gap.starts_at


def _tell(gap: Gap, now: datetime) -> None:
    sentence = gap.sentence(now)
    events.publish(
        news.ONCALL_GAP,
        sentence,
        subject=gap.schedule,
        data={
            "schedule": gap.schedule.name,
            "level": gap.level.label,
            "starts_at": gap.starts_at.isoformat(),
            "ends_at": gap.ends_at.isoformat() if gap.ends_at else None,
        },
    )
    notify_administrators(
        key=f"oncall-gap:{gap.schedule.pk}:{gap.key}:{now.timestamp():.0f}",
        subject=sentence,
        body="Let somebody stand in on the page of the schedule, or edit its layers.",
        url=gap.schedule.get_absolute_url(),
        urgency=Notification.Urgency.PAGE if gap.starts_at <= now else Notification.Urgency.NEWS,
    )


duties.declare("on-call", lambda: EVERY_S, look)
