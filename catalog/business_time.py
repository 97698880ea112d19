"""Arithmetic with business hours: when they are open, and what so much business time later is.

Opening hours are wall times in the calendar's zone. Around a change of clocks the convention of operations/slots.py
holds: a wall time that does not exist counts at the same distance after midnight in elapsed time, one that exists twice
counts the first time. What passes while it is open is elapsed time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from catalog.exceptions import CatalogError
from catalog.models import BusinessHours, Service, Severity

DAY = timedelta(days=1)
MIDNIGHT = time(0)
ZERO = timedelta(0)
SECOND = timedelta(seconds=1)
# So long without one opening, a calendar never opens.
GIVE_UP_AFTER = timedelta(days=400)

Opening = tuple[datetime, datetime]


@dataclass(frozen=True)
class Hours:
    """A calendar as it counts here: openings of each weekday, closed on holidays."""

    name: str
    zone: ZoneInfo
    openings: tuple[tuple[int, time, time], ...]
    holidays: frozenset[date] = frozenset()

    @classmethod
    def of(cls, calendar: BusinessHours) -> Hours:
        """Reads the rows of a calendar; two queries, none where they are loaded already."""
        return cls(
            calendar.name,
            ZoneInfo(calendar.time_zone),
            tuple((row.weekday, row.opens, row.closes) for row in calendar.openings.all()),
            frozenset(row.date for row in calendar.holidays.all()),
        )

    def day_of(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()

    def instant(self, day: date, clock: time) -> datetime:
        return datetime.combine(day, clock, tzinfo=self.zone).astimezone(UTC)

    def openings_of(self, day: date) -> list[Opening]:
        """The openings of a local day as instants, in order, none overlapping another."""
        if day in self.holidays:
            return []
        merged: list[Opening] = []
        for begins, ends in sorted(
            (self.instant(day, opens), self.instant(day + DAY if closes == MIDNIGHT else day, closes))
            for weekday, opens, closes in self.openings
            if weekday == day.weekday()
        ):
            if merged and begins <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(ends, merged[-1][1])
            elif begins < ends:
                merged.append((begins, ends))
        return merged

    def business_days_from(self, day: date) -> Iterator[tuple[date, list[Opening]]]:
        """Every local day with an opening, from `day` on. Raises CatalogError when none comes any more."""
        last = day
        while day - last <= GIVE_UP_AFTER:
            if openings := self.openings_of(day):
                last = day
                yield day, openings
            day += DAY
        raise CatalogError(
            f"The business hours “{self.name}” do not open within {GIVE_UP_AFTER.days} days. Add opening hours "
            "to them, or choose others."
        )


def is_open(calendar: BusinessHours, at: datetime) -> bool:
    """Whether `at` is within business hours."""
    hours = Hours.of(calendar)
    today = hours.day_of(at)
    # A change of clocks may carry an opening over midnight, in either direction.
    return any(
        begins <= at < ends for day in (today, today - DAY, today + DAY) for begins, ends in hours.openings_of(day)
    )


def after(start: datetime, duration: timedelta, calendar: BusinessHours) -> datetime:
    """`duration` of business time later. Raises CatalogError when the calendar never opens."""
    return _after(start, duration, Hours.of(calendar))


def _after(start: datetime, duration: timedelta, hours: Hours) -> datetime:
    if duration <= ZERO:
        return start
    counted_to = start.astimezone(UTC)
    for _, openings in hours.business_days_from(hours.day_of(start) - DAY):
        for begins, ends in openings:
            begins = max(begins, counted_to)  # what an opening of the day before has counted is not counted again
            if begins >= ends:
                continue
            if begins + duration <= ends:
                return begins + duration
            duration -= ends - begins
            counted_to = ends
    raise AssertionError("business days go on or raise")


def business_days_after(start: datetime, days: int, hours: Hours) -> datetime:
    """Closing time of the `days`-th business day after the local day of `start`. From Friday, 1 is Monday's.

    A day that is open until midnight ends with its last second: midnight itself would read as the day after.
    """
    if days < 1:
        raise ValueError("Business days are counted from 1.")
    coming = hours.business_days_from(hours.day_of(start) + DAY)
    for _ in range(days):
        _, openings = next(coming)
    closing = openings[-1][1]
    return closing - SECOND if closing.astimezone(hours.zone).time() == MIDNIGHT else closing


def response_due(
    severity: Severity | None,
    declared_at: datetime,
    *,
    rule_response: timedelta | None = None,
    in_business_hours: bool = False,
    service: Service | None = None,
) -> datetime | None:
    """When somebody must have answered; None where no response time is set.

    `rule_response` is the matrix' own and goes before the severity's; `in_business_hours` says how it counts. Without
    business hours of the service, durations count by the clock and business days are Monday to Friday in its zone.
    `service` is whose hours count while the severity is undecided.
    """
    if severity is not None:
        service = severity.service
    if rule_response is not None:
        return _due(service, declared_at, rule_response, in_business_hours)
    if severity is None:
        return None
    if severity.response_business_days is not None:
        calendar = severity.service.business_hours
        hours = Hours.of(calendar) if calendar else _working_week(severity.service.time_zone)
        return business_days_after(declared_at, severity.response_business_days, hours)
    if severity.response_time is None:
        return None
    open_only = in_business_hours or severity.response_in_business_hours
    return _due(service, declared_at, severity.response_time, open_only)


def _due(service: Service | None, start: datetime, duration: timedelta, open_only: bool) -> datetime:
    calendar = service.business_hours if service is not None and open_only else None
    return after(start, duration, calendar) if calendar else start + duration


def _working_week(zone: str) -> Hours:
    """Monday to Friday, whole days."""
    return Hours("Monday to Friday", ZoneInfo(zone), tuple((day, MIDNIGHT, MIDNIGHT) for day in range(5)))
