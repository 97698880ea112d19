"""The only write path into operations for people, schedules, APIs and commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from operations import dispatch, lifecycle, locks, procedures
from operations.exceptions import OperationError, Refused
from operations.models import LogLine, Operation, OperationStep, Schedule
from operations.procedures import PlannedStep

if TYPE_CHECKING:
    from core.environments import EnvironmentBand
    from core.models import User

State = Operation.State


def request(
    procedure: str,
    *,
    title: str,
    params: dict[str, Any],
    by: User | None,
    trigger: str = Operation.Trigger.CLICK,
    reason: str = "",
    lock_keys: Iterable[str] = (),
    wait_for_locks: bool = False,
    key: str | None = None,
    environment: EnvironmentBand | None = None,
    queue: str = "",
    parent: Operation | None = None,
    retry_of: Operation | None = None,
) -> Operation:
    """Record an operation with its steps and announce it after commit. Call inside the caller's transaction.

    Raises Refused when a lock is held, unless `wait_for_locks` (schedules wait; people get an answer).
    Raises IntegrityError when `key` was used before; `request_once` turns that into the earlier operation.
    """
    kind = procedures.get(procedure)
    operation = Operation(
        procedure=procedure,
        title=shortened(title),
        params=params,
        trigger=trigger,
        requested_by=by,
        reason=reason,
        lock_keys=sorted(set(lock_keys)),
        idempotency_key=key or None,
        environment_label=environment.label if environment else "",
        environment_kind=environment.kind if environment else "",
        queue=queue or kind.queue,
        parent=parent,
        retry_of=retry_of,
    )
    with transaction.atomic():
        operation.save(force_insert=True)
        OperationStep.objects.bulk_create(
            OperationStep(operation=operation, index=index, name=step.name, title=step.title, undo_name=step.undo)
            for index, step in enumerate(kind.steps)
        )
        if not wait_for_locks:
            locks.acquire_or_refuse(operation)
        dispatch.ring(operation.pk, operation.queue)
    return operation


def shortened(title: str) -> str:
    """A title as it can be stored: names of files and databases in it may be long."""
    longest = Operation._meta.get_field("title").max_length
    assert longest
    return title if len(title) <= longest else f"{title[: longest - 1]}…"


def request_once(key: str | None, create: Callable[[], Operation]) -> Operation:
    """Run `create` in a transaction; a key that was used before gives the operation it made (a double click)."""
    if key:
        existing = Operation.objects.filter(idempotency_key=key).first()
        if existing is not None:
            return existing
    try:
        with transaction.atomic():
            return create()
    except IntegrityError:
        existing = Operation.objects.filter(idempotency_key=key).first() if key else None
        if existing is None:
            raise
        return existing


def dry_run(procedure: str, *, title: str, params: dict[str, Any]) -> list[PlannedStep]:
    """What the operation would do, step by step, with the masked commands. Writes nothing."""
    return procedures.get(procedure)(Operation(procedure=procedure, title=title, params=params)).dry_run()


# -- control by a person ----------------------------------------------------------------------------------------------


def may_control(user: User, operation: Operation) -> bool:
    """Cancelling, retrying and taking over need the engine's permission and the one of this kind of operation."""
    try:
        needed = procedures.get(operation.procedure).permission
    except OperationError:
        return bool(user.is_superuser)
    return user.has_perm("operations.control_operation") and user.has_perm(needed)


def _for_control(operation: Operation, by: User) -> Operation:
    """The operation's row, locked, for somebody who may control it."""
    if not may_control(by, operation):
        raise PermissionDenied
    return Operation.objects.select_for_update().get(pk=operation.pk)


def cancel(operation: Operation, *, by: User, reason: str = "") -> Operation:
    """Ask the operation to stop. One that never started ends at once; a running one is undone by its worker."""
    if not may_control(by, operation):
        raise PermissionDenied
    with transaction.atomic():
        asked = lifecycle.ask_to_cancel(operation, by, f"{by} asked to cancel. {reason}".strip())
        row = Operation.objects.get(pk=operation.pk)
        if not asked and row.is_final:
            raise Refused(f"This operation has already ended: {row.state_word.lower()}.")
        if not asked:
            raise Refused("This operation is being undone already. Wait for it to end.")
    return row


def pause(operation: Operation, *, by: User, before: str = "") -> Operation:
    """Take over: the operation stops before its next step, or before the named one, and waits for a person."""
    with transaction.atomic():
        row = _for_control(operation, by)
        if row.is_final or row.outcome or (row.state == State.PAUSED and not before):
            raise Refused("Only an operation that is on its way forward can be taken over.")
        if not before:
            row.pause_requested = True
            row.save(update_fields=["pause_requested"])
            _note(row, f"{by} takes over before the next step.")
        elif row.steps.filter(name=before, state=OperationStep.State.PENDING).update(pause_before=True):
            _note(row, f"{by} takes over before “{row.steps.get(name=before).title}”.")
        else:
            raise Refused("That step has begun already, or this operation has none of that name.")
    return row


