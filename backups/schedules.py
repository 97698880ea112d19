"""What the slots of a plan's schedule start."""

from __future__ import annotations

from datetime import datetime

from backups import actions
from backups.exceptions import BackupError
from backups.models import Archive, Plan
from operations import scheduling
from operations.models import Operation, Schedule


@scheduling.handler(actions.SCHEDULE_HANDLER)
def start_backup(schedule: Schedule, slot: datetime, key: str) -> Operation:
    plan = Plan.objects.with_place().filter(schedule=schedule).first()
    if plan is None:
        raise BackupError("No plan belongs to this schedule any more. Remove the schedule.")
    return actions.request_backup(
        plan, by=None, purpose=Archive.Purpose.SCHEDULED, trigger=Operation.Trigger.SCHEDULE, key=key, slot=slot
    )
