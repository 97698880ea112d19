"""Put an archive back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from django.utils import timezone

from backups import actions, manifest
from backups.databases import derived_name
from backups.engines.base import Connection
from backups.exceptions import BackupError
from backups.models import Archive, Restore
from backups.procedures.base import TargetProcedure, advised, folder_of, manifest_of
from backups.reach import connection_for, engine_for, portal_identity
from catalog.models import DatabaseTarget
from catalog.service_control import ServiceControl, control_for
from core.models import User
from core.templatetags.portal import human_duration
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import AfterInterruption, PlannedStep, Step, register


@register
class RestoreArchive(TargetProcedure):
    """Load beside the live database first, compare, then swap the names in one transaction.

    Until the swap nothing the users see is touched; after it the replaced database is kept under another name. Nothing
    here needs the old database to be readable, or even to exist.
    """

    name = "backups.restore"
    title = "Restore"
    permission = "backups.restore_archive"
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
        if not self.in_place:
            return None
        return control_for(self.target.component.environment, run=ctx.run)

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        conn = connection_for(self.target)
        engine = engine_for(self.target)
        scratch = derived_name(self.into, "_restore_…")
        steps: dict[str, PlannedStep | list[str]] = {
            "check": [f"sha256 of every file in {self.folder}", f"identity of {self.target.address}"],
            "load": [
                f"CREATE DATABASE {scratch}",
                *(command.shown() for command in engine.restore_commands(conn, self.folder, scratch)),
            ],
        }
        if not self.in_place:
            steps["swap"] = [f"ALTER DATABASE {scratch} RENAME TO {self.into}"]
            return steps
        steps["swap"] = [
            f"ALTER DATABASE {self.into} RENAME TO {derived_name(self.into, '_before_…')}",
            f"ALTER DATABASE {scratch} RENAME TO {self.into}",
        ]
        control = control_for(self.target.component.environment)
        if control is not None:
            commands = control.commands()
            for step, names in (("stop_service", ("stop",)), ("start_service", ("start", "status"))):
                steps[step] = [commands[name].shown() for name in names if name in commands]
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
        ctx.log(f"The scratch database will be {self.scratch}.")
        if not self.in_place and self.engine.database_exists(conn, self.into):
            raise BackupError(f"There is a database {self.into} already. Choose another name to restore beside.")

    def load(self, ctx: StepContext) -> None:
        conn = self.connection()
        ctx.show_command(f"CREATE DATABASE {self.scratch}")
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
        if self.engine.drop_database(self.connection(), self.scratch):
            ctx.log(f"Dropped the scratch database {self.scratch}.")

    def compare(self, ctx: StepContext) -> None:
        measured = self.engine.measure(self.connection(), self.scratch, check=ctx.check, progress=ctx.progress)
        differences = self.engine.compare(self.manifest, measured)
        if differences:
            raise BackupError(f"The loaded data differs from the archive: {'; '.join(differences[:10])}")
        ctx.log(f"{len(self.manifest.tables)} tables and {self.manifest.rows:,} rows are as the manifest says.")

    def stop_service(self, ctx: StepContext) -> None:
        control = self.service(ctx)
        if control is None:
            ctx.log("No service control is set for this environment; clients are disconnected at the swap.")
            return
        ctx.remember(service_was_running=control.status().running is not False)
        control.stop()

    def start_again(self, ctx: StepContext) -> None:
        control = self.service(ctx)
        if control is not None and ctx.data.get("service_was_running", True):
            control.start()
            control.wait_ready()

    def swap(self, ctx: StepContext) -> None:
        conn = self.connection()
        if not self.in_place:
            self.engine.rename_database(conn, self.scratch, self.into)
            return
        kept = self.engine.database_exists(conn, self.into)
        ctx.remember(live_existed=kept)
        if kept:
            ctx.show_command(f"ALTER DATABASE {self.into} RENAME TO {self.safety_database}")
        ctx.show_command(f"ALTER DATABASE {self.scratch} RENAME TO {self.into}")
        self.engine.swap(conn, self.into, self.scratch, self.safety_database)
        self._record_copy(ctx, self.safety_database if kept else "")

    def swap_back(self, ctx: StepContext) -> None:
        """Look at what exists: after a death nobody knows whether the swap was committed."""
        conn = self.connection()
        if self.in_place and self.engine.database_exists(conn, self.safety_database):
            self.engine.swap_back(conn, self.into, self.safety_database, self.scratch)
        elif self._name_was_free(ctx) and self._is_renamed(conn):
            self.engine.rename_database(conn, self.into, self.scratch)
        self._record_copy(ctx, "")

    def _is_renamed(self, conn: Connection) -> bool:
        return self.engine.database_exists(conn, self.into) and not self.engine.database_exists(conn, self.scratch)

    def _name_was_free(self, ctx: StepContext) -> bool:
        """True when no database had the name before, so that what carries it now is ours."""
        return not self.in_place or not ctx.data.get("live_existed", True)

    def _record_copy(self, ctx: StepContext, database: str) -> None:
        with ctx.fenced():
            restore = self.restore
            restore.safety_copy = Restore.SafetyCopy.KEPT if database else Restore.SafetyCopy.NONE
            restore.safety_database = database
            restore.save(update_fields=["safety_copy", "safety_database"])

    def start_service(self, ctx: StepContext) -> None:
        control = self.service(ctx)
        if control is None:
            ctx.log("No service control is set for this environment; nothing to start.")
            return
        if ctx.data.get("service_was_running", True):
            control.start()
            control.wait_ready()
        else:
            ctx.log("The application was stopped before the restore and stays stopped.")

    def stop_again(self, ctx: StepContext) -> None:
        control = self.service(ctx)
        if control is not None:
            control.stop()

    def smoke_test(self, ctx: StepContext) -> None:
        ctx.log(self.engine.smoke_test(self.connection(), self.into, self.target.smoke_test))
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
