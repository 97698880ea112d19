"""Copies of SQLite databases that others have made: told by their content, plain or packed by gzip."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from backups.engines.base import Check, Progress
from backups.engines.files import disk_errors, head_of, write_all
from backups.engines.sqlite.place import sidecars
from backups.exceptions import BackupError
from backups.manifest import READ_BYTES

PLAIN, PACKED = "copy of a SQLite database", "copy of a SQLite database, gzip"
HEADER = b"SQLite format 3\0"


def kind_of(path: Path) -> str:
    """What it is, or "" for what is no SQLite database."""
    head = head_of(path, 512)
    if head.startswith(HEADER):
        return PLAIN
    if not head.startswith(b"\x1f\x8b"):
        return ""
    try:
        found = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, len(HEADER))
    except zlib.error:
        return ""
    return PACKED if found == HEADER else ""


def loaded_bytes(path: Path) -> int:
    """How large it is unpacked. gzip keeps that in its last four bytes, as far as it fits in there."""
    size = path.stat().st_size
    if kind_of(path) == PLAIN:
        return size
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        told = int.from_bytes(file.read(4), "little")
    return told if told > size else size * 4


def load(path: Path, target: Path, progress: Progress, check: Check) -> None:
    """Write its database into the file ``target``. Raises BackupError when it is damaged or not alone."""
    beside = [each.name for each in sidecars(path) if each.exists() and each.stat().st_size and each.suffix != "-shm"]
    if beside:
        raise BackupError(
            f"{path} has {beside[0]} beside it, so it is no finished copy but a database in use. Make one with "
            "“sqlite3 FILE '.backup COPY'” and adopt that."
        )
    size = path.stat().st_size
    with disk_errors(target.parent), open(path, "rb") as file, open(target, "wb", buffering=0) as copy:
        source = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if kind_of(path) == PACKED else file
        while piece := _piece(source, path):
            check()
            write_all(copy, piece)
            progress(min(file.tell(), size), size, "bytes")
        os.fsync(copy.fileno())


def _piece(source: BinaryIO, path: Path) -> bytes:
    try:
        return source.read(READ_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BackupError(f"{path} is damaged and cannot be read to its end ({error}). Use another.") from error
