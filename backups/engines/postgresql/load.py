"""Loading an archive into an empty database."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from backups.engines.base import Check, Connection, Log, Progress, Runner
from backups.engines.files import SUFFIX, disk_errors, unpacked, write_all
from backups.engines.postgresql.connect import Clients, connect, conninfo
from backups.manifest import FileEntry, HashedReader, Manifest, check_files, check_listing
from operations.commands import Command

# What is loaded is worth nothing until the swap, whose commit flushes everything before it. pg_restore runs several
# jobs side by side; if each building of an index brought helpers of its own, they would stand in each other's way.
OPTIONS = (
    "-c synchronous_commit=off -c maintenance_work_mem=256MB -c max_parallel_maintenance_workers=0"
    " -c default_transaction_read_only=off"
)
CONTENTS = "toc.dat"
_FINISHED = re.compile(r"pg_restore: finished item (\d+) TABLE DATA ")


def restore_command(clients: Clients, conn: Connection, source: Path, scratch: str, jobs: int, *extra: str) -> Command:
    """pg_restore of a folder into ``scratch``; the first error ends it."""
    return clients.command(
        conn,
        "pg_restore",
        "--format=directory",
        f"--jobs={jobs}",
        "--exit-on-error",
        "--no-subscriptions",
        "--no-password",
        "--verbose",
        *extra,
        f"--dbname={conninfo(scratch)}",
        str(source),
        options=OPTIONS,
    )


def restore_commands(
    clients: Clients, conn: Connection, source: Path, scratch: str, jobs: int, *extra: str
) -> list[Command]:
    """What loads an archive, the table data in the last one.

    Where the archive has to be unpacked first, its tables are created while that goes on.
    """
    if clients.has_zstd():
        return [restore_command(clients, conn, source, scratch, jobs, *extra)]
    return [
        restore_command(clients, conn, source, scratch, 1, "--section=pre-data", *extra),
        restore_command(clients, conn, source, scratch, jobs, "--section=data", "--section=post-data", *extra),
    ]


def analyze_command(clients: Clients, conn: Connection, database: str, jobs: int) -> Command:
    """ANALYZE of every table whose statistics were not in the archive.

    The system's own tables belong to the superuser and were not loaded; older clients try them.
    """
    arguments = ["--analyze-only", f"--jobs={jobs}", "--no-password", f"--dbname={conninfo(database)}"]
    if clients.version("vacuumdb")[0] >= 16:
        arguments += ["--exclude-schema=pg_catalog", "--exclude-schema=information_schema"]
    if clients.version("vacuumdb")[0] >= 18:
        arguments += ["--missing-stats-only"]
    return clients.command(conn, "vacuumdb", *arguments)


def load(
    clients: Clients,
    folder: Path,
    manifest: Manifest,
    conn: Connection,
    scratch: str,
    *,
    jobs: int,
    work_dir: Path,
    run: Runner,
    progress: Progress,
    log: Log,
    check: Check,
) -> None:
    """Check every byte and load it. Where the client has no zstd, the archive is unpacked below ``work_dir`` first."""
    check_listing(folder, manifest)
    for name in manifest.subscriptions:
        log(f"The subscription “{name}” is left out, so that nothing is applied twice. Create it again if needed.")
    extra = _without_tablespaces(conn, manifest, log)
    if clients.has_zstd():
        log("Checking the SHA-256 of every file.")
        check_files(folder, manifest, progress, check)
        (command,) = restore_commands(clients, conn, folder, scratch, jobs, *extra)
        _restore(command, manifest, run, progress, check)
        return
    spool = work_dir / f"unpacked-{scratch.encode().hex()[-40:]}"
    try:
        with disk_errors(work_dir):
            shutil.rmtree(spool, ignore_errors=True)
            spool.mkdir(parents=True, mode=0o700)
            log("Unpacking, checking the SHA-256 of every file on the way; meanwhile the tables are created.")
            tables, rest = restore_commands(clients, conn, spool, scratch, jobs, *extra)
            _unpack(folder, manifest, spool, jobs, progress, check, meanwhile=lambda: run(tables))
        _restore(rest, manifest, run, progress, check)
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def _without_tablespaces(conn: Connection, manifest: Manifest, log: Log) -> tuple[str, ...]:
    if not manifest.tablespaces:
        return ()
    with connect(conn, conn.maintenance_database) as session:
        known = {row[0] for row in session.execute("SELECT spcname FROM pg_tablespace")}
    if missing := sorted(set(manifest.tablespaces) - known):
        log(f"The server has no tablespace {', '.join(missing)}; everything is loaded into the default one.")
        return ("--no-tablespaces",)
    return ()


def _unpack(
    folder: Path,
    manifest: Manifest,
    spool: Path,
    threads: int,
    progress: Progress,
    check: Check,
    meanwhile: Callable[[], object],
) -> None:
    """Unpack everything with a few threads; the portal's callbacks are called in this one.

    `meanwhile` is called when the table of contents is there and the rest is under way.
    """
    done: dict[str, int] = {}
    stop = threading.Event()

    def one(entry: FileEntry) -> None:
        with open(spool / entry.path.removesuffix(SUFFIX), "xb", buffering=0) as file:
            for data in unpacked(HashedReader(folder, entry)):
                write_all(file, data)
                if stop.is_set():
                    return
        done[entry.path] = entry.size

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="unpack") as pool:
        waiting: set[Future[None]] = set()
        try:
            contents, *entries = sorted(manifest.files, key=lambda entry: (entry.path != CONTENTS, -entry.size))
            one(contents)
            waiting = {pool.submit(one, entry) for entry in entries}
            meanwhile()
            while waiting:
                finished, waiting = wait(waiting, timeout=0.2)
                for job in finished:
                    job.result()
                check()
                progress(sum(list(done.values())), manifest.archive_bytes, "bytes")
        except BaseException:
            stop.set()
            for job in waiting:
                job.cancel()
            raise


def _restore(command: Command, manifest: Manifest, run: Runner, progress: Progress, check: Check) -> None:
    """Run pg_restore; progress in bytes of the tables whose data is in."""
    sizes = {table.file.split(".")[0]: table.bytes for table in manifest.tables}
    total, done = sum(sizes.values()), 0

    def heard(stream: str, line: str) -> None:
        nonlocal done
        if found := _FINISHED.match(line):
            done += sizes.pop(found[1], 0)
            progress(done, total, "bytes")
        check()

    progress(0, total, "bytes")
    run(command, on_line=heard)
    progress(total, total, "bytes")
