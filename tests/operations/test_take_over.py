"""A person cancels, pauses, does a step by hand, lets the portal go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection

from core.models import User
from operations import actions
from operations.commands import Command
from operations.context import StepContext
from operations.exceptions import OperationError
from operations.models import Operation, OperationLock
from tests.operations.conftest import die_in, fail, fresh, log_of, run, step_states
from tests.operations.samples import Script

Ask = Callable[..., Operation]


# -- cancel ------------------------------------------------------------------------------------------------------------


def test_cancel_before_it_started(ask: Ask, script: Script, operator: User) -> None:
    operation = ask(lock_keys=["database:1"])
    actions.cancel(operation, by=operator)
    operation = run(operation)
    assert (operation.state, operation.message) == ("cancelled", "Cancelled by olga before it started.")
    assert script.calls == ["on_end:cancelled", "on_end"]
    assert step_states(operation) == ["skipped"] * 3
    assert not OperationLock.objects.exists()


def test_cancel_while_a_command_runs_ends_it_and_undoes(ask: Ask, script: Script, operator: User) -> None:
    operation = ask()
    script.on("two", lambda ctx: ctx.run(Command(argv=("/bin/sleep", "60"))))
    thread = threading.Timer(
        0.7, lambda: (actions.cancel(operation, by=operator, reason="Wrong one."), connection.close())
    )
    thread.start()
    started = time.monotonic()
    operation = run(operation)
    thread.join()
    assert time.monotonic() - started < 10
    assert (operation.state, operation.message) == ("cancelled", "Cancelled by olga.")
    assert step_states(operation) == ["undone", "undone", "skipped"]
    assert "olga asked to cancel. Wrong one." in log_of(operation)


def test_cancel_of_a_paused_one_is_undone_not_paused_again(ask: Ask, script: Script, operator: User) -> None:
    operation = ask()
    script.on("one", lambda ctx: actions.pause(operation, by=operator) and None)
    assert run(operation).state == "paused"
    actions.cancel(operation, by=operator)
    assert fresh(operation).state == "queued"
    operation = run(operation)
    assert operation.state == "cancelled"
    assert "undo_one" in script.calls


def test_an_undo_is_not_cancelled(ask: Ask, script: Script, operator: User) -> None:
    operation = ask()
    script.on("two", fail("No."))

    def undo(ctx: StepContext) -> None:
        with pytest.raises(OperationError, match="being undone already"):
            actions.cancel(operation, by=operator)
        Operation.objects.update(cancel_requested_at=operation.requested_at)
        time.sleep(1.1)
        ctx.check()

    script.on("undo_two", undo)
    assert run(operation).state == "failed"


# -- take over ---------------------------------------------------------------------------------------------------------


def test_pause_do_by_hand_and_continue(ask: Ask, script: Script, operator: User) -> None:
    operation = ask(lock_keys=["database:1"])
    script.on("one", lambda ctx: actions.pause(operation, by=operator) and None)
    operation = run(operation)
    assert (operation.state, operation.lease_until) == ("paused", None)
    assert operation.message.startswith("Paused before “Second”")
    assert OperationLock.objects.count() == 1
    with pytest.raises(OperationError, match="Only the step"):
        actions.mark_done(operation, "three", by=operator, evidence="x")
    with pytest.raises(OperationError, match="Say what shows"):
        actions.mark_done(operation, "two", by=operator, evidence="  ")
    actions.mark_done(operation, "two", by=operator, evidence="psql says 7 rows")
    actions.resume(operation, by=operator)
    operation = run(operation, "w2")
    assert operation.state == "succeeded"
    assert "two" not in script.calls
    assert step_states(operation) == ["done", "by_hand", "done"]
    step = operation.steps.get(name="two")
    assert (step.evidence, step.done_by) == ("psql says 7 rows", operator)


def test_pause_before_a_named_step_survives_an_earlier_pause(ask: Ask, script: Script, operator: User) -> None:
    operation = ask()
    actions.pause(operation, by=operator)
    actions.pause(operation, by=operator, before="three")
    with pytest.raises(OperationError, match="has begun already"):
        actions.pause(operation, by=operator, before="four")
    assert run(operation).message.startswith("Paused before “First”")
    actions.resume(operation, by=operator)
    assert run(operation).message.startswith("Paused before “Third”")
    assert script.calls.count("two") == 1
    actions.resume(operation, by=operator)
    assert run(operation).state == "succeeded"


def test_an_interrupted_step_can_be_done_by_hand(ask: Ask, script: Script, operator: User) -> None:
    operation = ask()
    die_in(operation, script, "two")
    actions.pause(operation, by=operator)
    assert run(operation).message.startswith("Paused before “Second”")
    actions.mark_done(operation, "two", by=operator, evidence="did the rest")
    actions.resume(operation, by=operator)
    assert run(operation).state == "succeeded"
    assert "two" not in script.calls


def test_a_step_done_by_hand_is_undone_when_a_later_one_fails(ask: Ask, script: Script, operator: User) -> None:
    operation = ask()
    actions.pause(operation, by=operator)
    run(operation)
    actions.mark_done(operation, "one", by=operator, evidence="did it")
    actions.resume(operation, by=operator)
    script.on("two", fail("No."))
    assert run(operation).state == "failed"
    assert script.calls[-4:-2] == ["undo_two", "undo_one"]
