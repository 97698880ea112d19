"""Dumps that others have made with pg_dump: told by their content, loaded into an empty database.

A script is SQL that runs as the target's account, in one transaction. psql's own commands in it are refused by psql's
restricted mode (https://www.postgresql.org/docs/current/app-psql.html, \\restrict), so it starts no program on the
worker and connects to no other database.
"""

from __future__ import annotations

import gzip
import io
import re
import secrets
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from backups.engines.base import Check, Connection, Progress, Runner
from backups.engines.files import head_of
from backups.engines.postgresql.connect import Clients, conninfo
from backups.exceptions import BackupError
from core.exceptions import PortalError
from operations.commands import Command
from operations.exceptions import CommandFailed

CUSTOM, TAR, DIRECTORY = "pg_dump, custom format", "pg_dump, tar format", "pg_dump, directory format"
SCRIPT, PACKED_SCRIPT = "SQL script of pg_dump", "SQL script of pg_dump, gzip"
# Loaded size against the size of the file: pg_dump packs data to a third and less, scripts are plain.
GROWTH = {CUSTOM: 4.0, TAR: 1.5, DIRECTORY: 4.0, SCRIPT: 1.5, PACKED_SCRIPT: 6.0}
HEAD_BYTES = 8192
PIECE_BYTES = 64 * 1024
TAIL_BYTES = 4096
_COPY = re.compile(rb"COPY .* FROM stdin;\r?\n", re.DOTALL)
_RESTRICT = re.compile(rb"\\restrict ([A-Za-z0-9]+)\s*")
_STARTED = re.compile(rb"^-- Started on (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.MULTILINE)
_COMPLETE = b"PostgreSQL database dump complete"


def kind_of(path: Path) -> str:
    """What it is, or "" for what is no dump of one database."""
    if path.is_dir():
        return DIRECTORY if _head(path / "toc.dat").startswith(b"PGDMP") else ""
    head = _head(path)
    if head.startswith(b"PGDMP"):
        return CUSTOM
    if head.startswith(b"toc.dat\0") and head[257:262] == b"ustar":
        return TAR
    packed = head.startswith(b"\x1f\x8b")
    if packed:
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD_BYTES)
        except zlib.error:
            return ""
    if b"-- PostgreSQL database dump" not in head[:1000]:
        return ""
    return PACKED_SCRIPT if packed else SCRIPT


def _head(path: Path) -> bytes:
    return head_of(path, HEAD_BYTES)


def moment_of(path: Path) -> datetime | None:
    """When pg_dump began, as the dump says; in the zone of the machine where it ran, which it does not say."""
    kind = kind_of(path)
    if kind in (SCRIPT, PACKED_SCRIPT):
        found = _STARTED.search(_text(path))  # only with --verbose
        return datetime.fromisoformat(found[1].decode()).replace(tzinfo=UTC) if found else None
    head = _head(path / "toc.dat" if kind == DIRECTORY else path)
    at = head.find(b"PGDMP")
    return _created(head[at:]) if at >= 0 else None


def _text(path: Path) -> bytes:
    head = _head(path)
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD_BYTES) if head[:2] == b"\x1f\x8b" else head


