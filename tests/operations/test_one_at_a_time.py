"""Locks, keys, and operations that start others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from django.db.models.functions import Now

from core.models import User
from operations import actions, control, engine, lifecycle, locks
from operations.context import StepContext, WaitForChild
from operations.exceptions import OperationError
from operations.models import Operation, OperationLock
from operations.procedures import AfterInterruption
from tests.operations.conftest import at_once, expire, fail, fresh, log_of, run
from tests.operations.samples import Died, Script

Ask = Callable[..., Operation]


# -- one at a time -----------------------------------------------------------------------------------------------------


def test_a_click_is_refused_with_the_name_of_the_holder(ask: Ask) -> None:
    holder = ask(title="Back up erp", lock_keys=["database:1", "archive:2"])
    with pytest.raises(OperationError, match=rf"#{holder.pk} Back up erp \(queued\)"):
        ask(lock_keys=["database:1"])
    assert Operation.objects.count() == 1
    assert OperationLock.objects.count() == 2


def test_a_schedule_waits_for_the_lock(ask: Ask, script: Script) -> None:
    holder = ask(lock_keys=["database:1"])
    waiting = ask(lock_keys=["database:1"], wait_for_locks=True)
    assert run(waiting).state == "queued"
    run(holder)
    assert run(waiting).state == "succeeded"


def test_who_waits_for_a_lock_is_rung_as_soon_as_it_is_let_go(ask: Ask, script: Script) -> None:
    holder = ask(lock_keys=["database:1"])
    waiting = ask(lock_keys=["database:1", "archive:2"], wait_for_locks=True)
    other = ask(lock_keys=["database:3"], wait_for_locks=True)
    Operation.objects.update(dispatched_at=Now())
    run(holder)
    assert fresh(waiting).dispatched_at is None and fresh(other).dispatched_at is not None


def test_of_many_clicks_one_gets_the_lock(ask: Ask) -> None:
    results = at_once(*(lambda: ask(lock_keys=["b", "a"]) for _ in range(6)))
    assert sum(isinstance(result, Operation) for result in results) == 1
    assert sum(isinstance(result, OperationError) for result in results) == 5
    assert OperationLock.objects.count() == 2


def test_a_lock_let_go_in_the_middle_of_taking_it_is_not_held_by_nobody(ask: Ask) -> None:
    """The insert runs into the holder's row, and the holder ends before it is looked for."""
    holder = ask(lock_keys=["database:1"])
    waiting = ask(lock_keys=["database:1"], wait_for_locks=True)
    real = OperationLock.objects.bulk_create

    def create_then_holder_ends(*args: object, **options: object) -> object:
        made = real(*args, **options)  # type: ignore[arg-type]
        at_once(lambda: OperationLock.objects.filter(operation=holder).delete())
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(OperationLock.objects), "bulk_create", lambda self, *a, **o: create_then_holder_ends(*a, **o)
        )
        assert locks.acquire(waiting) is False
    assert locks.acquire(waiting) is True
    assert OperationLock.objects.get().operation == waiting


def test_a_key_makes_one_operation(ask: Ask) -> None:
    results = at_once(
        *(lambda: actions.request_once("k1", lambda: ask(key="k1", lock_keys=["database:1"])) for _ in range(6))
    )
    assert len({result.pk for result in results}) == 1  # type: ignore[attr-defined]
    assert Operation.objects.count() == 1
    assert actions.request_once("k1", lambda: ask(key="k1")).pk == results[0].pk  # type: ignore[attr-defined]


# -- children ----------------------------------------------------------------------------------------------------------


def start_child(ask: Ask, **options: object) -> Callable[[StepContext], None]:
    def act(ctx: StepContext) -> None:
        child = ctx.child("it", lambda: ask("tests.child", title="Child", parent=ctx.operation, **options))
        ctx.log(f"child said {child.message!r}")

    return act


def child_of(operation: Operation) -> Operation:
    return Operation.objects.get(parent=operation)


