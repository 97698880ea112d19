"""A month of a schedule as a calendar: weeks of days, in each who is on call from when, in the schedule's zone."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from contacts import rota
from contacts.models import Level, OnCallSchedule

DAY = timedelta(days=1)
FIRST_YEAR, LAST_YEAR = 2000, 2100


@dataclass(frozen=True)
class Part:
    """A shift as one day sees it. `begins` is the wall time at which it begins there; empty: it goes on."""

    shift: rota.Shift
    begins: str


@dataclass(frozen=True)
class Day:
    date: date
    in_month: bool
    is_today: bool
    levels: list[tuple[Level, list[Part]]]

    @property
    def has_gap(self) -> bool:
        return any(part.shift.contact is None for _, parts in self.levels for part in parts)


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


def today_in(schedule: OnCallSchedule, now: datetime) -> date:
    return now.astimezone(ZoneInfo(schedule.time_zone)).date()


def of(schedule: OnCallSchedule, first: date, now: datetime) -> Month:
    """The month that begins with `first`, filled up to whole weeks."""
    zone = ZoneInfo(schedule.time_zone)
    weeks = calendar.Calendar().monthdatescalendar(first.year, first.month)
    start, end = _midnight(weeks[0][0], zone), _midnight(weeks[-1][-1] + DAY, zone)
    timelines = rota.timelines(schedule, start, end)
    today = today_in(schedule, now)
    return Month(
        first,
        [
            [Day(day, day.month == first.month, day == today, _levels(timelines, day, zone)) for day in week]
            for week in weeks
        ],
    )


def _levels(timelines: dict[Level, list[rota.Shift]], day: date, zone: ZoneInfo) -> list[tuple[Level, list[Part]]]:
    begins, ends = _midnight(day, zone), _midnight(day + DAY, zone)
    found = []
    for level, shifts in timelines.items():
        parts = [
            Part(shift, f"{shift.starts_at.astimezone(zone):%H:%M}" if shift.starts_at > begins else "")
            for shift in shifts
            if shift.starts_at < ends and shift.ends_at > begins
        ]
        if parts:
            found.append((level, parts))
    return found


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)
