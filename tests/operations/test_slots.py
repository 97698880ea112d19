"""The calendar arithmetic of schedules, around changes of clocks above all."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django_celery_beat.models import CrontabSchedule
from hypothesis import given, settings
from hypothesis import strategies as st

from operations.slots import next_slot, slots_between

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def cron(text: str, zone: str = "UTC") -> CrontabSchedule:
    minute, hour, day, month, weekday = text.split()
    return CrontabSchedule(
        minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday, timezone=ZoneInfo(zone)
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(text: str, zone: str, after: str, until: str) -> list[str]:
    found = slots_between(cron(text, zone), utc(after), utc(until))
    return [f"{instant:%m-%d %H:%M}" for instant in found]


# Clocks in 2026: Berlin 29 March 01:00 UTC on, 25 October 01:00 UTC off; New York 8 March 07:00 UTC on, 1 November
# 06:00 UTC off; Lord Howe (half an hour) 4 April 15:00 UTC off, 3 October 15:30 UTC on.
@pytest.mark.parametrize(
    ("text", "zone", "after", "until", "expected"),
    [
        pytest.param(
            "30 2 * * *", BERLIN, "2026-03-28T00:00", "2026-03-31T00:00",
            ["03-28 01:30", "03-29 01:30", "03-30 00:30"], id="berlin-gap-daily-at-03:30",
        ),
        pytest.param(
            "0 3 * * *", BERLIN, "2026-03-28T12:00", "2026-03-29T12:00", ["03-29 01:00"], id="berlin-first-after-gap"
        ),
        pytest.param(
            "30 1 * * *", BERLIN, "2026-03-28T12:00", "2026-03-29T12:00", ["03-29 00:30"], id="berlin-last-before-gap"
        ),
        pytest.param(
            "30 2 * * *", BERLIN, "2026-10-24T00:00", "2026-10-27T00:00",
            ["10-24 00:30", "10-25 00:30", "10-26 01:30"], id="berlin-repeated-daily-once",
        ),
        pytest.param(
            "0 * * * *", BERLIN, "2026-10-24T22:30", "2026-10-25T03:30",
            ["10-24 23:00", "10-25 00:00", "10-25 01:00", "10-25 02:00", "10-25 03:00"], id="berlin-hourly-repeated",
        ),
        pytest.param(
            "0 * * * *", BERLIN, "2026-03-28T22:30", "2026-03-29T03:30",
            ["03-28 23:00", "03-29 00:00", "03-29 01:00", "03-29 02:00", "03-29 03:00"], id="berlin-hourly-gap",
        ),
        pytest.param(
            "0 0-23 * * *", BERLIN, "2026-10-24T23:30", "2026-10-25T02:30",
            ["10-25 00:00", "10-25 01:00", "10-25 02:00"], id="all-24-hours-named-is-every-hour",
        ),
        pytest.param(
            "*/20 2 * * *", BERLIN, "2026-10-24T23:00", "2026-10-25T03:00",
            ["10-25 00:00", "10-25 00:20", "10-25 00:40"], id="berlin-minutes-of-a-repeated-hour-once",
        ),
        pytest.param(
            "30 2 * * *", NEW_YORK, "2026-03-07T00:00", "2026-03-10T00:00",
            ["03-07 07:30", "03-08 07:30", "03-09 06:30"], id="new-york-gap",
        ),
        pytest.param(
            "30 1 * * *", NEW_YORK, "2026-10-31T00:00", "2026-11-03T00:00",
            ["10-31 05:30", "11-01 05:30", "11-02 06:30"], id="new-york-repeated-daily-once",
        ),
        pytest.param(
            "15 * * * *", NEW_YORK, "2026-11-01T04:30", "2026-11-01T07:30",
            ["11-01 05:15", "11-01 06:15", "11-01 07:15"], id="new-york-hourly-repeated",
        ),
        pytest.param(
            "15 2 * * *", LORD_HOWE, "2026-10-02T00:00", "2026-10-05T00:00",
            ["10-02 15:45", "10-03 15:45", "10-04 15:15"], id="lord-howe-half-hour-gap",
        ),
        pytest.param(
            "45 1 * * *", LORD_HOWE, "2026-04-03T00:00", "2026-04-06T00:00",
            ["04-03 14:45", "04-04 14:45", "04-05 15:15"], id="lord-howe-repeated-half-hour-once",
        ),
        pytest.param(
            "0,30 * * * *", LORD_HOWE, "2026-04-04T14:00", "2026-04-04T16:30",
            ["04-04 14:30", "04-04 15:00", "04-04 15:30", "04-04 16:00", "04-04 16:30"], id="lord-howe-half-hourly",
        ),
        pytest.param(
            "*/15 * * * *", LORD_HOWE, "2026-10-03T15:00", "2026-10-03T16:15",
            ["10-03 15:15", "10-03 15:30", "10-03 15:45", "10-03 16:00", "10-03 16:15"], id="lord-howe-quarters-gap",
        ),
        pytest.param(
            "0 12 31 * *", "UTC", "2026-01-01T00:00", "2026-06-30T00:00",
            ["01-31 12:00", "03-31 12:00", "05-31 12:00"], id="months-without-a-31st",
        ),
        pytest.param("0 0 29 2 *", "UTC", "2026-01-01T00:00", "2028-12-31T00:00", ["02-29 00:00"], id="leap-day"),
        pytest.param(
            "0 6 * * mon-fri", "UTC", "2026-05-01T12:00", "2026-05-05T12:00",
            ["05-04 06:00", "05-05 06:00"], id="weekdays",
        ),
        pytest.param(
            "0 6 * * 0", "UTC", "2026-05-01T12:00", "2026-05-12T12:00", ["05-03 06:00", "05-10 06:00"], id="sundays"
        ),
        pytest.param(
            "0 6 13 * 5", "UTC", "2026-01-01T00:00", "2026-12-31T00:00",
            ["02-13 06:00", "03-13 06:00", "11-13 06:00"], id="both-day-fields-have-to-fit",
        ),
        pytest.param(
            "30 0 1 * *", "Pacific/Auckland", "2026-04-01T00:00", "2026-06-01T00:00",
            ["04-30 12:30", "05-31 12:30"], id="first-of-the-month-far-east",
        ),
        pytest.param(
            "30 0 * * *", "Africa/Cairo", "2026-04-22T00:00", "2026-04-25T00:00",
            ["04-22 22:30", "04-23 22:30", "04-24 21:30"], id="gap-at-midnight",
        ),
    ],
)  # fmt: skip
def test_table(text: str, zone: str, after: str, until: str, expected: list[str]) -> None:
    assert slots(text, zone, after, until) == expected


def test_the_interval_is_open_at_its_start_and_closed_at_its_end() -> None:
    assert slots("0 2 * * *", "UTC", "2026-01-01T02:00", "2026-01-02T02:00") == ["01-02 02:00"]


def test_next_slot_looks_years_ahead_and_then_gives_up() -> None:
    assert next_slot(cron("0 0 29 2 *"), utc("2026-03-01T00:00")) == utc("2028-02-29T00:00")
    assert next_slot(cron("0 0 29 2 1"), utc("2026-03-01T00:00")) is None  # a Monday only in 2044
    assert next_slot(cron("* * * * *"), utc("2026-03-01T00:00")) == utc("2026-03-01T00:01")


ZONES = st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, "Africa/Cairo", "America/Santiago", "Asia/Beirut", "UTC"])
CRONS = st.sampled_from(
    ["30 2 * * *", "0 * * * *", "*/15 * * * *", "45 1 * * *", "0 0 * * *", "5 */2 * * *", "59 23 * * 0,3", "0 3 1 * *"]
)
# A window around every change of clocks in the zones above, and quiet times.
STARTS = st.integers(0, 500 * 24 * 60).map(lambda minutes: utc("2026-01-01T00:00") + timedelta(minutes=minutes))


@settings(max_examples=150, deadline=None)
@given(
    text=CRONS,
    zone=ZONES,
    start=STARTS,
    hours=st.integers(1, 24 * 6),
    cuts=st.lists(st.floats(0.001, 0.999), max_size=5),
)
def test_no_slot_is_lost_or_doubled_where_an_interval_is_cut(
    text: str, zone: str, start: datetime, hours: int, cuts: list[float]
) -> None:
    crontab, until = cron(text, zone), start + timedelta(hours=hours)
    whole = list(slots_between(crontab, start, until))
    assert whole == sorted(set(whole))
    assert all(start < instant <= until for instant in whole)
    edges = [start, *sorted(start + (until - start) * cut for cut in cuts), until]
    pieces = [instant for left, right in itertools.pairwise(edges) for instant in slots_between(crontab, left, right)]
    assert pieces == whole


@settings(max_examples=60, deadline=None)
@given(zone=ZONES, start=STARTS, hour=st.integers(0, 23), minute=st.integers(0, 59))
def test_a_daily_schedule_has_exactly_one_slot_a_day(zone: str, start: datetime, hour: int, minute: int) -> None:
    crontab = cron(f"{minute} {hour} * * *", zone)
    found = list(slots_between(crontab, start, start + timedelta(days=10)))
    assert 9 <= len(found) <= 11
    gaps = [later - earlier for earlier, later in itertools.pairwise(found)]
    assert all(timedelta(hours=23) <= gap <= timedelta(hours=25) for gap in gaps)
