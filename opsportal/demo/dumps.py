"""The archives that are still there at the end of the history: really dumped, with the data of their night.

The ERP trades on between two dumps, so that each archive holds what its database held at its moment. Everything is
made in a hidden folder of the storage and published when the records are written.
"""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from backups import manifest
from backups.engines.base import Connection
from backups.engines.postgresql import PostgreSQLEngine
from backups.exceptions import ArchiveDamaged
from backups.manifest import DumpFacts, Manifest
from backups.storages.local import LocalStorage
from operations.commands import Command, OnLine, OnStdout, Result, run_checked
from opsportal.demo import catalog, erp
from opsportal.demo.records import OP
from opsportal.demo.server import CRM, ERP, ERP_STAGING, Database, DemoServer
from opsportal.demo.timeline import Backup, Story

APPLICATION = "opsportal/demo"
SCRATCH = ".demo"
SCRATCH_DATABASE = "scratch_of_the_demo"
SNAPSHOT_AFTER = timedelta(seconds=1.2)  # from the request to the snapshot
LEAST_NEW_ORDERS = 60  # since the newest archive, so that a restore always has something to show
PLAN_DATABASES = {"nightly": ERP, "staging": ERP_STAGING, "weekly": CRM}
_UNTOLD = re.compile(r"pg_dump: (?!dumping contents|finished|warning|error)")


@dataclass
class Spoken:
    """What commands said while they were run for real: the shown commands and the lines, the folder as it was then."""

    commands: list[str] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)

    def run(
        self,
        command: Command,
        *,
        on_line: OnLine | None = None,
        on_stdout: OnStdout | None = None,
        stdin: BinaryIO | None = None,
    ) -> Result:
        self.commands.append(command.shown())

        def hear(stream: str, text: str) -> None:
            if not _UNTOLD.match(text):
                self.lines.append((stream, text))
            if on_line is not None:
                on_line(stream, text)

        return run_checked(command, on_line=hear, on_stdout=on_stdout, stdin=stdin)

    def log(self, text: str) -> None:
        self.lines.append(("portal", text))

    def about(self, folder: Path, told: str) -> Spoken:
        """The same with another folder, and as an operation of the portal."""

        def change(text: str) -> str:
            return text.replace(str(folder), told).replace(APPLICATION, f"opsportal/op{OP}/a1")

        return Spoken([change(text) for text in self.commands], [(stream, change(text)) for stream, text in self.lines])


@dataclass
class Dumped:
    """One archive that waits to be published. The rest was said while it was made."""

    backup: Backup
    folder: Path
    facts: DumpFacts
    dump: Spoken


@dataclass
class Rehearsal:
    """What the checks before a dump and the verification after it say about a database."""

    check: list[str]
    verify: Spoken
    verified: str
    folder: Path
    rows: int
    load: list[str]

    def load_commands(self, folder: str, scratch: str) -> list[str]:
        """What loading an archive into a scratch database runs."""
        told = Spoken(self.load).about(self.folder, folder).commands
        return [command.replace(SCRATCH_DATABASE, scratch) for command in told]


@dataclass
class Stock:
    """All that was dumped, and a rehearsal per plan."""

    dumped: dict[str, Dumped] = field(default_factory=dict)
    rehearsals: dict[str, Rehearsal] = field(default_factory=dict)


def connection(server: DemoServer, database: Database) -> Connection:
    """As the portal itself will connect."""
    return Connection(
        host=server.host,
        port=server.port,
        database=database.name,
        user=database.owner,
        password=catalog.secret_path(database).read_text().strip(),
        application_name=APPLICATION,
    )


def make(server: DemoServer, story: Story, now: datetime) -> Stock:
    """Fill the three databases up to `now` and dump them on the way at the moments of the story."""
    scratch = catalog.archives_root() / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)
    stock = Stock()
    with ThreadPoolExecutor(max_workers=2) as pool:
        small = pool.submit(_make_small, server, story, now, scratch, stock)
        large = pool.submit(_make_erp, server, story, now, scratch, stock)
        large.result()
        small.result()
    return stock


