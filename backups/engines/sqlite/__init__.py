"""SQLite: a database is a file, its "server" the folder that holds it, on the worker's own machine.

The copy is made by SQLite's online backup interface (https://www.sqlite.org/backup.html), so that writers go on. What a
restore makes beside the live file lies in the same folder, and takes its place by one rename. Write-ahead log and
rollback journal belong to a file by its name alone: whoever moves a database file moves these too.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import time
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
    TableSize,
    VerifyReport,
    no_check,
    no_log,
    no_progress,
)
from backups.engines.checks import Checks, room, writable
from backups.engines.comparing import differences
from backups.engines.files import disk_errors
from backups.engines.sqlite import foreign, place
from backups.engines.sqlite import session as asking
from backups.engines.sqlite.packing import LEVEL, MODE, OWNER, PACKED, PLAIN, account, pack, properties_of, unpack
from backups.engines.sqlite.place import existing, holders, identity_of, path_of
from backups.engines.sqlite.session import ensure_sound, reading, size_of, tables
from backups.exceptions import ArchiveDamaged, BackupError
from backups.manifest import (
    DatabaseProperties,
    DumpFacts,
    Manifest,
    TableEntry,
    TableFacts,
    check_listing,
    fsync_folder,
)
from core.words import counted
from operations.commands import Command

VERSION = sqlite3.sqlite_version
VERSION_NUM = sqlite3.sqlite_version_info[0] * 10000 + sqlite3.sqlite_version_info[1] * 100
SMOKE_TEST_S = 60


class SQLiteEngine(BackupEngine):
    """One file. `Connection.host` is its folder, `Connection.database` its name there."""

    name = "sqlite"

    # -- looking --------------------------------------------------------------------------------------------------

    def inspect(self, conn: Connection) -> ServerFacts:
        path = existing(conn)
        with reading(path) as session:
            sizes, size, found = asking.table_sizes(session), size_of(session), tables(session)
        return ServerFacts(
            version=VERSION,
            version_num=VERSION_NUM,
            system_identifier=identity_of(conn),
            database_bytes=size,
            tables=tuple(TableSize(table.name, sizes.get(table.name, 0)) for table in found),
            extensions=(),
            role=account(os.geteuid()),
            is_superuser=os.geteuid() == 0,
            can_create_databases=os.access(path.parent, os.W_OK),
            bypasses_row_security=True,
            can_terminate=False,
            connections=len(holders(path)),
            max_connections=0,
        )

    def identify(self, conn: Connection) -> ServerIdentity:
        return ServerIdentity(identity_of(conn), VERSION)

    def live_rows(self, conn: Connection, *, timeout_s: float = 15) -> LiveRows:
        with reading(existing(conn)) as session:
            found = tables(session)
            try:
                rows = {}
                with asking.limited(session, timeout_s) as check:
                    for table in found:
                        check()
                        rows[table.key] = asking.count(session, table)
                return LiveRows(rows, estimated=False)
            except TimeoutError:
                return LiveRows({table.key: asking.last_rowid(session, table) for table in found}, estimated=True)

    # -- backing up -----------------------------------------------------------------------------------------------

    def preflight_dump(self, conn: Connection, facts: ServerFacts, folder: Path) -> list[CheckResult]:
        checks = Checks()
        checks.ok("database", f"{existing(conn)} can be read and has {len(facts.tables)} tables.")
        writable(checks, folder)
        room(checks, "space", folder, int(facts.database_bytes * 1.7) + 16 * 2**20, "the archive with its plain copy")
        return checks.results

    def dump_commands(self, conn: Connection, folder: Path, *, jobs: int = 2) -> list[Command]:
        """What does the same by hand; the portal itself asks SQLite's library."""
        plain = folder / PLAIN
        return [
            Command(("sqlite3", str(path_of(conn, conn.database)), f".backup '{plain}'")),
            Command(("zstd", f"-{LEVEL}", "--rm", str(plain))),
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
    ) -> DumpFacts:
        path, plain = existing(conn), folder / PLAIN
        began, seconds = time.monotonic(), {}
        with disk_errors(folder):
            status = path.stat()
            snapshot_at = asking.copy(path, plain, progress, log, check)
            seconds["copy"] = round(time.monotonic() - began, 2)
            with reading(plain, immutable=True) as session:
                ensure_sound(session, f"The database {path}", check)
                properties, size = properties_of(session, status), size_of(session)
                sizes, found = asking.table_sizes(session), tables(session)
                measured = asking.measure(session, check, progress)
            entry = pack(plain, folder, jobs, check)
        seconds["all"] = round(time.monotonic() - began, 2)
        progress(size, size, "bytes")
        return DumpFacts(
            engine=self.name,
            database=conn.database,
            server_version=VERSION,
            server_version_num=VERSION_NUM,
            system_identifier=identity_of(conn),
            client_version=VERSION,
            snapshot_at=snapshot_at,
            codec=f"zstd:{LEVEL}",
            database_bytes=size,
            files=[entry],
            tables=[
                TableEntry(
                    schema="main",
                    name=table.name,
                    oid=table.root_page,
                    file=PACKED,
                    rows=measured[table.key].rows,
                    fingerprint=measured[table.key].fingerprint,
                    bytes=sizes.get(table.name, 0),
                )
                for table in found
            ],
            large_objects=0,
            properties=properties,
            extensions={},
            roles=[],
            seconds=seconds,
        )

    def verify(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        run: Runner,
        work_dir: Path,
        progress: Progress = no_progress,
        log: Log = no_log,
        check: Check = no_check,
    ) -> VerifyReport:
        check_listing(folder, manifest)
        plain = work_dir / PLAIN
        try:
            unpack(folder, manifest, plain, progress, check)
            try:
                with reading(plain, immutable=True) as session:
                    ensure_sound(session, f"The database in {folder}", check)
                    found = asking.measure(session, check, progress)
            except BackupError as error:
                raise ArchiveDamaged(f"{error.message} Use another archive.") from error
            if differences := self.compare(manifest, found):
                raise ArchiveDamaged(f"{' '.join(differences[:5])} Use another archive.")
        finally:
            plain.unlink(missing_ok=True)
        sentence = (
            f"1 file was read and unpacked. SQLite finds the database sound; its {manifest.rows:,} rows in "
            f"{len(manifest.tables)} tables are all there."
        )
        return VerifyReport(1, manifest.archive_bytes, len(manifest.tables), manifest.rows, sentence)

    # -- restoring ------------------------------------------------------------------------------------------------

    def restore_commands(self, conn: Connection, folder: Path, scratch: str, *, jobs: int = 2) -> list[Command]:
        path = str(path_of(conn, scratch))
        return [
            Command(("zstd", "--decompress", str(folder / PACKED), "-o", path)),
            Command(("sqlite3", path, "PRAGMA integrity_check")),
        ]

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
        checks = Checks()
        live, identity = path_of(conn, conn.database), identity_of(conn)
        if system_identifier and identity != system_identifier:
            checks.fail(
                "identity", f"{live.parent} is not the folder on the machine that was confirmed for this database."
            )
        if live.is_symlink() or (live.exists() and not live.is_file()):
            checks.fail("database", f"{live} is not a plain file. Name the file itself in the catalog.")
        writable(checks, live.parent)
        room(checks, "space", live.parent, int(manifest.database_bytes * 1.05) + 2**20, "the restored database")
        if using := holders(live):
            checks.unknown("clients", f"{', '.join(using[:5])} has {live} open. It must be stopped before the swap.")
        elif not place.sees_everybody():
            checks.unknown("clients", "Only programs of the worker's own account can be seen from here.")
        return checks.results

    def end_backends(self, conn: Connection, application_name_prefix: str, before_attempt: int | None = None) -> int:
        """There is no server at which anything could go on."""
        return 0

    def create_scratch(
        self, conn: Connection, scratch: str, properties: DatabaseProperties, *, check: Check = no_check
    ) -> None:
        self.drop_database(conn, scratch)
        check()
        path = path_of(conn, scratch)
        with disk_errors(path.parent):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

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
        check_listing(folder, manifest)
        unpack(folder, manifest, path_of(conn, scratch), progress, check)
        with reading(path_of(conn, scratch), immutable=True) as session:
            ensure_sound(session, f"The loaded database {scratch}", check)

    def analyze(self, conn: Connection, database: str, *, jobs: int, run: Runner) -> None:
        """Its statistics are in the file."""

    def measure(
        self, conn: Connection, database: str, *, check: Check = no_check, progress: Progress = no_progress
    ) -> dict[str, TableFacts]:
        with reading(existing(conn, database)) as session:
            return asking.measure(session, check, progress)

    def compare(
        self, manifest: Manifest, measured: dict[str, TableFacts], *, server_version_num: int | None = None
    ) -> list[str]:
        return differences(manifest, measured)

    def apply_properties(
        self, conn: Connection, database: str, properties: DatabaseProperties, *, log: Log = no_log
    ) -> None:
        """Owner and mode of the live file; where there is none, those of the file that was backed up."""
        path, live = path_of(conn, database), path_of(conn, conn.database)
        wanted = {setting.name: setting.value for setting in properties.settings}
        if live.exists():
            status = live.stat()
            uid, gid, mode = status.st_uid, status.st_gid, status.st_mode & 0o777
        else:
            uid, gid = (int(part) for part in wanted.get(OWNER, f"{os.geteuid()}:{os.getegid()}").split(":"))
            mode = int(wanted.get(MODE, "600"), 8)
        with disk_errors(path.parent):
            if (uid, gid) != (os.geteuid(), os.getegid()):
                try:
                    os.chown(path, uid, gid)
                except PermissionError:
                    raise BackupError(
                        f"{path} should belong to {account(uid)} as the live file does, and the worker may not give "
                        "files away. Run the worker as that account, or as root."
                    ) from None
            os.chmod(path, mode)

    # -- taking its place -----------------------------------------------------------------------------------------

    def swap(self, conn: Connection, live: str, scratch: str, old: str, *, check: Check = no_check) -> None:
        place.exchange(path_of(conn, live), path_of(conn, scratch), path_of(conn, old), check)

    def swap_back(self, conn: Connection, live: str, old: str, aside: str, *, check: Check = no_check) -> None:
        place.exchange(path_of(conn, live), path_of(conn, old), path_of(conn, aside), check)

    def database_exists(self, conn: Connection, database: str) -> bool:
        return path_of(conn, database).exists()

    def drop_database(self, conn: Connection, database: str, *, check: Check = no_check) -> bool:
        path = path_of(conn, database)
        check()
        with disk_errors(path.parent):
            was = path.exists()
            for each in (path, *place.sidecars(path)):
                each.unlink(missing_ok=True)
            fsync_folder(path.parent)
        return was

    def rename_database(self, conn: Connection, before: str, after: str, *, check: Check = no_check) -> None:
        source, target = path_of(conn, before), path_of(conn, after)
        with disk_errors(target.parent):
            if not source.exists() and target.exists():
                return
            check()
            if not place.same(source, target):
                place.link(source, target)
            source.unlink()
            fsync_folder(target.parent)

    def smoke_test(self, conn: Connection, database: str, query: str) -> str:
        with reading(existing(conn, database)) as session:
            number = len(tables(session))
            if not query.strip():
                return f"“{database}” opens and has {counted(number, 'table')}. No smoke test is set for it."
            try:
                with asking.limited(session, SMOKE_TEST_S):
                    row = session.execute(query.strip().removesuffix(";")).fetchone()
            except TimeoutError:
                raise BackupError(f"The smoke test did not answer within {SMOKE_TEST_S} s: {query[:200]}") from None
            except sqlite3.Error as error:
                raise BackupError(f"The smoke test failed ({error}): {query[:200]}") from error
        if row is None or row[0] != 1:
            answer = str(row[0])[:100] if row else "nothing"
            raise BackupError(f"The smoke test answered {answer} instead of true: {query[:200]}")
        return f"“{database}” has {counted(number, 'table')} and its smoke test answered true."

    # -- what others have made ------------------------------------------------------------------------------------

    def foreign_kind(self, path: Path) -> str:
        return foreign.kind_of(path)

    def foreign_moment(self, path: Path) -> datetime | None:
        return None  # a copy of a file does not say

    def preflight_foreign(self, conn: Connection, path: Path) -> list[CheckResult]:
        checks, folder = Checks(), path_of(conn, conn.database).parent
        writable(checks, folder)
        room(checks, "space", folder, foreign.loaded_bytes(path) + 2**20, "the loaded backup")
        return checks.results

    def foreign_commands(self, conn: Connection, path: Path, scratch: str, *, jobs: int = 2) -> list[Command]:
        source, target = str(path), str(path_of(conn, scratch))
        if foreign.kind_of(path) == foreign.PACKED:
            return [Command(("sh", "-c", 'gzip -dc "$0" > "$1"', source, target))]
        return [Command(("cp", source, target))]

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
        target = path_of(conn, scratch)
        foreign.load(path, target, progress, check)
        with reading(target, immutable=True) as session:
            ensure_sound(session, f"The database in {path}", check)

    def properties(self, conn: Connection) -> DatabaseProperties:
        path = existing(conn)
        with reading(path) as session:
            return properties_of(session, path.stat())

    # -- for pages ------------------------------------------------------------------------------------------------

    def create_text(self, conn: Connection, scratch: str) -> str:
        return f"touch {shlex.quote(str(path_of(conn, scratch)))}"

    def swap_text(self, conn: Connection, live: str, incoming: str, aside: str) -> list[str]:
        at = {name: shlex.quote(str(path_of(conn, name))) for name in (live, incoming, aside) if name}
        return ([f"ln {at[live]} {at[aside]}"] if aside else []) + [f"mv {at[incoming]} {at[live]}"]

    def drop_text(self, conn: Connection, database: str) -> str:
        return f"rm {shlex.quote(str(path_of(conn, database)))}"
