"""PostgreSQL 14 and newer: pg_dump in directory format, restored into a new database that is swapped in by name."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from backups.engines.base import (
    BackupEngine,
    Check,
    CheckResult,
    Connection,
    LiveRows,
    Log,
    Progress,
    Runner,
    ServerFacts,
    ServerIdentity,
    VerifyReport,
    no_check,
    no_log,
    no_progress,
)
from backups.engines.postgresql import dump, foreign, load, measure, preflight, smoke, swap, verify
from backups.engines.postgresql.connect import Clients, connect, one, said_by_server, watched
from backups.engines.postgresql.facts import identify, inspect
from backups.engines.postgresql.properties import apply, create_statement, read_properties
from backups.manifest import DatabaseProperties, DumpFacts, Manifest, TableFacts
from operations.commands import Command

__all__ = ["PostgreSQLEngine"]


class PostgreSQLEngine(BackupEngine):
    """See ``BackupEngine``. Each method is in the module that is named after it."""

    name = "postgresql"

    def __init__(self, bin_dir: str = "") -> None:
        super().__init__(bin_dir)
        self.clients = Clients(bin_dir)

    def inspect(self, conn: Connection) -> ServerFacts:
        return inspect(conn)

    def identify(self, conn: Connection) -> ServerIdentity:
        return identify(conn)

    def live_rows(self, conn: Connection, *, timeout_s: float = 15) -> LiveRows:
        with connect(conn) as session:
            return measure.live_rows(session, timeout_s)

    def preflight_dump(self, conn: Connection, facts: ServerFacts, folder: Path) -> list[CheckResult]:
        return preflight.before_dump(self.clients, conn, facts, folder)

    def dump_commands(self, conn: Connection, folder: Path, *, jobs: int = 2) -> list[Command]:
        zstd = self.clients.has_zstd()
        return [
            dump.dump_command(self.clients, conn, folder, jobs, "SNAPSHOT", zstd=zstd),
            dump.globals_command(self.clients, conn, folder),
            dump.list_command(self.clients, folder),
        ]

    def restore_commands(self, conn: Connection, folder: Path, scratch: str, *, jobs: int = 2) -> list[Command]:
        return [
            *load.restore_commands(self.clients, conn, folder, scratch, jobs),
            load.analyze_command(self.clients, conn, scratch, jobs),
        ]

    def dump(
        self,
        conn: Connection,
        folder: Path,
        *,
        jobs: int = 2,
        run: Runner,
        progress: Progress = no_progress,
        log: Log = no_log,
        check: Check = no_check,
        fingerprints: bool = True,
    ) -> DumpFacts:
        return dump.Dump(
            self.clients,
            conn,
            folder,
            jobs=jobs,
            run=run,
            progress=progress,
            log=log,
            check=check,
            fingerprints=fingerprints,
        ).facts()

    def verify(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        run: Runner,
        work_dir: Path | None = None,  # not needed: it is read as a stream
        progress: Progress = no_progress,
        log: Log = no_log,
        check: Check = no_check,
    ) -> VerifyReport:
        return verify.verify(self.clients, folder, manifest, run=run, progress=progress, log=log, check=check)

    def preflight_restore(
        self,
        conn: Connection,
        manifest: Manifest,
        folder: Path,
        *,
        system_identifier: str | None,
        forbidden: Iterable[tuple[str, str]],
        work_dir: Path,
    ) -> list[CheckResult]:
        return preflight.before_restore(
            self.clients,
            conn,
            manifest,
            folder,
            system_identifier=system_identifier,
            forbidden=forbidden,
            work_dir=work_dir,
        )

    def end_backends(self, conn: Connection, application_name_prefix: str, before_attempt: int | None = None) -> int:
        return swap.end_backends(conn, application_name_prefix, before_attempt)

    def create_scratch(
        self, conn: Connection, scratch: str, properties: DatabaseProperties, *, check: Check = no_check
    ) -> None:
        self.drop_database(conn, scratch)
        with connect(conn, conn.maintenance_database, long=True) as session:
            tablespace = bool(one(session, "SELECT 1 FROM pg_tablespace WHERE spcname = %s", [properties.tablespace]))
            statement = create_statement(scratch, properties, session.info.server_version, tablespace=tablespace)
            with said_by_server(f"Creating the database “{scratch}”"):
                watched(session, lambda note: session.execute(statement), check, no_progress)

    def load(
        self,
        folder: Path,
        manifest: Manifest,
        conn: Connection,
        scratch: str,
        *,
        jobs: int = 2,
        work_dir: Path,
        run: Runner,
        progress: Progress = no_progress,
        log: Log = no_log,
        check: Check = no_check,
    ) -> None:
        load.load(
            self.clients,
            folder,
            manifest,
            conn,
            scratch,
            jobs=jobs,
            work_dir=work_dir,
            run=run,
            progress=progress,
            log=log,
            check=check,
        )

    def analyze(self, conn: Connection, database: str, *, jobs: int = 2, run: Runner) -> None:
        run(load.analyze_command(self.clients, conn, database, jobs))

    def measure(
        self, conn: Connection, database: str, *, check: Check = no_check, progress: Progress = no_progress
    ) -> dict[str, TableFacts]:
        with connect(conn, database, long=True) as session:
            return measure.measure_database(session, check, progress)

    def compare(
        self, manifest: Manifest, measured: dict[str, TableFacts], *, server_version_num: int | None = None
    ) -> list[str]:
        return measure.compare(manifest, measured, server_version_num)

    def apply_properties(
        self, conn: Connection, database: str, properties: DatabaseProperties, *, log: Log = no_log
    ) -> None:
        with (
            connect(conn, conn.maintenance_database) as session,
            said_by_server("Putting the database's settings back"),
        ):
            apply(session, database, properties, log=log)

    def swap(self, conn: Connection, live: str, scratch: str, old: str, *, check: Check = no_check) -> None:
        swap.swap(conn, live, scratch, old, check)

    def swap_back(self, conn: Connection, live: str, old: str, aside: str, *, check: Check = no_check) -> None:
        swap.swap_back(conn, live, old, aside, check)

    def database_exists(self, conn: Connection, database: str) -> bool:
        with connect(conn, conn.maintenance_database) as session:
            return swap.exists(session, database)

    def drop_database(self, conn: Connection, database: str, *, check: Check = no_check) -> bool:
        return swap.drop(conn, database, check)

    def rename_database(self, conn: Connection, before: str, after: str, *, check: Check = no_check) -> None:
        swap.rename(conn, before, after, check)

    def foreign_kind(self, path: Path) -> str:
        return foreign.kind_of(path)

    def foreign_moment(self, path: Path) -> datetime | None:
        return foreign.moment_of(path)

    def preflight_foreign(self, conn: Connection, path: Path) -> list[CheckResult]:
        return preflight.before_foreign(conn, foreign.loaded_bytes(path))

    def foreign_commands(self, conn: Connection, path: Path, scratch: str, *, jobs: int = 2) -> list[Command]:
        return [foreign.load_command(self.clients, conn, path, foreign.kind_of(path), scratch, jobs)]

    def load_foreign(
        self,
        conn: Connection,
        path: Path,
        scratch: str,
        *,
        jobs: int,
        run: Runner,
        progress: Progress,
        log: Log,
        check: Check,
    ) -> None:
        foreign.load(self.clients, conn, path, scratch, jobs=jobs, run=run, progress=progress, check=check)

    def properties(self, conn: Connection) -> DatabaseProperties:
        with connect(conn) as session, said_by_server("Reading the database's settings"):
            return read_properties(session)

    def create_text(self, conn: Connection, scratch: str) -> str:
        return f"CREATE DATABASE {scratch}"

    def swap_text(self, conn: Connection, live: str, incoming: str, aside: str) -> list[str]:
        kept = [f"ALTER DATABASE {live} RENAME TO {aside}"] if aside else []
        return [*kept, f"ALTER DATABASE {incoming} RENAME TO {live}"]

    def drop_text(self, conn: Connection, database: str) -> str:
        return f"DROP DATABASE {database}"

    def smoke_test(self, conn: Connection, database: str, query: str) -> str:
        return smoke.smoke_test(conn, database, query)
