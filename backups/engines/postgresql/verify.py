"""Verifying: every byte read, every data file unpacked, every row counted."""

from __future__ import annotations

from pathlib import Path

from backups.engines.base import Check, Log, Progress, Runner, VerifyReport
from backups.engines.files import SUFFIX, unpacked
from backups.engines.postgresql.connect import Clients
from backups.engines.postgresql.dump import listed_files
from backups.exceptions import ArchiveDamaged
from backups.manifest import FileEntry, HashedReader, Manifest, check_listing
from operations.commands import Command
from operations.exceptions import CommandFailed

END_OF_COPY = b"\\.\n\n\n"


def verify(
    clients: Clients, folder: Path, manifest: Manifest, *, run: Runner, progress: Progress, log: Log, check: Check
) -> VerifyReport:
    """Sizes, SHA-256, full unpacking, rows per table and the table of contents. Raises ``ArchiveDamaged``."""
    check_listing(folder, manifest)
    tables = {table.file: table for table in manifest.tables}
    done, total, rows, objects = 0, manifest.archive_bytes, 0, 0
    for entry in manifest.files:
        found = _read(folder, entry, check)
        if table := tables.pop(entry.path, None):
            if not found.complete or found.rows != table.rows:
                raise ArchiveDamaged(
                    f"{folder / entry.path} holds {found.rows} rows of table {table.key} instead of {table.rows}"
                    f"{'' if found.complete else ' and is cut off'}. Use another archive and back up again."
                )
            rows += found.rows
        elif entry.path.startswith("blob_"):
            objects += 1
        done += entry.size
        progress(done, total, "bytes")
    if tables:
        raise ArchiveDamaged(
            f"The data of table {next(iter(tables.values())).key} is missing in {folder}. Use another archive."
        )
    if objects != manifest.large_objects:
        raise ArchiveDamaged(
            f"{folder} holds {objects} instead of {manifest.large_objects} large objects. Use another archive."
        )
    _check_contents(clients, folder, manifest, run)
    sentence = (
        f"Read {len(manifest.files)} files completely; {rows:,} rows in {len(manifest.tables)} tables are all there."
        if manifest.tables
        else f"Read {len(manifest.files)} files completely. The database had no tables: nothing to compare."
    )
    log(sentence)
    return VerifyReport(len(manifest.files), total, len(manifest.tables), rows, sentence)


class _Found:
    """Rows in the text of a COPY; ``complete`` when it ends as pg_dump ends it."""

    def __init__(self) -> None:
        self.newlines, self.tail = 0, b"\n"

    def take(self, data: bytes) -> None:
        self.newlines += data.count(b"\n")
        self.tail = (self.tail + data[-8:])[-8:]

    @property
    def complete(self) -> bool:
        return self.tail.endswith(b"\n" + END_OF_COPY)

    @property
    def rows(self) -> int:
        return self.newlines - END_OF_COPY.count(b"\n") if self.complete else self.newlines


def _read(folder: Path, entry: FileEntry, check: Check) -> _Found:
    found = _Found()
    for data in unpacked(HashedReader(folder, entry)):
        found.take(data)
        check()
    return found


def _check_contents(clients: Clients, folder: Path, manifest: Manifest, run: Runner) -> None:
    """The table of contents can be read to its end and names exactly the data file of each table."""
    try:
        run(Command((clients.path("pg_restore"), "--schema-only", "--file=/dev/null", str(folder)), timeout_s=3600))
        files = listed_files(run, clients, folder)
    except CommandFailed as error:
        if error.result.code != 1 or error.result.timed_out or error.result.cancelled:
            raise  # it did not read the file: that says nothing about the archive
        if "unsupported version" in error.result.stderr:
            raise  # a newer pg_dump made it
        raise ArchiveDamaged(
            f"The table of contents {folder / 'toc.dat'} cannot be read: {error.message} "
            f"The archive was made by pg_dump {manifest.client_version}."
        ) from error
    for table in manifest.tables:
        if table.file not in (files.get(table.oid), files.get(table.oid, "") + SUFFIX):
            raise ArchiveDamaged(
                f"{folder / 'toc.dat'} and the manifest disagree about table {table.key}. Use another archive."
            )
