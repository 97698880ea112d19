"""Schedules: which slots are due, and the one recorded decision about each."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import InterfaceError, connection, transaction
from django.db import OperationalError as DatabaseUnavailable
from django.utils import timezone

from core.exceptions import PortalError
from operations import events
from operations.models import Operation, Schedule, Slot
from operations.slots import slots_between

logger = logging.getLogger(__name__)

Handler = Callable[[Schedule, datetime, str], Operation]
"""Takes the schedule, the slot (UTC) and an idempotency key; asks for the operation. PortalError = slot refused."""

_handlers: dict[str, Handler] = {}

# At most this many slots of one schedule are decided in one transaction; the next round takes the next ones.
BATCH = 2000
SKIP_GRACE_S = 60.0
# A schedule without a due slot has its row written this often, not at every round.
WRITE_EVERY = timedelta(minutes=1)


def handler(name: str) -> Callable[[Handler], Handler]:
    """Decorator: the function that starts what schedules of this name are for."""

    def add(function: Handler) -> Handler:
        _handlers[name] = function
        return function

    return add


def decide_due(now: datetime | None = None) -> int:
    """Decide every due slot of every enabled schedule. Returns how many decisions were recorded by this call."""
    now = now or timezone.now()
    decided = 0
    for pk in Schedule.objects.filter(enabled=True, decided_until__lt=now).values_list("pk", flat=True):
        try:
            decided += _decide_schedule(pk, now)
        except (DatabaseUnavailable, InterfaceError):
            raise
        except Exception:
            # One broken schedule (an edited crontab row, say) must not keep the others from their turn.
            logger.exception("schedule %s could not be decided", pk)
    return decided


def _decide_schedule(pk: int, now: datetime) -> int:
    """One schedule, one transaction; whoever holds its row decides, the others pass by."""
    with transaction.atomic():
        schedule = (
            Schedule.objects.select_for_update(of=("self",), skip_locked=True)
            .select_related("crontab")
            .filter(pk=pk, enabled=True, decided_until__lt=now)
            .first()
        )
        if schedule is None:
            return 0
        # One more than is decided now tells whether the last of this batch is the latest due.
        due = list(itertools.islice(slots_between(schedule.crontab, schedule.decided_until, now), BATCH + 1))
        if not due and now - schedule.decided_until < WRITE_EVERY:
            return 0
        batch, more = due[:BATCH], len(due) > BATCH
        known = set(Slot.objects.filter(schedule=schedule, at__in=batch).values_list("at", flat=True))
        new = [at for at in batch if at not in known]
        decided = sum(_decide_slot(schedule, at, now, is_latest=at == due[-1]) for at in new)
        if decided:
            _tell_missed(schedule, new)
        schedule.decided_until = batch[-1] if more else now
        schedule.save(update_fields=["decided_until"])
    return decided


def _tell_missed(schedule: Schedule, decided: list[datetime]) -> None:
    """One piece of news for all slots of a round that were not started and not merged into a later one."""
    missed = list(Slot.objects.filter(schedule=schedule, at__in=decided, decision__in=Slot.MISSED).order_by("at"))
    if missed:
        count = f"{len(missed)} due times of" if len(missed) > 1 else "A due time of"
        events.publish(
            events.SLOTS_MISSED,
            f"{count} “{schedule.name}” passed without a start. {missed[-1].message}".strip(),
            subject=schedule,
            data={"schedule": schedule.name, "count": len(missed), "from": missed[0].at, "to": missed[-1].at},
        )


def _decide_slot(schedule: Schedule, at: datetime, now: datetime, *, is_latest: bool) -> int:
    """Record the decision about a slot. Returns 1 when this call recorded it."""
    lateness = now - at
    decision, message = Slot.Decision.STARTED, ""
    if lateness > schedule.max_lateness:
        decision = Slot.Decision.TOO_LATE
        message = f"Found {lateness} after its time; the limit is {schedule.max_lateness}."
    elif schedule.misfire == Schedule.Misfire.SKIP and lateness.total_seconds() > SKIP_GRACE_S:
        decision = Slot.Decision.TOO_LATE
        message = f"Found {lateness} after its time; missed slots of this schedule are skipped."
    elif schedule.misfire == Schedule.Misfire.LATEST and not is_latest:
        decision = Slot.Decision.MERGED
        message = "A later slot was due as well; that one runs."
    operation = None
    if decision == Slot.Decision.STARTED:
        try:
            with transaction.atomic():
                operation = _start(schedule, at)
        except PortalError as error:
            decision, message = Slot.Decision.REFUSED, error.message
        except (DatabaseUnavailable, InterfaceError):
            raise
        except Exception as error:
            logger.exception("schedule %s at %s", schedule.pk, at)
            decision = Slot.Decision.REFUSED
            message = f"Unexpected {type(error).__name__}: {error}. Read the log of the control worker."
    return _insert(schedule, at, decision, now, message, operation)


def _start(schedule: Schedule, at: datetime) -> Operation:
    start = _handlers.get(schedule.handler)
    if start is None:
        raise PortalError(f"Nothing in this version of the portal answers to schedules of “{schedule.handler}”.")
    return start(schedule, at, f"schedule:{schedule.pk}:{at:%Y-%m-%dT%H:%M:%SZ}")


def _insert(
    schedule: Schedule, at: datetime, decision: str, now: datetime, message: str, operation: Operation | None
) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO operations_slot (schedule_id, at, decision, decided_at, message, operation_id)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (schedule_id, at) DO NOTHING",
            [schedule.pk, at, decision, max(now, at), message, operation.pk if operation else None],
        )
        return cursor.rowcount