def resume(operation: Operation, *, by: User) -> Operation:
    """Let the portal go on from the step it paused before."""
    with transaction.atomic():
        row = _for_control(operation, by)
        if row.state != State.PAUSED:
            raise Refused("Only a paused operation can be continued.")
        # Only this pause: one asked for before a later step still holds.
        step = row.steps.unfinished().first()
        if step is not None:
            step.pause_before = False
            step.save(update_fields=["pause_before"])
        _note(row, f"{by} let it continue.")
        lifecycle.queue_again(row)
    return row


def mark_done(operation: Operation, step_name: str, *, by: User, evidence: str) -> Operation:
    """Record that a person has done the step the operation is paused before. The operation stays paused."""
    if not evidence.strip():
        raise Refused("Say what shows that the step is done: what you ran and what it answered.")
    with transaction.atomic():
        row = _for_control(operation, by)
        step = row.steps.unfinished().first()
        if row.state != State.PAUSED or step is None or step.name != step_name:
            raise Refused("Only the step that the operation is paused before can be marked done.")
        if not procedures.get(row.procedure).step(step_name).by_hand:
            raise Refused(
                f"“{step.title}” makes the portal's own record, so nobody can do it by hand. Continue, or cancel."
            )
        step.state, step.evidence, step.done_by = OperationStep.State.BY_HAND, evidence.strip(), by
        step.started_at = step.started_at or timezone.now()
        step.ended_at = timezone.now()
        step.pause_before = False
        step.save()
        following = row.steps.unfinished().first()
        if following is not None:
            following.pause_before = True
            following.save(update_fields=["pause_before"])
        row.message = f"Paused before “{following.title}”." if following else "Every step is done. Continue to finish."
        row.save(update_fields=["message"])
        _note(row, f"{by} did “{step.title}” by hand: {step.evidence}")
    return row


def retry(
    operation: Operation,
    *,
    by: User,
    reason: str = "",
    key: str = "",
    typed_name: str = "",
    trigger: str = Operation.Trigger.CLICK,
) -> Operation:
    """Ask for the same thing again, as a new operation. What had to be typed before has to be typed again."""
    if not may_control(by, operation):
        raise PermissionDenied
    if operation.state not in (State.FAILED, State.ERRORED, State.CANCELLED):
        raise Refused("Only an operation that failed or was cancelled can be retried.")
    kind = procedures.get(operation.procedure)(operation)
    if typed_name != kind.typed_name:
        raise Refused(f"Type “{kind.typed_name}” exactly to confirm." if kind.typed_name else "Nothing is to be typed.")
    with transaction.atomic():
        again = kind.retry(by=by, reason=reason or operation.reason, key=key)
        if trigger != again.trigger == Operation.Trigger.CLICK:  # procedures know no other door
            again.trigger = trigger
            again.save(update_fields=["trigger"])
    return again


def _note(row: Operation, text: str) -> None:
    LogLine.objects.create(operation=row, at=timezone.now(), text=text)


# -- schedules --------------------------------------------------------------------------------------------------------


def set_schedule(
    schedule: Schedule | None,
    *,
    handler: str,
    name: str,
    cron: str,
    time_zone: str,
    enabled: bool,
    misfire: str = Schedule.Misfire.LATEST,
    **limits: Any,
) -> Schedule:
    """Create or change a schedule and the crontab row it owns. Slots are decided from now on.

    `cron` is the five fields `minute hour day-of-month month day-of-week`. Raises Refused with a sentence otherwise.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise Refused("Write the schedule as five fields: minute, hour, day of month, month, day of week; 0 2 * * *.")
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    values = {**dict(zip(names, fields, strict=True)), "timezone": time_zone}
    with transaction.atomic():
        crontab = schedule.crontab if schedule else CrontabSchedule()
        changed = schedule is None or enabled != schedule.enabled
        for field, value in values.items():
            changed = changed or str(getattr(crontab, field)) != value
            setattr(crontab, field, value)
        try:
            crontab.full_clean()
            crontab.schedule  # noqa: B018  parses the fields
        except Exception as error:
            raise Refused(f"“{cron}” is not a schedule: {error}") from error
        crontab.save()
        schedule = schedule or Schedule()
        schedule.handler, schedule.name, schedule.crontab = handler, name, crontab
        schedule.enabled, schedule.misfire = enabled, misfire
        for field, value in limits.items():
            setattr(schedule, field, value)
        if changed:
            schedule.decided_until = timezone.now()
            schedule.save()
        else:
            # Slots may have been decided since the row was read: that memory is not ours to write.
            schedule.save(update_fields=["handler", "name", "crontab", "enabled", "misfire", *limits])
    return schedule
