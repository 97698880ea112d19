"""One at a time where it matters: lock keys under a unique constraint, inherited by child operations."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q

from operations.exceptions import Refused
from operations.models import Operation, OperationLock


def line_of(operation: Operation) -> set[int]:
    """The operation and its parents: locks held by any of them are its own."""
    line = set()
    current: Operation | None = operation
    while current is not None:
        line.add(current.pk)
        current = current.parent
    return line


def acquire(operation: Operation) -> bool:
    """Take every lock the operation wants, or none. Call inside a transaction."""
    if not operation.lock_keys:
        return True
    keys = set(operation.lock_keys)
    with transaction.atomic():
        OperationLock.objects.bulk_create(
            (OperationLock(key=key, operation=operation) for key in sorted(keys)), ignore_conflicts=True
        )
        # Counted, not inferred from the absence of a holder: one may have let go since the insert ran into it.
        held = OperationLock.objects.filter(key__in=keys, operation_id__in=line_of(operation)).count()
        if held == len(keys):
            return True
        OperationLock.objects.filter(operation=operation).delete()
    return False


def acquire_or_refuse(operation: Operation) -> None:
    """Take the locks for somebody who waits for the answer; Refused names the holder."""
    if not acquire(operation):
        holder = holder_of(operation)
        name = f"{holder} ({holder.state_word.lower()})" if holder else "another operation"
        raise Refused(f"This cannot start now: {name} is working on the same thing. Wait for it to end, or cancel it.")


def holder_of(operation: Operation) -> Operation | None:
    """Whoever outside the operation's own line holds a lock it wants."""
    if not operation.lock_keys:
        return None
    lock = (
        OperationLock.objects.filter(key__in=operation.lock_keys)
        .exclude(operation_id__in=line_of(operation))
        .select_related("operation")
        .first()
    )
    return lock.operation if lock else None


def release(operation: Operation) -> None:
    """Let go; who waits for these locks is rung at the control loop's next round and not some seconds later."""
    keys = list(OperationLock.objects.filter(operation=operation).values_list("key", flat=True))
    OperationLock.objects.filter(operation=operation).delete()
    if keys:
        # After the commit: whoever claims such an operation now holds its row and waits for these very locks.
        transaction.on_commit(lambda: _ring_soon(keys), robust=True)


def _ring_soon(keys: list[str]) -> None:
    wants = Q()
    for key in keys:
        wants |= Q(lock_keys__contains=[key])
    Operation.objects.filter(wants, state=Operation.State.QUEUED).update(dispatched_at=None)
