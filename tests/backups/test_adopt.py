"""Backups that others have made become archives: found, loaded, dumped, verified, restored. The files stay."""

from __future__ import annotations

import gzip
import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db.models.functions import Now

from backups import actions, board, foreign, retention
from backups.engines.postgresql import PostgreSQLEngine
from backups.engines.postgresql import foreign as dumps
from backups.engines.sqlite import SQLiteEngine
from backups.exceptions import BackupError
from backups.models import Archive
from backups.procedures.adopt import Adopt
from core.roles import Role
from operations import control, engine
from operations.models import Operation
from survival.card.content import gather
from tests.backups.shop import Shop
from tests.backups.test_engine_sqlite import make, values
from tests.backups.test_sqlite_story import Till, till  # noqa: F401  a fixture
from tests.factories import SAMPLE_ROWS, PersonFactory, browser, drop_databases
from tests.operations.samples import Died
from tests.pages import page_of

FAILED = Operation.State.FAILED
MOMENT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
FORMATS = {
    "erp.dump": ("--format=custom", dumps.CUSTOM),
    "erp.tar": ("--format=tar", dumps.TAR),
    "erp-folder": ("--format=directory", dumps.DIRECTORY),
    "erp.sql": ("--format=plain", dumps.SCRIPT),
    "erp.sql.gz": ("--format=plain", dumps.PACKED_SCRIPT),
}


@pytest.fixture
def old(tmp_path, settings) -> Path:
    """A folder with old backups that the portal may look into."""
    folder = tmp_path / "old backups"
    folder.mkdir()
    settings.ADOPT_DIRS = [str(folder)]
    return folder


@pytest.fixture
def pg_dump(shop: Shop, old: Path) -> Callable[..., Path]:
    """What the team's own script has made."""

    def run(name: str, *options: str) -> Path:
        path, server = old / name, shop.database.server
        plain = path.with_suffix("") if name.endswith(".gz") else path
        subprocess.run(
            [f"{os.environ['PG_BIN']}/pg_dump", *options, f"--file={plain}", f"--dbname={shop.database.name}"],
            env={**os.environ, "PGHOST": server.host, "PGUSER": server.user, "PGPASSWORD": server.password},
            check=True,
        )
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
        os.utime(path, (MOMENT.timestamp(), MOMENT.timestamp()))
        return path

    return run


def adopt(shop: Shop, path: Path | str) -> Operation:
    (operation,) = actions.request_adopt(shop.plan, [str(path)], by=shop.operator)
    return operation


