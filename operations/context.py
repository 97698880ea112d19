"""What a step may use: commands, log, progress, memory, the fence. Business code sees this and not Celery."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from operations import commands
from operations.exceptions import OperationError
from operations.lease import Lease, LeaseLost
from operations.models import LogLine, Operation, OperationStep, WorkerNode

FLUSH_S = 0.5
LOOK_S = 1.0
MAX_LOG_LINES = 20_000


class Cancelled(BaseException):
    """A person asked for the operation to be cancelled. Not an Exception: no step may swallow it."""


class WorkerStopping(BaseException):
    """The worker is being stopped in good order; the operation goes back to the queue."""


class WaitForChild(BaseException):
    """The step has started a child operation; the parent frees its worker until the child has ended."""


class StepContext:
    """One attempt at one operation, as its steps see it. `step` is the step at work."""

    def __init__(self, operation: Operation, lease: Lease) -> None:
        self.operation = operation
        self.attempt = operation.attempt
        self.lease = lease
        self.step: OperationStep | None = None
        self.undoing = False
        self._lines: list[LogLine] = []
        self._written = 0
        self._flushed_at = time.monotonic()
        self._looked_at = 0.0
        self._progress_changed = False
        self._gathering = threading.Lock()
        lease.meanwhile = self.flush

    # -- memory ---------------------------------------------------------------------------------------------------

    @property
    def params(self) -> dict[str, Any]:
        return self.operation.params

    @property
    def data(self) -> dict[str, Any]:
        """What earlier steps, or an earlier attempt, remembered."""
        return self.operation.data

    def remember(self, **values: Any) -> None:
        """Keep JSON values for later steps and later attempts, before doing what they announce."""
        self.operation.data = {**self.operation.data, **values}
        with self.fenced():
            Operation.objects.filter(pk=self.operation.pk).update(data=self.operation.data)

    def conclude(self, message: str, **values: Any) -> None:
        """The sentence and figures the operation will end with when all goes well."""
        self.operation.result = {**self.operation.result, **values, "message": message}
        with self.fenced():
            Operation.objects.filter(pk=self.operation.pk).update(result=self.operation.result)

    def work_dir(self) -> Path:
        """A private folder of this attempt; folders of earlier attempts are removed."""
        self.lease.check()
        base = Path(settings.DATA_DIR) / "work"
        folder = base / f"op{self.operation.pk}-a{self.attempt}"
        if not folder.is_dir():
            base.mkdir(parents=True, exist_ok=True)
            for old in base.glob(f"op{self.operation.pk}-a*"):
                shutil.rmtree(old, ignore_errors=True)
            folder.mkdir(mode=0o700)
        return folder

    def remove_work_dirs(self, attempt: int | None = None) -> None:
        """The folders of every attempt, or of one."""
        for folder in (Path(settings.DATA_DIR) / "work").glob(f"op{self.operation.pk}-a{attempt or '*'}"):
            shutil.rmtree(folder, ignore_errors=True)

    # -- fence ----------------------------------------------------------------------------------------------------

    @contextmanager
    def fenced(self) -> Iterator[Operation]:
        """A transaction in which this attempt provably owns the operation; domain rows are written only in here.

        Raises LeaseLost when a later attempt exists or the lease has run out by the database's clock.
        """
        self.lease.check()
        with transaction.atomic():
            # no_key: rows that refer to the operation, such as its log, can still be written meanwhile.
            row = Operation.objects.held_by(self.operation, self.attempt).select_for_update(no_key=True).first()
            if row is None:
                raise LeaseLost(f"operation {self.operation.pk} attempt {self.attempt}")
            yield row

    def is_superseded(self) -> bool:
        """Whether a later attempt has begun this attempt's step, or the operation has ended."""
        if Operation.objects.ended().filter(pk=self.operation.pk).exists():
            return True
        return (
            self.step is not None and OperationStep.objects.filter(pk=self.step.pk, attempt__gt=self.attempt).exists()
        )

    # -- commands -------------------------------------------------------------------------------------------------

    def run(
        self,
        command: commands.Command,
        *,
        on_line: Callable[[str, str], None] | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        stdin: BinaryIO | None = None,
    ) -> commands.Result:
        """Run a command, log its lines, show it masked on the step. Raises CommandFailed unless it exits 0."""
        shown = command.shown()
        self.show_command(shown)

        def line(stream: str, text: str) -> None:
            self.log(text, stream=stream)
            if on_line is not None:
                on_line(stream, text)

        try:
            return commands.run_checked(
                command, stdin=stdin, on_stdout=on_stdout, on_line=line, should_stop=self._should_stop
            )
        finally:
            # A command that was stopped must report why it was stopped, not that it failed.
            self._looked_at = 0.0
            self.check()

    def show_command(self, shown: str) -> None:
        """Put a command (masked) on the step's page before it runs."""
        self.check()
        if self.step is not None and self.step.commands[-1:] != [shown]:
            self.step.commands = [*self.step.commands, shown]
            self.step.save(update_fields=["commands"])

    def _should_stop(self) -> str | None:
        try:
            self.check()
        except Cancelled:
            return "cancelled"
        except (LeaseLost, WorkerStopping):
            return "stopped"
        return None

    # -- reporting ------------------------------------------------------------------------------------------------

    def log(self, text: str, *, stream: str = "portal") -> None:
        """One line for the operation's log. Past a generous limit lines are dropped and the log says so."""
        self._written += 1
        if self._written > MAX_LOG_LINES:
            if self._written == MAX_LOG_LINES + 1:
                self._append(f"More than {MAX_LOG_LINES} lines; the rest is not kept.", "portal")
        else:
            self._append(text, stream)
        self.flush()

    def _append(self, text: str, stream: str) -> None:
        # Names of files may hold what UTF-8 cannot; PostgreSQL takes no NUL.
        text = text.replace("\x00", "").encode("utf-8", "replace").decode()[:4000]
        line = LogLine(operation_id=self.operation.pk, step=self.step, at=timezone.now(), stream=stream, text=text)
        with self._gathering:
            self._lines.append(line)

    def progress(self, done: int, total: int | None, unit: str = "bytes") -> None:
        """How far the step is; shown with an estimate of the time left. Also looks whether to stop."""
        if self.step is not None:
            self.step.progress_done, self.step.progress_total, self.step.progress_unit = done, total, unit
            self._progress_changed = True
        self.check()

    def flush(self, *, force: bool = False) -> None:
        """Write gathered log lines and progress. The page may lag by half a second, never the work.

        Also called by the lease's thread: a step that falls silent must not keep its last words to itself.
        """
        if not force and time.monotonic() - self._flushed_at < FLUSH_S:
            return
        self._flushed_at = time.monotonic()
        try:
            self._write_progress()
            self._write_lines()
        except (DatabaseError, InterfaceError):
            # The log must not end the work; the lease decides whether the database has been away too long.
            if connection.in_atomic_block:
                raise
            connection.close()

    def _write_progress(self) -> None:
        step = self.step
        if step is None or not self._progress_changed:
            return
        self._progress_changed = False
        # Never over a step that has ended meanwhile, or that a successor is at.
        OperationStep.objects.filter(pk=step.pk, attempt=self.attempt, state=step.state).filter(
            state__in=(OperationStep.State.RUNNING, OperationStep.State.UNDOING)
        ).update(progress_done=step.progress_done, progress_total=step.progress_total, progress_unit=step.progress_unit)

    def _write_lines(self) -> None:
        with self._gathering:
            lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            LogLine.objects.bulk_create(lines)
        except (DatabaseError, InterfaceError):
            with self._gathering:
                self._lines = lines + self._lines
            raise

    # -- stopping -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise LeaseLost, Cancelled or WorkerStopping when this attempt has to end. Cheap; call it often."""
        self.lease.check()
        if time.monotonic() - self._looked_at < LOOK_S:
            self.flush()
            return
        self._looked_at = time.monotonic()
        self.flush()
        try:
            row = (
                Operation.objects.filter(pk=self.operation.pk).values("attempt", "state", "cancel_requested_at").first()
            )
            stopping = WorkerNode.objects.filter(name=self.operation.worker, stopping=True).exists()
        except (DatabaseError, InterfaceError):
            if connection.in_atomic_block:
                raise
            connection.close()
            return
        if row is None or row["attempt"] != self.attempt or row["state"] != Operation.State.RUNNING:
            raise LeaseLost(f"operation {self.operation.pk} attempt {self.attempt}")
        if stopping:
            raise WorkerStopping
        if row["cancel_requested_at"] is not None and not self.undoing:
            raise Cancelled

    # -- children -------------------------------------------------------------------------------------------------

    def child(self, key: str, request: Callable[[], Operation]) -> Operation:
        """Run another operation as part of this step. `request` asks for it with `parent=ctx.operation`.

        The first call asks and gives the worker back; when the child has ended the step runs again and this returns it.
        Raises OperationError with the child's sentence when it did not succeed.
        """
        remembered = self.data.get("children", {})
        if key not in remembered:
            with self.fenced():
                child = request()
                self.operation.data = {**self.data, "children": {**remembered, key: child.pk}}
                Operation.objects.filter(pk=self.operation.pk).update(data=self.operation.data)
        else:
            child = Operation.objects.get(pk=remembered[key])
        if not child.is_final:
            raise WaitForChild
        if child.state != Operation.State.SUCCEEDED:
            raise OperationError(f"{child} ended {child.state_word.lower()}: {child.message}")
        return child
