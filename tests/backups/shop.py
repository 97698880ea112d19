"""A small shop with a real database, and everything the portal knows about it: what the procedures are tested on."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings

from backups import actions, manifest
from backups.manifest import Manifest
from backups.models import Archive, Plan, Restore
from backups.procedures.base import digest_of
from catalog.models import DatabaseTarget, ServiceControlCommands
from core.models import User
from operations import engine
from operations.models import Operation, OperationLock
from tests.factories import PREFIX, SAMPLE_ROWS, ArchiveFactory, SampleDatabase, databases_on, session_on

# Start, stop and status of a real process, as an init script does it. A file fail-ACTION makes it fail once.
CONTROL = """
import os, pathlib, signal, subprocess, sys, time
folder, action = pathlib.Path(sys.argv[1]), sys.argv[2]
pid_file = folder / "pid"
with open(folder / "calls", "a") as calls:
    calls.write(action + "\\n")
try:
    (folder / f"fail-{action}").unlink()
    sys.exit(f"{action} does not work")
except FileNotFoundError:
    pass
try:
    pid = int(pid_file.read_text())
    os.kill(pid, 0)
except (OSError, ValueError):
    pid = 0
if action == "start" and not pid:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)
    pid_file.write_text(str(process.pid))
elif action == "stop" and pid:
    os.kill(pid, signal.SIGKILL)
    pid_file.unlink()
elif action == "status":
    sys.exit(0 if pid else 3)
"""


@dataclass
class Service:
    """The application of the shop: a real process with a control script."""

    folder: Path

    def argv(self, action: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(self.folder / "control.py"), str(self.folder), action]

    @property
    def calls(self) -> list[str]:
        """What the portal has asked for; questions for the status left out."""
        path = self.folder / "calls"
        return [call for call in path.read_text().split() if call != "status"] if path.exists() else []

    @property
    def pid(self) -> int | None:
        """The process, None while it is stopped."""
        path = self.folder / "pid"
        return int(path.read_text()) if path.exists() else None

    def call(self, action: str) -> None:
        """What somebody does by hand."""
        subprocess.run(self.argv(action), check=True)

    def fail_once(self, action: str) -> None:
        """The next time this does not work."""
        (self.folder / f"fail-{action}").touch()

    def kill(self) -> None:
        """For the end of a test."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)


@dataclass
class Shop:
    """One shop. Operations run in this process, as a worker would run them, on rows that are committed."""

    database: SampleDatabase
    target: DatabaseTarget
    plan: Plan
    operator: User
    sample: Path  # the folder of an archive of the sample
    service: Service | None = None

    @property
    def root(self) -> Path:
        """The folder of the storage."""
        return Path(self.plan.storage.root)

    @property
    def folder(self) -> Path:
        """Where the plan's archives are."""
        return self.root / self.plan.folder

    # -- doing ----------------------------------------------------------------------------------------------------

    def run(self, operation: Operation) -> Operation:
        """The operation after a worker has done it."""
        engine.run(operation.pk, "worker-1")
        return Operation.objects.get(pk=operation.pk)

    def done(self, operation: Operation) -> Operation:
        """The same for one that has to succeed."""
        ended = self.run(operation)
        assert ended.state == Operation.State.SUCCEEDED, f"{ended.state}: {ended.message}\n{ended.traceback}"
        return ended

    def back_up(self, **options: Any) -> Operation:
        return actions.request_backup(self.plan, by=self.operator, **options)

    def restore(self, archive: Archive, **options: Any) -> Operation:
        """Ask for a restore in place, or `into` another database."""
        into = options.get("into") or self.target.database
        values = {"by": self.operator, "reason_kind": Restore.Reason.DELETION, "typed_name": into}
        return actions.request_restore(archive, **{**values, **options})

    def archive(self, name: str = "backup_sample", **fields: Any) -> Archive:
        """A verified archive of the sample with its files, as an earlier backup has left it."""
        folder = self.folder / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.sample, folder)
        return self.adopt(folder, **fields)

    def adopt(self, folder: Path, **fields: Any) -> Archive:
        """The record that fits the files in a folder."""
        described = manifest.read(folder)
        values = {
            "name": folder.name,
            "snapshot_at": described.snapshot_at,
            "size_bytes": described.archive_bytes,
            "row_count": described.rows,
            "sha256": digest_of(folder),
            "manifest": {**manifest.encode(described), "database": self.target.database},
        }
        archive: Archive = ArchiveFactory(plan=self.plan, **{**values, **fields})
        return archive

    def control(self, folder: Path) -> Service:
        """Give the shop an application that runs, and the commands that control it."""
        folder.mkdir()
        (folder / "control.py").write_text(CONTROL)
        self.service = Service(folder)
        ServiceControlCommands.objects.create(
            environment=self.target.component.environment,
            ready_timeout_s=2,
            **{action: self.service.argv(action) for action in ("start", "stop", "status")},
        )
        return self.service

    # -- looking --------------------------------------------------------------------------------------------------

    def databases(self) -> set[str]:
        """The live database and what stands beside it under names made from its own."""
        return databases_on(self.database.server, self.database.name)

    def log_of(self, operation: Operation) -> str:
        return "\n".join(operation.log.values_list("text", flat=True))

    def hidden_files(self) -> list[Path]:
        """What an unfinished backup or removal leaves."""
        return list(self.root.rglob(".*")) if self.root.is_dir() else []

    def assert_nothing_left(self) -> None:
        """No lock, no scratch database, no unfinished folder, no working folder, nobody of ours still connected."""
        assert list(OperationLock.objects.values_list("key", flat=True)) == []
        assert [name for name in self.databases() if "_restore_" in name] == []
        assert self.hidden_files() == []
        assert list(Path(settings.DATA_DIR).glob("work/*")) == []
        with session_on(self.database.server) as session:
            query = """
                SELECT application_name FROM pg_stat_activity
                WHERE starts_with(datname, %s) AND starts_with(application_name, 'opsportal')"""
            assert session.execute(query, [PREFIX]).fetchall() == []

    def assert_untouched(self) -> None:
        """The live database is there, whole, and open."""
        assert self.database.rows() == SAMPLE_ROWS


def rewrite(folder: Path, **changes: Any) -> None:
    """Write the archive's manifest again with other values, its own checksum included."""
    manifest.write(folder, dataclasses.replace(manifest.read(folder), **changes))


def describe(folder: Path, facts: manifest.DumpFacts) -> Manifest:
    """The manifest of a dump that no operation has made."""
    described = Manifest.of(facts, operation_id=1, plan="nightly", name=folder.name, created_at=datetime.now(UTC))
    manifest.write(folder, described)
    return described


def corrupt(shop: Shop) -> None:
    """Overwrite a file without which the server cannot open the database."""
    with session_on(shop.database.server) as session:
        session.execute("CHECKPOINT")
        query = "SELECT current_setting('data_directory'), oid FROM pg_database WHERE datname = %s"
        data, oid = session.execute(query, [shop.database.name]).fetchone()
    path = Path(data, "base", str(oid), "pg_filenode.map")
    path.write_bytes(b"\0" * path.stat().st_size)


def steps(operation: Operation) -> dict[str, str]:
    """How each step ended."""
    return dict(operation.steps.in_order().values_list("name", "state"))