def traces(path: Path) -> list[tuple[str, str, float]]:
    """Everything there, with contents and time."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(each.name, hashlib.sha256(each.read_bytes()).hexdigest(), each.stat().st_mtime) for each in files]


class TestAdopting:
    @pytest.mark.parametrize("name", FORMATS)
    def test_it_becomes_a_restore_point(self, shop, old, pg_dump, name):
        option, kind = FORMATS[name]
        path = pg_dump(name, option)
        before = traces(path)
        (found,) = foreign.look(PostgreSQLEngine(os.environ["PG_BIN"]), shop.plan.storage).found
        assert (found.path, found.kind, found.made_at) == (path, kind, MOMENT)

        archive = shop.done(adopt(shop, path)).archive
        assert archive.is_restore_point and archive.keep and archive.purpose == Archive.Purpose.ADOPTED
        assert (archive.snapshot_at, archive.row_count) == (MOMENT, sum(SAMPLE_ROWS.values()))
        assert archive.name == f"adopted_{name}" and str(path) in archive.reason
        assert traces(path) == before
        shop.assert_nothing_left()
        assert shop.databases() == {shop.database.name}

        shop.database.lose_orders()
        shop.done(shop.restore(archive))
        assert shop.database.rows() == SAMPLE_ROWS

    def test_several_are_adopted_one_after_the_other(self, shop, pg_dump):
        paths = [str(pg_dump(f"erp-{day}.dump", "--format=custom")) for day in "abc"]
        asked = actions.request_adopt(shop.plan, paths, by=shop.operator, key="a-click")
        again = actions.request_adopt(shop.plan, paths, by=shop.operator, key="a-click")
        assert again == asked and len(set(asked)) == 3
        for operation in asked:
            shop.done(operation)
        assert Archive.objects.restore_points().count() == 3

    @pytest.mark.parametrize("name", ["erp.dump", "erp.tar", "erp-folder", "erp.sql"])
    def test_a_copy_that_looks_younger_is_as_old_as_it_says(self, shop, pg_dump, name):
        """`cp` and most downloads give a file the time of the copy."""
        path = pg_dump(name, FORMATS[name][0], "--verbose")
        made = datetime.now(UTC)
        os.utime(path, (made.timestamp() + 900, made.timestamp() + 900))
        found = foreign.permitted(PostgreSQLEngine(os.environ["PG_BIN"]), shop.plan.storage, path)
        assert abs((found.made_at - made).total_seconds()) < 60

    def test_it_takes_no_place_of_an_archive_of_the_portals_own(self, shop, pg_dump):
        """What a file says of its time proves nothing: board, clean-up and offline card go by the portal's own."""
        own = shop.archive()
        path = pg_dump("erp.dump", "--format=custom")
        os.utime(path)
        adopted = shop.done(adopt(shop, path)).archive
        assert adopted.snapshot_at > own.snapshot_at
        assert Archive.objects.of(shop.target).restore_points().best_first().first() == own
        (line,) = [line for line in board.lines() if line.target == shop.target]
        assert line.newest_id == own.pk
        (verdict,) = [verdict for verdict in retention.judge(shop.plan) if verdict.archive == own]
        assert not verdict.remove
        (entry,) = next(section for section in gather()["sections"] if section["name"] == "databases")["entries"]
        assert any(own.name in str(fact) for fact in entry["facts"])

    def test_it_works_without_the_live_database_when_an_archive_knows_its_owner(self, shop, pg_dump):
        path = pg_dump("erp.dump", "--format=custom")
        drop_databases(shop.database.server, shop.database.name)
        ended = shop.run(adopt(shop, path))
        assert ended.state == FAILED and "Create it empty on the server" in ended.message
        shop.archive()
        adopted = shop.done(adopt(shop, path)).archive
        shop.done(shop.restore(adopted))
        assert shop.database.rows() == SAMPLE_ROWS

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("step", [step.name for step in Adopt.steps])
    def test_a_worker_may_die_at_every_step(self, shop, pg_dump, monkeypatch, step, when):
        operation, real = adopt(shop, pg_dump("erp.dump", "--format=custom")), getattr(Adopt, step)

        def dies(self, ctx):
            if when == "after":
                real(self, ctx)
            raise Died

        with monkeypatch.context() as patch:
            patch.setattr(Adopt, step, dies)
            with pytest.raises(Died):
                engine.run(operation.pk, "w1")
        Operation.objects.filter(pk=operation.pk).update(lease_until=Now())
        assert control.sweep() == 1
        assert shop.done(operation).archive.is_restore_point
        assert Archive.objects.count() == 1 and shop.databases() == {shop.database.name}
        shop.assert_nothing_left()

    def test_rows_that_look_like_commands_of_psql_survive(self, shop, pg_dump):
        shop.database.execute("CREATE TABLE odd (id int, t text)")
        odd = [
            "\\restrict abc",
            "\restrict abc",
            "\\.",
            "\\unrestrict abc",
            "COPY x FROM stdin;",
            "a\nb\\! touch x",
            "",
        ]
        with shop.database.session() as session:
            session.cursor().executemany("INSERT INTO odd VALUES (%s, %s)", list(enumerate(odd)))
        archive = shop.done(adopt(shop, pg_dump("erp.sql", "--format=plain"))).archive
        shop.database.execute("DROP TABLE odd")
        shop.done(shop.restore(archive))
        with shop.database.session() as session:
            assert [row[0] for row in session.execute("SELECT t FROM odd ORDER BY id")] == odd

    def test_a_worker_that_died_while_loading_is_taken_over(self, shop, pg_dump, monkeypatch):
        operation = adopt(shop, pg_dump("erp.dump", "--format=custom"))

        def die(*args, **options):
            raise Died

        with monkeypatch.context() as patch:
            patch.setattr(dumps, "load", die)
            with pytest.raises(Died):
                engine.run(operation.pk, "w1")
        assert any("_adopt_" in name for name in shop.databases())
        Operation.objects.filter(pk=operation.pk).update(lease_until=Now())
        assert control.sweep() == 1
        assert shop.done(operation).archive.is_restore_point
        assert shop.databases() == {shop.database.name}
        shop.assert_nothing_left()


