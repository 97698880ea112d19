"""A SQLite database in the portal: backed up, lost, restored, undone, by the same procedures and buttons."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from backups import actions, loss
from backups.engines import ENGINES
from backups.exceptions import BackupError
from backups.models import Plan, Restore
from catalog import actions as catalog
from catalog.models import DatabaseTarget, Host
from core.models import User
from core.roles import Role
from operations import engine
from operations.models import Operation, OperationLock
from survival.card.content import COMMANDS, gather
from tests import factories
from tests.backups.shop import steps
from tests.backups.test_engine_sqlite import HOLDER, make, values

FAILED, SUCCEEDED = Operation.State.FAILED, Operation.State.SUCCEEDED


@dataclass
class Till:
    """A cash desk whose data is one file."""

    live: Path
    target: DatabaseTarget
    plan: Plan
    operator: User

    def run(self, operation: Operation) -> Operation:
        engine.run(operation.pk, "worker-1")
        return Operation.objects.get(pk=operation.pk)

    def done(self, operation: Operation) -> Operation:
        ended = self.run(operation)
        assert ended.state == SUCCEEDED, f"{ended.state}: {ended.message}\n{ended.traceback}"
        return ended

    def back_up(self) -> Operation:
        return actions.request_backup(self.plan, by=self.operator)

    def restore(self, archive, into: str = "") -> Operation:
        into = into or self.target.database
        return actions.request_restore(
            archive, by=self.operator, reason_kind=Restore.Reason.DELETION, into=into, typed_name=into
        )

    def lose(self) -> None:
        with closing(sqlite3.connect(self.live)) as con:
            con.execute("DELETE FROM sales WHERE id > 100")
            con.commit()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.live.parent.iterdir())

    def assert_nothing_left(self) -> None:
        assert not OperationLock.objects.exists()
        assert not [name for name in self.names() if "_restore_" in name or name.endswith(("-wal", "-shm", "-journal"))]
        assert list(Path(settings.DATA_DIR).glob("work/*")) == []


@pytest.fixture
def till(transactional_db, tmp_path, settings) -> Iterator[Till]:
    settings.DATA_DIR = tmp_path / "data"
    live = tmp_path / "app" / "till.db"
    for folder in (live.parent, tmp_path / "archives"):
        folder.mkdir()
    make(live)
    target = factories.TargetFactory(
        engine="sqlite",
        host=str(live.parent),
        database=live.name,
        user="",
        smoke_test="SELECT count(*) = 1 FROM totals",
    )
    plan = factories.PlanFactory(target=target, storage=factories.StorageFactory(root=str(tmp_path / "archives")))
    yield Till(live, target, plan, factories.PersonFactory(username="olga", role=Role.OPERATOR))


class TestStory:
    def test_lost_restored_undone_and_removed(self, till):
        before = values(till.live)
        archive = till.done(till.back_up()).archive
        assert archive.is_restore_point and archive.row_count > 3000
        assert archive.server_version == sqlite3.sqlite_version
        till.lose()
        lost = values(till.live)
        expected = loss.preview(archive)
        assert expected["readable"] and expected["returned_rows"] == 2900 and expected["lost_rows"] == 0

        ended = till.done(till.restore(archive))
        restore = ended.restore
        assert values(till.live) == before and "is back as of" in ended.message
        assert (restore.safety_copy, restore.measured is not None) == (Restore.SafetyCopy.KEPT, True)
        assert values(till.live.with_name(restore.safety_database)) == lost

        till.done(actions.request_undo(restore, by=till.operator))
        restore.refresh_from_db()
        assert values(till.live) == lost
        assert values(till.live.with_name(restore.safety_database)) == before
        assert restore.is_undone
        till.done(actions.request_drop_safety_copy(restore, by=till.operator))
        assert till.names() == ["till.db"]
        till.assert_nothing_left()
        restore = Restore.objects.get()
        assert restore.state_word == "Undone", "it stays so when what was kept aside is gone"
        page = factories.browser(till.operator).get(restore.get_absolute_url()).content.decode()
        assert "is again what it was before the restore" in page

    def test_beside_under_another_name(self, till):
        archive = till.done(till.back_up()).archive
        till.lose()
        lost = values(till.live)
        till.done(till.restore(archive, "check.db"))
        assert values(till.live) == lost and len(values(till.live.with_name("check.db"))[0]) == 3000
        assert till.run(till.restore(archive, "check.db")).state == FAILED
        till.assert_nothing_left()

    def test_verified_again_and_found_when_damaged(self, till):
        archive = till.done(till.back_up()).archive
        assert "SQLite finds" in till.done(actions.request_verify(archive, by=till.operator)).message
        path = Path(archive.storage.root, archive.folder, archive.name, "database.sqlite.zst")
        path.write_bytes(path.read_bytes()[:-5])
        assert till.run(actions.request_verify(archive, by=till.operator)).state == FAILED
        archive.refresh_from_db()
        assert archive.verification == "damaged"
        till.assert_nothing_left()

    def test_the_commands_are_those_that_a_person_would_type(self, till):
        archive = till.done(till.back_up()).archive
        page = factories.browser(till.operator).get(f"/backups/archive/{archive.pk}/do/restore/").content.decode()
        assert "PRAGMA integrity_check" in page and "ALTER DATABASE" not in page
        ended = till.done(till.restore(archive))
        shown = " ".join(str(step.commands) for step in ended.steps.all())
        assert f"mv {till.live}_restore_" in shown and "ALTER" not in shown


class TestTrouble:
    def test_a_program_that_has_it_open_stops_the_restore_and_everything_is_as_before(self, till):
        archive = till.done(till.back_up()).archive
        till.lose()
        lost = values(till.live)
        holder = subprocess.Popen([sys.executable, "-I", "-c", HOLDER, str(till.live)], stdout=subprocess.PIPE)
        try:
            assert holder.stdout.readline()
            ended = till.run(till.restore(archive))
        finally:
            holder.kill()
            holder.communicate()
        assert ended.state == FAILED and f"({holder.pid})" in ended.message and "service control" in ended.message
        assert steps(ended)["load"] == "undone"
        assert values(till.live) == lost
        till.assert_nothing_left()

    def test_a_smoke_test_that_fails_puts_the_old_one_back(self, till):
        archive = till.done(till.back_up()).archive
        till.lose()
        lost = values(till.live)
        DatabaseTarget.objects.update(smoke_test="SELECT count(*) = 0 FROM totals")
        ended = till.run(till.restore(archive))
        assert ended.state == FAILED and "smoke test answered 0" in ended.message
        assert values(till.live) == lost and till.names() == ["till.db"]
        till.assert_nothing_left()

    def test_one_that_is_gone_comes_back(self, till):
        before = values(till.live)
        archive = till.done(till.back_up()).archive
        till.live.unlink()
        assert not loss.preview(archive)["readable"]
        till.done(till.restore(archive))
        assert values(till.live) == before and till.names() == ["till.db"]

    def test_one_that_is_broken_is_kept_aside(self, till):
        before = values(till.live)
        archive = till.done(till.back_up()).archive
        till.live.write_bytes(b"broken" * 1000)
        restore = till.done(till.restore(archive)).restore
        assert values(till.live) == before
        assert till.live.with_name(restore.safety_database).read_bytes() == b"broken" * 1000

    def test_another_folder_is_another_place(self, till, tmp_path):
        till.done(till.back_up())
        shutil.copytree(till.live.parent, tmp_path / "copy")
        DatabaseTarget.objects.update(host=str(tmp_path / "copy"))
        ended = till.run(till.back_up())
        assert ended.state == FAILED and "is another server than before" in ended.message

    def test_a_file_that_is_not_there_ends_in_a_sentence(self, till):
        till.live.unlink()
        ended = till.run(till.back_up())
        assert ended.state == FAILED and f"There is no file {till.live}" in ended.message
        assert not till.live.exists()

    def test_a_host_that_is_not_this_machine_is_refused(self, till):
        host = factories.HostFactory(name="far", kind=Host.Kind.SSH, user="ops", key_ref="file:/run/secrets/k", port=22)
        DatabaseTarget.objects.update(via=host)
        ended = till.run(till.back_up())
        assert ended.state == FAILED and "on the worker's own machine only" in ended.message

    def test_a_name_that_leads_elsewhere_is_refused(self, till):
        archive = till.done(till.back_up()).archive
        ended = till.run(till.restore(archive, "../elsewhere.db"))
        assert ended.state == FAILED and "not the plain name of a file" in ended.message


class TestCatalog:
    def test_the_connection_is_checked(self, till):
        found = catalog.check_connection(till.target, by=till.operator)
        assert found.startswith(f"Connected to {till.live}: SQLite {sqlite3.sqlite_version}.")
        page = factories.browser(till.operator).get(till.target.get_absolute_url()).content.decode()
        assert str(till.live) in page and "SSL mode" not in page

    @pytest.mark.parametrize(
        "wrong",
        [{"host": "db.example.org"}, {"user": "ops"}, {"password_ref": "env:OPS_SECRET_X"}, {"database": "a/b"}],
    )
    def test_what_makes_no_sense_for_a_file_is_refused(self, db, wrong):
        row = factories.TargetFactory.build(
            component=factories.ComponentFactory(), **{"engine": "sqlite", "host": "/srv", "user": "", **wrong}
        )
        with pytest.raises(ValidationError) as refused:
            row.full_clean()
        assert set(refused.value.message_dict) == set(wrong) - {"engine"}, "said beside the field"
        with pytest.raises(IntegrityError), transaction.atomic():
            row.save()

    def test_postgresql_needs_an_account(self, db):
        row = factories.TargetFactory.build(component=factories.ComponentFactory(), user="")
        with pytest.raises(ValidationError, match="account that connects"):
            row.full_clean()
        with pytest.raises(IntegrityError), transaction.atomic():
            row.save()


@pytest.mark.needs("sqlite3", "zstd")
def test_the_offline_cards_commands_bring_the_rows_back(till, tmp_path):
    before = values(till.live)
    till.live.chmod(0o640)
    till.done(till.back_up())
    till.lose()
    lost = values(till.live)
    (entry,) = next(section for section in gather()["sections"] if section["name"] == "databases")["entries"]
    assert ["Lives at", str(till.live)] in entry["facts"]
    script = "\n".join(text for _, text in entry["commands"])
    work = tmp_path / "elsewhere"
    work.mkdir()
    done = subprocess.run(["sh", "-c", script], cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    assert "manifest.json: OK" in done.stdout and done.stdout.rstrip().endswith("ok")
    assert values(till.live) == before and values(till.live.with_name("till.db.before")) == lost
    assert till.live.stat().st_mode & 0o777 == 0o640


@pytest.mark.needs("sqlite3", "zstd")
def test_the_cards_commands_leave_the_live_file_alone_when_the_disk_is_full(till, tmp_path):
    before = values(till.live)
    till.done(till.back_up())
    (entry,) = next(section for section in gather()["sections"] if section["name"] == "databases")["entries"]
    script = "\n".join(text for _, text in entry["commands"])
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "cp").write_text(
        '#!/bin/sh\ncase "$2" in *.new) head -c 100 "$1" > "$2"; exit 1;; esac\nexec /bin/cp "$@"\n'
    )
    (broken / "cp").chmod(0o755)
    work = tmp_path / "elsewhere"
    work.mkdir()
    path = f"{broken}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", script], cwd=work, env={"PATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0 and values(till.live) == before


def test_every_engine_has_its_commands_on_the_card():
    assert COMMANDS.keys() == ENGINES.keys() == set(DatabaseTarget.Engine.values)


def test_an_archive_of_one_engine_is_no_archive_for_the_other(till):
    archive = till.done(till.back_up()).archive
    DatabaseTarget.objects.update(engine="postgresql", user="ops")
    with pytest.raises(BackupError, match="another kind of database \\(sqlite\\)"):
        till.restore(archive)