def _make_erp(server: DemoServer, story: Story, now: datetime, scratch: Path, stock: Stock) -> None:
    backups = [backup for backup in story.kept if backup.plan == "nightly"]
    server.make_database(ERP)
    since = _snapshot_at(backups[0])
    erp.load(server, ERP, since=now - erp.YEAR, until=since)
    for backup in backups:
        if since < (moment := _snapshot_at(backup)):
            erp.grow(server, ERP, since=since, until=moment)
            since = moment
        _dump(server, ERP, backup, scratch, stock)
    erp.grow(server, ERP, since=since, until=now, minimum=LEAST_NEW_ORDERS)


def _make_small(server: DemoServer, story: Story, now: datetime, scratch: Path, stock: Stock) -> None:
    drill = next(backup for backup in story.kept if backup.plan == "staging")
    weeks = [backup for backup in story.kept if backup.plan == "weekly"]
    server.make_database(ERP_STAGING)
    moment = _snapshot_at(drill)
    erp.load(server, ERP_STAGING, since=moment - erp.STAGING_DAYS, until=moment)
    _dump(server, ERP_STAGING, drill, scratch, stock)
    erp.grow(server, ERP_STAGING, since=moment, until=now)
    server.make_database(CRM)
    erp.load_crm(server, until=_snapshot_at(weeks[0]))
    for backup in weeks:
        erp.grow_crm(server, until=_snapshot_at(backup))
        _dump(server, CRM, backup, scratch, stock)
    erp.grow_crm(server, until=now)


def _snapshot_at(backup: Backup) -> datetime:
    return backup.requested_at + SNAPSHOT_AFTER


def _dump(server: DemoServer, database: Database, backup: Backup, scratch: Path, stock: Stock) -> None:
    engine, conn, spoken = PostgreSQLEngine(bin_dir=settings.PG_BIN), connection(server, database), Spoken()
    folder = scratch / backup.key
    folder.mkdir(mode=0o700)
    if backup.plan not in stock.rehearsals:
        checks = engine.preflight_dump(conn, engine.inspect(conn), folder)
    facts = engine.dump(conn, folder, jobs=2, run=spoken.run, log=spoken.log)
    dumped = Dumped(backup, folder, replace(facts, snapshot_at=_snapshot_at(backup)), spoken)
    stock.dumped[backup.key] = dumped
    if backup.plan not in stock.rehearsals:
        said = Spoken()
        report = engine.verify(folder, _described(dumped), run=said.run, log=said.log)
        (folder / manifest.NAME).unlink()
        sentences = [check.sentence for check in checks]
        loading = [command.shown() for command in engine.restore_commands(conn, folder, SCRATCH_DATABASE)]
        stock.rehearsals[backup.plan] = Rehearsal(sentences, said, report.sentence, folder, report.rows, loading)


def _described(dumped: Dumped) -> Manifest:
    """Verification expects a manifest in the folder; this one is for the rehearsal only."""
    described = Manifest.of(
        dumped.facts, operation_id=1, plan="", name=dumped.folder.name, created_at=dumped.facts.snapshot_at
    )
    manifest.write(dumped.folder, described)
    return described


def publish(storage: LocalStorage, folder: str, dumped: Dumped, described: Manifest, ended_at: datetime) -> Path:
    """Move the archive to its place as the portal does, and give the files the times they would have."""
    partial = storage.begin(folder, described.operation_id, 1)
    dumped.folder.rename(partial)
    manifest.write(partial, described)
    published = storage.publish(partial, described.name)
    for path in (*published.iterdir(), published):
        os.utime(path, (ended_at.timestamp(), ended_at.timestamp()))
    return published


def damage(dumped: Dumped) -> str:
    """Change one byte of the largest file, as a failing disk does; returns what a verification says of it."""
    entry = max(dumped.facts.files, key=lambda file: file.size)
    described = _described(dumped)
    with (dumped.folder / entry.path).open("r+b") as file:
        file.seek(entry.size // 2)
        byte = file.read(1)[0]
        file.seek(entry.size // 2)
        file.write(bytes([byte ^ 0x10]))
    try:
        PostgreSQLEngine(bin_dir=settings.PG_BIN).verify(dumped.folder, described, run=Spoken().run)
    except ArchiveDamaged as error:
        return error.message
    finally:
        (dumped.folder / manifest.NAME).unlink()
    raise AssertionError(f"a changed byte in {dumped.folder / entry.path} went unnoticed")
