"""Slots of a crontab: pure calendar arithmetic, in UTC instants.

A crontab is read in its own time zone. Around a change of clocks:

* a wall time that does not exist (02:30 in a spring night) counts at the same distance after midnight in elapsed
  time, so it falls on 03:30;
* a wall time that exists twice counts once, the first time, so a daily job runs once;
* a schedule for every hour (hour field starting with `*`, or naming all 24) follows elapsed time and includes the
  repeated hour.

A day has to fit both day fields, day of month and day of week, as in Celery and unlike in Vixie's cron.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django_celery_beat.models import CrontabSchedule

# A crontab such as 29 February on a Monday is rare but real; past this horizon there is no next slot to show.
HORIZON = timedelta(days=366 * 9)


def slots_between(crontab: CrontabSchedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """UTC instants of the crontab with `after` < instant <= `until`, ascending."""
    zone = ZoneInfo(str(crontab.timezone))
    fields = crontab.schedule
    every_hour = str(crontab.hour).startswith("*") or len(fields.hour) == 24
    day = after.astimezone(zone).date() - timedelta(days=1)
    last = until.astimezone(zone).date() + timedelta(days=1)
    pending: list[datetime] = []
    while day <= last:
        if (
            day.month in fields.month_of_year
            and day.day in fields.day_of_month
            and day.isoweekday() % 7 in fields.day_of_week
        ):
            pending.extend(_instants(day, fields.hour, fields.minute, zone, every_hour))
        # A day's instants may reach past local midnight by the size of a clock change; hold them back one day.
        edge = datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)
        ready = sorted({instant for instant in pending if instant < edge})
        pending = [instant for instant in pending if instant >= edge]
        yield from (instant for instant in ready if after < instant <= until)
        day += timedelta(days=1)
    yield from (instant for instant in sorted(set(pending)) if after < instant <= until)


def next_slot(crontab: CrontabSchedule, after: datetime) -> datetime | None:
    """The first instant after `after`, or None when there is none within the horizon."""
    for days in (2, 35, 400, HORIZON.days):
        found = next(slots_between(crontab, after, after + timedelta(days=days)), None)
        if found is not None:
            return found
    return None


def _instants(day: date, hours: set[int], minutes: set[int], zone: ZoneInfo, both: bool) -> Iterator[datetime]:
    for hour in hours:
        for minute in minutes:
            wall = datetime.combine(day, time(hour, minute))
            first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
            yield first
            second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
            # In a gap fold=1 lies before fold=0; only a repeated hour has it after.
            if both and second > first:
                yield second
