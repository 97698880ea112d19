"""Loads the demo into an empty portal: databases and archives first, then all records in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from auditlog.context import disable_auditlog
from django.conf import settings
from django.db import transaction
from django_celery_beat.models import CrontabSchedule

from backups import manifest
from backups.engines.postgresql import PostgreSQLEngine
from backups.manifest import Manifest
from backups.models import Archive, Restore
from backups.procedures.base import digest_of
from backups.retention import archive_lock
from backups.storages.local import LocalStorage
from catalog.models import DatabaseTarget
from operations.models import Operation, Slot
from operations.slots import slots_between
from opsportal.demo import catalog, contacts, dumps, episodes, incidents, records, shelf, slots, timeline
from opsportal.demo.deployments import History
from opsportal.demo.episodes import PastRestore
from opsportal.demo.history import Teller
from opsportal.demo.people import Team
from opsportal.demo.records import PastOperation
from opsportal.demo.server import CRM, DATABASES, ERP, DemoServer
from opsportal.demo.timeline import DAMAGED, LATE, MERGED, Backup, Outcome

MERGED_MESSAGE = "A later slot was due as well; that one runs."


def is_loaded() -> bool:
    """Whether this portal has the demo, whatever its services are called by now."""
    return DatabaseTarget.objects.filter(password_ref__endswith=f"/{ERP.secret}").exists()


def load(server: DemoServer, now: datetime, say: Callable[[str], None]) -> None:
    """Load everything. A load that was interrupted leaves no records and is begun again."""
    server.check_names()
    team = Team(Path(settings.DATA_DIR))  # hashes passwords while the server works
    for database in DATABASES:
        server.make_role(database.owner, catalog.secret_path(database))
    story = timeline.tell(_slots("0", "2", "*", now), _slots("0", "3", "0", now), now)
    say("Making the databases and their archives ...")
    stock = dumps.make(server, story, now)
    said = dumps.damage(stock.dumped[f"night-{DAMAGED}"])
    facts = PostgreSQLEngine(bin_dir=settings.PG_BIN).inspect(dumps.connection(server, CRM))
    say("Building the ERP's releases, and starting the one that is live ...")
    places = slots.places(server)
    seen = slots.bring_up(places)
    say("Writing thirty days of history ...")
    with transaction.atomic(), disable_auditlog():
        people = team.save()
        known = catalog.create(server, facts.system_identifier, facts.version, places["production"].proxy)
        teller = Teller(story, stock, known, people, known.plans, shelf.arrange(story, stock, known.plans))
        history = History(teller, places)
        rows = _Writer(teller, said, history.operations()).write()
        directory = contacts.create(known.erp.component.environment.service, people, now)
        incidents.create(teller, rows, directory, now)
        history.write(rows, seen, now)
    (catalog.archives_root() / dumps.SCRATCH).rmdir()
    team.write_file()


def _slots(minute: str, hour: str, day_of_week: str, now: datetime) -> list[datetime]:
    crontab = CrontabSchedule(minute=minute, hour=hour, day_of_week=day_of_week, timezone="Europe/Berlin")
    return list(slots_between(crontab, now - timeline.DAYS, now))


@dataclass
class _Writer:
    """The records of the history, in the order in which they need each other."""

    teller: Teller
    damage: str
    deployments: Sequence[PastOperation]

    def write(self) -> dict[str, Operation]:
        teller = self.teller
        restores = episodes.restores(teller)
        scratch = str(teller.stock.dumped[f"night-{DAMAGED}"].folder)
        self.damage = self.damage.replace(scratch, str(self._place(teller.story.find(f"night-{DAMAGED}"))))
        past = teller.operations()
        past.append(episodes.found_damage(teller, self.damage))
        past += [one for restore in restores for one in (restore.operation, restore.cleaned_by)]
        past += self.deployments
        rows = records.write(past)
        self.past = {one.key: one for one in past}
        archives = self._archives(rows)
        self._complete(rows, archives, restores)
        self._slots(rows)
        for plan in self.teller.plans.values():
            if plan.schedule:
                catalog.set_decided(plan.schedule, teller.story.until)
        return rows

    def _place(self, backup: Backup) -> Path:
        plan = self.teller.plans[backup.plan]
        return LocalStorage(plan.storage.root).folder(plan.folder) / self.teller.shelf.names[backup.key]

    # -- archives -----------------------------------------------------------------------------------------------------

    def _archives(self, rows: dict[str, Operation]) -> dict[str, Archive]:
        removed = {key: f"prune-{prune.after.key}" for prune in self.teller.story.prunes for key in prune.removed}
        archives = []
        for backup in self.teller.story.backups:
            archive = self._archive(backup, rows[backup.key])
            if backup.outcome is Outcome.OK:
                self._fill(archive, backup, rows[backup.key])
                if backup.key in removed:
                    archive.state = Archive.State.PRUNED
                    archive.removed_at = self.past[removed[backup.key]].ended_at
            archives.append(archive)
        made = Archive.objects.bulk_create(archives)
        return {backup.key: archive for backup, archive in zip(self.teller.story.backups, made, strict=True)}

    def _archive(self, backup: Backup, operation: Operation) -> Archive:
        plan = self.teller.plans[backup.plan]
        return Archive(
            plan=plan,
            target=plan.target,
            storage=plan.storage,
            operation=operation,
            folder=plan.folder,
            state=Archive.State.FAILED,
            purpose=backup.purpose,
            reason=backup.reason,
            requested_at=backup.requested_at,
        )

    def _fill(self, archive: Archive, backup: Backup, operation: Operation) -> None:
        """What publishing and verifying wrote into the record; the archive itself is published now."""
        shelf_, past = self.teller.shelf, self.past[backup.key]
        facts = shelf_.facts[backup.key]
        published_s = sum(step.seconds for step in past.steps[:3])
        described = Manifest.of(
            facts,
            operation_id=operation.pk,
            plan=archive.plan.name,
            name=shelf_.names[backup.key],
            created_at=past.started_at + timedelta(seconds=published_s),
        )
        archive.name, archive.state = described.name, Archive.State.AVAILABLE
        archive.snapshot_at = facts.snapshot_at
        archive.duration = timedelta(seconds=published_s)
        archive.size_bytes = shelf_.sizes[backup.key]
        archive.database_bytes, archive.row_count = facts.database_bytes, facts.rows
        archive.server_version = facts.server_version
        archive.manifest = manifest.encode(described)
        archive.sha256 = hashlib.sha256(repr(described).encode()).hexdigest()  # nobody can read that manifest again
        archive.verification = Archive.Verification.VERIFIED
        archive.verified_at = past.ended_at
        archive.verification_message = self.teller.verified(backup)
        if backup.damaged:
            archive.verification = Archive.Verification.DAMAGED
            archive.verified_at = self.past["damage"].ended_at
            archive.verification_message = self.damage
        dumped = self.teller.stock.dumped.get(backup.key)
        if dumped is not None:
            storage = LocalStorage(archive.storage.root)
            folder = dumps.publish(storage, archive.folder, dumped, described, past.ended_at)
            archive.size_bytes = sum(path.stat().st_size for path in folder.iterdir())
            archive.sha256 = digest_of(folder)

    # -- what names an archive or an operation by its number ----------------------------------------------------------

    def _complete(self, rows: dict[str, Operation], archives: dict[str, Archive], restores: list[PastRestore]) -> None:
        for backup in self.teller.story.backups:
            if backup.outcome is Outcome.OK:
                archive, row = archives[backup.key], rows[backup.key]
                size = archive.size_bytes or 0
                row.message = f"{archive.name}: {size:,} bytes. {self.teller.verified(backup)}"
                row.result = {"message": row.message, "bytes": size, "archive": archive.pk}
                after = rows[f"prune-{backup.key}"]
                after.reason, after.idempotency_key = f"After {row}", f"prune-after:{row.pk}"
        damaged = archives[f"night-{DAMAGED}"]
        rows["damage"].params, rows["damage"].lock_keys = {"archive": damaged.pk}, [archive_lock(damaged.pk)]
        for past in restores:
            self._restore(past, rows[past.key], rows[past.cleaned_by.key], archives[past.archive])
        fields = ["params", "lock_keys", "message", "result", "reason", "idempotency_key", "title"]
        Operation.objects.bulk_update(rows.values(), fields)

    def _restore(self, past: PastRestore, row: Operation, cleaned: Operation, archive: Archive) -> None:
        kept = f"{past.target.database}_before_{row.pk}"
        rto, seconds = past.target.component.rto, past.measured.total_seconds()
        verdict = "" if rto is None else f" RTO {rto} {'met' if past.measured <= rto else 'missed'}."
        row.params = {"archive": archive.pk, **row.params}
        row.lock_keys = sorted([*row.lock_keys, archive_lock(archive.pk)])
        row.message = (
            f"{past.target.database} is back as of {archive.snapshot_at:%Y-%m-%d %H:%M:%S} UTC "
            f"after {seconds:.1f} s.{verdict}"
        )
        row.result = {"message": row.message, "seconds": seconds}
        restore = Restore.objects.create(
            archive=archive,
            target=past.target,
            operation=row,
            into_database=past.target.database,
            reason_kind=past.reason_kind,
            reason=past.reason,
            requested_by=row.requested_by,
            requested_at=row.requested_at,
            expected_loss=past.expected_loss,
            rto=rto,
            measured=past.measured,
            safety_copy=Restore.SafetyCopy.DROPPED,
            safety_database=kept,
        )
        cleaned.params, cleaned.title = {"restore": restore.pk}, f"Remove the safety copy {kept}"
        cleaned.message = f"Dropped {kept}."
        cleaned.result = {"message": cleaned.message}

    # -- slots --------------------------------------------------------------------------------------------------------

    def _slots(self, rows: dict[str, Operation]) -> None:
        story = self.teller.story
        slots = [
            Slot(
                schedule=self.teller.plans[backup.plan].schedule,
                at=backup.slot,
                decision=Slot.Decision.STARTED,
                decided_at=backup.requested_at,
                operation=rows[backup.key],
            )
            for backup in story.backups
            if backup.slot is not None
        ]
        merged = story.nights[MERGED - 1]
        late = story.find(f"night-{LATE}")
        slots.append(
            Slot(
                schedule=self.teller.plans["nightly"].schedule,
                at=merged,
                decision=Slot.Decision.MERGED,
                decided_at=late.requested_at,
                message=MERGED_MESSAGE,
            )
        )
        Slot.objects.bulk_create(sorted(slots, key=lambda slot: slot.at))
