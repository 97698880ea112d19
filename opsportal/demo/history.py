"""Thirty days of backups, restores and clean-ups, written as records of the past.

This package is the only place that may write operations, slots, archives and restores directly instead of asking for
them: nothing here happened, apart from the archives that are still there, which were really dumped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from backups.actions import database_locks
from backups.models import Plan
from core.models import User
from core.roles import Role
from operations.models import Operation, OperationStep
from opsportal.demo.catalog import Catalog
from opsportal.demo.dumps import Dumped, Rehearsal, Stock
from opsportal.demo.records import OP, PastOperation, PastStep
from opsportal.demo.shelf import Shelf
from opsportal.demo.timeline import Backup, Outcome, Prune, Story

TRIGGER = Operation.Trigger
STEP = OperationStep.State
SPACE = re.compile(r"^[0-9.]+ [GM]B are free")


@dataclass
class Teller:
    """Turns the story into operations. `random` is seeded: every installation tells the same noise."""

    story: Story
    stock: Stock
    catalog: Catalog
    people: Mapping[Role, User]
    plans: Mapping[str, Plan]
    shelf: Shelf
    random: Random = field(default_factory=lambda: Random(20))  # noqa: S311 - noise, not a secret

    def operations(self) -> list[PastOperation]:
        """Backups and the clean-ups after them. What people did besides is in `episodes`."""
        told = [self.backup(backup) for backup in self.story.backups]
        ended = {one.key: one.ended_at for one in told}
        return told + [self.prune(prune, ended[prune.after.key]) for prune in self.story.prunes]

    def folder(self, plan: str) -> str:
        """Where the archives of a plan lie."""
        found = self.plans[plan]
        return f"{found.storage.root}/{found.folder}"

    # -- backups ------------------------------------------------------------------------------------------------------

    def backup(self, backup: Backup) -> PastOperation:
        plan = self.plans[backup.plan]
        scheduled = backup.slot is not None
        state, message = {
            Outcome.OK: (Operation.State.SUCCEEDED, ""),
            Outcome.NO_SPACE: (Operation.State.FAILED, self.no_space(plan)),
            Outcome.CANCELLED: (Operation.State.CANCELLED, f"Cancelled by {self.people[Role.OPERATOR]}."),
        }[backup.outcome]
        key = f"schedule:{plan.schedule_id}:{backup.slot:%Y-%m-%dT%H:%M:%SZ}" if backup.slot else None
        return PastOperation(
            key=backup.key,
            procedure="backups.backup",
            title=f"Back up {plan.target}",
            requested_at=backup.requested_at,
            environment=plan.environment_band,
            steps=self.backup_steps(backup, plan),
            trigger=TRIGGER.SCHEDULE if scheduled else TRIGGER.CLICK,
            by=self.people[backup.by] if backup.by else None,
            reason=backup.reason,
            params={"plan": plan.pk, "purpose": backup.purpose, "jobs": plan.jobs},
            state=state,
            message=message,
            idempotency_key=key,
            retry_of=backup.retry_of,
            lock_keys=database_locks(plan.target),
            undo_s=0.0 if backup.outcome is Outcome.OK else 0.25,
        )

    def backup_steps(self, backup: Backup, plan: Plan) -> list[PastStep]:
        rehearsal = self.stock.rehearsals[backup.plan]
        source = self.source(backup)
        folder = f"{plan.storage.root}/{plan.folder}"
        spoken = source.dump.about(source.folder, f"{folder}/.partial-op{OP}-a1")
        spent = self.seconds(backup, source)
        checked = self.check_lines(plan, rehearsal)
        if backup.outcome is Outcome.NO_SPACE:  # it was enough when it was looked at; then somebody else wrote there
            checked = [(stream, SPACE.sub("58 MB are free", text)) for stream, text in checked]
        check = PastStep("check", 0.4 * self.noise(), lines=checked)
        if backup.outcome is Outcome.CANCELLED:
            stopped = PastStep(
                "dump", 0.7, spoken.commands[:1], spoken.lines[:3], state=STEP.UNDONE, message="Cancelled."
            )
            return [check, stopped]
        if backup.outcome is Outcome.NO_SPACE:
            lines = [*spoken.lines[:5], *(("diagnosis", line) for line in self.df(plan).splitlines())]
            failed = PastStep("dump", spent * 0.6, spoken.commands[:1], lines, STEP.UNDONE, self.no_space(plan))
            return [check, failed]
        place = f"{folder}/{self.shelf.names[backup.key]}"
        verified = rehearsal.verify.about(rehearsal.folder, place)
        lines = [
            (stream, self.verified(backup) if text == rehearsal.verified else text) for stream, text in verified.lines
        ]
        return [
            check,
            PastStep("dump", spent, spoken.commands, spoken.lines),
            PastStep("publish", 0.06 * self.noise(), lines=[("portal", f"Published {place}.")]),
            PastStep("verify", 0.25 * spent * self.noise(), verified.commands, lines),
        ]

    def check_lines(self, plan: Plan, rehearsal: Rehearsal) -> list[tuple[str, str]]:
        target = plan.target
        known = f"{target.address} is PostgreSQL {target.server_version}, system {target.system_identifier}."
        folder = f"{plan.storage.root}/{plan.folder}"
        return [("portal", text.replace(str(rehearsal.folder), folder)) for text in (known, *rehearsal.check)]

    def source(self, backup: Backup) -> Dumped:
        """What was really dumped for this backup, else the oldest that was dumped of its plan."""
        found = self.stock.dumped.get(backup.key)
        return found or next(one for one in self.stock.dumped.values() if one.backup.plan == backup.plan)

    def seconds(self, backup: Backup, source: Dumped) -> float:
        return backup.seconds or max(0.3, source.facts.seconds["all"]) * self.noise()

    def noise(self) -> float:
        return self.random.uniform(0.88, 1.2)

    def verified(self, backup: Backup) -> str:
        """What verifying this archive said."""
        rehearsal = self.stock.rehearsals[backup.plan]
        return rehearsal.verified.replace(str(rehearsal.rows), str(self.shelf.facts[backup.key].rows))

    def no_space(self, plan: Plan) -> str:
        return f"No space left in {plan.storage.root}/{plan.folder}. Free some, or move the storage to a larger disk."

    def df(self, plan: Plan) -> str:
        folder = f"{plan.storage.root}/{plan.folder}"
        return (
            f"$ df -h {folder}\n"
            "Filesystem      Size  Used Avail Use% Mounted on\n"
            f"/dev/vdb1        20G   20G  1.4M 100% {plan.storage.root}\n"
            f"$ df -i {folder}\n"
            "Filesystem      Inodes IUsed   IFree IUse% Mounted on\n"
            f"/dev/vdb1      1310720 18233 1292487    2% {plan.storage.root}"
        )

    # -- clean-ups ----------------------------------------------------------------------------------------------------

    def prune(self, prune: Prune, ended_at: datetime) -> PastOperation:
        plan = self.plans[prune.after.plan]
        rules = [f"older than {plan.keep_days} days"] if plan.keep_days else []
        why = " and ".join([*rules, f"not among the newest {plan.keep_last} verified"])
        lines = [("portal", f"Removed {plan.folder}/{self.shelf.names[key]}: {why}.") for key in prune.removed]
        freed = sum(self.shelf.sizes[key] for key in prune.removed)
        number = len(prune.removed)
        return PastOperation(
            key=f"prune-{prune.after.key}",
            procedure="backups.prune",
            title=f"Clean up archives of {plan}",
            requested_at=ended_at + timedelta(seconds=0.01),
            environment=plan.environment_band,
            steps=[PastStep("remove", 0.03 + 0.05 * number, lines=lines), PastStep("sweep", 0.02)],
            trigger=TRIGGER.OPERATION,
            params={"plan": plan.pk},
            message=f"Removed {number} archives, {freed:,} bytes." if number else "Nothing to remove.",
            result={"bytes": freed},
            lock_keys=[f"plan:{plan.pk}"],
        )