class TestRefused:
    def refused(self, shop: Shop, path: Path | str, *words: str) -> Operation:
        ended = shop.run(adopt(shop, path))
        assert ended.state == FAILED, ended.message
        text = ended.message + shop.log_of(ended)
        assert all(word in text for word in words), text
        assert not Archive.objects.filter(state=Archive.State.AVAILABLE).exists()
        shop.assert_untouched()
        shop.assert_nothing_left()
        assert shop.databases() == {shop.database.name}
        return ended

    def test_a_script_that_drops_and_makes_its_own_database(self, shop, pg_dump):
        path = pg_dump("erp.sql", "--format=plain", "--create", "--clean", "--if-exists")
        assert b"DROP DATABASE" in path.read_bytes()
        self.refused(shop, path, "was made with pg_dump --create")

    @pytest.mark.parametrize("line", ["\\! touch {}", "\\o {}", "\\copy orders to program 'touch {}'", "\\i {}"])
    def test_commands_of_psql_in_it_are_not_run(self, shop, old, pg_dump, line, tmp_path):
        path, mark = pg_dump("erp.sql", "--format=plain"), tmp_path / "mark"
        path.write_bytes(line.format(mark).encode() + b"\n" + path.read_bytes())
        self.refused(shop, path, "holds commands of psql")
        assert not mark.exists()

    def test_nor_after_it_has_left_its_own_restricted_mode(self, shop, pg_dump, tmp_path):
        path, mark = pg_dump("erp.sql", "--format=plain"), tmp_path / "mark"
        assert b"\\unrestrict" in path.read_bytes()
        path.write_bytes(path.read_bytes() + f"\\! touch {mark}\n".encode())
        self.refused(shop, path, "holds commands of psql")
        assert not mark.exists()

    @pytest.mark.parametrize("name", FORMATS)
    def test_one_that_was_cut_off(self, shop, pg_dump, name):
        path = pg_dump(name, FORMATS[name][0])
        victim = max(path.glob("*.gz"), key=lambda each: each.stat().st_size) if path.is_dir() else path
        data = victim.read_bytes()
        victim.write_bytes(data[: len(data) * 2 // 3])
        self.refused(shop, path)

    def test_one_that_was_damaged(self, shop, pg_dump):
        path = pg_dump("erp.sql.gz", "--format=plain")
        data = bytearray(path.read_bytes())
        data[-6] ^= 1  # the checksum at its end
        path.write_bytes(data)
        self.refused(shop, path, "is damaged and cannot be read to its end")

    def test_a_role_that_is_missing_is_named(self, shop, pg_dump):
        path = pg_dump("erp.sql", "--format=plain")
        text = path.read_text().replace("CREATE TABLE", "SET ROLE nobody_at_all;\nCREATE TABLE", 1)
        path.write_text(text)
        self.refused(shop, path, "nobody_at_all")

    def test_no_room_at_the_server(self, shop, pg_dump, monkeypatch):
        path = pg_dump("erp.dump", "--format=custom")
        monkeypatch.setitem(dumps.GROWTH, dumps.CUSTOM, 1e12)
        self.refused(shop, path, "The loaded backup beside the live one needs about")

    def test_a_pipe_is_not_waited_for(self, shop, old):
        os.mkfifo(old / "erp.dump")
        self.refused(shop, old / "erp.dump", "is not a backup")

    def test_what_lies_elsewhere(self, shop, old, tmp_path):
        outside = tmp_path / "outside.dump"
        outside.write_bytes(b"PGDMP")
        (old / "link.dump").symlink_to(outside)
        for path in (outside, old / "link.dump", f"{old}/../outside.dump", "/etc/passwd"):
            self.refused(shop, path, "is not below", "ADOPT_DIRS")

    @pytest.mark.parametrize(
        ("contents", "sentence"),
        [
            (b"-- PostgreSQL database cluster dump\n", "is not a backup"),
            (b"", "is not a backup"),
            (None, "There is no"),
        ],
    )
    def test_what_is_none(self, shop, old, contents, sentence):
        if contents is not None:
            (old / "x.sql").write_bytes(contents)
        self.refused(shop, old / "x.sql", sentence)

    def test_a_dump_without_a_table(self, shop, pg_dump):
        self.refused(shop, pg_dump("erp.dump", "--format=custom", "--exclude-table=*"), "has no table")

    def test_an_archive_of_the_portal_itself(self, shop, old):
        archive = shop.archive()
        with pytest.raises(BackupError, match="part of an archive that the portal has made"):
            foreign.permitted(PostgreSQLEngine(""), shop.plan.storage, shop.folder / archive.name)
        assert foreign.look(PostgreSQLEngine(""), shop.plan.storage).found == ()


class TestPage:
    def press(self, client, shop: Shop, **fields: object):
        url = f"/backups/plan/{shop.plan.pk}/do/adopt/"
        form = page_of(client.get(url)).post
        return client.post(url, {**form.fields, **fields})

    def test_files_are_ticked(self, shop, pg_dump):
        paths = [str(pg_dump(name, FORMATS[name][0])) for name in ("erp.dump", "erp.sql.gz")]
        client = browser(shop.operator)
        text = client.get(f"/backups/plan/{shop.plan.pk}/do/adopt/").content.decode()
        assert all(path in text for path in paths) and "2026-03-01 02:00 UTC" in text and dumps.CUSTOM in text
        assert self.press(client, shop, found=paths).status_code == 302
        asked = Operation.objects.filter(procedure="backups.adopt").order_by("pk")
        assert {operation.params["source"] for operation in asked} == set(paths)
        for operation in asked:
            shop.done(operation)
        text = client.get(f"/backups/plan/{shop.plan.pk}/do/adopt/").content.decode()
        assert text.count("adopted already") == 2

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({}, "Tick one or more"),
            ({"other": "erp.dump"}, "the whole path"),
            ({"found": "/x"}, "Select a valid choice"),
            ({"other": "/etc/passwd"}, "is not below"),
        ],
    )
    def test_what_does_not_do_is_said(self, shop, pg_dump, fields, sentence):
        pg_dump("erp.dump", "--format=custom")
        answer = self.press(browser(shop.operator), shop, **fields)
        assert answer.status_code == 200 and sentence in answer.content.decode()
        assert not Operation.objects.exists()

    def test_a_path_that_only_the_worker_sees_is_typed(self, shop, old, settings):
        settings.ADOPT_DIRS = ["/nowhere/at-all"]
        client = browser(shop.operator)
        text = client.get(f"/backups/plan/{shop.plan.pk}/do/adopt/").content.decode()
        assert "cannot be read by this process" in text
        assert self.press(client, shop, other="/nowhere/at-all/erp.dump").status_code == 302
        ended = shop.run(Operation.objects.get())
        assert ended.state == FAILED and "There is no /nowhere/at-all/erp.dump" in ended.message

    def test_a_manager_may_not(self, shop, old):
        client = browser(PersonFactory(role=Role.MANAGER))
        url = f"/backups/plan/{shop.plan.pk}/do/adopt/"
        assert client.get(url).status_code == client.post(url, {"other": str(old / "x")}).status_code == 403
        assert "/do/adopt/" not in client.get(shop.plan.get_absolute_url()).content.decode()


