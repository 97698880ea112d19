"""Back up one database into an archive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from django.utils import timezone

from backups import actions, manifest
from backups.diagnostics import diagnostics
from backups.exceptions import TargetUnavailable
from backups.manifest import Manifest
from backups.models import Archive, Plan
from backups.procedures.base import TargetProcedure, advised, digest_of, read_back
from backups.reach import connection_for, engine_for, storage_for
from backups.storages.base import Storage
from catalog.models import DatabaseTarget
from core.exceptions import PortalError
from core.models import User
from core.scopes import BACK_UP
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import PlannedStep, Step, register


@register
class Backup(TargetProcedure):
    """Dump into a hidden folder, describe it, publish it with one rename, then read it all back."""

    name = "backups.backup"
    title = "Backup"
    permission = "backups.run_plan"
    scope = BACK_UP
    steps: ClassVar[tuple[Step, ...]] = (
        Step("check", "Check the server, rights, versions and free space"),
        Step("dump", "Dump the database and compress it", undo="remove_partial", by_hand=False),
        Step("publish", "Write the manifest and publish the archive", by_hand=False),
        Step("verify", "Read everything back: checksums, full decode, row counts", by_hand=False),
    )

    @cached_property
    def plan(self) -> Plan:
        return Plan.objects.with_place().get(pk=self.operation.params["plan"])

    @cached_property
    def target(self) -> DatabaseTarget:
        return self.archive.target if self.operation.pk else self.plan.target

    @cached_property
    def archive(self) -> Archive:
        """Its target, storage and folder are what the plan said when the backup was asked for."""
        return Archive.objects.with_place().get(operation=self.operation)

    @cached_property
    def storage(self) -> Storage:
        return storage_for(self.archive.storage)

    @property
    def subject(self) -> Archive | None:
        return Archive.objects.filter(operation_id=self.operation.pk).defer("manifest").first()

    def preview(self) -> dict[str, PlannedStep | list[str]]:
        conn = connection_for(self.target)
        folder = Path(self.plan.storage.root) / self.plan.folder / ".partial"
        return {"dump": [command.shown() for command in engine_for(self.target).dump_commands(conn, folder)]}

    # -- steps ----------------------------------------------------------------------------------------------------

    def check(self, ctx: StepContext) -> None:
        ctx.log(f"The archive will be called {self.operation.params['name']}.")
        self.check_host(self.archive.storage.host)
        self.check_identity(ctx)
        conn = self.connection()
        with self._diagnosed():
            folder = self.storage.ensure(self.archive.folder)
            for check in self.engine.preflight_dump(conn, self.engine.inspect(conn), folder):
                ctx.log(check.sentence)

    @contextmanager
    def _diagnosed(self) -> Iterator[None]:
        """Put beside a failure what the runbook tells people to look at: space and permissions."""
        folder = Path(self.archive.storage.root) / self.archive.folder
        try:
            with advised(str(folder)):
                yield
        except TargetUnavailable:
            raise
        except PortalError as error:
            error.diagnostics = error.diagnostics or diagnostics(folder)
            raise

    def dump(self, ctx: StepContext) -> None:
        if self._published(ctx):
            return
        with self._diagnosed():
            self._dump(ctx)

    def _dump(self, ctx: StepContext) -> None:
        partial = self.storage.begin(self.archive.folder, self.operation.pk, ctx.attempt)
        started = timezone.now()
        facts = self.engine.dump(
            self.connection(),
            partial,
            jobs=self.operation.params["jobs"],
            run=ctx.run,
            progress=ctx.progress,
            log=ctx.log,
            check=ctx.check,
        )
        manifest.write(
            partial,
            Manifest.of(
                facts,
                operation_id=self.operation.pk,
                plan=self.plan.name,
                name=self.operation.params["name"],
                created_at=timezone.now(),
            ),
        )
        ctx.remember(partial=partial.name, dump_seconds=(timezone.now() - started).total_seconds())

    def _published(self, ctx: StepContext) -> Path | None:
        """The folder an earlier attempt published before it died."""
        if ctx.attempt == 1:
            return None
        return self.storage.find_published(self.archive.folder, self.operation.pk, since=self.operation.requested_at)

    def remove_partial(self, ctx: StepContext) -> None:
        self.storage.discard(self.archive.folder, self.operation.pk)

    def abandon(self, ctx: StepContext) -> None:
        if ctx.step is not None and ctx.step.name == "dump":
            folder = self.storage.folder(self.archive.folder)
            shutil.rmtree(folder / f".partial-op{self.operation.pk}-a{ctx.attempt}", ignore_errors=True)

    def publish(self, ctx: StepContext) -> None:
        """The rename and the record go together; after a death in between, the published folder is adopted."""
        folder = self._published(ctx)
        with ctx.fenced():
            if folder is None:
                partial = self.storage.folder(self.archive.folder) / ctx.data["partial"]
                folder = self.storage.publish(partial, self.operation.params["name"])
            self._record(folder)
        ctx.log(f"Published {folder}.")

    def _record(self, folder: Path) -> None:
        described = manifest.read(folder)
        archive = self.archive
        archive.name = folder.name
        archive.state = Archive.State.AVAILABLE
        archive.snapshot_at = described.snapshot_at
        archive.duration = timezone.now() - (self.operation.started_at or self.operation.requested_at)
        archive.size_bytes = sum(path.stat().st_size for path in folder.iterdir())
        archive.database_bytes = described.database_bytes
        archive.row_count = described.rows
        archive.sha256 = digest_of(folder)
        archive.server_version = described.server_version
        archive.manifest = manifest.encode(described)
        archive.save()

    def verify(self, ctx: StepContext) -> None:
        report = read_back(ctx, self.engine, self.archive)
        size = self.archive.size_bytes or 0
        ctx.conclude(f"{self.archive.name}: {size:,} bytes. {report.sentence}", bytes=size, archive=self.archive.pk)

    # -- end ------------------------------------------------------------------------------------------------------

    def on_end(self) -> None:
        archive = Archive.objects.get(operation=self.operation)
        if archive.state == Archive.State.CREATING:
            archive.state = Archive.State.FAILED
            archive.save(update_fields=["state"])
        if self.operation.state == Operation.State.SUCCEEDED and (self.plan.keep_days or self.plan.keep_last):
            actions.request_prune(
                self.plan,
                by=None,
                reason=f"After {self.operation}",
                trigger=Operation.Trigger.OPERATION,
                key=f"prune-after:{self.operation.pk}",
            )

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_backup(
            self.plan,
            by=by,
            purpose=self.operation.params["purpose"],
            reason=reason,
            key=key or None,
            retry_of=self.operation,
        )
