"""Runs one operation: claim, steps, result; or undo in reverse. The promises are in docs/architecture.md."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from django.db import InterfaceError, connection
from django.db import OperationalError as DatabaseUnavailable

from core.exceptions import PortalError
from operations import lifecycle, procedures
from operations.context import Cancelled, StepContext, WaitForChild, WorkerStopping
from operations.lease import Lease, LeaseLost, claim
from operations.models import Operation, OperationStep
from operations.procedures import AfterInterruption, Procedure

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

State = Operation.State
# An operation at which this many workers died is undone instead of tried again; its undo gets as many more.
MAX_INTERRUPTIONS = 5
# Waits before an undo is tried again, in seconds: the thing it needs may itself be restarting.
UNDO_RETRY_S = (1.0, 2.0, 4.0, 8.0, 15.0)
BY_HAND = "Look at the target and finish by hand what is left; the log says how far it came."


def run(operation_id: int, worker: str) -> None:
    """Do the operation if it can be claimed. Returns quietly when it cannot: the message was only a hint."""
    claimed = claim(operation_id, worker)
    if claimed is None:
        return
    operation, asked_at = claimed
    with Lease(operation, asked_at) as lease:
        ctx = StepContext(operation, lease)
        try:
            _Attempt(operation, ctx).execute()
        except LeaseLost:
            logger.warning("operation %s attempt %s: lease lost, left to its successor", operation.pk, ctx.attempt)
            _abandon(operation, ctx)
        except (DatabaseUnavailable, InterfaceError) as error:
            connection.close()
            logger.warning("operation %s attempt %s: database unavailable: %s", operation.pk, ctx.attempt, error)
        finally:
            ctx.flush(force=True)


def _abandon(operation: Operation, ctx: StepContext) -> None:
    """A worker that wakes up too late may just have made what its successor has long cleaned up."""
    try:
        ctx.remove_work_dirs(ctx.attempt)
        if ctx.is_superseded():
            procedures.get(operation.procedure)(operation).abandon(ctx)
    except Exception:
        # Whatever is wrong here, the operation is in other hands.
        logger.exception("operation %s attempt %s could not clean up after itself", operation.pk, ctx.attempt)


class _Attempt:
    """One worker's attempt at one operation."""

    def __init__(self, operation: Operation, ctx: StepContext) -> None:
        self.operation = operation
        self.ctx = ctx
        self.steps = list(operation.steps.in_order())
        self.prepared = False

    def execute(self) -> None:
        try:
            procedure = procedures.get(self.operation.procedure)(self.operation)
        except PortalError as error:
            self._end(State.ERRORED, error.message)
            return
        try:
            if not self.operation.outcome and self._may_go_on(procedure):
                self._forward(procedure)
            else:
                self._undo(procedure)
        except WorkerStopping:
            self._save(lambda: lifecycle.give_back(self.ctx))
        except WaitForChild:
            self._save(lambda: lifecycle.wait_for_child(self.ctx))
        finally:
            procedure.close()

    # -- forward --------------------------------------------------------------------------------------------------

    def _may_go_on(self, procedure: Procedure) -> bool:
        """False when what an earlier attempt left has to be undone; the outcome is recorded first."""
        stored = [(step.name, step.undo_name) for step in self.steps]
        known = [(step.name, step.undo) for step in procedure.steps]
        if stored != known:
            self._decide(State.FAILED, "The portal was updated while this ran, so it was undone. Start it again.")
            return False
        if not self.operation.interrupted:
            return self._guarded(lambda: self._prepare(procedure))
        self.ctx.log(f"The worker before stopped answering; {self.operation.worker} takes over.")
        if all(step.state in OperationStep.FINISHED for step in self.steps):
            return True
        if self.operation.cancel_requested_at is not None:
            by = self.operation.cancel_requested_by
            self._decide(State.CANCELLED, f"Cancelled by {by}." if by else "Cancelled.")
            return False
        if self.operation.interruptions >= MAX_INTERRUPTIONS:
            times = self.operation.interruptions
            self._decide(State.FAILED, f"Interrupted {times} times, so it was undone. Read the log before a Retry.")
            return False
        if all(step.state == OperationStep.State.PENDING for step in self.steps):
            return self._guarded(lambda: self._prepare(procedure))  # nothing had begun, so nothing is to be decided
        decision = AfterInterruption.UNDO

        def look() -> None:
            nonlocal decision
            self._prepare(procedure)
            decision = procedure.after_interruption(self.ctx)

        if not self._guarded(look):
            return False
        if decision is AfterInterruption.UNDO:
            sentence = "The worker stopped on the way, so everything was put back as it was. Start it again."
            self._decide(State.FAILED, sentence)
            return False
        return True

    def _prepare(self, procedure: Procedure) -> None:
        procedure.prepare(self.ctx)
        self.prepared = True

    def _forward(self, procedure: Procedure) -> None:
        for step in self.steps:
            if step.state == OperationStep.State.BY_HAND:
                work: Callable[[], None] = partial(self._adopt, procedure, step)
            elif step.state in OperationStep.FINISHED:
                continue
            elif self._must_pause(step):
                return
            else:
                work = partial(self._do, procedure, step)
            if not self._guarded(work, step):
                self._undo(procedure)
                return
        self._end(State.SUCCEEDED, self.operation.result.get("message", ""), procedure)

    def _must_pause(self, step: OperationStep) -> bool:
        return self._save(lambda: lifecycle.pause_if_asked(self.ctx, step))

    def _adopt(self, procedure: Procedure, step: OperationStep) -> None:
        """What a person did is looked at once, in order, like the step it stands for."""
        adopted = self.ctx.data.get("adopted", [])
        if step.name not in adopted:
            self.ctx.step = step
            procedure.adopt(step.name, self.ctx)
            self.ctx.remember(adopted=[*adopted, step.name])

    def _do(self, procedure: Procedure, step: OperationStep) -> None:
        self.ctx.check()
        self.ctx.step = step
        self._save(lambda: lifecycle.begin_step(self.ctx, step))
        getattr(procedure, step.name)(self.ctx)
        self.ctx.check()
        self.ctx.flush(force=True)
        self._save(lambda: lifecycle.complete_step(self.ctx, step))

    def _guarded(self, work: Callable[[], None], step: OperationStep | None = None) -> bool:
        """Run work; False when it failed or was cancelled, with the outcome recorded for the undo."""
        try:
            work()
        except Cancelled:
            by = self.operation.__class__.objects.get(pk=self.operation.pk).cancel_requested_by
            self._fail_step(step, "Cancelled.")
            self._decide(State.CANCELLED, f"Cancelled by {by}." if by else "Cancelled.")
        except PortalError as error:
            for line in error.diagnostics.splitlines():
                self.ctx.log(line, stream="diagnosis")
            self._fail_step(step, error.message)
            self._decide(State.FAILED, error.message)
        except (DatabaseUnavailable, InterfaceError):
            # The portal's own database: nothing can be recorded, the successor decides.
            raise
        except Exception as error:
            logger.exception("operation %s failed unexpectedly", self.operation.pk)
            sentence = f"Unexpected {type(error).__name__}: {error}. The traceback is on this page."
            self._fail_step(step, sentence)
            self._decide(State.ERRORED, sentence, traceback.format_exc())
        else:
            return True
        return False

    def _fail_step(self, step: OperationStep | None, message: str) -> None:
        # A step that was stopped before it began has nothing to be undone.
        if step is not None and step.state == OperationStep.State.RUNNING:
            self._save(lambda: lifecycle.fail_step(self.ctx, step, message))

    def _decide(self, outcome: Operation.State, message: str, trace: str = "") -> None:
        self._save(lambda: lifecycle.decide_outcome(self.ctx, outcome, message, trace))

    # -- undo -----------------------------------------------------------------------------------------------------

    def _undo(self, procedure: Procedure) -> None:
        """Take back completed steps and the one in progress, last first, then end with the recorded outcome."""
        self.ctx.undoing = True
        if self.operation.interruptions >= 2 * MAX_INTERRUPTIONS:
            sentence = f"{self.operation.message} Its undo was interrupted too often. {BY_HAND}"
            self._end(State.ERRORED, sentence, procedure)
            return
        if not self._save(lambda: lifecycle.stop_children(self.ctx)):
            raise WaitForChild
        if not self.prepared:
            # What an earlier attempt left running must not work against the undo.
            trouble, _ = self._persist(lambda: self._prepare(procedure))
            if trouble:
                self.ctx.log(f"Could not end what earlier attempts left running: {trouble}")
        trace = "".join(self._undo_step(procedure, step) for step in reversed(self.steps))
        troubles = [
            f"Undo of “{step.title}” failed: {step.message}"
            for step in reversed(self.steps)
            if step.state == OperationStep.State.UNDO_FAILED
        ]
        outcome, message = State(self.operation.outcome), self.operation.message
        if troubles:
            outcome, message = State.ERRORED, " ".join([message, *troubles, BY_HAND])
        self._end(outcome, message, procedure, trace)

    def _undo_step(self, procedure: Procedure, step: OperationStep) -> str:
        """Take one step back if there is something to take back; the traceback of what was not expected."""
        if step.state not in OperationStep.TO_UNDO:
            return ""
        if not step.undo_name:
            if step.state == OperationStep.State.RUNNING:
                self._save(lambda: lifecycle.fail_step(self.ctx, step, "Interrupted."))
            return ""
        self.ctx.step = step
        self._save(lambda: lifecycle.begin_undo(self.ctx, step))
        undo = getattr(procedure, step.undo_name, None)
        if undo is None:
            trouble, trace = "This version of the portal does not know how.", ""
        else:
            trouble, trace = self._persist(lambda: undo(self.ctx))
        self._save(lambda: lifecycle.end_undo(self.ctx, step, trouble))
        return trace

    def _persist(self, work: Callable[[], None]) -> tuple[str, str]:
        """Try until it works or the waits are used up; the sentence and the traceback of the last trouble."""
        trouble = trace = ""
        for wait_s in (0.0, *UNDO_RETRY_S):
            time.sleep(wait_s)
            try:
                self.ctx.check()
                work()
            except PortalError as error:
                trouble, trace = error.message, ""
            except (DatabaseUnavailable, InterfaceError):
                raise
            except Exception as error:
                logger.exception("undo in operation %s", self.operation.pk)
                trouble, trace = f"Unexpected {type(error).__name__}: {error}.", traceback.format_exc()
            else:
                return "", ""
            self.ctx.log(f"This did not work yet: {trouble}")
        return trouble, trace

    # -- records --------------------------------------------------------------------------------------------------

    def _end(self, state: State, message: str, procedure: Procedure | None = None, trace: str = "") -> None:
        self.ctx.flush(force=True)
        self.ctx.step = None
        try:
            self._save(lambda: lifecycle.end(self.ctx, state, message, procedure, trace))
        except (DatabaseUnavailable, InterfaceError):
            raise
        except Exception as error:
            # Nobody could ever end it otherwise: the next worker would fail at the same place.
            logger.exception("operation %s could not bring its record to an end", self.operation.pk)
            what = f"Its record could not be completed: unexpected {type(error).__name__}: {error}."
            sentence = f"{message} {what}".strip()
            trace = f"{trace}\n{traceback.format_exc()}".strip()
            self._save(lambda: lifecycle.end(self.ctx, State.ERRORED, sentence, None, trace))
        self.ctx.remove_work_dirs()

    def _save(self, write: Callable[[], Result]) -> Result:
        """Record something; a database that is away is waited for while the lease lasts."""
        while True:
            try:
                return write()
            except (DatabaseUnavailable, InterfaceError) as error:
                if connection.in_atomic_block:
                    raise
                logger.warning("operation %s: record not written yet: %s", self.operation.pk, error)
                connection.close()
                self.ctx.lease.check()
                time.sleep(0.5)
