"""Unpacks the files of an archive in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import zstandard

from backups.engines.postgresql.spool import SUFFIX
from backups.exceptions import ArchiveDamaged
from backups.manifest import HashedReader

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
