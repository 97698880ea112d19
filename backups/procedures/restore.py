"""Put an archive back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from django.utils import timezone

from backups import actions, manifest
from backups.databases import derived_name
from backups.exceptions import BackupError
from backups.models import Archive, Restore
from backups.procedures.base import advised, folder_of, manifest_of
from backups.procedures.service import AroundService
from backups.reach import connection_for, engine_for, portal_identity
from catalog.models import DatabaseTarget
from catalog.service_control import ServiceControl
from core.models import User
from core.scopes import RESTORE
from core.templatetags.portal import human_duration
from core.words import counted
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import AfterInterruption, PlannedStep, Step, register


@register
class RestoreArchive(AroundService):
    """Load beside the live database first, compare, then swap the names in one transaction.

    Until the swap nothing the users see is touched; after it the replaced database is kept under another name. Nothing
    here needs the old database to be readable, or even to exist.
    """

    name = "backups.restore"
    title = "Restore"
    permission = "backups.restore_archive"
    scope = RESTORE
    steps = (
        Step("check", "Archive intact, space enough, versions and target identity fit"),
        Step("load", "Load into a scratch database beside the live one", undo="drop_scratch"),
        Step("compare", "Compare row counts and fingerprints with the manifest"),
        Step("stop_service", "Stop the application", undo="start_again"),
        Step("swap", "Rename live aside and scratch to live; the old one is the safety copy", undo="swap_back"),
        Step("start_service", "Start the application, wait until it is ready", undo="stop_again"),
        Step("smoke_test", "Run the smoke tests"),
    )

    @cached_property
    def archive(self) -> Archive:
        return Archive.objects.with_place().get(pk=self.operation.params["archive"])

    @cached_property
    def target(self) -> DatabaseTarget:
        return self.archive.target

    @cached_property
    def restore(self) -> Restore:
        return Restore.objects.get(operation=self.operation)

    @property
    def subject(self) -> Restore | None:
        return Restore.objects.filter(operation_id=self.operation.pk).first()

    @property
    def into(self) -> str:
        return self.operation.params["into"]

    @property
    def in_place(self) -> bool:
        return self.into == self.target.database

    @property
    def scratch(self) -> str:
        """One name for all attempts: a restore that was interrupted is undone, so it is made only once."""
        return derived_name(self.into, f"_restore_{self.operation.pk}")

    @property
    def safety_database(self) -> str:
        return derived_name(self.into, f"_before_{self.operation.pk}")

    @cached_property
    def folder(self) -> Path:
        return folder_of(self.archive)

    @cached_property
    def manifest(self) -> manifest.Manifest:
        return manifest_of(self.archive)

    def service(self, ctx: StepContext) -> ServiceControl | None:
        return super().service(ctx) if self.in_place else None

    def wait_for_probes(self, ctx: StepContext) -> None:
        if self.in_place:
            super().wait_for_probes(ctx)

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        conn = connection_for(self.target)
        engine = engine_for(self.target)
        scratch = derived_name(self.into, "_restore_…")
        steps: dict[str, PlannedStep | list[str]] = {
            "check": [f"sha256 of every file in {self.folder}", f"identity of {self.target.address}"],
            "load": [
                engine.create_text(conn, scratch),
                *(command.shown() for command in engine.restore_commands(conn, self.folder, scratch)),
            ],
        }
        if not self.in_place:
            steps["swap"] = list(engine.swap_text(conn, self.into, scratch, ""))
            return steps
        steps["swap"] = list(engine.swap_text(conn, self.into, scratch, derived_name(self.into, "_before_…")))
        steps.update(self.preview_service())
        if self.target.smoke_test:
            steps["smoke_test"] = [self.target.smoke_test]
        return steps

    # -- interruption ---------------------------------------------------------------------------------------------

    def after_interruption(self, ctx: StepContext) -> AfterInterruption:
        return AfterInterruption.UNDO

    # -- steps ----------------------------------------------------------------------------------------------------

    def check(self, ctx: StepContext) -> None:
        self.check_identity(ctx)
        manifest.check_files(self.folder, self.manifest, ctx.progress, ctx.check)
        conn = replace(self.connection(), database=self.into)
        checks = self.engine.preflight_restore(
            conn,
            self.manifest,
            self.folder,
            system_identifier=self.target.system_identifier or None,
            forbidden=[portal_identity()],
            work_dir=ctx.work_dir(),
        )
        for check in checks:
            ctx.log(check.sentence)
        if not self.in_place and self.engine.database_exists(conn, self.into):
            raise BackupError(f"There is a database {self.into} already. Choose another name to restore beside.")
        for name in (self.scratch, self.safety_database):
            if self.engine.database_exists(conn, name):
                raise BackupError(
                    f"There is a database {name} already, which is not of this restore. Rename or drop it."
                )
        ctx.log(f"The scratch database will be {self.scratch}.")

    def load(self, ctx: StepContext) -> None:
        conn = self.connection()
        ctx.show_command(self.engine.create_text(conn, self.scratch))
        self.engine.create_scratch(conn, self.scratch, self.manifest.properties, check=ctx.check)
        work_dir = ctx.work_dir()
        with advised(f"the server of {self.target.address}"):
            self.engine.load(
                self.folder,
                self.manifest,
                conn,
                self.scratch,
                jobs=self.archive.plan.jobs,
                work_dir=work_dir,
                run=ctx.run,
                progress=ctx.progress,
                log=ctx.log,
                check=ctx.check,
            )
            shutil.rmtree(work_dir, ignore_errors=True)
            self.engine.apply_properties(conn, self.scratch, self.manifest.properties, log=ctx.log)
            self.engine.analyze(conn, self.scratch, jobs=self.archive.plan.jobs, run=ctx.run)

    def drop_scratch(self, ctx: StepContext) -> None:
        """This also fences: a predecessor that wakes up has nothing left to swap in."""
        self.end_own_sessions()
        if self.engine.drop_database(self.connection(), self.scratch, check=ctx.check):
            ctx.log(f"Dropped the scratch database {self.scratch}.")

    def compare(self, ctx: StepContext) -> None:
        measured = self.engine.measure(self.connection(), self.scratch, check=ctx.check, progress=ctx.progress)
        loaded = self.engine.inspect(replace(self.connection(), database=self.scratch))
        differences = self.engine.compare(self.manifest, measured, server_version_num=loaded.version_num)
        if differences:
            raise BackupError(f"The loaded data differs from the archive: {'; '.join(differences[:10])}")
        tables, rows = counted(len(self.manifest.tables), "table"), counted(self.manifest.rows, "row")
        ctx.log(f"{tables} with {rows}, as the manifest says.")

    def swap(self, ctx: StepContext) -> None:
        conn = self.connection()
        if not self.in_place:
            self.engine.rename_database(conn, self.scratch, self.into, check=ctx.check)
            return
        kept = self.engine.database_exists(conn, self.into)
        for text in self.engine.swap_text(conn, self.into, self.scratch, self.safety_database if kept else ""):
            ctx.show_command(text)
        self.engine.swap(conn, self.into, self.scratch, self.safety_database, check=ctx.check)
        self._record_copy(ctx)

    def swap_back(self, ctx: StepContext) -> None:
        """Look at what exists: after a death nobody knows whether the swap was committed."""
        self.end_own_sessions()
        conn = self.connection()
        if not self.in_place:
            if self.engine.database_exists(conn, self.into) and not self.engine.database_exists(conn, self.scratch):
                self.engine.rename_database(conn, self.into, self.scratch, check=ctx.check)
        elif self.engine.database_exists(conn, self.safety_database):
            self.engine.swap_back(conn, self.into, self.safety_database, self.scratch, check=ctx.check)
        elif not self.engine.database_exists(conn, self.scratch):
            ctx.log(f"There was no {self.into} before, so the restored one stays: it is all there is.")
        self._record_copy(ctx)

    def adopt(self, step: str, ctx: StepContext) -> None:
        if step == "swap" and self.in_place:
            self._record_copy(ctx)
        elif step == "smoke_test":
            self._record_time(ctx)

    def _record_copy(self, ctx: StepContext) -> None:
        """The safety copy is kept if it is there."""
        kept = self.in_place and self.engine.database_exists(self.connection(), self.safety_database)
        with ctx.fenced():
            restore = self.restore
            restore.safety_copy = Restore.SafetyCopy.KEPT if kept else Restore.SafetyCopy.NONE
            restore.safety_database = self.safety_database if kept else ""
            restore.save(update_fields=["safety_copy", "safety_database"])

    def smoke_test(self, ctx: StepContext) -> None:
        ctx.log(self.engine.smoke_test(self.connection(), self.into, self.target.smoke_test))
        if self.in_place:
            self.run_smoke_probes(ctx)
        self._record_time(ctx)

    def _record_time(self, ctx: StepContext) -> None:
        measured = timezone.now() - self.operation.requested_at
        with ctx.fenced():
            restore = self.restore
            restore.measured = measured
            restore.save(update_fields=["measured"])
        ctx.conclude(self._verdict(restore), seconds=measured.total_seconds())

    def _verdict(self, restore: Restore) -> str:
        seconds = restore.measured.total_seconds() if restore.measured else 0.0
        moment = f"{self.archive.snapshot_at:%Y-%m-%d %H:%M:%S} UTC"
        if not self.in_place:
            return f"{self.into} has the data of {moment}, beside {self.target.database}, after {seconds:.1f} s."
        sentence = f"{self.into} is back as of {moment} after {seconds:.1f} s."
        if restore.rto is None:
            return f"{sentence} No RTO is set for {self.target.component.name}."
        met = "met" if restore.rto_met else "missed"
        return f"{sentence} RTO {human_duration(restore.rto)} {met}."

    # -- end ------------------------------------------------------------------------------------------------------

    @property
    def typed_name(self) -> str:
        return self.into

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        before = self.restore
        return actions.request_restore(
            self.archive,
            by=by,
            reason_kind=before.reason_kind,
            # Without a new reason the operation's own comes here, which is made of kind and reason.
            reason=before.reason if reason == self.operation.reason else reason or before.reason,
            into=self.into,
            typed_name=self.into,
            override_reason=before.override_reason,
            key=key or None,
            retry_of=self.operation,
        )
