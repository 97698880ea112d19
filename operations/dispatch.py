"""The doorbell: one message after commit, best effort. PostgreSQL holds what is to be done."""

from __future__ import annotations

import logging
import time

from celery import current_app
from django.db import transaction
from django.db.models.functions import Now
from kombu.exceptions import OperationalError as BrokerUnavailable

from operations.models import Operation

logger = logging.getLogger(__name__)

# Somebody waits for the answer to a click, and the control loop has other work: by default kombu tries for six seconds.
FAIL_FAST = {
    "max_retries": 0,
    "interval_start": 0,
    "interval_step": 0,
    "socket_connect_timeout": 1,
    "socket_timeout": 2,
}
# After a failure this process leaves the broker alone for so long: ten schedules that are due must not wait two seconds
# each behind a Redis that hangs, while a dead worker waits to be noticed.
LEAVE_ALONE_S = 2.0
_leave_alone_until = 0.0


def ring(operation_id: int, queue: str) -> None:
    """Tell the workers of a queue, once the current transaction has committed, that there is work.

    A dead broker is a line in the log and no error: the control loop rings again.
    """
    transaction.on_commit(lambda: send(operation_id, queue), robust=True)


def send(operation_id: int, queue: str) -> bool:
    """Send the message now. False when the broker cannot be reached, which takes a second or two at the most."""
    from operations.tasks import run_operation

    global _leave_alone_until
    if time.monotonic() < _leave_alone_until:
        return False
    try:
        with current_app.connection_for_write(transport_options=FAIL_FAST) as connection:
            run_operation.apply_async((operation_id,), queue=queue, retry=False, connection=connection)  # type: ignore[call-arg]
    except (BrokerUnavailable, OSError) as error:
        _leave_alone_until = time.monotonic() + LEAVE_ALONE_S
        logger.warning("operation %s not announced, the control loop will: %s", operation_id, error)
        return False
    Operation.objects.filter(pk=operation_id).update(dispatched_at=Now())
    return True