def _created(head: bytes) -> datetime | None:
    """Out of the header of an archive, see ReadHead() in pg_backup_archiver.c: a number is a sign and `size` bytes."""
    major, minor, size = head[5], head[6], head[8]
    width = size + 1
    # After the format byte: the compression, until version 1.15 as a number, since then as a byte.
    at = 11 + (1 if (major, minor) >= (1, 15) else width)
    numbers = [int.from_bytes(head[start + 1 : start + width], "little") for start in range(at, at + 6 * width, width)]
    second, minute, hour, day, month, year = numbers
    try:
        return datetime(1900 + year, month + 1, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None


def loaded_bytes(path: Path) -> int:
    """About how large it becomes when it is loaded: a cautious guess, since only the whole file would tell."""
    size = sum(each.stat().st_size for each in path.iterdir()) if path.is_dir() else path.stat().st_size
    return int(size * GROWTH[kind_of(path)]) + 16 * 2**20


def load_command(clients: Clients, conn: Connection, path: Path, kind: str, scratch: str, jobs: int) -> Command:
    """The command that loads it."""
    if kind in (SCRIPT, PACKED_SCRIPT):
        options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", "--file=-")
        return clients.command(conn, "psql", *options, "--no-password", f"--dbname={conninfo(scratch)}")
    beside = (f"--jobs={jobs}",) if kind != TAR else ()
    options = ("--exit-on-error", "--no-subscriptions", "--no-password", "--verbose", *beside)
    return clients.command(conn, "pg_restore", *options, f"--dbname={conninfo(scratch)}", str(path))


def load(
    clients: Clients,
    conn: Connection,
    path: Path,
    scratch: str,
    *,
    jobs: int,
    run: Runner,
    progress: Progress,
    check: Check,
) -> None:
    """Load it into the empty database ``scratch``. Raises BackupError when it is damaged or ends before its end."""
    kind = kind_of(path)
    command = load_command(clients, conn, path, kind, scratch, jobs)
    if kind not in (SCRIPT, PACKED_SCRIPT):
        run(command, on_line=lambda stream, line: check())
        return
    size = path.stat().st_size
    with open(path, "rb") as file:
        opened = gzip.GzipFile(fileobj=file) if kind == PACKED_SCRIPT else file
        script = Script(cast(BinaryIO, opened), path)
        try:
            run(command, on_line=lambda stream, line: check(), stdin=cast(BinaryIO, script))
        except CommandFailed as error:
            raise _explained(path, error) from error
        finally:
            progress(min(file.tell(), size), size, "bytes")
    script.ensure_whole()


def _explained(path: Path, error: CommandFailed) -> PortalError:
    said = error.result.stderr
    if "cannot run inside a transaction block" in said:
        return BackupError(
            f"{path} makes or drops a database of its own: it was made with pg_dump --create. That is not run here. "
            "Make a dump without it, or take these lines out of the script."
        )
    if "backslash commands are restricted" in said:
        return BackupError(
            f"{path} holds commands of psql, which are not run. Use a script as pg_dump makes it, of one database."
        )
    return error


class Script(io.RawIOBase):
    """The script as psql gets it: in restricted mode, without the script's own way into and out of that mode."""

    def __init__(self, source: BinaryIO, path: Path) -> None:
        super().__init__()
        self.source, self.path = source, path
        self._pieces = self._cleaned()
        self._left = b""
        self._tail = b""
        self._trouble: Exception | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            self._left = next(self._pieces, b"")
        data, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return data

    def ensure_whole(self) -> None:
        """Raises BackupError when it could not be read to its end, or ends before pg_dump's last words."""
        if self._trouble is not None:
            raise BackupError(f"{self.path} is damaged and cannot be read to its end ({self._trouble}). Use another.")
        if _COMPLETE not in self._tail:
            raise BackupError(
                f"{self.path} ends before its end: pg_dump's last words are missing. It was cut off; use another."
            )

    def _cleaned(self) -> Iterator[bytes]:
        key = secrets.token_hex(16).encode()
        yield b"\\restrict " + key + b"\n"
        yield from self._lines()
        yield b"\n\\unrestrict " + key + b"\n"

    def _lines(self) -> Iterator[bytes]:
        in_data, at_start, theirs = False, True, b""
        while piece := self._piece():
            self._tail = (self._tail + piece)[-TAIL_BYTES:]
            begins, at_start = at_start, piece.endswith(b"\n")
            if begins and in_data:
                in_data = piece.rstrip(b"\r\n") != b"\\."
            elif begins:
                if not theirs and (found := _RESTRICT.fullmatch(piece)):
                    theirs = found[1]
                    continue
                if theirs and piece.split() == [b"\\unrestrict", theirs]:
                    continue
                in_data = bool(_COPY.fullmatch(piece))
            yield piece

    def _piece(self) -> bytes:
        """A line, or a part of a long one."""
        try:
            return self.source.readline(PIECE_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            self._trouble = error
            return b""