class TestSQLite:
    @pytest.fixture
    def copy(self, till: Till, old: Path) -> Callable[..., Path]:  # noqa: F811
        def make_copy(name: str) -> Path:
            plain = old / "till.db"
            with closing(sqlite3.connect(till.live)) as con, closing(sqlite3.connect(plain)) as target:
                con.backup(target)
            if name.endswith(".gz"):
                (old / name).write_bytes(gzip.compress(plain.read_bytes()))
                plain.unlink()
            os.utime(old / name, (MOMENT.timestamp(), MOMENT.timestamp()))
            return old / name

        return make_copy

    @pytest.mark.parametrize("name", ["till.db", "till.db.gz"])
    def test_a_copy_becomes_a_restore_point(self, till, copy, name):  # noqa: F811
        path, before = copy(name), values(till.live)
        (found,) = foreign.look(SQLiteEngine(), till.plan.storage).found
        assert found.path == path and found.kind.startswith("copy of a SQLite database")
        traced = traces(path)
        archive = till.done(adopt(till, path)).archive
        assert archive.is_restore_point and archive.snapshot_at == MOMENT and traces(path) == traced
        till.lose()
        till.done(till.restore(archive))
        assert values(till.live) == before
        till.assert_nothing_left()

    def test_one_in_use_is_no_copy(self, till, old):  # noqa: F811
        make(old / "used.db")
        (old / "used.db-wal").write_bytes(b"x")
        ended = till.run(adopt(till, old / "used.db"))
        assert ended.state == FAILED and "used.db-wal beside it" in ended.message
        till.assert_nothing_left()

    def test_one_that_was_cut_off(self, till, copy):  # noqa: F811
        path = copy("till.db.gz")
        path.write_bytes(path.read_bytes()[:-500])
        ended = till.run(adopt(till, path))
        assert ended.state == FAILED and "cannot be read to its end" in ended.message
        assert till.names() == ["till.db"]
