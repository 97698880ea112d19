"""What the procedures of this room share: the target as this attempt reaches it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from django.utils import timezone

from backups import manifest, news
from backups.engines.base import BackupEngine, Connection, VerifyReport
from backups.exceptions import ArchiveDamaged, BackupError
from backups.models import Archive
from backups.reach import connection_for, engine_for, portal_mark, storage_for, way_to
from backups.storages.base import Storage
from catalog import actions as catalog
from catalog.connectors import Endpoint
from catalog.inspection import TargetFacts
from catalog.models import DatabaseTarget, Host
from operations.context import StepContext
from operations.events import publish
from operations.exceptions import CommandFailed
from operations.procedures import Procedure


class TargetProcedure(Procedure):
    """A procedure on one database target."""

    ends_backends: ClassVar[bool] = True
    _endpoint: Endpoint | None = None

    @cached_property
    def target(self) -> DatabaseTarget:
        raise NotImplementedError

    @cached_property
    def engine(self) -> BackupEngine:
        return engine_for(self.target)

    def connection(self) -> Connection:
        """As this attempt; the secret is read when this is called, and the way there is opened if it is not open."""
        if self._endpoint is not None and not self._endpoint.is_open():
            self.close()
        if self._endpoint is None:
            owner = f"op{self.operation.pk}-a{self.operation.attempt}"
            self._endpoint = self._way.enter_context(way_to(self.target, owner))
        return connection_for(self.target, f"{self.session_name}/a{self.operation.attempt}", self._endpoint)

    @cached_property
    def _way(self) -> ExitStack:
        return ExitStack()

    def close(self) -> None:
        self._endpoint = None
        self._way.close()

    @property
    def session_name(self) -> str:
        """How this operation's sessions at the target are called, before the number of the attempt."""
        return f"opsportal/{portal_mark()}/op{self.operation.pk}"

    def prepare(self, ctx: StepContext) -> None:
        """End what earlier attempts left running at the target."""
        if ctx.attempt > 1 and self.ends_backends:
            ended = self.engine.end_backends(self.connection(), self.session_name, before_attempt=ctx.attempt)
            if ended:
                ctx.log(f"Ended {ended} connections of earlier attempts.")

    def end_own_sessions(self) -> None:
        """Before an undo looks at the server: a session whose connection broke off may still be at work there."""
        self.engine.end_backends(self.connection(), self.session_name)

    def check_host(self, host: Host) -> None:
        """The worker is on the host whose folder it is about to use."""
        here = socket.gethostname()
        if host.expected_hostname and host.expected_hostname != here:
            raise BackupError(
                f"This worker runs on {here}, and {host.name} should be {host.expected_hostname}. Serve the queue "
                f"“{host.queue}” on that host only, or correct the host in the catalog."
            )

    def check_identity(self, ctx: StepContext) -> None:
        """Ask the server who it is and compare with the pinned identity; CatalogError when it is another one."""
        server = self.engine.identify(self.connection())
        facts = TargetFacts(system_identifier=server.system_identifier, server_version=server.version)
        catalog.pin_identity(self.target, facts, by=self.operation.requested_by)
        ctx.log(f"{self.target.address} runs version {server.version}, system {server.system_identifier}.")


def read_back(ctx: StepContext, engine: BackupEngine, archive: Archive) -> VerifyReport:
    """Read an archive completely and record the verdict. Only what was read and found wrong is called damaged."""
    try:
        report = engine.verify(
            folder_of(archive),
            manifest_of(archive),
            run=ctx.run,
            work_dir=ctx.work_dir(),
            progress=ctx.progress,
            log=ctx.log,
            check=ctx.check,
        )
    except ArchiveDamaged as error:
        _record_verdict(ctx, archive, Archive.Verification.DAMAGED, error.message)
        raise
    _record_verdict(ctx, archive, Archive.Verification.VERIFIED, report.sentence)
    return report


def _record_verdict(ctx: StepContext, archive: Archive, verdict: Archive.Verification, message: str) -> None:
    with ctx.fenced():
        if verdict == Archive.Verification.VERIFIED:
            archive.state = Archive.State.AVAILABLE  # it may have been missing
        archive.verification = verdict
        archive.verified_at = timezone.now()
        archive.verification_message = message
        archive.save(update_fields=["state", "verification", "verified_at", "verification_message"])
        if verdict == Archive.Verification.DAMAGED:
            publish(news.ARCHIVE_DAMAGED, f"{archive} is damaged. {message}", subject=archive, operation=ctx.operation)


@contextmanager
def advised(place: str) -> Iterator[None]:
    """Give what a command says when it fails the advice what to do; `place` is where it writes."""
    try:
        yield
    except CommandFailed as error:
        if "No space left on device" in error.result.stderr:
            raise BackupError(f"No space left in {place}. Free some there, then use Retry.") from error
        sentence = error.message.rstrip(".")
        raise BackupError(f"{sentence}. Read the log of this operation, correct the cause and use Retry.") from error


def storage_of(archive: Archive) -> Storage:
    return storage_for(archive.storage)


def folder_of(archive: Archive) -> Path:
    """Where the archive's files are."""
    return storage_of(archive).folder(archive.folder) / archive.name


def manifest_of(archive: Archive) -> manifest.Manifest:
    """The archive's manifest as it was when it was published. Raises ArchiveDamaged when it is another one now."""
    folder = folder_of(archive)
    found = manifest.read(folder)
    if digest_of(folder) != archive.sha256:
        raise ArchiveDamaged(f"The manifest of {archive} is not the one that was published. Use another archive.")
    return found


def digest_of(folder: Path) -> str:
    """SHA-256 of the manifest, which holds those of all files."""
    return hashlib.sha256((folder / manifest.NAME).read_bytes()).hexdigest()
