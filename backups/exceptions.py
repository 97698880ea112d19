"""What can go wrong in backups and restores, as sentences for a person."""

from __future__ import annotations

from core.exceptions import PortalError


class BackupError(PortalError):
    """A backup, verification or restore cannot go on."""


class TargetUnavailable(BackupError):
    """The database server cannot be reached or does not let us in."""


class ArchiveDamaged(BackupError):
    """An archive on disk is not what was once written."""


class StorageError(BackupError):
    """The place where archives are kept cannot be used."""
