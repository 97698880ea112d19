"""The control loop: polls PostgreSQL on its own timer, so that it goes on while Redis or beat is away.

Everything here is conditional on rows, so any number of loops and ticks may run at once.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connection, transaction
from django.db import OperationalError as DatabaseUnavailable
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from operations import dispatch, locks, scheduling
from operations.models import LogLine, Operation, OperationLock, WorkerNode

logger = logging.getLogger(__name__)

# A queued operation whose message was sent this long ago, while a worker has a free place, is announced again.
RING_AGAIN_AFTER = timedelta(seconds=10)
# Rows of workers that have not been seen for this long are removed.
FORGET_WORKER_AFTER = timedelta(days=1)


def tick() -> None:
    """One round: notice dead workers, announce what waits, decide due slots. No part keeps another from its turn."""
    for part in (sweep, wake_parents, announce, scheduling.decide_due, forget_workers):
        try:
            part()
        except (DatabaseUnavailable, InterfaceError):
            raise
        except Exception:
            # The loop is what notices every other failure; it reports its own and goes on.
            logger.exception("control loop: %s failed", part.__name__)


def sweep() -> int:
    """Put operations whose lease has run out back into the queue. Returns how many."""
    swept = 0
    while True:
        with transaction.atomic():
            operation = (
                Operation.objects.running_without_lease().select_for_update(skip_locked=True).order_by("pk").first()
            )
            if operation is None:
                return swept
            Operation.objects.filter(pk=operation.pk).update(
                state=Operation.State.QUEUED,
                lease_until=None,
                interrupted=True,
                interruptions=F("interruptions") + 1,
                dispatched_at=None,
            )
            LogLine.objects.create(
                operation=operation,
                at=timezone.now(),
                text=f"{operation.worker} has not reported for {settings.OPERATIONS_LEASE_S:g} s; queued again.",
            )
        swept += 1


def wake_parents() -> int:
    """Queue operations that wait although every child has ended. Returns how many; none, unless a row was edited."""
    return Operation.objects.waiting_for_nothing().update(state=Operation.State.QUEUED, dispatched_at=None)


def announce() -> int:
    """Ring for queued operations that may have lost their message, as places free up. Returns how many."""
    waiting = (
        Operation.objects.filter(state=Operation.State.QUEUED)
        .filter(Q(dispatched_at__isnull=True) | Q(dispatched_at__lt=Now() - RING_AGAIN_AFTER))
        .order_by("pk")
    )
    places = _free_places()
    held = dict(OperationLock.objects.values_list("key", "operation_id"))
    rung = 0
    for operation in waiting.filter(queue__in=[queue for queue, free in places.items() if free > 0]).iterator():
        if places[operation.queue] <= 0 or _is_blocked(operation, held):
            continue
        if not dispatch.send(operation.pk, operation.queue):
            break
        places[operation.queue] -= 1
        rung += 1
    return rung


def _is_blocked(operation: Operation, held: dict[str, int]) -> bool:
    """Whether somebody else holds a lock it needs. A child may use its parents'."""
    others = {held[key] for key in operation.lock_keys if key in held} - {operation.pk}
    return bool(others) and (operation.parent_id is None or locks.holder_of(operation) is not None)


def _free_places() -> Counter[str]:
    """How many more operations the live workers of each queue can take."""
    places: Counter[str] = Counter()
    for node in WorkerNode.objects.live():
        for queue in node.queues:
            places[queue] += node.concurrency
    for queue in Operation.objects.filter(state=Operation.State.RUNNING).values_list("queue", flat=True):
        places[queue] -= 1
    return places


def forget_workers() -> None:
    """Remove the rows of workers that have been gone for long."""
    WorkerNode.objects.filter(heartbeat_at__lt=Now() - FORGET_WORKER_AFTER).delete()


class ControlLoop(threading.Thread):
    """Runs `tick` every OPERATIONS_TICK_S seconds until stopped, through any trouble."""

    def __init__(self, first: Callable[[], None] | None = None) -> None:
        """`first` is done once, before the first round, and tried again until it succeeds."""
        super().__init__(name="control-loop", daemon=True)
        self.first = first
        self.looped_at: datetime | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(settings.OPERATIONS_TICK_S):
            try:
                close_old_connections()
                if self.first is not None:
                    self.first()
                    self.first = None
                tick()
                self.looped_at = timezone.now()
            except (DatabaseError, InterfaceError) as error:
                logger.warning("control loop: database unavailable: %s", error)
                connection.close()
            except Exception:
                # Only `first` comes here: what it is for must not cost the portal its control loop.
                logger.exception("control loop: the start could not be prepared")
                self.first = None
        connection.close()
