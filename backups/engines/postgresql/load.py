"""Loading an archive into an empty database."""

from __future__ import annotations

import re
import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from backups.engines.base import Check, Connection, Log, Progress, Runner
from backups.engines.postgresql.codec import unpacked
from backups.engines.postgresql.connect import Clients, connect, conninfo
from backups.engines.postgresql.dump import disk_errors
from backups.engines.postgresql.spool import SUFFIX
from backups.manifest import FileEntry, HashedReader, Manifest, check_files, check_listing
from operations.commands import Command

# What is loaded is worth nothing until the swap, whose commit flushes everything before it.
OPTIONS = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c default_transaction_read_only=off"
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


def analyze_command(clients: Clients, conn: Connection, database: str, jobs: int) -> Command:
    """ANALYZE of every table. The system's own belong to the superuser and were not loaded; older clients try them."""
    arguments = ["--analyze-only", f"--jobs={jobs}", "--no-password", f"--dbname={conninfo(database)}"]
    if clients.version("vacuumdb")[0] >= 16:
        arguments += ["--exclude-schema=pg_catalog", "--exclude-schema=information_schema"]
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
        _restore(restore_command(clients, conn, folder, scratch, jobs, *extra), manifest, run, progress, check)
        return
    spool = work_dir / f"unpacked-{scratch.encode().hex()[-40:]}"
    try:
        with disk_errors(work_dir):
            shutil.rmtree(spool, ignore_errors=True)
            spool.mkdir(parents=True, mode=0o700)
            log("Unpacking, checking the SHA-256 of every file on the way.")
            _unpack(folder, manifest, spool, jobs, progress, check)
        _restore(restore_command(clients, conn, spool, scratch, jobs, *extra), manifest, run, progress, check)
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


def _unpack(folder: Path, manifest: Manifest, spool: Path, threads: int, progress: Progress, check: Check) -> None:
    """Unpack everything with a few threads; the portal's callbacks are called in this one."""
    done: dict[str, int] = {}
    stop = threading.Event()

    def one(entry: FileEntry) -> None:
        with open(spool / entry.path.removesuffix(SUFFIX), "xb", buffering=0) as file:
            for data in unpacked(HashedReader(folder, entry)):
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                if stop.is_set():
                    return
        done[entry.path] = entry.size

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="unpack") as pool:
        waiting: set[Future[None]] = set()
        try:
            entries = sorted(manifest.files, key=lambda entry: -entry.size)
            waiting = {pool.submit(one, entry) for entry in entries}
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
