"""The only write path into backups for people, schedules, APIs and commands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from backups import loss, naming
from backups.exceptions import BackupError
from backups.models import Archive, Plan, Restore
from backups.retention import archive_lock
from catalog.validators import validate_database_name
from operations import actions as operations
from operations.models import Operation, Schedule

if TYPE_CHECKING:
    from catalog.models import DatabaseTarget
    from core.models import User

Trigger = Operation.Trigger
SCHEDULE_HANDLER = "backups.plan"


def database_locks(target: DatabaseTarget) -> list[str]:
    """Lock keys of whoever reads or replaces the whole database: by its entry, and by the server it really is on."""
    keys = [f"database:{target.pk}"]
    if target.system_identifier:
        keys.append(f"database:{target.system_identifier}/{target.database}")
    return keys


# -- back up, verify, clean up ----------------------------------------------------------------------------------------


def request_backup(
    plan: Plan,
    *,
    by: User | None,
    purpose: str = Archive.Purpose.MANUAL,
    reason: str = "",
    trigger: str = Trigger.CLICK,
    key: str | None = None,
    slot: datetime | None = None,
    parent: Operation | None = None,
    retry_of: Operation | None = None,
) -> Operation:
    """Back up the plan's database now. `slot` names a scheduled archive after its slot instead of the clock.

    What the plan says now is frozen: a later edit of the plan does not change an operation that waits or runs.
    """
    pattern = plan.name_pattern if purpose == Archive.Purpose.SCHEDULED else plan.on_demand_pattern
    name = naming.archive_name(pattern, slot or timezone.now(), ZoneInfo(plan.time_zone))

    def create() -> Operation:
        operation = operations.request(
            "backups.backup",
            title=f"Back up {plan.target}",
            params={"plan": plan.pk, "purpose": str(purpose), "name": name, "jobs": plan.jobs},
            by=by,
            trigger=trigger,
            reason=reason,
            lock_keys=database_locks(plan.target),
            wait_for_locks=trigger == Trigger.SCHEDULE,
            key=key,
            environment=plan.environment_band,
            queue=plan.storage.host.queue,
            parent=parent,
            retry_of=retry_of,
        )
        return _with_archive(plan, operation, purpose=purpose)

    return operations.request_once(key, create)


def _with_archive(plan: Plan, operation: Operation, **fields: Any) -> Operation:
    """The operation, with the row of the archive that it will make where the plan says now."""
    place = {"plan": plan, "target": plan.target, "storage": plan.storage, "folder": plan.folder}
    Archive.objects.create(operation=operation, reason=operation.reason, **place, **fields)
    return operation


def request_adopt(
    plan: Plan,
    sources: Sequence[str],
    *,
    by: User | None,
    key: str | None = None,
    retry_of: Operation | None = None,
) -> list[Operation]:
    """Make an archive of each backup that others have made. One after the other: each loads a scratch database.

    Whether a path may be read is decided by the worker, which sees it. What is adopted is kept until somebody lets it
    go, since retention would take old ones away at once.
    """

    def create(source: str, each_key: str | None) -> Operation:
        operation = operations.request(
            "backups.adopt",
            title=f"Adopt {source.rpartition('/')[2]} for {plan.target}",
            params={"plan": plan.pk, "source": source, "name": naming.adopted_name(source), "jobs": plan.jobs},
            by=by,
            reason=f"Adopted from {source}",
            lock_keys=database_locks(plan.target),
            wait_for_locks=True,
            key=each_key,
            environment=plan.environment_band,
            queue=plan.storage.host.queue,
            retry_of=retry_of,
        )
        return _with_archive(plan, operation, purpose=Archive.Purpose.ADOPTED, keep=True)

    keys = [f"{key}/{number}" if key and number else key for number in range(len(sources))]
    with transaction.atomic():
        return [
            operations.request_once(one, partial(create, source, one))
            for source, one in zip(sources, keys, strict=True)
        ]


def request_verify(
    archive: Archive,
    *,
    by: User | None,
    reason: str = "",
    trigger: str = Trigger.CLICK,
    key: str | None = None,
    retry_of: Operation | None = None,
) -> Operation:
    """Read the archive completely: checksums, full decode, row counts. A missing one is looked for again."""

    def create() -> Operation:
        # In here, so that a second click gets the operation whose finding has meanwhile changed the state.
        if archive.state not in Archive.READABLE:
            raise BackupError(f"{archive} is {archive.state_word.lower()}; only an available archive can be verified.")
        return operations.request(
            "backups.verify",
            title=f"Verify {archive}",
            params={"archive": archive.pk},
            by=by,
            trigger=trigger,
            reason=reason,
            lock_keys=[archive_lock(archive.pk)],
            key=key,
            environment=archive.environment_band,
            queue=archive.storage.host.queue,
            retry_of=retry_of,
        )

    return operations.request_once(key, create)


def request_prune(
    plan: Plan,
    *,
    by: User | None,
    reason: str = "",
    trigger: str = Trigger.CLICK,
    key: str | None = None,
    retry_of: Operation | None = None,
) -> Operation:
    """Remove what retention lets go. What goes is decided again when it runs."""
    return operations.request_once(
        key,
        lambda: operations.request(
            "backups.prune",
            title=f"Clean up archives of {plan}",
            params={"plan": plan.pk},
            by=by,
            trigger=trigger,
            reason=reason,
            lock_keys=[f"plan:{plan.pk}"],
            wait_for_locks=trigger == Trigger.OPERATION,
            key=key,
            environment=plan.environment_band,
            queue=plan.storage.host.queue,
            retry_of=retry_of,
        ),
    )


def set_keep(archive: Archive, *, keep: bool) -> Archive:
    """Mark an archive so that retention never removes it, or take the mark away. The audit log names who."""
    archive.keep = keep
    archive.save(update_fields=["keep"])
    return archive


# -- restore ----------------------------------------------------------------------------------------------------------


def check_restore(archive: Archive, *, into: str, typed_name: str, override_reason: str) -> None:
    """Raise BackupError with the sentence why this restore may not be asked for."""
    if archive.state == Archive.State.MISSING:
        raise BackupError(f"{archive} was not where it should be. Verify it again, or choose another restore point.")
    if archive.state != Archive.State.AVAILABLE:
        raise BackupError(f"{archive} is {archive.state_word.lower()}. Choose another restore point.")
    described = archive.manifest or {}
    if described.get("engine", archive.target.engine) != archive.target.engine:
        raise BackupError(
            f"{archive} is of another kind of database ({described['engine']}) than the catalog now says. Correct the "
            "engine of the database in the catalog."
        )
    dumped = described.get("database", archive.target.database)
    if into == archive.target.database and dumped != into:
        raise BackupError(
            f"{archive} holds the database {dumped}, and the catalog now says {into}. Restore it beside, under another "
            "name, or correct the catalog."
        )
    if archive.verification == Archive.Verification.DAMAGED:
        raise BackupError(f"{archive} is damaged: {archive.verification_message} Choose another restore point.")
    if not archive.is_restore_point and not override_reason.strip():
        raise BackupError(f"{archive} is not verified. Verify it now, or say why it must be restored unverified.")
    if not into.strip():
        raise BackupError("Say which database to restore into.")
    try:
        validate_database_name(into)
    except ValidationError as error:
        raise BackupError(" ".join(error.messages)) from None
    if typed_name != into:
        raise BackupError(f"The name you typed is not the database's. Type {into} exactly to confirm.")


def request_restore(
    archive: Archive,
    *,
    by: User | None,
    reason_kind: str,
    reason: str = "",
    into: str = "",
    typed_name: str,
    override_reason: str = "",
    trigger: str = Trigger.CLICK,
    key: str | None = None,
    parent: Operation | None = None,
    retry_of: Operation | None = None,
) -> Operation:
    """Put an archive back: over the live database (which is kept aside for undo), or beside it under another name."""
    target = archive.target
    into = into or target.database
    if key and (earlier := Operation.objects.filter(idempotency_key=key).first()):
        return earlier
    check_restore(archive, into=into, typed_name=typed_name, override_reason=override_reason)
    if reason_kind == Restore.Reason.OTHER and not reason.strip():
        raise BackupError("Say why you restore when the reason is none of the usual ones.")
    expected_loss = loss.preview(archive) if into == target.database else {}

    def create() -> Operation:
        operation = operations.request(
            "backups.restore",
            title=f"Restore {into} from {archive}",
            params={"archive": archive.pk, "into": into},
            by=by,
            trigger=trigger,
            reason=f"{Restore.Reason(reason_kind).label}. {reason}".strip(),
            lock_keys=[*database_locks(target), archive_lock(archive.pk)],
            key=key,
            environment=target.environment_band,
            queue=archive.storage.host.queue,
            parent=parent,
            retry_of=retry_of,
        )
        Restore.objects.create(
            archive=archive,
            target=target,
            operation=operation,
            into_database=into,
            reason_kind=reason_kind,
            reason=reason,
            override_reason=override_reason,
            requested_by=by,
            requested_at=operation.requested_at,
            expected_loss=expected_loss,
            rto=target.component.rto if into == target.database else None,
        )
        return operation

    return operations.request_once(key, create)


def request_undo(
    restore: Restore,
    *,
    by: User | None,
    reason: str = "",
    trigger: str = Trigger.CLICK,
    key: str | None = None,
    retry_of: Operation | None = None,
) -> Operation:
    """Put the database back that the restore replaced; the restored one is kept aside until it is removed."""

    def create() -> Operation:
        row = Restore.objects.select_for_update(of=("self",)).get(pk=restore.pk)
        if row.safety_copy != Restore.SafetyCopy.KEPT:
            raise BackupError("There is nothing to put back: this restore keeps no safety copy.")
        newer = Restore.objects.filter(
            target=row.target, pk__gt=row.pk, into_database=row.into_database, safety_copy=Restore.SafetyCopy.KEPT
        ).first()
        if newer is not None:
            raise BackupError(
                f"A later restore replaced this one: undo “{newer}” of {newer.requested_at:%F %H:%M} first."
            )
        operation = operations.request(
            "backups.undo_restore",
            title=f"Undo the restore of {row.into_database}",
            params={"restore": row.pk},
            by=by,
            trigger=trigger,
            reason=reason,
            lock_keys=database_locks(row.target),
            key=key,
            environment=row.environment_band,
            queue=row.archive.storage.host.queue,
            retry_of=retry_of,
        )
        row.undo_operation = operation
        row.save(update_fields=["undo_operation"])
        return operation

    return operations.request_once(key, create)


def request_drop_safety_copy(
    restore: Restore,
    *,
    by: User | None,
    reason: str = "",
    key: str | None = None,
    retry_of: Operation | None = None,
) -> Operation:
    """Remove the database that a restore, or its undo, set aside, for good."""

    def create() -> Operation:
        row = Restore.objects.select_for_update(of=("self",)).get(pk=restore.pk)
        if row.safety_copy not in (Restore.SafetyCopy.KEPT, Restore.SafetyCopy.PUT_BACK) or not row.safety_database:
            raise BackupError("This restore has set no database aside.")
        return operations.request(
            "backups.drop_safety_copy",
            title=f"Remove the safety copy {row.safety_database}",
            params={"restore": row.pk},
            by=by,
            trigger=Trigger.CLICK,
            reason=reason,
            lock_keys=database_locks(row.target),
            key=key,
            environment=row.environment_band,
            queue=row.archive.storage.host.queue,
            retry_of=retry_of,
        )

    return operations.request_once(key, create)


# -- plans ------------------------------------------------------------------------------------------------------------


def save_plan(plan: Plan, *, cron: str, misfire: str, enabled: bool, max_lateness: Any = None) -> Plan:
    """Save a plan with the schedule it owns. An empty `cron` means on demand; the old schedule is switched off."""
    limits = {"max_lateness": max_lateness} if max_lateness is not None else {}
    with transaction.atomic():
        if cron.strip():
            plan.schedule = operations.set_schedule(
                plan.schedule,
                handler=SCHEDULE_HANDLER,
                name=f"Back up: {plan.name}",
                cron=cron,
                time_zone=plan.time_zone,
                enabled=enabled,
                misfire=misfire or Schedule.Misfire.LATEST,
                **limits,
            )
        elif plan.schedule is not None:
            plan.schedule.enabled = False
            plan.schedule.save(update_fields=["enabled"])
        plan.save()
    return plan


def delete_plan(plan: Plan) -> None:
    """Delete a plan that has no archives, with its schedule, the decisions about its slots, and its crontab row.

    Raises BackupError with a sentence when archives name the plan or it is being cleaned up.
    """
    with transaction.atomic():
        # In the order in which a due slot takes them: first the schedule, then the plan.
        schedule = Schedule.objects.select_for_update(of=("self",)).filter(plan=plan).first()
        row = Plan.objects.select_for_update(of=("self",)).get(pk=plan.pk)
        if row.archives.exists():
            raise BackupError(f"{row} has archives, so it stays. Empty its schedule to stop making new ones.")
        if Operation.objects.active().filter(procedure="backups.prune", params__plan=row.pk).exists():
            raise BackupError(f"{row} is being cleaned up. Delete it when that has ended.")
        row.delete()
        if schedule is not None:
            crontab = schedule.crontab
            schedule.delete()
            crontab.delete()
