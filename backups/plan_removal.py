"""Removing a plan together with the schedule and the crontab row that it owns."""

from __future__ import annotations

from django.db import transaction

from backups.exceptions import BackupError
from backups.models import Plan
from operations.models import Operation, Schedule


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
