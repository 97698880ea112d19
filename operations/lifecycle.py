"""The transitions a worker makes, each one fenced transaction. The states are drawn on `Operation`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from operations import dispatch, events, locks, procedures
from operations.context import StepContext
from operations.models import LogLine, Operation, OperationStep
from operations.procedures import Procedure

if TYPE_CHECKING:
    from core.models import User

State = Operation.State
StepState = OperationStep.State


def begin_step(ctx: StepContext, step: OperationStep) -> None:
    with ctx.fenced():
        if ctx.operation.interrupted:
            ctx.operation.interrupted = False
            Operation.objects.filter(pk=ctx.operation.pk).update(interrupted=False)
        step.state = StepState.RUNNING
        step.attempt = ctx.attempt
        step.started_at = step.started_at or timezone.now()
        step.ended_at = None
        step.message = ""
        step.progress_done, step.progress_total, step.progress_unit = 0, None, ""
        step.save()


def complete_step(ctx: StepContext, step: OperationStep) -> None:
    with ctx.fenced():
        step.state = StepState.DONE
        step.ended_at = timezone.now()
        if step.progress_total:
            step.progress_done = step.progress_total
        step.save()


def fail_step(ctx: StepContext, step: OperationStep, message: str) -> None:
    with ctx.fenced():
        step.state = StepState.FAILED
        step.ended_at = timezone.now()
        step.message = message
        step.save()


def decide_outcome(ctx: StepContext, outcome: Operation.State, message: str, trace: str) -> None:
    """From here on the operation is being undone, whoever continues it."""
    operation = ctx.operation
    operation.outcome, operation.message, operation.traceback = outcome, message, trace
    operation.interrupted = False
    with ctx.fenced():
        Operation.objects.filter(pk=operation.pk).update(
            outcome=outcome, message=message, traceback=trace, interrupted=False
        )


def begin_undo(ctx: StepContext, step: OperationStep) -> None:
    with ctx.fenced():
        step.state = StepState.UNDOING
        step.attempt = ctx.attempt
        step.undo_started_at = step.undo_started_at or timezone.now()
        step.ended_at = step.ended_at or timezone.now()
        step.save()


def end_undo(ctx: StepContext, step: OperationStep, trouble: str) -> None:
    with ctx.fenced():
        step.state = StepState.UNDO_FAILED if trouble else StepState.UNDONE
        step.undo_ended_at = timezone.now()
        if trouble:
            step.message = trouble
        step.save()


def pause_if_asked(ctx: StepContext, step: OperationStep) -> bool:
    """Hand the operation to a person before this step. Locks stay held."""
    with ctx.fenced() as row:
        step.refresh_from_db(fields=["pause_before"])
        if row.cancel_requested_at is not None or not (row.pause_requested or step.pause_before):
            return False
        OperationStep.objects.filter(pk=step.pk).update(pause_before=True)
        Operation.objects.filter(pk=row.pk).update(
            state=State.PAUSED,
            lease_until=None,
            interrupted=False,
            pause_requested=False,
            message=f"Paused before “{step.title}”. Do it by hand and mark it done, or continue.",
        )
    return True


def give_back(ctx: StepContext) -> None:
    """The worker is stopping in good order: queue the operation at once instead of letting the lease run out."""
    with ctx.fenced() as row:
        Operation.objects.filter(pk=row.pk).update(
            state=State.QUEUED, lease_until=None, interrupted=True, dispatched_at=None
        )


def wait_for_child(ctx: StepContext) -> None:
    with ctx.fenced() as row:
        # Somebody who cancelled while the child was being asked for does not wait for it: the undo ends it.
        cancelled = row.cancel_requested_at is not None and not row.outcome
        still_running = not cancelled and row.children.active().exists()
        Operation.objects.filter(pk=row.pk).update(
            state=State.WAITING if still_running else State.QUEUED,
            lease_until=None,
            interrupted=False,
            dispatched_at=None,
        )


def end(ctx: StepContext, state: Operation.State, message: str, procedure: Procedure | None, trace: str = "") -> None:
    """The operation's last transition by a worker: result, locks, domain row and parent in one transaction."""
    with ctx.fenced():
        if trace:
            ctx.operation.traceback = f"{ctx.operation.traceback}\n{trace}".strip()
            Operation.objects.filter(pk=ctx.operation.pk).update(traceback=ctx.operation.traceback)
        close(ctx.operation, state, message, procedure)


def close(operation: Operation, state: Operation.State, message: str, procedure: Procedure | None) -> None:
    """Write a terminal state. Call inside a transaction that holds the operation's row."""
    operation.state, operation.message = state, message
    operation.ended_at = timezone.now()
    operation.lease_until = None
    operation.interrupted = False
    Operation.objects.filter(pk=operation.pk).update(
        state=state,
        message=message,
        ended_at=operation.ended_at,
        lease_until=None,
        interrupted=False,
        pause_requested=False,
    )
    operation.steps.filter(state=StepState.PENDING).update(state=StepState.SKIPPED)
    locks.release(operation)
    if procedure is not None:
        procedure.on_end()
    events.operation_ended(operation)
    _wake_parent(operation)


def ask_to_cancel(operation: Operation, by: User | None, note: str) -> bool:
    """Record the wish on an operation and everything it has started; what no worker has begun ends at once.

    False when it is too late: the operation has ended, or is being undone. Call inside a transaction. Children are
    locked first, as an ending child is before it touches its parent.
    """
    for child in operation.children.active():
        ask_to_cancel(child, by, f"{operation} is being cancelled.")
    row = Operation.objects.select_for_update().get(pk=operation.pk)
    if row.is_final or row.outcome:
        return False
    row.cancel_requested_at, row.cancel_requested_by = timezone.now(), by
    row.save(update_fields=["cancel_requested_at", "cancel_requested_by"])
    LogLine.objects.create(operation=row, at=timezone.now(), text=note)
    if row.state == State.QUEUED and row.attempt == 0:
        message = f"Cancelled by {by} before it started." if by else "Cancelled before it started."
        close(row, State.CANCELLED, message, procedures.get(row.procedure)(row))
    elif row.state == State.PAUSED:
        queue_again(row)
    return True


def queue_again(row: Operation) -> None:
    """From the hands of a person, or of a child, back to the workers. Call inside a transaction that holds the row."""
    row.state, row.dispatched_at = State.QUEUED, None
    row.save(update_fields=["state", "dispatched_at"])
    dispatch.ring(row.pk, row.queue)


def stop_children(ctx: StepContext) -> bool:
    """Before an operation is undone, what it has started must have ended. True when there is nothing to wait for."""
    with transaction.atomic():
        children = list(ctx.operation.children.active().select_for_update().order_by("pk"))
        with ctx.fenced():
            for child in children:
                ask_to_cancel(child, None, f"{ctx.operation} is being undone.")
    return not children


def _wake_parent(operation: Operation) -> None:
    if operation.parent_id is None:
        return
    # Locked whatever its state: a parent that is about to wait is seen waiting, or sees that this child has ended.
    parent = Operation.objects.select_for_update().get(pk=operation.parent_id)
    if parent.state == State.WAITING:
        queue_again(parent)