def test_a_parent_waits_and_goes_on_when_its_child_has_ended(ask: Ask, script: Script) -> None:
    operation = ask(lock_keys=["database:1"])
    script.on("two", start_child(ask, lock_keys=["database:1"]))
    script.on("work", lambda ctx: ctx.conclude("42"))
    waiting = run(operation)
    assert (waiting.state, waiting.lease_until) == ("waiting", None)
    child = run(child_of(operation))
    assert child.state == "succeeded"
    assert OperationLock.objects.get().operation == operation
    assert fresh(operation).state == "queued"
    operation = run(operation)
    assert operation.state == "succeeded"
    assert "child said '42'" in log_of(operation)
    assert Operation.objects.count() == 2


def test_a_failing_child_fails_its_parent(ask: Ask, script: Script) -> None:
    operation = ask()
    script.on("two", start_child(ask))
    script.on("work", fail("The host is down."))
    run(operation)
    child = run(child_of(operation))
    operation = run(operation)
    assert operation.state == "failed"
    assert operation.message == f"{child} ended failed: The host is down."
    assert "undo_one" in script.calls


def test_others_do_not_inherit_the_lock(ask: Ask, script: Script) -> None:
    operation = ask(lock_keys=["database:1"])
    script.on("two", start_child(ask, lock_keys=["database:1"]))
    run(operation)
    with pytest.raises(OperationError, match="waiting for another operation"):
        ask(lock_keys=["database:1"])


def test_cancelling_a_parent_cancels_its_child_first(ask: Ask, script: Script, operator: User) -> None:
    operation = ask()
    script.on("two", start_child(ask))
    run(operation)
    actions.cancel(operation, by=operator)
    assert child_of(operation).state == "cancelled"
    assert fresh(operation).state == "queued"
    operation = run(operation)
    assert (operation.state, operation.message) == ("cancelled", "Cancelled by olga.")
    assert script.calls.count("two") == 1


def test_a_child_that_ends_as_its_parent_begins_to_wait(ask: Ask, script: Script) -> None:
    """The child's end looks at the parent before the parent waits, and commits after the parent has looked at it."""
    operation = ask()
    script.on("two", start_child(ask))
    about_to_wait, child_ends = threading.Event(), threading.Event()
    real_wait = lifecycle.wait_for_child

    def slow_wait(ctx: StepContext) -> None:
        about_to_wait.set()
        child_ends.wait(5)
        real_wait(ctx)

    def end_child(result: object) -> None:
        child_ends.set()
        time.sleep(0.4)

    def run_child() -> None:
        about_to_wait.wait(5)
        engine.run(child_of(operation).pk, "w2")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "wait_for_child", slow_wait)
        patch.setattr(lifecycle, "_wake_parent", lambda op, real=lifecycle._wake_parent: end_child(real(op)))
        at_once(lambda: engine.run(operation.pk, "w1"), run_child)
    assert child_of(operation).state == "succeeded"
    assert fresh(operation).state == "queued"


def test_before_a_parent_is_undone_its_child_has_ended(ask: Ask, script: Script) -> None:
    """The parent's worker dies after asking for the child; a parent that undoes must not let go of their lock early."""
    operation = ask(lock_keys=["database:1"])

    def ask_and_die(ctx: StepContext) -> None:
        with pytest.raises(WaitForChild):
            start_child(ask, lock_keys=["database:1"])(ctx)
        raise Died

    script.on("two", ask_and_die)
    with pytest.raises(Died):
        engine.run(operation.pk, "w1")
    expire(operation)
    control.sweep()
    script.on("after_interruption", lambda ctx: AfterInterruption.UNDO)
    child = child_of(operation)
    seen: list[str] = []

    def work(ctx: StepContext) -> None:
        engine.run(operation.pk, "w2")
        seen.append(fresh(operation).state)
        time.sleep(1.1)
        ctx.check()

    script.on("work", work)
    assert run(child).state == "cancelled"
    assert seen == ["waiting"]
    assert OperationLock.objects.count() == 1
    assert run(operation).state == "failed"
    assert not OperationLock.objects.exists()
