"""The file of an archive: packed, unpacked, and what is written down about the one that was copied."""

from __future__ import annotations

import hashlib
import os
import pwd
from pathlib import Path

import zstandard

from backups.engines.base import Check, Progress
from backups.engines.files import SUFFIX, disk_errors, unpacked, write_all
from backups.engines.sqlite.session import Session, one
from backups.exceptions import ArchiveDamaged
from backups.manifest import READ_BYTES, DatabaseProperties, FileEntry, HashedReader, Manifest, Setting

PLAIN = "database.sqlite"
PACKED = PLAIN + SUFFIX
LEVEL = 3
MODE, OWNER = "mode", "owner"


def account(uid: int) -> str:
    """The name of an account, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def properties_of(session: Session, status: os.stat_result) -> DatabaseProperties:
    """Owner and mode of the file, and what its header says."""
    settings = {
        OWNER: f"{status.st_uid}:{status.st_gid}",
        MODE: f"{status.st_mode & 0o777:o}",
        "application_id": one(session, "PRAGMA application_id"),
        "user_version": one(session, "PRAGMA user_version"),
    }
    return DatabaseProperties(
        owner=account(status.st_uid),
        encoding=one(session, "PRAGMA encoding"),
        locale_provider="sqlite",
        locale=None,
        collate="BINARY",
        ctype="BINARY",
        settings=[Setting(None, name, str(value)) for name, value in settings.items()],
    )


def pack(plain: Path, folder: Path, threads: int, check: Check) -> FileEntry:
    """Compress the copy and remove it; the packed file is on the disk when this returns."""
    digest, size, plain_size = hashlib.sha256(), 0, plain.stat().st_size
    packer = zstandard.ZstdCompressor(level=LEVEL, threads=threads, write_checksum=True).compressobj(size=plain_size)
    with open(plain, "rb", buffering=0) as source, open(folder / PACKED, "xb", buffering=0) as target:
        while True:
            check()
            piece = source.read(READ_BYTES)
            data = packer.compress(piece) if piece else packer.flush()
            digest.update(data)
            size += len(data)
            write_all(target, data)
            if not piece:
                break
        os.fsync(target.fileno())
    plain.unlink()
    return FileEntry(PACKED, size, digest.hexdigest(), plain_size)


def unpack(folder: Path, manifest: Manifest, target: Path, progress: Progress, check: Check) -> None:
    """Every byte checked on the way. Raises ``ArchiveDamaged``."""
    if [entry.path for entry in manifest.files] != [PACKED]:
        raise ArchiveDamaged(f"{folder} is not an archive of a SQLite database. Use another archive.")
    (entry,) = manifest.files
    done = 0
    with disk_errors(target.parent), open(target, "wb", buffering=0, opener=_private) as file:
        for piece in unpacked(HashedReader(folder, entry)):
            check()
            write_all(file, piece)
            done += len(piece)
            progress(done, entry.plain_size, "bytes")
        os.fsync(file.fileno())
    if done != entry.plain_size:
        raise ArchiveDamaged(f"{folder / PACKED} unpacks to {done} bytes instead of {entry.plain_size}.")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
