"""Who is on call, from the database: present, past as fact, and the alarm of gaps."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from contacts import csv_files, gaps, records, rota
from contacts.actions import oncall as actions
from contacts.actions import people as person_actions
from contacts.actions.oncall import LayerValues
from contacts.exceptions import ContactsError
from contacts.models import Level, Notification, OnCallRecord, OnCallSchedule, Override, PolicyVersion
from contacts.oncall import Window
from core.roles import Role
from operations import duties
from operations.models import Event
from tests.contacts.factories import ContactFactory, OnCallScheduleFactory, OverrideFactory, layer_of
from tests.contacts.ladders import matrix
from tests.factories import PersonFactory

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONDAY = datetime(2026, 3, 2, 8, tzinfo=UTC)  # 09:00 in Berlin


@pytest.fixture
def people():
    return [ContactFactory(name=name, phone=f"+49 40 {number}") for number, name in enumerate(("Ann", "Ben", "Cleo"))]


@pytest.fixture
def schedule(people):
    """Ann and Ben in turns of a week, Cleo behind them."""
    made = OnCallScheduleFactory(name="Shop")
    layer_of(made, people[0], people[1], starts_on=date(2026, 3, 2))
    layer_of(made, people[2], level=Level.SECONDARY, starts_on=date(2026, 3, 2))
    return made


def names(shifts) -> list[str]:
    return [str(shift.contact or "nobody") for shift in shifts]


# --- present and future ----------------------------------------------------------------------------------------------


def test_each_level_is_answered_on_its_own(schedule, people):
    ann, ben, cleo = people
    assert rota.who(schedule, Level.PRIMARY, MONDAY) == ann
    assert rota.who(schedule, Level.PRIMARY, MONDAY + 7 * DAY) == ben
    assert rota.who(schedule, Level.SECONDARY, MONDAY) == cleo
    assert rota.who(schedule, Level.ESCALATION, MONDAY) is None
    assert rota.who(schedule, Level.PRIMARY, MONDAY - HOUR) is None


def test_on_call_now_says_who_until_when_and_who_comes_next_with_the_number(schedule, people):
    ann, ben, cleo = people
    with time_machine.travel(MONDAY + HOUR, tick=False):
        first, second = rota.on_call_now()
    assert (first.level, first.contact, first.until, first.next) == (Level.PRIMARY, ann, MONDAY + 7 * DAY, ben)
    assert (first.phone, first.tel) == ("+49 40 0", "+49400")
    assert (second.contact, second.until, second.next) == (cleo, None, None)


def test_on_call_now_costs_the_same_for_one_schedule_and_for_ten(schedule):
    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert all(each.phone or each.contact is None for each in rota.on_call_now(MONDAY))
        return len(queries)

    one = cost()
    for _ in range(9):
        layer_of(
            OnCallScheduleFactory(), ContactFactory(phone="1"), ContactFactory(phone="2"), starts_on=date(2026, 1, 5)
        )
    assert cost() == one <= 6


def test_the_latest_override_counts_and_stands_above_the_layers(schedule, people):
    _, ben, cleo = people
    OverrideFactory(schedule=schedule, contact=ben, starts_at=MONDAY, ends_at=MONDAY + DAY)
    OverrideFactory(schedule=schedule, contact=cleo, starts_at=MONDAY + HOUR, ends_at=MONDAY + 2 * HOUR)
    assert rota.who(schedule, Level.PRIMARY, MONDAY) == ben
    assert rota.who(schedule, Level.PRIMARY, MONDAY + HOUR) == cleo
    shifts = rota.timeline(schedule, Level.PRIMARY, MONDAY, MONDAY + 2 * DAY)
    assert names(shifts) == ["Ben", "Cleo", "Ben", "Ann"]
    assert [shift.is_override for shift in shifts] == [True, True, True, False]


def test_an_override_answers_a_level_without_layers_while_it_lasts(schedule, people):
    OverrideFactory(
        schedule=schedule, level=Level.ESCALATION, contact=people[0], starts_at=MONDAY, ends_at=MONDAY + HOUR
    )
    assert rota.who(schedule, Level.ESCALATION, MONDAY) == people[0]
    assert len(rota.on_call_now(MONDAY)) == 3
    assert len(rota.on_call_now(MONDAY + HOUR)) == 2


def test_the_turn_of_somebody_switched_off_falls_to_the_layer_below_or_is_a_gap(schedule, people):
    ann, ben, cleo = people
    ann.active = False
    ann.save()
    assert rota.who(schedule, Level.PRIMARY, MONDAY) is None
    assert rota.who(schedule, Level.PRIMARY, MONDAY + 7 * DAY) == ben, "turns of others stay where they are"
    layer_of(schedule, cleo, rank=2, starts_on=date(2026, 3, 2))
    assert rota.who(schedule, Level.PRIMARY, MONDAY) == cleo


# --- the past is fact ------------------------------------------------------------------------------------------------


def test_who_was_on_call_is_kept_and_a_later_edit_changes_nothing_of_it(schedule, people):
    ann, ben, _ = people
    records.keep(schedule, MONDAY)
    records.keep(schedule, MONDAY + DAY)
    records.keep(schedule, MONDAY + 8 * DAY)
    rows = OnCallRecord.objects.filter(level=1).order_by("starts_at")
    assert [(row.contact, row.starts_at, row.ends_at) for row in rows] == [
        (ann, MONDAY, MONDAY + 7 * DAY),
        (ben, MONDAY + 7 * DAY, MONDAY + 8 * DAY),
    ]
    schedule.layers.all().delete()
    with time_machine.travel(MONDAY + 9 * DAY, tick=False):
        assert rota.who(schedule, Level.PRIMARY, MONDAY + HOUR) == ann
        assert rota.who(schedule, Level.PRIMARY, MONDAY + 7 * DAY) == ben
        assert rota.who(schedule, Level.PRIMARY) is None
        shifts = rota.timeline(schedule, Level.PRIMARY, MONDAY - DAY, MONDAY + 20 * DAY)
    assert names(shifts) == ["Ann", "Ben"]


def test_facts_begin_when_they_are_first_kept(schedule):
    records.keep(schedule, MONDAY + DAY)
    assert not OnCallRecord.objects.exists()
    with time_machine.travel(MONDAY + 2 * DAY, tick=False):
        assert rota.who(schedule, Level.PRIMARY, MONDAY) is None, "nobody knows any more"
        assert names(rota.timeline(schedule, Level.PRIMARY, MONDAY, MONDAY + 3 * DAY)) == ["Ann"]


def test_a_gap_is_a_fact_too(schedule):
    records.keep(schedule, MONDAY - 2 * HOUR)
    records.keep(schedule, MONDAY + HOUR)
    rows = OnCallRecord.objects.filter(level=1).order_by("starts_at")
    assert [(str(row.contact), row.ends_at - row.starts_at) for row in rows] == [("None", 2 * HOUR), ("Ann", HOUR)]
    assert str(rows[0]) == "Nobody, primary of Shop"


def test_an_outage_of_the_portal_leaves_no_hole(schedule):
    records.keep(schedule, MONDAY)
    records.keep(schedule, MONDAY + 30 * DAY)
    rows = list(OnCallRecord.objects.filter(level=1).order_by("starts_at"))
    assert names(rows) == ["Ann", "Ben", "Ann", "Ben", "Ann"]
    assert all(a.ends_at == b.starts_at for a, b in pairwise(rows))


def test_keeping_twice_or_with_a_clock_that_went_back_adds_nothing(schedule):
    records.keep(schedule, MONDAY)
    records.keep(schedule, MONDAY + HOUR)
    before = list(OnCallRecord.objects.values())
    records.keep(schedule, MONDAY + HOUR)
    records.keep(schedule, MONDAY)
    assert list(OnCallRecord.objects.values()) == before


# --- the write path --------------------------------------------------------------------------------------------------


@time_machine.travel(MONDAY + HOUR, tick=False)
def test_standing_in_counts_from_now_and_twice_is_once(schedule, people):
    values = {"level": 1, "contact": people[2], "starts_at": MONDAY, "ends_at": MONDAY + 5 * HOUR, "by": None}
    records.keep(schedule, MONDAY)
    override = actions.add_override(schedule, **values)
    assert override.starts_at == MONDAY + HOUR
    assert actions.add_override(schedule, **values) == override
    assert rota.who(schedule, 1) == people[2]
    assert OnCallRecord.objects.get(level=1).contact == people[0], "what was before is kept"


@time_machine.travel(MONDAY + HOUR, tick=False)
@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"ends_at": MONDAY}, "This time is over"),
        ({"starts_at": MONDAY + 9 * HOUR}, "ends after it begins"),
    ],
)
def test_standing_in_at_no_time_is_refused(schedule, people, values, complaint):
    asked = {"level": 1, "contact": people[2], "starts_at": MONDAY - DAY, "ends_at": MONDAY + 5 * HOUR, "by": None}
    with pytest.raises(ContactsError, match=complaint):
        actions.add_override(schedule, **{**asked, **values})


@time_machine.travel(MONDAY + HOUR, tick=False)
def test_somebody_switched_off_cannot_stand_in(schedule):
    gone = ContactFactory(active=False)
    with pytest.raises(ContactsError, match="is switched off"):
        actions.add_override(schedule, level=1, contact=gone, starts_at=MONDAY, ends_at=MONDAY + DAY, by=None)


def test_ending_an_override_gives_the_rest_back_and_one_that_has_not_begun_is_removed(schedule, people):
    now = OverrideFactory(schedule=schedule, contact=people[2], starts_at=MONDAY, ends_at=MONDAY + DAY)
    later = OverrideFactory(schedule=schedule, starts_at=MONDAY + 2 * DAY, ends_at=MONDAY + 3 * DAY)
    with time_machine.travel(MONDAY + HOUR, tick=False):
        actions.end_override(now)
        actions.end_override(later)
        assert rota.who(schedule, 1) == people[0]
        with pytest.raises(ContactsError, match="over already"):
            actions.end_override(now)
    assert list(Override.objects.values_list("ends_at", flat=True)) == [MONDAY + HOUR]


def test_layers_are_saved_whole_may_change_places_and_keep_the_facts(people):
    ann, ben, cleo = people
    with time_machine.travel(MONDAY, tick=False) as clock:
        schedule = actions.save_schedule(OnCallSchedule(name="Night", time_zone="Europe/Berlin"))
        first = LayerValues(None, 1, 1, date(2026, 3, 2), [ann, ben, ann], windows=[Window(0, time(8), time(0))])
        actions.save_layers(schedule, [first, LayerValues(None, 1, 2, date(2026, 3, 9), [cleo])])
        low, high = schedule.layers.order_by("rank")
        assert [turn.contact for turn in low.members.all()] == [ann, ben, ann]
        clock.move_to(MONDAY + HOUR)
        actions.save_layers(
            schedule,
            [
                LayerValues(low.pk, 1, 2, low.starts_on, [ben]),
                LayerValues(high.pk, 1, 1, date(2026, 3, 2), [cleo]),
            ],
        )
        assert rota.who(schedule, 1) == ben
        assert rota.who(schedule, 1, MONDAY) == ann
        actions.save_layers(schedule, [])
        assert rota.who(schedule, 1) is None
        with pytest.raises(ContactsError, match="same rank"):
            actions.save_layers(schedule, [first, first])


def test_saving_a_schedule_does_not_turn_back_what_the_duty_has_written(schedule):
    stale = OnCallSchedule.objects.get(pk=schedule.pk)
    records.keep(schedule, MONDAY)
    stale.name = "Renamed"
    with time_machine.travel(MONDAY + HOUR, tick=False):
        actions.save_schedule(stale)
    schedule.refresh_from_db()
    assert (schedule.name, schedule.recorded_until) == ("Renamed", MONDAY + HOUR)


# --- gaps ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def administrator():
    return ContactFactory(name="Root", user=PersonFactory(role=Role.ADMINISTRATOR))


def told() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("subject", flat=True))


def test_a_gap_within_a_day_is_told_once_and_again_when_it_opens_anew(schedule, people, administrator):
    layer = schedule.layers.get(level=1)
    layer.ends_on = date(2026, 3, 5)
    layer.save()
    ends = datetime(2026, 3, 5, 8, tzinfo=UTC)
    gaps.look_at(schedule, ends - 25 * HOUR)
    assert told() == []
    gaps.look_at(schedule, ends - 23 * HOUR)
    gaps.look_at(schedule, ends - 22 * HOUR)
    assert told() == ["Nobody is on call for Shop (primary) from Thu 05 Mar 09:00 CET and nobody follows."]
    note = Notification.objects.get()
    assert (note.contact, note.urgency, note.url) == (administrator, "news", schedule.get_absolute_url())
    event = Event.objects.get(name="oncall.gap")
    assert event.data == {"schedule": "Shop", "level": "Primary", "starts_at": ends.isoformat(), "ends_at": None}
    gaps.look_at(schedule, ends + HOUR)
    gaps.look_at(schedule, ends + 30 * HOUR)
    assert len(told()) == 1, "the gap that is there is the one that was told"
    stands_in = OverrideFactory(
        schedule=schedule, contact=people[2], starts_at=ends + 31 * HOUR, ends_at=ends + 100 * HOUR
    )
    gaps.look_at(schedule, ends + 32 * HOUR)
    assert len(told()) == 1
    stands_in.ends_at = ends + 33 * HOUR
    stands_in.save()
    gaps.look_at(schedule, ends + 34 * HOUR)
    assert len(told()) == 2
    assert Notification.objects.latest("pk").urgency == "page"


def test_a_gap_that_ends_says_until_when(schedule, administrator):
    gaps.look_at(schedule, MONDAY - HOUR)
    assert told() == [
        "Nobody is on call for Shop (primary) now until Mon 02 Mar 09:00 CET.",
        "Nobody is on call for Shop (secondary) now until Mon 02 Mar 09:00 CET.",
    ]


def test_a_schedule_that_wants_no_alarm_gets_none_and_keeps_its_facts(schedule, administrator):
    schedule.alarm_gaps = False
    schedule.save()
    gaps.look_at(schedule, MONDAY - 2 * HOUR)
    gaps.look_at(schedule, MONDAY - HOUR)
    assert told() == []
    assert OnCallRecord.objects.count() == 2


def test_without_layers_nobody_is_missed(administrator):
    gaps.look_at(OnCallScheduleFactory(), MONDAY)
    assert told() == []


def test_trouble_with_one_schedule_costs_no_other_its_turn(schedule, administrator, monkeypatch):
    OnCallScheduleFactory(name="Broken")
    real = gaps.look_at

    def look_at(row, now=None):
        if row.name == "Broken":
            raise RuntimeError("broken")
        real(row, now)

    monkeypatch.setattr(gaps, "look_at", look_at)
    gaps.look()
    schedule.refresh_from_db()
    assert schedule.recorded_until is not None


def test_the_duty_is_declared():
    assert "duty-on-call" in {duty.name for duty in duties.all_duties()}
    assert timezone.now() > MONDAY


def test_a_level_that_the_matrix_calls_and_no_layer_answers_is_told_once(schedule, administrator):
    policy = matrix(None, (None, "", [(timedelta(0), [schedule])]))
    gaps.look_at(schedule, MONDAY)
    assert told() == []
    policy.versions.get().rules.get().steps.get().targets.update(level=Level.ESCALATION)
    gaps.look_at(schedule, MONDAY + HOUR)
    gaps.look_at(schedule, MONDAY + 2 * HOUR)
    assert told() == ["The escalation matrix calls Shop (escalation), and no layer of it says who answers."]
    assert Notification.objects.get().urgency == "page"
    PolicyVersion.objects.create(policy=policy, number=2)
    gaps.look_at(schedule, MONDAY + 3 * HOUR)
    schedule.refresh_from_db()
    assert schedule.gaps_told == [], "only the matrix in force counts"


# --- somebody is switched off ----------------------------------------------------------------------------------------


def switched_by_hand(contact) -> None:
    contact.active = False
    person_actions.save(contact)


def switched_by_a_file(contact) -> None:
    lines = csv_files.read(f"name,active\n{contact.name},no\n")
    person_actions.bring_in(lines, by=PersonFactory(role=Role.ADMINISTRATOR))


@pytest.mark.parametrize("switch_off", [switched_by_hand, switched_by_a_file])
def test_who_was_on_call_stays_a_fact_when_somebody_is_switched_off(schedule, people, switch_off):
    ann = people[0]
    records.keep(schedule, MONDAY)
    with time_machine.travel(MONDAY + 5 * HOUR, tick=False):
        switch_off(ann)
    with time_machine.travel(MONDAY + 6 * HOUR, tick=False):
        gaps.look_at(schedule)
        assert rota.who(schedule, Level.PRIMARY, MONDAY + 4 * HOUR) == ann
        assert rota.who(schedule, Level.PRIMARY, MONDAY + 5 * HOUR + HOUR / 2) is None
