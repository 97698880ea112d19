"""What one attempt does, and how it takes back what it did."""

from __future__ import annotations

import time
from collections.abc import Callable

from operations import engine
from operations.commands import Command
from operations.context import StepContext
from operations.exceptions import OperationError
from operations.models import LogLine, Operation, OperationLock
from tests.operations.conftest import at_once, fail, fresh, log_of, run, step_states
from tests.operations.samples import Script

Ask = Callable[..., Operation]


# -- forward -----------------------------------------------------------------------------------------------------------


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


# -- failure and undo --------------------------------------------------------------------------------------------------


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
