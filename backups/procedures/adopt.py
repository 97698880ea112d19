"""Make an archive of a backup that somebody else has made."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from django.utils import timezone

from backups import actions, foreign, manifest
from backups.databases import derived_name
from backups.engines.base import Connection
from backups.engines.checks import Checks, room, writable
from backups.exceptions import BackupError, TargetUnavailable
from backups.manifest import DatabaseProperties, Manifest
from backups.models import Archive
from backups.procedures.backup import Backup
from backups.procedures.base import advised, manifest_of
from backups.reach import connection_for, engine_for
from core.models import User
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import PlannedStep, Step, register


@register
class Adopt(Backup):
    """Load it into a scratch database, which proves that it can be restored, and back that up as an ordinary archive.

    What others have made has no manifest: nobody knows what should be in it. The archive made of it has one. The file
    itself is read and left alone.
    """

    name = "backups.adopt"
    title = "Adoption"
    permission = "backups.adopt_archive"
    steps = (
        Step("check", "Check the file, the server, rights and free space"),
        Step("load", "Load it into a scratch database", undo="drop_scratch", by_hand=False),
        Step("dump", "Dump the scratch database into an archive", undo="remove_partial", by_hand=False),
        Step("clear", "Remove the scratch database", by_hand=False),
        Step("publish", "Write the manifest and publish the archive", by_hand=False),
        Step("verify", "Read everything back: checksums, full decode, row counts", by_hand=False),
    )

    @property
    def source(self) -> Path:
        return Path(self.operation.params["source"])

    @cached_property
    def found(self) -> foreign.Found:
        return foreign.permitted(self.engine, self.archive.storage, self.source)

    @property
    def scratch(self) -> str:
        return derived_name(self.target.database, f"_adopt_{self.operation.pk}")

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        conn, engine = connection_for(self.target), engine_for(self.target)
        scratch = derived_name(self.target.database, "_adopt_…")
        commands = engine.foreign_commands(conn, self.source, scratch)
        return {
            "load": [engine.create_text(conn, scratch), *(command.shown() for command in commands)],
            "clear": [engine.drop_text(conn, scratch)],
        }

    def check(self, ctx: StepContext) -> None:
        ctx.log(f"The archive will be called {self.operation.params['name']}.")
        self.check_host(self.archive.storage.host)
        found = self.found
        ctx.log(f"{found.path}: {found.kind}, {found.size:,} bytes, made at {found.made_at:%F %T} UTC.")
        self.check_identity(ctx)
        with self._diagnosed():
            checks = Checks()
            folder = self.storage.ensure(self.archive.folder)
            writable(checks, folder)
            room(checks, "space", folder, found.size + 16 * 2**20, "the archive")
            for check in (*checks.results, *self.engine.preflight_foreign(self.connection(), found.path)):
                ctx.log(check.sentence)
        if self.engine.database_exists(self.connection(), self.scratch) and ctx.attempt == 1:
            raise BackupError(f"There is a database {self.scratch} already, which is not of this. Rename or drop it.")

    def load(self, ctx: StepContext) -> None:
        conn = self.connection()
        properties = self._properties(conn)
        ctx.show_command(self.engine.create_text(conn, self.scratch))
        self.engine.create_scratch(conn, self.scratch, properties, check=ctx.check)
        with advised(f"the server of {self.target.address}"):
            self.engine.load_foreign(
                conn,
                self.found.path,
                self.scratch,
                jobs=self.operation.params["jobs"],
                run=ctx.run,
                progress=ctx.progress,
                log=ctx.log,
                check=ctx.check,
            )

    def _properties(self, conn: Connection) -> DatabaseProperties:
        """Owner and settings of the live database; where that is gone, those in the newest archive of it."""
        try:
            return self.engine.properties(conn)
        except TargetUnavailable:
            newest = Archive.objects.of(self.target).restore_points().best_first().first()
            if newest is None:
                raise BackupError(
                    f"The database {self.target.database} is not there, and no archive of it says who owned it and in "
                    "which language it sorts. Create it empty on the server, then adopt again."
                ) from None
            return manifest_of(newest).properties

    def drop_scratch(self, ctx: StepContext) -> None:
        self.end_own_sessions()
        if self.engine.drop_database(self.connection(), self.scratch, check=ctx.check):
            ctx.log(f"Dropped the scratch database {self.scratch}.")

    def _dump(self, ctx: StepContext) -> None:
        conn = self.connection()
        partial = self.storage.begin(self.archive.folder, self.operation.pk, ctx.attempt)
        facts = self.engine.dump(
            replace(conn, database=self.scratch),
            partial,
            jobs=self.operation.params["jobs"],
            run=ctx.run,
            progress=ctx.progress,
            log=ctx.log,
            check=ctx.check,
        )
        if not facts.tables:
            raise BackupError(f"{self.source} was loaded and has no table in it. It is not the backup of a database.")
        # As if the live database had been dumped at the time of the file.
        facts = replace(
            facts,
            database=self.target.database,
            properties=self._properties(conn),
            snapshot_at=self.found.made_at,
            warnings=[*facts.warnings, f"Adopted from {self.source}. When its data was read is taken from the file."],
        )
        plan, name = self.archive.plan.name, self.operation.params["name"]
        described = Manifest.of(facts, operation_id=self.operation.pk, plan=plan, name=name, created_at=timezone.now())
        manifest.write(partial, described)
        ctx.remember(partial=partial.name)

    def clear(self, ctx: StepContext) -> None:
        self.drop_scratch(ctx)

    def on_end(self) -> None:
        """As after a backup, but nothing is cleaned up for it."""
        Archive.objects.filter(operation=self.operation, state=Archive.State.CREATING).update(
            state=Archive.State.FAILED, keep=False
        )

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_adopt(self.plan, [str(self.source)], by=by, key=key, retry_of=self.operation)[0]
