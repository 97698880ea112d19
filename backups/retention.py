"""Which archives of a plan may go. Pure decisions over rows; removing is a procedure.

An archive stays when any rule keeps it: it is marked to be kept, it is among the newest `keep_last` verified ones, it
is younger than `keep_days`, it is in use, it is the newest verified one of its database, or it is newer than that one
and nobody has read it back yet. With both values empty all stay.
Failed and unverified archives never count towards `keep_last`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from backups.models import Archive, Plan
from backups.querysets import BEST_FIRST
from operations.models import Operation, OperationLock


@dataclass(frozen=True)
class Verdict:
    """What retention says about one archive, with the reason in words."""

    archive: Archive
    remove: bool
    why: str


def archive_lock(archive_id: int) -> str:
    """Lock key of whoever reads or removes the archive's files."""
    return f"archive:{archive_id}"


def judge(plan: Plan, now: datetime | None = None) -> list[Verdict]:
    """A verdict for every available archive of the plan, newest first."""
    now = now or timezone.now()
    archives = list(plan.archives.available().newest_first().defer("manifest"))
    newest = {archive.target_id: archive for archive in _newest_verified(archives)}
    verified = [archive for archive in archives if archive.is_restore_point]
    counted = {archive.pk for archive in verified[: plan.keep_last]} if plan.keep_last else set()
    in_use = _in_use(archives)
    return [_judge_one(plan, archive, now, counted, in_use, newest.get(archive.target_id)) for archive in archives]


def _newest_verified(archives: Iterable[Archive]) -> Iterable[Archive]:
    """The newest verified archive of each database, of any plan. A plan that was moved holds those of two databases."""
    databases = {archive.target_id for archive in archives}
    found = Archive.objects.restore_points().filter(target__in=databases).only("target", "snapshot_at")
    return found.order_by("target_id", *BEST_FIRST).distinct("target_id")


def _in_use(archives: Iterable[Archive]) -> set[int]:
    """Archives that an operation reads, the backup included that has just published its own and still verifies it."""
    keys = {archive_lock(archive.pk): archive.pk for archive in archives}
    held = OperationLock.objects.filter(key__in=keys).values_list("key", flat=True)
    unfinished = Archive.objects.filter(pk__in=keys.values(), operation__in=Operation.objects.active())
    return {keys[key] for key in held} | set(unfinished.values_list("pk", flat=True))


def _judge_one(
    plan: Plan,
    archive: Archive,
    now: datetime,
    counted: set[int],
    in_use: set[int],
    newest_verified: Archive | None,
) -> Verdict:
    if plan.keep_days is None and plan.keep_last is None:
        return Verdict(archive, False, "no retention set: everything stays")
    if archive.keep:
        return Verdict(archive, False, "marked to be kept")
    if archive.pk in in_use:
        return Verdict(archive, False, "in use by an operation")
    if newest_verified is None:
        return Verdict(archive, False, "the database has no verified archive yet")
    if archive.pk == newest_verified.pk:
        return Verdict(archive, False, "the newest verified archive of its database")
    assert archive.snapshot_at is not None and newest_verified.snapshot_at is not None  # the database says so
    if archive.verification == Archive.Verification.UNVERIFIED and archive.snapshot_at > newest_verified.snapshot_at:
        return Verdict(archive, False, "newer than the newest verified archive, and not verified yet")
    if archive.pk in counted:
        return Verdict(archive, False, f"among the newest {plan.keep_last} verified")
    age = now - archive.snapshot_at
    if plan.keep_days is not None and age < timedelta(days=plan.keep_days):
        return Verdict(archive, False, f"younger than {plan.keep_days} days")
    rules = []
    if plan.keep_days is not None:
        rules.append(f"older than {plan.keep_days} days")
    if plan.keep_last is not None:
        rules.append(f"not among the newest {plan.keep_last} verified")
    return Verdict(archive, True, " and ".join(rules))


def age_of(archive: Archive) -> timedelta:
    """How old the archive's data is."""
    assert archive.snapshot_at is not None  # the database says so for available archives
    return timezone.now() - archive.snapshot_at
