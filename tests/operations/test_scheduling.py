"""Every slot has exactly one recorded decision, whoever decides, however late, however often."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from operations import actions, scheduling
from operations.exceptions import OperationError, Refused
from operations.models import Operation, Schedule, Slot
from operations.slots import slots_between
from tests.operations.conftest import at_once

pytestmark = pytest.mark.usefixtures("rows", "script")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = dict(scheduling._handlers)
    scheduling.handler("tests.plan")(start_sample)
    yield
    scheduling._handlers.clear()
    scheduling._handlers.update(before)


def start_sample(schedule: Schedule, at: datetime, key: str) -> Operation:
    return actions.request_once(
        key,
        lambda: actions.request(
            "tests.sample",
            title=f"{schedule} {at}",
            params={},
            by=None,
            trigger=Operation.Trigger.SCHEDULE,
            lock_keys=[f"thing:{schedule.pk}"],
            wait_for_locks=True,
            key=key,
        ),
    )


def schedule(cron: str, since: str, *, zone: str = "UTC", misfire: str = "all", **values: object) -> Schedule:
    values = {"handler": "tests.plan", "name": f"{cron} {zone}", "enabled": True, **values}
    made = actions.set_schedule(None, cron=cron, time_zone=zone, misfire=misfire, **values)  # type: ignore[arg-type]
    Schedule.objects.filter(pk=made.pk).update(decided_until=utc(since))
    made.refresh_from_db()
    return made


def decisions(of: Schedule) -> list[tuple[str, str]]:
    return [(f"{slot.at:%d %H:%M}", slot.decision) for slot in of.slots.order_by("at")]


# -- misfire rules ----------------------------------------------------------------------------------------------------


def test_latest_runs_the_last_missed_slot_and_records_the_others() -> None:
    plan = schedule("0 * * * *", "2026-05-01T00:30", misfire="latest")
    assert scheduling.decide_due(utc("2026-05-01T03:30")) == 3
    assert decisions(plan) == [("01 01:00", "merged"), ("01 02:00", "merged"), ("01 03:00", "started")]
    assert Operation.objects.count() == 1
    assert scheduling.decide_due(utc("2026-05-01T03:30")) == 0


def test_all_runs_every_missed_slot() -> None:
    plan = schedule("0 * * * *", "2026-05-01T00:30", misfire="all")
    scheduling.decide_due(utc("2026-05-01T02:30"))
    assert decisions(plan) == [("01 01:00", "started"), ("01 02:00", "started")]
    keys = set(Operation.objects.values_list("idempotency_key", flat=True))
    assert keys == {f"schedule:{plan.pk}:2026-05-01T01:00:00Z", f"schedule:{plan.pk}:2026-05-01T02:00:00Z"}


def test_skip_runs_a_slot_in_time_and_no_missed_one() -> None:
    plan = schedule("0 * * * *", "2026-05-01T00:30", misfire="skip")
    scheduling.decide_due(utc("2026-05-01T02:00:20"))
    assert decisions(plan) == [("01 01:00", "too_late"), ("01 02:00", "started")]


def test_a_slot_found_too_late_is_recorded_and_not_run() -> None:
    plan = schedule("0 */6 * * *", "2026-05-01T01:00", misfire="all", max_lateness=timedelta(hours=8))
    scheduling.decide_due(utc("2026-05-01T19:00"))
    assert decisions(plan) == [("01 06:00", "too_late"), ("01 12:00", "started"), ("01 18:00", "started")]
    assert "the limit is 8:00:00" in plan.slots.get(at=utc("2026-05-01T06:00")).message


def test_the_latest_slot_is_too_late_as_well() -> None:
    plan = schedule("0 0 * * *", "2026-05-01T01:00", misfire="latest", max_lateness=timedelta(hours=1))
    scheduling.decide_due(utc("2026-05-03T12:00"))
    assert decisions(plan) == [("02 00:00", "too_late"), ("03 00:00", "too_late")]


# -- what may go wrong ------------------------------------------------------------------------------------------------


def test_a_refused_slot_keeps_the_sentence_and_is_not_asked_again() -> None:
    asked = []

    @scheduling.handler("tests.refusing")
    def refuse(schedule: Schedule, at: datetime, key: str) -> Operation:
        asked.append(at)
        Operation.objects.create(procedure="tests.sample", title="half made", trigger="schedule")
        raise OperationError("The plan has no target. Choose one.")

    plan = schedule("0 * * * *", "2026-05-01T00:30", handler="tests.refusing")
    scheduling.decide_due(utc("2026-05-01T01:30"))
    slot = plan.slots.get()
    assert (slot.decision, slot.message, slot.operation) == ("refused", "The plan has no target. Choose one.", None)
    assert not Operation.objects.exists()
    Schedule.objects.update(decided_until=utc("2026-05-01T00:30"))
    assert scheduling.decide_due(utc("2026-05-01T01:30")) == 0
    assert len(asked) == 1


def test_a_handler_that_breaks_is_recorded_and_does_not_keep_others_from_their_turn() -> None:
    @scheduling.handler("tests.broken")
    def break_down(schedule: Schedule, at: datetime, key: str) -> Operation:
        raise RuntimeError("no such luck")

    broken = schedule("0 * * * *", "2026-05-01T00:30", handler="tests.broken")
    sound = schedule("0 * * * *", "2026-05-01T00:30")
    assert scheduling.decide_due(utc("2026-05-01T01:30")) == 2
    assert "Unexpected RuntimeError: no such luck" in broken.slots.get(decision="refused").message
    assert decisions(sound) == [("01 01:00", "started")]


def test_a_broken_crontab_row_does_not_keep_others_from_their_turn() -> None:
    broken = schedule("0 * * * *", "2026-05-01T00:30")
    sound = schedule("0 * * * *", "2026-05-01T00:30")
    type(broken.crontab).objects.filter(pk=broken.crontab_id).update(minute="sometimes")
    scheduling.decide_due(utc("2026-05-01T01:30"))
    assert decisions(sound) == [("01 01:00", "started")]
    assert decisions(broken) == []


def test_a_schedule_nobody_answers_to_is_refused_with_a_sentence() -> None:
    plan = schedule("0 * * * *", "2026-05-01T00:30", handler="tests.unknown")
    scheduling.decide_due(utc("2026-05-01T01:30"))
    assert "Nothing in this version of the portal answers" in plan.slots.get(decision="refused").message


@pytest.mark.parametrize("batch", [2, 3, 4, 5])
def test_the_latest_slot_runs_wherever_the_batch_ends(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(scheduling, "BATCH", batch)
    plan = schedule("0 * * * *", "2026-05-01T00:30", misfire="latest")
    while scheduling.decide_due(utc("2026-05-01T04:30")):
        pass
    assert [decision for _, decision in decisions(plan)] == ["merged", "merged", "merged", "started"]


# -- edited, switched off ---------------------------------------------------------------------------------------------


def edit(plan: Schedule, **changes: object) -> Schedule:
    values = {
        "handler": plan.handler,
        "name": plan.name,
        "cron": "0 * * * *",
        "time_zone": "UTC",
        "enabled": True,
        "misfire": plan.misfire,
        **changes,
    }
    return actions.set_schedule(plan, **values)  # type: ignore[arg-type]


def test_an_edited_schedule_is_decided_from_the_edit_on() -> None:
    plan = schedule("0 * * * *", "2026-05-01T00:30")
    edit(plan, cron="30 * * * *")
    plan.refresh_from_db()
    assert plan.decided_until > utc("2026-05-02T00:00")
    assert scheduling.decide_due(utc("2026-05-01T05:00")) == 0


def test_another_name_or_rule_keeps_the_missed_slots() -> None:
    plan = schedule("0 * * * *", "2026-05-01T00:30")
    edit(plan, name="Nightly", misfire="latest")
    scheduling.decide_due(utc("2026-05-01T02:30"))
    assert decisions(plan) == [("01 01:00", "merged"), ("01 02:00", "started")]


def test_an_edit_does_not_take_back_what_was_decided_meanwhile() -> None:
    stale = schedule("0 * * * *", "2026-05-01T00:30")
    scheduling.decide_due(utc("2026-05-01T02:30"))
    edit(stale, name="Nightly")
    stale.refresh_from_db()
    assert stale.decided_until == utc("2026-05-01T02:30")


def test_a_disabled_schedule_decides_nothing_and_starts_afresh() -> None:
    plan = schedule("0 * * * *", "2026-05-01T00:30", enabled=False)
    assert scheduling.decide_due(utc("2026-05-01T05:00")) == 0
    edit(plan, enabled=True)
    assert scheduling.decide_due(utc("2026-05-01T05:00")) == 0


@pytest.mark.parametrize("cron", ["0 2 * *", "61 * * * *", "a b c d e", "0 0 31 2 *", "0 25 * * *", ""])
def test_nonsense_is_refused_with_a_sentence(cron: str) -> None:
    with pytest.raises(Refused):
        schedule(cron, "2026-05-01T00:00")
    assert not Schedule.objects.exists()


def test_a_quiet_schedule_is_not_written_at_every_round(django_assert_num_queries: object) -> None:
    plan = schedule("0 0 1 1 *", "2026-05-01T00:30")
    scheduling.decide_due(utc("2026-05-01T00:30:30"))
    plan.refresh_from_db()
    assert plan.decided_until == utc("2026-05-01T00:30")
    scheduling.decide_due(utc("2026-05-01T00:32"))
    plan.refresh_from_db()
    assert plan.decided_until == utc("2026-05-01T00:32")


# -- five beats, a long outage, both changes of clocks, three zones ----------------------------------------------------

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
CRONS = ("30 2 * * *", "0 * * * *", "45 1 * * *")
# 72 hours around each change of clocks of each zone in 2026.
OUTAGES = [
    ("Europe/Berlin", "2026-03-27T13:00"),
    ("Europe/Berlin", "2026-10-23T13:00"),
    ("America/New_York", "2026-03-06T19:00"),
    ("America/New_York", "2026-10-30T18:00"),
    ("Australia/Lord_Howe", "2026-04-03T03:00"),
    ("Australia/Lord_Howe", "2026-10-02T03:30"),
]


@pytest.mark.parametrize(("zone", "since"), OUTAGES)
def test_five_deciders_after_an_outage_over_a_change_of_clocks(zone: str, since: str) -> None:
    start, rules = utc(since), ("all", "latest", "skip")
    plans = [
        schedule(cron, since, zone=zone, misfire=rule, max_lateness=timedelta(hours=48))
        for cron in CRONS
        for rule in rules
    ]
    # The outage ends; five beats come back at once, not quite agreeing on the time, and go on for a while.
    back = start + timedelta(hours=72)

    def beat(number: int) -> int:
        return sum(scheduling.decide_due(back + timedelta(minutes=number, hours=later)) for later in range(4))

    results = at_once(*(lambda number=number: beat(number) for number in range(5)))
    assert all(isinstance(result, int) for result in results), results
    scheduling.decide_due(back + timedelta(hours=4))
    for plan in plans:
        due = list(slots_between(plan.crontab, start, back + timedelta(hours=4)))
        recorded = list(plan.slots.order_by("at").values_list("at", flat=True))
        assert recorded == due
        check_decisions(plan)
    assert Operation.objects.count() == Slot.objects.filter(decision="started").count()
    # Every decision was made by exactly one of them.
    decided_last = Slot.objects.filter(at__gt=back + timedelta(hours=3, minutes=4)).count()
    assert sum(results) + decided_last >= Slot.objects.count() >= sum(results)


def check_decisions(plan: Schedule) -> None:
    slots = list(plan.slots.order_by("at"))
    kinds = Counter(slot.decision for slot in slots)
    assert all(slot.decision == "too_late" for slot in slots if slot.lateness > timedelta(hours=48))
    if plan.misfire == "all":
        assert set(kinds) == {"started", "too_late"}
    if plan.misfire == "latest":
        assert slots[-1].decision == "started"
        assert kinds["started"] <= 5  # one for the outage, then one an hour
    assert len({slot.operation_id for slot in slots if slot.operation_id}) == kinds["started"]


def test_five_processes_decide_each_slot_once() -> None:
    """As above with processes instead of threads: what separate beats share is the database alone."""
    plan = schedule("*/5 * * * *", "2026-03-28T22:00", zone="Europe/Berlin", max_lateness=timedelta(days=30))
    connections.close_all()
    children = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for minutes in range(0, 300, 20):
                    scheduling.decide_due(utc("2026-03-28T22:00") + timedelta(minutes=minutes))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 5
    due = list(slots_between(plan.crontab, utc("2026-03-28T22:00"), utc("2026-03-28T22:00") + timedelta(minutes=280)))
    assert list(plan.slots.order_by("at").values_list("at", flat=True)) == due
    assert len(due) == 56
    assert Operation.objects.count() == 56
