"""A month of changes: what was deployed, rolled back and changed, what is planned, when nothing may be deployed."""

from __future__ import annotations

import calendar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from django.db.models.functions import Coalesce

from deployments.models import ConfigurationChange, Deployment, FreezeWindow

DAY = timedelta(days=1)
FIRST_YEAR, LAST_YEAR = 2000, 2100
MOST = 2000
MOST_A_DAY = 12


@dataclass(frozen=True)
class Entry:
    """One thing on one day. `kind` names its icon and what a screen reader says first."""

    at: datetime
    kind: str
    title: str
    url: str
    status: str
    word: str

    @property
    def icon(self) -> str:
        return {"deployment": "rocket", "rollback": "undo"}.get(self.kind, "edit")


@dataclass
class Day:
    date: date
    in_month: bool
    is_today: bool
    entries: list[Entry] = field(default_factory=list)
    freezes: list[FreezeWindow] = field(default_factory=list)

    @property
    def shown(self) -> list[Entry]:
        return self.entries[:MOST_A_DAY]

    @property
    def more(self) -> int:
        return max(0, len(self.entries) - MOST_A_DAY)


@dataclass(frozen=True)
class Month:
    first: date
    weeks: list[list[Day]]

    @property
    def previous(self) -> str:
        return f"{self.first - DAY:%Y-%m}"

    @property
    def next(self) -> str:
        return f"{self.first + timedelta(days=31):%Y-%m}"


def first_of(text: str, today: date) -> date:
    """The first day of a month such as 2026-03; of this one, where nothing is asked. Raises ValueError for nonsense."""
    if not text:
        return today.replace(day=1)
    first = datetime.strptime(text, "%Y-%m").date()
    if not FIRST_YEAR <= first.year <= LAST_YEAR:
        raise ValueError(f"There is no calendar of {first.year}.")
    return first


def of(first: date, now: datetime, zone: tzinfo, *, changes: bool = True) -> Month:
    """The month that begins with `first`, filled up to whole weeks, in a person's zone. Three queries.

    `changes`: whether the reader may see restarts and settings too.
    """
    weeks = calendar.Calendar().monthdatescalendar(first.year, first.month)
    start, end = _midnight(weeks[0][0], zone), _midnight(weeks[-1][-1] + DAY, zone)
    today = now.astimezone(zone).date()
    days = {day: Day(day, day.month == first.month, day == today) for week in weeks for day in week}
    found = _deployments(start, end) + (_changes(start, end) if changes else [])
    for entry in sorted(found, key=lambda each: each.at):
        days[entry.at.astimezone(zone).date()].entries.append(entry)
    for window in FreezeWindow.objects.filter(starts_at__lt=end, ends_at__gt=start).select_related("service"):
        for day, there in days.items():
            if window.starts_at < _midnight(day + DAY, zone) and window.ends_at > _midnight(day, zone):
                there.freezes.append(window)
    return Month(first, [[days[day] for day in week] for week in weeks])


def _deployments(start: datetime, end: datetime) -> list[Entry]:
    """Each on the day on which it began, or is to begin, or was asked for."""
    rows = (
        Deployment.objects.annotate(on=Coalesce("started_at", "not_before", "requested_at"))
        .filter(on__gte=start, on__lt=end)
        .select_related("environment__service", "release")
        .order_by("on")[:MOST]
    )
    found = []
    for row in rows:
        kind = "rollback" if row.is_rollback else "deployment"
        word = "Scheduled" if row.state == row.State.WAITING and row.not_before is not None else row.state_word
        title = f"{row.environment} {row.release.version}"
        found.append(Entry(row.on, kind, title, row.get_absolute_url(), row.status, word))
    return found


def _changes(start: datetime, end: datetime) -> list[Entry]:
    rows = ConfigurationChange.objects.with_place().filter(at__gte=start, at__lt=end).order_by("at")[:MOST]
    return [
        Entry(row.at, "change", f"{row.environment} {row}", row.get_absolute_url(), row.status, row.state_word)
        for row in rows
    ]


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)
