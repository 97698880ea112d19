"""Verify an archive that is already there."""

from __future__ import annotations

from functools import cached_property

from django.utils import timezone

from backups import actions
from backups.exceptions import ArchiveDamaged
from backups.models import Archive
from backups.procedures.base import folder_of, manifest_of
from backups.reach import engine_for
from core.models import User
from operations.context import StepContext
from operations.models import Operation
from operations.procedures import Procedure, Step, register


@register
class Verify(Procedure):
    """Read every byte of an archive and compare it with its manifest. The live database is not touched."""

    name = "backups.verify"
    title = "Verification"
    permission = "backups.verify_archive"
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
            with ctx.fenced():
                self.archive.state = Archive.State.MISSING
                self.archive.save(update_fields=["state"])
            raise ArchiveDamaged(
                f"The folder {folder} is gone. Mount the disk it is on and verify again, or use another archive."
            )
        try:
            report = engine_for(self.archive.target).verify(
                folder, manifest_of(self.archive), run=ctx.run, progress=ctx.progress, log=ctx.log, check=ctx.check
            )
        except ArchiveDamaged as error:
            self._record(ctx, Archive.Verification.DAMAGED, error.message)
            raise
        self._record(ctx, Archive.Verification.VERIFIED, report.sentence)
        ctx.conclude(report.sentence)

    def _record(self, ctx: StepContext, verdict: Archive.Verification, message: str) -> None:
        with ctx.fenced():
            if verdict == Archive.Verification.VERIFIED:
                self.archive.state = Archive.State.AVAILABLE  # it may have been missing
            self.archive.verification = verdict
            self.archive.verified_at = timezone.now()
            self.archive.verification_message = message
            self.archive.save(update_fields=["state", "verification", "verified_at", "verification_message"])

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return actions.request_verify(self.archive, by=by, reason=reason, key=key or None)
