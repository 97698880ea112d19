"""Files of an archive: unpacked in pieces of bounded size, and what a full disk says."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

import zstandard

from backups.exceptions import ArchiveDamaged, BackupError
from backups.manifest import HashedReader

SUFFIX = ".zst"

# A few packed bytes can unpack to a thousand times as many; small bites keep the worst case near 30 MB.
BITE = 4 * 1024


def unpacked(reader: HashedReader) -> Iterator[bytes]:
    """The contents of a file; its size and SHA-256 are checked on the way. Raises ``ArchiveDamaged``."""
    if not reader.entry.path.endswith(SUFFIX):
        yield from reader
        return
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    try:
        for piece in reader:
            for start in range(0, len(piece), BITE):
                if unpacker.eof:
                    raise ArchiveDamaged(f"{reader.path} goes on after its end. Use another archive.")
                if data := unpacker.decompress(piece[start : start + BITE]):
                    yield data
    except zstandard.ZstdError as error:
        raise ArchiveDamaged(f"{reader.path} cannot be unpacked ({error}). Use another archive.") from error
    if not unpacker.eof:
        raise ArchiveDamaged(f"{reader.path} ends before its end. Use another archive.")


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """A full or broken disk as a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BackupError(f"No space left in {folder}. Free some, or move the storage to a larger disk.") from error
        raise BackupError(
            f"Cannot write in {folder} ({error.strerror}). Check the disk and the permissions."
        ) from error


def write_all(file: RawIOBase, data: bytes | memoryview) -> None:
    """All of it into a file without a buffer, which may take a part at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def head_of(path: Path, size: int) -> bytes:
    """The beginning of a plain file; nothing of what is none or cannot be read. A pipe is not waited for."""
    try:
        with open(path, "rb", buffering=0, opener=_at_once) as file:
            return file.read(size) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return b""


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
