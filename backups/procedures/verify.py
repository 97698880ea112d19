"""Verify an archive that is already there."""

from __future__ import annotations

from functools import cached_property

from backups import actions, news
from backups.exceptions import ArchiveDamaged
from backups.models import Archive
from backups.procedures.base import folder_of, read_back
from backups.reach import engine_for
from core.models import User
from core.scopes import BACK_UP
from operations.context import StepContext
from operations.events import publish
from operations.models import Operation
from operations.procedures import Procedure, Step, register


@register
class Verify(Procedure):
    """Read every byte of an archive and compare it with its manifest. The live database is not touched."""

    name = "backups.verify"
    title = "Verification"
    permission = "backups.verify_archive"
    scope = BACK_UP
    steps = (Step("read", "Read everything: checksums, full decode, row counts"),)

    @cached_property
    def archive(self) -> Archive:
        return Archive.objects.with_place().get(pk=self.operation.params["archive"])

    @property
    def subject(self) -> Archive:
        return self.archive

    def read(self, ctx: StepContext) -> None:
        folder = folder_of(self.archive)
        if not folder.is_dir():
            gone = f"The folder {folder} is gone. Mount the disk it is on and verify again, or use another archive."
            with ctx.fenced():
                self.archive.state = Archive.State.MISSING
                self.archive.save(update_fields=["state"])
                publish(news.ARCHIVE_MISSING, f"{self.archive}: {gone}", subject=self.archive, operation=ctx.operation)
            raise ArchiveDamaged(gone)
        report = read_back(ctx, engine_for(self.archive.target), self.archive)
        ctx.conclude(report.sentence)

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_verify(self.archive, by=by, reason=reason, key=key or None, retry_of=self.operation)
