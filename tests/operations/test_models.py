"""Rules that hold in the database, whoever writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from core.models import User
from operations.models import Operation, OperationLock, OperationStep, Schedule, Slot

pytestmark = pytest.mark.django_db(transaction=False)
NOW = timezone.now()


@pytest.fixture(autouse=True)
def db_access(db: None) -> None:
    """The ordinary kind: everything is rolled back."""


def operation(**values: Any) -> Operation:
    return Operation.objects.create(**{"procedure": "tests.sample", "title": "x", "trigger": "click", **values})


def step(**values: Any) -> OperationStep:
    return OperationStep.objects.create(**{"operation": operation(), "index": 0, "name": "a", "title": "A", **values})


def schedule(**values: Any) -> Schedule:
    return Schedule.objects.create(
        **{"handler": "x", "name": "x", "crontab": CrontabSchedule.objects.create(), **values}
    )


def slot(**values: Any) -> Slot:
    return Slot.objects.create(**{"schedule": schedule(), "at": NOW, "decided_at": NOW, "decision": "merged", **values})


def two_steps(**second: Any) -> None:
    first = step()
    step(**{"operation": first.operation, "index": 1, "name": "b", **second})


def two_slots() -> None:
    first = slot()
    slot(schedule=first.schedule)


def two_locks() -> None:
    OperationLock.objects.create(key="database:1", operation=operation())
    OperationLock.objects.create(key="database:1", operation=operation())


def two_schedules_of_one_crontab() -> None:
    first = schedule()
    schedule(crontab=first.crontab)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "running without a lease": (lambda: operation(state="running", attempt=1), "operation_running_has_lease"),
    "running without an attempt": (
        lambda: operation(state="running", lease_until=NOW),
        "operation_running_has_lease",
    ),
    "ended without a time": (lambda: operation(state="failed"), "operation_ended_has_time"),
    "a time without an end": (lambda: operation(state="queued", ended_at=NOW), "operation_ended_has_time"),
    "one key twice": (lambda: [operation(idempotency_key="k") for _ in range(2)], "idempotency_key"),
    "one index twice": (lambda: two_steps(index=0), "step_index_once"),
    "one name twice": (lambda: two_steps(name="a"), "step_name_once"),
    "by hand without evidence": (lambda: step(state="by_hand"), "step_by_hand_has_evidence"),
    "by hand by nobody": (lambda: step(state="by_hand", evidence="x"), "step_by_hand_has_evidence"),
    "one lock twice": (two_locks, "operations_operationlock_key"),
    "no lateness at all": (lambda: schedule(max_lateness=timedelta(0)), "schedule_lateness_positive"),
    "a crontab row of two": (two_schedules_of_one_crontab, "crontab_id"),
    "one slot twice": (two_slots, "slot_once"),
    "started without an operation": (lambda: slot(decision="started"), "slot_started_has_operation"),
    "merged with an operation": (lambda: slot(operation=operation()), "slot_started_has_operation"),
    "decided before it was due": (
        lambda: slot(decided_at=NOW - timedelta(seconds=1)),
        "slot_decided_after_due",
    ),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_refused(rule: str) -> None:
    write, constraint = REFUSED[rule]
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        write()


def test_allowed() -> None:
    operation(state="running", attempt=1, lease_until=NOW)
    operation(state="failed", ended_at=NOW)
    operation(idempotency_key=None)
    operation(idempotency_key=None)
    step(state="by_hand", evidence="seen", done_by=User.objects.create_user("olga"))
    two_steps()
    slot(decision="started", operation=operation())


def test_words_and_colours() -> None:
    made = operation()
    assert (made.state_word, made.status, made.duration) == ("Queued", "neutral", None)
    made.interrupted = True
    assert made.state_word == "Queued again"
    made.state, made.outcome, made.started_at = "running", "failed", NOW
    assert (made.state_word, made.is_undoing) == ("Undoing", True)
    made.outcome, made.cancel_requested_at = "", NOW
    assert made.state_word == "Cancelling"
    for state in Operation.State:
        assert Operation(state=state).status in ("neutral", "running", "warn", "ok", "bad")


def test_progress_and_the_time_left() -> None:
    made = step(
        state="running", started_at=timezone.now() - timedelta(seconds=10), progress_done=25, progress_total=100
    )
    assert made.progress_percent == 25
    assert made.eta_s == pytest.approx(30, abs=1)
    made.progress_done = 300
    assert (made.progress_percent, made.eta_s) == (100, 0)
    made.progress_done = 0
    assert made.eta_s is None
    made.progress_total = None
    assert made.progress_percent is None
