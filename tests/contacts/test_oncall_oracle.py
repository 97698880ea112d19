"""Who is on call, against a naive walk through time (tests/contacts/oracle.py), and the cases that people ask about."""

from __future__ import annotations

import time as clock
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from contacts.oncall import Layer, Override, Rota, Run, Turn, Window
from tests.contacts import oracle

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)


def at(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def test_three_thousand_answers_are_those_of_a_walk_through_time():
    found = oracle.compare(3000, seed=20260105, changes_asked=30)
    assert found.queries == 3000
    assert (found.mismatches, found.timelines_that_differ) == (0, 0)


def test_every_change_of_clocks_from_2000_to_2037_is_among_the_questions():
    berlin = oracle.changes("Europe/Berlin")
    assert len(berlin) == 76
    assert berlin[0] == datetime(2000, 3, 26, 1, tzinfo=UTC)
    assert berlin[-1] == datetime(2037, 10, 25, 1, tzinfo=UTC)


def test_the_walk_finds_a_wrong_answer(monkeypatch):
    """Else it would prove nothing."""
    monkeypatch.setattr(Rota, "who", lambda self, at: Turn(1))
    assert oracle.compare(100, seed=1, changes_asked=2).mismatches > 50


def test_a_hundred_thousand_questions_take_seconds():
    weekdays = tuple(Window(day, time(8), time(18)) for day in range(5))
    rota = Rota(
        "Europe/Berlin",
        [
            Layer((1, 2, 3), date(2020, 1, 6)),
            Layer((4, 5), date(2020, 1, 6), rank=2, unit="days", windows=weekdays),
        ],
        [Override(9, at("2026-05-01"), at("2026-05-02"))],
    )
    begun = clock.process_time()
    for number in range(10_000):
        rota.who(datetime(2026, 1, 1, tzinfo=UTC) + HOUR * number)
    assert clock.process_time() - begun < 2


def test_weeks_hand_over_at_the_local_time_also_after_a_change_of_clocks():
    rota = Rota("Europe/Berlin", [Layer((1, 2), date(2026, 3, 23))])
    assert rota.who(at("2026-03-30T08:59")).member == 1
    assert rota.who(at("2026-03-30T09:00")).member == 2
    assert rota.timeline(at("2026-03-23T09:00"), at("2026-03-30T09:00"))[0].ends_at == at("2026-03-30T09:00")


def test_hours_are_elapsed_time():
    rota = Rota("Europe/Berlin", [Layer((1, 2), date(2026, 3, 28), unit="hours", length=12, handoff=time(20))])
    assert rota.who(at("2026-03-29T08:59")).member == 1
    assert rota.who(at("2026-03-29T09:00")).member == 2  # twelve hours later the clock shows thirteen


def test_a_handoff_that_the_clock_skips_comes_as_much_later_and_one_it_shows_twice_comes_first():
    rota = Rota("Europe/Berlin", [Layer((1, 2), date(2026, 3, 28), unit="days", handoff=time(2, 30))])
    assert rota.who(at("2026-03-29T03:29")).member == 1
    assert rota.who(at("2026-03-29T03:30")).member == 2
    rota = Rota("Europe/Berlin", [Layer((1, 2), date(2026, 10, 24), unit="days", handoff=time(2, 30))])
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert rota.who(first - timedelta(seconds=1)).member == 1
    assert rota.who(first).member == 2
    assert rota.who(first + HOUR).member == 2


def test_a_window_that_begins_at_a_midnight_shown_twice_holds_while_the_clock_goes_back_into_yesterday():
    """St John's went back from 00:01 to 23:01."""
    zone = ZoneInfo("America/St_Johns")
    rota = Rota("America/St_Johns", [Layer((1,), date(2008, 1, 1), windows=(Window(6, time(0), time(6)),))])
    first_midnight = datetime(2008, 11, 2, 2, 30, tzinfo=UTC)
    again = first_midnight + timedelta(minutes=30)
    assert again.astimezone(zone).weekday() == 5
    assert rota.who(again).member == 1
    assert rota.who(first_midnight - timedelta(minutes=1)).member is None


def test_a_day_that_a_zone_skipped_gives_nobody_a_shift():
    rota = Rota("Pacific/Apia", [Layer((1, 2, 3), date(2011, 12, 28), unit="days")])
    apia = ZoneInfo("Pacific/Apia")
    assert rota.who(at("2011-12-29T12:00", apia)).member == 2
    assert rota.who(at("2011-12-31T12:00", apia)).member == 1


def test_the_highest_layer_that_names_somebody_counts_and_overrides_go_above_all():
    rota = Rota(
        "Europe/Berlin",
        [
            Layer((1,), date(2026, 1, 1)),
            Layer((2, None), date(2026, 1, 1), rank=5, unit="days", windows=(Window(0, time(8), time(0)),)),
        ],
        [
            Override(7, at("2026-01-12T10:00"), at("2026-01-12T20:00")),
            Override(8, at("2026-01-12T12:00"), at("2026-01-12T13:00")),
            Override(None, at("2026-01-12T12:00"), at("2026-01-12T13:00")),
        ],
    )
    assert rota.who(at("2026-01-12T07:59")).member == 1
    assert rota.who(at("2026-01-12T11:00")) == Turn(7, True)
    assert rota.who(at("2026-01-12T12:00")) == Turn(8, True)
    assert rota.who(at("2026-01-19T12:00")).member in (1, 2)
    assert rota.who(at("2026-01-13T12:00")).member == 1


def test_a_layer_ends_with_its_last_handoff_and_the_next_one_follows_without_a_gap():
    rota = Rota(
        "Europe/Berlin",
        [Layer((1,), date(2026, 1, 1), ends_on=date(2026, 2, 1)), Layer((2,), date(2026, 2, 1), rank=2)],
    )
    edge = at("2026-02-01T09:00")
    assert rota.timeline(at("2026-01-31"), at("2026-02-02")) == [
        Run(Turn(1), at("2026-01-31"), edge),
        Run(Turn(2), edge, at("2026-02-02")),
    ]
    assert rota.gaps(at("2026-01-01"), at("2026-03-01")) == [
        Run(Turn(None), at("2026-01-01"), at("2026-01-01T09:00")),
    ]


@pytest.mark.parametrize("members", [(), (None,)])
def test_without_people_there_is_nothing_but_a_gap(members):
    rota = Rota("UTC", [Layer(members, date(2026, 1, 1))])
    assert rota.who(at("2026-06-01")) == Turn(None)
    assert rota.next_change(at("2026-06-01")) is None


def test_the_next_change_is_the_next_other_person():
    rota = Rota("Europe/Berlin", [Layer((1, 1, 2), date(2026, 1, 5))])
    change = rota.next_change(at("2026-01-05T10:00"))
    assert (change.starts_at, change.turn.member) == (at("2026-01-19T09:00"), 2)
    assert Rota("Europe/Berlin", [Layer((1,), date(2026, 1, 5))]).next_change(at("2026-01-06")) is None


def test_an_empty_time_has_an_empty_timeline():
    rota = Rota("UTC", [Layer((1,), date(2026, 1, 1))])
    assert rota.timeline(at("2026-06-01"), at("2026-06-01")) == []
