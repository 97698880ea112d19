"""Workers die, freeze and lose their lease: what the next one makes of it, and what the late one may not do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from core.models import User
from operations import actions, control, engine, lifecycle
from operations.commands import Command
from operations.context import StepContext
from operations.lease import LeaseLost
from operations.models import Operation, OperationLock, OperationStep
from operations.procedures import AfterInterruption, Step
from tests.operations import samples
from tests.operations.conftest import die, die_in, expire, fail, fresh, log_of, run, step_states
from tests.operations.samples import Died, Script

Ask = Callable[..., Operation]


# -- interruption ------------------------------------------------------------------------------------------------------


def test_resume_at_the_first_unfinished_step(ask: Ask, script: Script) -> None:
    operation = ask(lock_keys=["database:1"])
    die_in(operation, script, "two")
    queued = fresh(operation)
    assert (queued.state, queued.interrupted, queued.interruptions, queued.lease_until) == ("queued", True, 1, None)
    assert OperationLock.objects.count() == 1
    operation = run(operation, "w2")
    assert script.calls == ["prepare", "after_interruption", "two", "three", "on_end:succeeded", "on_end"]
    assert (operation.state, operation.attempt, operation.interrupted) == ("succeeded", 2, False)
    assert "w2 takes over" in log_of(operation)


def test_undo_after_an_interruption(ask: Ask, script: Script) -> None:
    operation = ask()
    die_in(operation, script, "two")
    script.on("after_interruption", lambda ctx: AfterInterruption.UNDO)
    operation = run(operation, "w2")
    assert script.calls == ["prepare", "after_interruption", "undo_two", "undo_one", "on_end:failed", "on_end"]
    assert operation.state == "failed"
    assert "Start it again" in operation.message


def test_a_death_between_the_last_step_and_the_end_only_ends(ask: Ask, script: Script, monkeypatch: object) -> None:
    operation = ask()
    script.on("after_interruption", lambda ctx: AfterInterruption.UNDO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "end", lambda *args: die(args[0]))
        with pytest.raises(Died):
            engine.run(operation.pk, "w1")
    expire(operation)
    control.sweep()
    script.calls.clear()
    assert run(operation, "w2").state == "succeeded"
    assert script.calls == ["on_end:succeeded", "on_end"]


def test_a_death_during_the_undo_is_continued(ask: Ask, script: Script) -> None:
    """The sentence is kept over any number of deaths, steps are taken back once, and prepare comes before the undo."""
    operation = ask()
    script.on("three", fail("The disk is full."))
    die_in(operation, script, "undo_two")
    script.on("prepare", fail("The target is restarting."))
    die_in(operation, script, "undo_one")
    operation = run(operation, "w3")
    assert script.calls == ["prepare", "prepare", "prepare", "undo_one", "on_end:failed", "on_end"]
    assert (operation.state, operation.message) == ("failed", "The disk is full.")


def test_a_failed_undo_is_not_forgotten_by_the_next_attempt(ask: Ask, script: Script) -> None:
    operation = ask()
    script.on("three", fail("No."))
    script.on("undo_two", fail("The file is busy."))
    die_in(operation, script, "undo_one")
    operation = run(operation, "w2")
    assert operation.state == "errored"
    assert "Undo of “Second” failed: The file is busy." in operation.message


def test_changed_code_is_undone_not_resumed(ask: Ask, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = ask()
    die_in(operation, script, "two")
    monkeypatch.setattr(samples.Sample, "steps", (Step("one", "First", undo="undo_one"), Step("three", "Third")))
    operation = run(operation, "w2")
    assert operation.state == "failed"
    assert "was updated" in operation.message
    assert script.calls[:3] == ["prepare", "undo_two", "undo_one"]


def test_an_operation_that_kills_its_workers_is_undone_in_the_end(ask: Ask, script: Script) -> None:
    operation = ask()
    for _ in range(engine.MAX_INTERRUPTIONS):
        die_in(operation, script, "two")
    operation = run(operation)
    assert operation.state == "failed"
    assert operation.message.startswith(f"Interrupted {engine.MAX_INTERRUPTIONS} times")


def test_an_operation_that_kills_its_workers_before_the_first_step_ends_too(ask: Ask, script: Script) -> None:
    operation = ask()
    for _ in range(engine.MAX_INTERRUPTIONS):
        die_in(operation, script, "prepare")
    assert run(operation).state == "failed"


def test_an_interruption_before_the_first_step_decides_nothing(ask: Ask, script: Script) -> None:
    operation = ask()
    script.on("after_interruption", lambda ctx: AfterInterruption.UNDO)
    die_in(operation, script, "prepare")
    assert run(operation).state == "succeeded"


def test_an_undo_that_kills_its_workers_ends_errored(ask: Ask, script: Script) -> None:
    operation = ask()
    script.on("two", fail("No."))
    for _ in range(2 * engine.MAX_INTERRUPTIONS):
        die_in(operation, script, "undo_two")
    operation = run(operation)
    assert operation.state == "errored"
    assert operation.message.startswith("No. Its undo was interrupted too often.")


def test_pauses_and_children_are_no_interruptions(ask: Ask, script: Script, operator: User) -> None:
    operation = ask()
    for _ in range(engine.MAX_INTERRUPTIONS + 1):
        actions.pause(operation, by=operator)
        run(operation)
        actions.resume(operation, by=operator)
    die_in(operation, script, "one")
    assert run(operation).state == "succeeded"


def test_a_worker_that_stops_in_good_order_gives_back_at_once(ask: Ask, script: Script) -> None:
    from django.utils import timezone

    from operations.models import WorkerNode

    now = timezone.now()
    WorkerNode.objects.create(name="w1", pid=1, started_at=now, heartbeat_at=now, stopping=True)
    operation = run(ask())
    assert (operation.state, operation.interrupted, operation.interruptions) == ("queued", True, 0)
    assert run(operation, "w2").state == "succeeded"


# -- lease and fence ---------------------------------------------------------------------------------------------------


def test_the_fence_refuses_an_earlier_attempt(ask: Ask, script: Script) -> None:
    """A worker wakes up after its successor has taken over: nothing it does is written."""
    operation = ask()
    wrote: list[str] = []

    def wake_up_late(ctx: StepContext) -> None:
        if ctx.attempt > 1:
            return
        expire(operation)
        control.sweep()
        engine.run(operation.pk, "w2")
        ctx.step.message = "from the dead"  # type: ignore[union-attr]
        with pytest.raises(LeaseLost), ctx.fenced():
            wrote.append("fenced")
        ctx.remember(stolen=True)

    script.on("two", wake_up_late)
    operation = run(operation)
    assert (operation.state, operation.attempt, operation.worker) == ("succeeded", 2, "w2")
    assert not wrote
    assert "stolen" not in operation.data
    assert operation.steps.get(name="two").message == ""
    assert script.calls.count("on_end") == 1


def test_an_attempt_that_comes_too_late_cleans_up_after_itself(
    ask: Ask, script: Script, settings: object, tmp_path: Path
) -> None:
    """It wakes up between two looks, makes a folder, and learns then that everything is over."""
    settings.DATA_DIR = tmp_path  # type: ignore[attr-defined]
    operation = ask()

    def wake_up_late(ctx: StepContext) -> None:
        if ctx.attempt > 1:
            return
        expire(operation)
        control.sweep()
        engine.run(operation.pk, "w2")
        (tmp_path / "work" / f"op{operation.pk}-a1").mkdir(parents=True)
        ctx.remember(stolen=True)

    script.on("two", wake_up_late)
    assert run(operation).state == "succeeded"
    assert script.calls[-1] == "abandon"
    assert list((tmp_path / "work").iterdir()) == []


def test_an_attempt_whose_successor_has_not_come_leaves_its_work_to_it(ask: Ask, script: Script) -> None:
    operation = ask()

    def lose(ctx: StepContext) -> None:
        expire(operation)
        ctx.remember(lost=True)

    script.on("two", lose)
    assert run(operation).state == "running"
    assert "abandon" not in script.calls


def test_the_fence_goes_by_the_clock_of_the_database(ask: Ask, script: Script) -> None:
    operation = ask()

    def write(ctx: StepContext) -> None:
        expire(operation)
        with ctx.fenced():
            Operation.objects.update(title="written")

    script.on("one", write)
    run(operation)
    assert fresh(operation).title == "Sample"


def test_the_lease_is_renewed_while_a_step_works(ask: Ask, script: Script, settings: object) -> None:
    settings.OPERATIONS_LEASE_S, settings.OPERATIONS_HEARTBEAT_S = 1.0, 0.2  # type: ignore[attr-defined]
    script.on("one", lambda ctx: time.sleep(1.8))
    operation = run(ask())
    assert (operation.state, operation.attempt) == ("succeeded", 1)


def test_a_worker_that_was_frozen_past_its_lease_stops(ask: Ask, script: Script, settings: object) -> None:
    """Without renewals for longer than the lease the attempt ends by its own clock, whatever the database says."""
    settings.OPERATIONS_LEASE_S, settings.OPERATIONS_HEARTBEAT_S = 0.5, 60.0  # type: ignore[attr-defined]
    script.on("one", lambda ctx: time.sleep(0.8))
    operation = run(ask())
    assert operation.state == "running"
    assert step_states(operation)[0] == "running"
    assert "two" not in script.calls


def test_a_command_ends_when_the_lease_is_lost(ask: Ask, script: Script) -> None:
    operation = ask()

    def work(ctx: StepContext) -> None:
        threading.Timer(0.5, lambda: (Operation.objects.update(attempt=9), connection.close())).start()
        ctx.run(Command(argv=("/bin/sleep", "60")))

    script.on("one", work)
    started = time.monotonic()
    run(operation)
    assert time.monotonic() - started < 10
    assert step_states(operation)[0] == "running"


def test_losing_the_lease_is_not_swallowed_by_a_step(ask: Ask, script: Script) -> None:
    operation = ask()

    def swallow(ctx: StepContext) -> None:
        Operation.objects.update(attempt=9)
        try:
            with ctx.fenced():
                raise AssertionError
        except Exception:
            script.calls.append("swallowed")

    script.on("one", swallow)
    assert run(operation).state == "running"
    assert "swallowed" not in script.calls
    assert "two" not in script.calls


def test_a_record_waits_for_the_database_while_the_lease_lasts(ask: Ask, script: Script) -> None:
    operation = ask()
    real, failures = lifecycle.complete_step, []

    def away(ctx: StepContext, step: OperationStep) -> None:
        if len(failures) < 2:
            failures.append(1)
            raise OperationalError("the connection is closed")
        real(ctx, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "complete_step", away)
        assert run(operation).state == "succeeded"
    assert script.calls.count("one") == 1


def test_a_database_that_stays_away_ends_the_attempt(ask: Ask, script: Script, settings: object) -> None:
    settings.OPERATIONS_LEASE_S, settings.OPERATIONS_HEARTBEAT_S = 1.0, 60.0  # type: ignore[attr-defined]
    operation = ask()

    def away(ctx: StepContext, step: OperationStep) -> None:
        raise OperationalError("the connection is closed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "complete_step", away)
        started = time.monotonic()
        assert run(operation).state == "running"
    assert 0.9 < time.monotonic() - started < 4
    assert "two" not in script.calls
