"""Asking SQLite: sessions that only read, the online copy, checks, counts and fingerprints."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backups.engines.base import Check, Log, Progress
from backups.engines.sqlite.place import BUSY_S
from backups.exceptions import BackupError, TargetUnavailable
from backups.manifest import TableFacts, table_key

PAGES = 2048  # copied at a time, some 8 MB
RESTARTS = 3  # so often a writer may send the copy of a database without write-ahead log back to its beginning
STUCK_S = 600.0
LOOK_EVERY = 200_000  # instructions of SQLite's machine between two looks whether to go on
WAITING = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED
TABLES = r"""
    SELECT name, rootpage FROM sqlite_schema
    WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name"""

Session = sqlite3.Connection


@dataclass(frozen=True)
class Table:
    """A table with rows of its own; tables behind a virtual one are among them."""

    name: str
    root_page: int

    @property
    def key(self) -> str:
        return table_key("main", self.name)

    @property
    def quoted(self) -> str:
        return '"' + self.name.replace('"', '""') + '"'


@contextmanager
def reading(path: Path, *, immutable: bool = False) -> Iterator[Session]:
    """A session that changes nothing. ``immutable``: nobody else can write there, so nothing is made beside it."""
    with said_by_sqlite(path), closing(_open(path, immutable=immutable)) as session:
        session.execute("PRAGMA temp_store = MEMORY")
        session.text_factory = lambda raw: raw.decode("utf-8", "replace")
        yield session


def _open(path: Path, *, immutable: bool) -> Session:
    address = f"file:{quote(str(path))}"
    if immutable:
        return sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True, isolation_level=None)
    # Who may write rolls back what a crash has left, as the application would, and removes the files of the log again
    # when it is the last; a session that may only read leaves them lying for others to trip over.
    mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
    session = sqlite3.connect(f"{address}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None)
    session.execute("PRAGMA query_only = ON")
    return session


@contextmanager
def said_by_sqlite(path: Path) -> Iterator[None]:
    """What SQLite says, as a sentence that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        said = str(error)
        if "disk is full" in said:
            raise BackupError(f"No space left for {path}. Free some, or move it to a larger disk.") from error
        if "locked" in said or "busy" in said:
            raise BackupError(f"Another program keeps {path} locked. Try again when it is done, or stop it.") from error
        if "unable to open" in said or "readonly" in said or "authorization" in said:
            raise TargetUnavailable(
                f"SQLite cannot open {path} ({said}). Check owner and mode of the file and its folder."
            ) from error
        if "not a database" in said:
            raise BackupError(
                f"{path} is not a SQLite database, or it is encrypted. Correct the path in the catalog."
            ) from error
        if "malformed" in said:
            raise BackupError(f"{path} is damaged ({said}). Restore its newest verified archive.") from error
        raise BackupError(f"SQLite says of {path}: {said}.") from error


@contextmanager
def watched(session: Session, check: Check) -> Iterator[None]:
    """Ask ``check`` again and again while SQLite works; what it raises ends the work."""
    raised: list[BaseException] = []

    def look() -> int:
        try:
            check()
        except BaseException as error:
            raised.append(error)
        return len(raised)

    session.set_progress_handler(look, LOOK_EVERY)
    try:
        yield
    except sqlite3.OperationalError:
        if raised:
            raise raised[0] from None
        raise
    finally:
        session.set_progress_handler(None, 0)


