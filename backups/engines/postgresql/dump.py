"""Dumping: one snapshot for pg_dump and for the counts, compressed and hashed on the way to the disk."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from backups.engines.base import Check, Connection, Log, Progress, Runner, no_progress
from backups.engines.files import SUFFIX, disk_errors
from backups.engines.postgresql import measure, properties
from backups.engines.postgresql.connect import (
    LOCK_WAIT_MS,
    Background,
    Clients,
    Session,
    connect,
    conninfo,
    one,
    said_by_server,
    watched,
)
from backups.engines.postgresql.spool import Spool, fsync_rest
from backups.exceptions import BackupError
from backups.manifest import DumpFacts, FileEntry, TableEntry, TableFacts, hash_file
from operations.commands import Command
from operations.exceptions import CommandFailed

CODEC = "zstd:1"
_LISTED = re.compile(r"^(\d+); \d+ (\d+) TABLE DATA ")


def dump_command(clients: Clients, conn: Connection, folder: Path, jobs: int, snapshot: str, *, zstd: bool) -> Command:
    """pg_dump into ``folder``. Two jobs at least: only then does it say when a table is finished."""
    # With the planner's statistics in the archive a restore need not gather them anew.
    extra = ("--statistics",) if clients.version("pg_dump")[0] >= 18 else ()
    return clients.command(
        conn,
        "pg_dump",
        *extra,
        "--format=directory",
        f"--jobs={max(2, jobs)}",
        f"--file={folder}",
        f"--compress={CODEC if zstd else 'none'}",
        f"--snapshot={snapshot}",
        "--no-sync",
        f"--lock-wait-timeout={LOCK_WAIT_MS}",
        "--no-password",
        "--verbose",
        f"--dbname={conninfo(conn.database)}",
    )


def globals_command(clients: Clients, conn: Connection, folder: Path) -> Command:
    """Roles and tablespaces of the server, without passwords."""
    return clients.command(
        conn,
        "pg_dumpall",
        "--globals-only",
        "--no-role-passwords",
        "--no-password",
        f"--file={folder / 'globals.sql'}",
        f"--database={conn.maintenance_database}",
    )


def list_command(clients: Clients, folder: Path) -> Command:
    """The table of contents: which data file belongs to which table."""
    return Command((clients.path("pg_restore"), "--list", str(folder)), timeout_s=600)


def listed_files(run: Runner, clients: Clients, folder: Path) -> dict[int, str]:
    """Object id of each dumped table -> its data file without a compression suffix.

    By object id and not by name: names may hold blanks and line breaks, so the list is ambiguous in them.
    """
    text = bytearray()
    run(list_command(clients, folder), on_stdout=text.extend)
    found = {}
    for line in text.decode("utf-8", "replace").splitlines():
        if match := _LISTED.match(line):
            found[int(match[2])] = f"{match[1]}.dat"
    return found


class Dump:
    """One dump. ``facts`` does all of it."""

    def __init__(
        self,
        clients: Clients,
        conn: Connection,
        folder: Path,
        *,
        jobs: int,
        run: Runner,
        progress: Progress,
        log: Log,
        check: Check,
        fingerprints: bool,
    ) -> None:
        self.clients, self.conn, self.folder, self.jobs = clients, conn, folder, max(2, jobs)
        self.run, self.progress, self.log, self.check = run, progress, log, check
        self.fingerprints = fingerprints
        self.zstd = clients.has_zstd()
        self.warnings: list[str] = []
        self.seconds: dict[str, float] = {}
        self.done_bytes = self.total_bytes = 0

    def facts(self) -> DumpFacts:
        """Dump, compress, hash, flush; returns what the manifest needs."""
        began = time.monotonic()
        with connect(self.conn, long=True) as session, disk_errors(self.folder):
            with said_by_server("Reading the snapshot"):
                measure.pin(session)
            with said_by_server("Reading the snapshot"), session.transaction():
                session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                session.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                snapshot = one(session, "SELECT pg_export_snapshot()")
                values = watched(session, lambda note: self._read(session), self.check, no_progress)
                tables: list[measure.Table] = values.pop("_tables")
                measuring = Background(
                    session,
                    lambda note: measure.measure_tables(session, tables, note, fingerprints=self.fingerprints),
                )
                try:
                    entries = self._dump(snapshot, tables, measuring)
                    measured = self._wait_for(measuring)
                except BaseException:
                    measuring.cancel()
                    raise
            self._globals()
            table_entries = self._table_entries(tables, measured, {entry.path for entry in entries})
            files = self._flush(entries)
        self.seconds["all"] = round(time.monotonic() - began, 2)
        return DumpFacts(
            engine="postgresql",
            database=self.conn.database,
            client_version=self.clients.version("pg_dump")[1],
            codec=CODEC,
            files=files,
            tables=table_entries,
            warnings=self.warnings,
            seconds=self.seconds,
            **values,
        )

    def _read(self, session: Session) -> dict[str, Any]:
        """What the snapshot session says of the database."""
        snapshot_at: datetime = one(session, "SELECT transaction_timestamp()")
        return {
            "_tables": measure.read_tables(session),
            "server_version": one(session, "SHOW server_version"),
            "server_version_num": session.info.server_version,
            "system_identifier": str(one(session, "SELECT system_identifier FROM pg_control_system()")),
            "snapshot_at": snapshot_at,
            "database_bytes": one(session, "SELECT pg_database_size(current_database())"),
            "large_objects": measure.count_large_objects(session),
            "properties": properties.read_properties(session),
            "extensions": dict(
                session.execute("SELECT extname::text, extversion FROM pg_extension ORDER BY 1").fetchall()
            ),
            "roles": properties.used_roles(session),
            "tablespaces": properties.used_tablespaces(session),
            "subscriptions": [
                row[0]
                for row in session.execute(
                    "SELECT subname::text FROM pg_subscription JOIN pg_database d ON d.oid = subdbid"
                    " WHERE datname = current_database() ORDER BY 1"
                )
            ],
        }

    def _dump(self, snapshot: str, tables: list[measure.Table], measuring: Background) -> list[FileEntry]:
        """pg_dump with the compression beside it; returns the entries of the files that are already hashed."""
        began = time.monotonic()
        self.total_bytes = sum(table.bytes for table in tables)
        sizes = {name: table.bytes for table in tables for name in (table.name.split("\n")[0],)}
        command = dump_command(self.clients, self.conn, self.folder, self.jobs, snapshot, zstd=self.zstd)
        if self.zstd:
            self.run(command, on_line=lambda stream, line: self._heard(line, sizes, measuring))
            self.seconds["pg_dump"] = round(time.monotonic() - began, 2)
            return []
        with Spool(self.folder, threads=self.jobs) as spool:

            def heard(stream: str, line: str) -> None:
                spool.heard(line)
                spool.raise_if_failed()
                self._heard(line, sizes, measuring)

            self.run(command, on_line=heard)
            self.seconds["pg_dump"] = round(time.monotonic() - began, 2)
            spool.dump_ended()
            while not spool.wait(0.1):
                self.check()
            return spool.entries()

    def _heard(self, line: str, sizes: dict[str, int], measuring: Background) -> None:
        if measuring.failed:
            measuring.result()
        if found := re.match(r"pg_dump: finished item \d+ TABLE DATA (.*)", line):
            self.done_bytes = min(self.total_bytes, self.done_bytes + sizes.get(found[1], 0))
            self.progress(self.done_bytes, self.total_bytes, "bytes")
        self.check()

    def _wait_for(self, measuring: Background) -> dict[str, TableFacts]:
        began = time.monotonic()
        while not measuring.wait(0.1):
            self.check()
        self.seconds["waited_for_counts"] = round(time.monotonic() - began, 2)
        self.progress(self.total_bytes, self.total_bytes, "bytes")
        measured: dict[str, TableFacts] = measuring.result()
        return measured

    def _globals(self) -> None:
        try:
            self.run(globals_command(self.clients, self.conn, self.folder))
        except CommandFailed as error:
            (self.folder / "globals.sql").unlink(missing_ok=True)
            self.warnings.append(f"Roles and tablespaces were not saved: {error.message}")
            self.log(self.warnings[-1])

    def _table_entries(
        self, tables: list[measure.Table], measured: dict[str, TableFacts], hashed: set[str]
    ) -> list[TableEntry]:
        """Match tables and files; a table without a file would be a backup that lacks it."""
        files = listed_files(self.run, self.clients, self.folder)
        entries = []
        for table in tables:
            plain = files.get(table.oid, "")
            if not plain or not (self.folder / (plain + SUFFIX)).exists():
                raise BackupError(
                    f"pg_dump left out the table {table.key}. Back up again; if it stays, look at the log."
                )
            facts = measured[table.key]
            entries.append(
                TableEntry(
                    table.schema, table.name, table.oid, plain + SUFFIX, facts.rows, facts.fingerprint, table.bytes
                )
            )
        return entries

    def _flush(self, hashed: list[FileEntry]) -> list[FileEntry]:
        """Everything is on disk and hashed when this returns."""
        began = time.monotonic()
        done = {entry.path: entry for entry in hashed}
        fsync_rest(self.folder, set(done))
        for path in sorted(self.folder.iterdir()):
            self.check()
            if path.name not in done:
                done[path.name] = hash_file(self.folder, path)
        self.seconds["flush"] = round(time.monotonic() - began, 2)
        return [done[name] for name in sorted(done)]
