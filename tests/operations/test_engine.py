"""What one attempt does, and what the next one makes of what it left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from core.models import User
from operations import actions, control, engine, lifecycle, locks
from operations.commands import Command
from operations.context import StepContext, WaitForChild
from operations.exceptions import OperationError
from operations.lease import LeaseLost
from operations.models import LogLine, Operation, OperationLock, OperationStep
from operations.procedures import AfterInterruption, Step
from tests.operations import samples
from tests.operations.conftest import at_once, expire, fresh, step_states
from tests.operations.samples import Died, Script

Ask = Callable[..., Operation]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "UNDO_RETRY_S", (0.0, 0.0))


def fail(sentence: str) -> Callable[[StepContext], None]:
    def act(ctx: StepContext) -> None:
        raise OperationError(sentence)

    return act


def die(ctx: StepContext) -> None:
    raise Died


def run(operation: Operation, worker: str = "w1") -> Operation:
    engine.run(operation.pk, worker)
    return fresh(operation)


def die_in(operation: Operation, script: Script, method: str) -> None:
    """Let a worker die in that method, and the control loop notice."""
    script.on(method, die)
    with pytest.raises(Died):
        engine.run(operation.pk, "w1")
    del script.acts[method]
    assert fresh(operation).state == "running"
    expire(operation)
    assert control.sweep() == 1
    script.calls.clear()


def log_of(operation: Operation) -> str:
    return "\n".join(LogLine.objects.filter(operation=operation).values_list("text", flat=True))


# -- forward ----------------------------------------------------------------------------------------------------------


def test_success(ask: Ask, script: Script) -> None:
    script.on("one", lambda ctx: ctx.remember(found=7))
    script.on("two", lambda ctx: ctx.log(f"found {ctx.data['found']}"))
    script.on("three", lambda ctx: ctx.conclude("All three done.", count=3))
    operation = run(ask(lock_keys=["database:1"]))
    assert script.calls == ["prepare", "one", "two", "three", "on_end:succeeded", "on_end"]
    assert (operation.state, operation.message, operation.attempt) == ("succeeded", "All three done.", 1)
    assert operation.result == {"message": "All three done.", "count": 3}
    assert operation.started_at and operation.ended_at and operation.lease_until is None
    assert step_states(operation) == ["done"] * 3
    assert all(step.started_at and step.ended_at for step in operation.steps.all())
    assert "found 7" in log_of(operation)
    assert not OperationLock.objects.exists()


def test_a_second_message_does_nothing(ask: Ask, script: Script) -> None:
    operation = ask()
    run(operation)
    before = list(script.calls)
    run(operation, "w2")
    assert script.calls == before


def test_two_workers_with_the_same_message_make_one_attempt(ask: Ask, script: Script) -> None:
    operation = ask()
    script.on("one", lambda ctx: time.sleep(0.2))
    at_once(*(lambda name=name: engine.run(operation.pk, name) for name in ("w1", "w2", "w3", "w4")))
    assert script.calls.count("one") == 1
    assert fresh(operation).attempt == 1


def test_the_lines_of_a_silent_step_are_seen_within_two_seconds(ask: Ask, script: Script) -> None:
    operation = ask()
    seen: list[str] = []

    def talk_then_be_silent(ctx: StepContext) -> None:
        ctx.log("last words")
        ctx.progress(40, 100, "rows")
        ctx.log("very last words")
        time.sleep(1.5)
        seen.append(log_of(operation))
        seen.append(str(operation.steps.get(name="one").progress_done))

    script.on("one", talk_then_be_silent)
    run(operation)
    assert "very last words" in seen[0]
    assert seen[1] == "40"
    assert log_of(operation).count("very last words") == 1


def test_progress_of_a_step_that_ended_is_whole(ask: Ask, script: Script) -> None:
    script.on("one", lambda ctx: ctx.progress(40, 100, "rows"))
    step = run(ask()).steps.get(name="one")
    assert (step.progress_done, step.progress_total, step.progress_unit) == (100, 100, "rows")


def test_secrets_are_masked_in_log_and_commands(ask: Ask, script: Script) -> None:
    command = Command(argv=("/bin/echo", "pass=s3cr3t-w0rd", "done"), secrets=("s3cr3t-w0rd",))
    script.on("one", lambda ctx: ctx.run(command))
    operation = run(ask())
    assert operation.state == "succeeded"
    assert operation.steps.get(name="one").commands == ["/bin/echo 'pass=********' done"]
    assert "pass=******** done" in log_of(operation)
    assert not LogLine.objects.filter(text__contains="s3cr3t").exists()


def test_what_a_log_line_may_hold(ask: Ask, script: Script) -> None:
    script.on("one", lambda ctx: ctx.log("zero \x00 byte, broken \udc80 name"))
    operation = run(ask())
    assert operation.state == "succeeded"
    assert "zero  byte, broken ? name" in log_of(operation)


# -- failure and undo -------------------------------------------------------------------------------------------------


def test_a_failure_undoes_the_step_in_progress_and_those_before_it_in_reverse(ask: Ask, script: Script) -> None:
    script.on("two", fail("The disk is full. Free 3 GB."))
    operation = run(ask(lock_keys=["database:1"]))
    assert script.calls == ["prepare", "one", "two", "undo_two", "undo_one", "on_end:failed", "on_end"]
    assert (operation.state, operation.message) == ("failed", "The disk is full. Free 3 GB.")
    assert step_states(operation) == ["undone", "undone", "skipped"]
    assert operation.steps.get(name="two").message == "The disk is full. Free 3 GB."
    assert not OperationLock.objects.exists()


def test_a_step_without_undo_fails(ask: Ask, script: Script) -> None:
    script.on("three", fail("No answer."))
    assert step_states(run(ask())) == ["undone", "undone", "failed"]


def test_prepare_that_fails(ask: Ask, script: Script) -> None:
    script.on("prepare", fail("The target does not answer."))
    operation = run(ask())
    assert (operation.state, operation.message) == ("failed", "The target does not answer.")
    assert "one" not in script.calls


def test_an_undo_that_fails_and_then_works(ask: Ask, script: Script) -> None:
    tries: list[int] = []

    def undo(ctx: StepContext) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OperationError("Not yet.")
        if len(tries) == 2:
            raise ValueError("not at all")

    script.on("two", fail("No."))
    script.on("undo_two", undo)
    operation = run(ask())
    assert (operation.state, operation.message, len(tries)) == ("failed", "No.", 3)
    assert step_states(operation) == ["undone", "undone", "skipped"]
    assert "This did not work yet: Not yet." in log_of(operation)


def test_an_undo_that_never_works_ends_errored_and_the_rest_is_undone(ask: Ask, script: Script) -> None:
    script.on("two", fail("No."))
    script.on("undo_two", fail("The file is busy."))
    operation = run(ask(lock_keys=["database:1"]))
    assert operation.state == "errored"
    assert operation.message.startswith("No. Undo of “Second” failed: The file is busy.")
    assert "by hand" in operation.message
    assert step_states(operation) == ["undone", "undo_failed", "skipped"]
    assert not OperationLock.objects.exists()


def test_an_undo_that_breaks_leaves_its_traceback(ask: Ask, script: Script) -> None:
    script.on("two", fail("No."))
    script.on("undo_two", lambda ctx: {}["nothing"])
    operation = run(ask())
    assert operation.state == "errored"
    assert "KeyError" in operation.traceback


def test_the_unexpected_is_undone_and_leaves_its_traceback(ask: Ask, script: Script) -> None:
    script.on("two", lambda ctx: 1 // 0)
    operation = run(ask())
    assert operation.state == "errored"
    assert "Unexpected ZeroDivisionError" in operation.message
    assert "in play" in operation.traceback
    assert script.calls[2:5] == ["two", "undo_two", "undo_one"]


def test_a_record_that_cannot_be_completed_ends_errored_instead_of_never(ask: Ask, script: Script) -> None:
    script.on("on_end", lambda ctx: 1 // 0)
    operation = run(ask(lock_keys=["database:1"]))
    assert operation.state == "errored"
    assert "ZeroDivisionError" in operation.message
    assert "ZeroDivisionError" in operation.traceback
    assert not OperationLock.objects.exists()


def test_an_unknown_procedure_ends_errored(ask: Ask) -> None:
    operation = ask()
    Operation.objects.update(procedure="tests.gone")
    operation = run(operation)
    assert operation.state == "errored"
    assert "does not know the procedure tests.gone" in operation.message


# -- cancel -----------------------------------------------------------------------------------------------------------


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


# -- take over --------------------------------------------------------------------------------------------------------


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


# -- interruption -----------------------------------------------------------------------------------------------------


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
    assert "Retry" in operation.message


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


# -- lease and fence --------------------------------------------------------------------------------------------------


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


# -- one at a time ----------------------------------------------------------------------------------------------------


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


# -- children ---------------------------------------------------------------------------------------------------------


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