@contextmanager
def limited(session: Session, timeout_s: float) -> Iterator[Check]:
    """Interrupt SQLite after this time: TimeoutError. Gives a check for between two statements, which raises it too."""
    until = time.monotonic() + timeout_s

    def check() -> None:
        if time.monotonic() >= until:
            raise TimeoutError

    timer = threading.Timer(max(0.0, timeout_s), session.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield check
    except sqlite3.OperationalError as error:
        check()
        raise error
    finally:
        timer.cancel()
        timer.join()  # it must not reach for a session that is closed


def one(session: Session, query: str) -> Any:
    """The first value of the first row."""
    return session.execute(query).fetchone()[0]


def size_of(session: Session) -> int:
    """Bytes of the database."""
    return int(one(session, "PRAGMA page_count")) * int(one(session, "PRAGMA page_size"))


def tables(session: Session) -> list[Table]:
    """By name."""
    return [Table(*row) for row in session.execute(TABLES)]


def table_sizes(session: Session) -> dict[str, int]:
    """Bytes per table, where this build of SQLite can tell."""
    try:
        return dict(session.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
    except sqlite3.OperationalError:
        return {}


def count(session: Session, table: Table) -> int:
    return int(one(session, f"SELECT count(*) FROM {table.quoted}"))  # noqa: S608  quoted as SQLite wants it


def last_rowid(session: Session, table: Table) -> int:
    """An upper estimate of the rows, at no cost; 0 where there are no row ids."""
    try:
        return int(one(session, f"SELECT max(rowid) FROM {table.quoted}") or 0)  # noqa: S608
    except sqlite3.OperationalError:
        return 0


def measure(session: Session, check: Check, progress: Progress) -> dict[str, TableFacts]:
    """Rows and fingerprint of each table: the sum of a hash per row, so it does not depend on their order."""
    found, before = {}, session.text_factory
    names = tables(session)
    session.text_factory = bytearray  # so that a text and a blob of the same bytes differ
    try:
        with watched(session, check):
            for number, table in enumerate(names):
                progress(number, len(names), "tables")
                rows = total = 0
                for row in session.execute(f"SELECT * FROM {table.quoted}"):  # noqa: S608
                    rows += 1
                    total += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=8).digest(), "big")
                found[table.key] = TableFacts(rows, str(total % 2**64))
    finally:
        session.text_factory = before
    return found


def ensure_sound(session: Session, what: str, check: Check) -> None:
    """SQLite's own integrity check. Raises BackupError with what it finds first."""
    with watched(session, check):
        (said, *more) = [row[0] for row in session.execute("PRAGMA integrity_check(3)")]
    if said != "ok":
        raise BackupError(f"{what} is damaged. SQLite says: {'; '.join([said, *more])[:300]}.")


class _TooBusy(Exception):
    """Writers send the copy back to its beginning again and again."""


def copy(path: Path, plain: Path, progress: Progress, log: Log, check: Check) -> datetime:
    """An online copy of one moment of the database, and that moment.

    With a write-ahead log the copy reads one snapshot and writers go on. Without one they go on between two pieces of
    the copy, each sending it back to its beginning; after some of that it is copied in one go while they wait.
    """
    with reading(path) as source:
        if one(source, "PRAGMA journal_mode") == "wal":
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            moment = datetime.now(UTC)
            _copy(source, plain, PAGES, progress, check)
            return moment
        try:
            return _copy(source, plain, PAGES, progress, check)
        except _TooBusy:
            log("It is written to again and again, so it is copied in one go; writers wait meanwhile.")
            plain.unlink()
            return _copy(source, plain, -1, progress, check)


def _copy(source: Session, plain: Path, pages: int, progress: Progress, check: Check) -> datetime:
    """The moment at which the last pass over the database began."""
    page_size = int(one(source, "PRAGMA page_size"))
    began, moved, last, restarts = datetime.now(UTC), time.monotonic(), None, 0

    def step(status: int, remaining: int, total: int) -> None:
        nonlocal began, moved, last, restarts
        check()
        if status in WAITING:
            if time.monotonic() - moved > STUCK_S:
                raise sqlite3.OperationalError("database is locked")
            return
        if last is not None and remaining >= last:
            restarts, began = restarts + 1, datetime.now(UTC)
            if restarts > RESTARTS:
                raise _TooBusy
        last, moved = remaining, time.monotonic()
        progress((total - remaining) * page_size, total * page_size, "bytes")

    with closing(sqlite3.connect(plain, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous = OFF")  # it is packed next, and only that file is kept
        source.backup(target, pages=pages, progress=step, sleep=0.05)
    return began
