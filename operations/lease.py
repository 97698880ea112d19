"""The lease of a running attempt: renewed from a side thread, by the database's clock.

When it cannot be renewed (the row belongs to a later attempt, or the database has been away for too long) the lease is
lost, and the main thread learns of it at its next look, five times a second while a command runs: a worker that has
lost its lease ends its commands and must not touch anything any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import ExpressionWrapper, fields
from django.db.models.functions import Coalesce, Now

from operations import locks
from operations.models import Operation

logger = logging.getLogger(__name__)


class LeaseLost(BaseException):
    """This attempt no longer owns its operation. Not an Exception: no step may swallow it."""


def lease_end() -> ExpressionWrapper:
    """SQL expression: the database's now plus the lease."""
    return ExpressionWrapper(
        Now() + timedelta(seconds=settings.OPERATIONS_LEASE_S), output_field=fields.DateTimeField()
    )


class Lease:
    """Context manager around an attempt. `lost` tells the main thread to stop."""

    def __init__(self, operation: Operation, asked_at: float) -> None:
        self.operation_id = operation.pk
        self.attempt = operation.attempt
        self.meanwhile: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._valid_until = asked_at + settings.OPERATIONS_LEASE_S
        self._thread = threading.Thread(target=self._keep, name=f"lease-{operation.pk}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    @property
    def lost(self) -> bool:
        # The monotonic deadline counts even while the side thread has not been scheduled (a stopped process).
        return self._lost.is_set() or time.monotonic() >= self._valid_until

    def check(self) -> None:
        if self.lost:
            raise LeaseLost(f"operation {self.operation_id} attempt {self.attempt}")

    def _keep(self) -> None:
        # Between beats the deadline is watched closely, so that a process that was stopped gives up as it wakes.
        beat_at = time.monotonic() + settings.OPERATIONS_HEARTBEAT_S
        try:
            while not self._stop.wait(0.25):
                if self.lost:
                    break
                self.meanwhile()
                if time.monotonic() >= beat_at:
                    if not self._renew():
                        self._lost.set()
                        break
                    beat_at = time.monotonic() + settings.OPERATIONS_HEARTBEAT_S
        finally:
            connection.close()
        if not self._stop.is_set():
            self._lost.set()
            logger.warning("lease of operation %s attempt %s lost", self.operation_id, self.attempt)

    def _renew(self) -> bool:
        """True while the lease is ours or may still be; the deadline decides when the database does not answer."""
        asked_at = time.monotonic()
        try:
            renewed = Operation.objects.filter(
                pk=self.operation_id, attempt=self.attempt, state=Operation.State.RUNNING, lease_until__gt=Now()
            ).update(lease_until=lease_end())
        except (DatabaseError, InterfaceError) as error:
            logger.warning("lease of operation %s not renewed: %s", self.operation_id, error)
            connection.close()
            return True
        if renewed:
            self._valid_until = asked_at + settings.OPERATIONS_LEASE_S
        return bool(renewed)


def claim(operation_id: int, worker: str) -> tuple[Operation, float] | None:
    """Take a queued operation and its locks in one transaction.

    Returns the operation as claimed (with its attempt number, the fence) and the monotonic second at which the claim
    was asked for. None when somebody else has it, it is not queued, or a lock it needs is held.
    """
    asked_at = time.monotonic()
    with transaction.atomic():
        operation = (
            # Waits for a transaction that only touches the row (its message being marked as sent) instead of skipping.
            Operation.objects.select_for_update().filter(pk=operation_id, state=Operation.State.QUEUED).first()
        )
        if operation is None or not locks.acquire(operation):
            return None
        operation.attempt += 1
        Operation.objects.filter(pk=operation.pk).update(
            state=Operation.State.RUNNING,
            attempt=operation.attempt,
            worker=worker,
            lease_until=lease_end(),
            started_at=Coalesce("started_at", Now()),
            # While being undone the message is the sentence the operation will end with.
            message=operation.message if operation.outcome else "",
        )
        operation.refresh_from_db(fields=["started_at"])  # by the database's clock
    operation.state = Operation.State.RUNNING
    operation.worker = worker
    return operation, asked_at
