"""The SQLite engine on real files, with real programs writing into them, and killed at every point of the swap."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backups.engines.base import Connection
from backups.engines.sqlite import SQLiteEngine, place
from backups.engines.sqlite import session as asking
from backups.engines.sqlite.packing import PACKED, unpack
from backups.exceptions import ArchiveDamaged, BackupError, TargetUnavailable
from backups.manifest import Manifest
from tests.backups.shop import describe

ENGINE = SQLiteEngine()
LIVE = "till.db"

# Two tables that only ever change together; prints a line for each change.
WRITER = """
import sqlite3, sys
con = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
con.execute("PRAGMA journal_mode = " + sys.argv[2])
n = 0
while True:
    con.execute("BEGIN IMMEDIATE")
    con.execute("INSERT INTO sales (amount) VALUES (?)", (n,))
    con.execute("UPDATE totals SET number = number + 1, amount = amount + ?", (n,))
    con.execute("COMMIT")
    n += 1
    print(n, flush=True)
"""
# Opens the file and does nothing with it any more.
HOLDER = """
import sqlite3, sys, time
con = sqlite3.connect(sys.argv[1], isolation_level=None)
con.execute("SELECT count(*) FROM sales").fetchone()
print("open", flush=True)
time.sleep(60)
"""
# Dies in the middle of a transaction whose pages are partly in the file already.
CRASHER = """
import os, sqlite3, sys
con = sqlite3.connect(sys.argv[1], isolation_level=None)
con.execute("PRAGMA cache_size = 5")
con.execute("BEGIN IMMEDIATE")
con.execute("UPDATE sales SET note = hex(randomblob(400))")
os.kill(os.getpid(), 9)
"""


def make(path: Path, *, journal: str = "wal", rows: int = 3000) -> None:
    with closing(sqlite3.connect(path)) as con:
        con.execute(f"PRAGMA journal_mode = {journal}")
        con.executescript("""
            CREATE TABLE sales (id INTEGER PRIMARY KEY AUTOINCREMENT, amount INTEGER, note TEXT, receipt BLOB);
            CREATE TABLE totals (number INTEGER, amount INTEGER);
            CREATE TABLE "odd ""name" (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
            CREATE VIRTUAL TABLE notes USING fts5(text);
            CREATE VIEW large AS SELECT * FROM sales WHERE amount > 10;
            CREATE INDEX by_amount ON sales (amount);
            INSERT INTO notes VALUES ('a leaking tap'), ('größe');
            INSERT INTO "odd ""name" VALUES ('a', 1), ('b', 'x'), ('c', x'00ff'), ('d', NULL), ('e', 1.5);
            PRAGMA user_version = 7;
        """)
        con.executemany(
            "INSERT INTO sales (amount, note, receipt) VALUES (?, ?, ?)",
            ((n, f"sale {n} " + "x" * 200, bytes([n % 256])) for n in range(rows)),
        )
        con.execute("INSERT INTO totals SELECT count(*), sum(amount) FROM sales")
        con.commit()


def values(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as con:
        return [con.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in ("sales", "totals", "notes")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def conn(tmp_path: Path) -> Connection:
    folder = tmp_path / "app"
    folder.mkdir()
    make(folder / LIVE)
    return Connection(str(folder), 5432, LIVE, "", "")


@pytest.fixture
def live(conn: Connection) -> Path:
    return Path(conn.host) / conn.database


@pytest.fixture
def dump(conn: Connection, tmp_path: Path) -> Callable[..., tuple[Path, Manifest]]:
    def make_archive(name: str = "archive", **options: object) -> tuple[Path, Manifest]:
        folder = tmp_path / name
        folder.mkdir()
        return folder, describe(folder, ENGINE.dump(conn, folder, run=None, **options))  # type: ignore[arg-type]

    return make_archive


@pytest.fixture
def program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program and wait for its first line; all are killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, *argv: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", source, *map(str, argv)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout and process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def load(conn: Connection, folder: Path, manifest: Manifest, scratch: str, work: Path) -> None:
    ENGINE.create_scratch(conn, scratch, manifest.properties)
    ENGINE.load(folder, manifest, conn, scratch, work_dir=work, run=None)  # type: ignore[arg-type]
    ENGINE.apply_properties(conn, scratch, manifest.properties)


class TestRoundTrip:
    def test_everything_survives(self, conn, live, dump, tmp_path):
        folder, manifest = dump()
        assert names(folder) == [PACKED, "manifest.json"]
        before = values(live)
        load(conn, folder, manifest, "scratch.db", tmp_path)
        assert values(live.with_name("scratch.db")) == before
        assert ENGINE.compare(manifest, ENGINE.measure(conn, "scratch.db")) == []
        with closing(sqlite3.connect(live.with_name("scratch.db"))) as con:
            assert con.execute("PRAGMA user_version").fetchone() == (7,)
            assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert con.execute("SELECT text FROM notes WHERE notes MATCH 'tap'").fetchall() == [("a leaking tap",)]
            con.execute("INSERT INTO sales (amount) VALUES (1)")
            assert con.execute("SELECT max(id) FROM sales").fetchone() == (3001,)

    def test_the_manifest_tells_rows_and_sizes(self, conn, dump):
        facts = ENGINE.inspect(conn)
        _, manifest = dump()
        rows = {table.key: table.rows for table in manifest.tables}
        assert rows["main.sales"] == 3000 and rows['main."odd ""name"'] == 5 and rows["main.totals"] == 1
        assert manifest.rows > 3006 and manifest.database_bytes == facts.database_bytes  # fts5 has tables of its own
        assert {table.name for table in facts.tables} == {table.name for table in manifest.tables}
        assert manifest.files[0].plain_size == manifest.database_bytes > manifest.files[0].size

    def test_owner_and_mode_are_those_of_the_live_file(self, conn, live, dump, tmp_path):
        folder, manifest = dump()
        live.chmod(0o640)
        load(conn, folder, manifest, "scratch.db", tmp_path)
        assert live.with_name("scratch.db").stat().st_mode & 0o777 == 0o640

    def test_or_where_there_is_none_those_of_the_one_that_was_backed_up(self, conn, live, dump, tmp_path):
        live.chmod(0o604)
        folder, manifest = dump()
        live.unlink()
        load(conn, folder, manifest, "scratch.db", tmp_path)
        assert live.with_name("scratch.db").stat().st_mode & 0o777 == 0o604

    def test_a_difference_is_found(self, conn, live, dump):
        _, manifest = dump()
        with closing(sqlite3.connect(live)) as con:
            con.execute("UPDATE sales SET note = CAST(note AS BLOB) WHERE id = 1")  # the same bytes, another type
            con.execute("DELETE FROM totals")
            con.commit()
        assert ENGINE.compare(manifest, ENGINE.measure(conn, LIVE)) == [
            "Table main.sales has the right number of rows, but other contents.",
            "Table main.totals has 0 rows instead of 1.",
        ]


class TestWhileItIsWritten:
    @pytest.mark.parametrize("journal", ["wal", "delete"])
    def test_the_copy_is_one_moment_and_the_writer_goes_on(self, conn, live, dump, program, journal):
        make_again(live, journal)
        writer = program(WRITER, live, journal)
        folder, manifest = dump()
        assert writer.poll() is None
        os.set_blocking(writer.stdout.fileno(), False)
        during = writer.stdout.read().count("\n")
        assert during > 0  # it was not locked out for the length of the copy
        with closing(sqlite3.connect(f"file:{unpacked(folder, manifest)}?immutable=1", uri=True)) as con:
            number, amount = con.execute("SELECT number, amount FROM totals").fetchone()
            assert con.execute("SELECT count(*), sum(amount) FROM sales").fetchone() == (number, amount)

    def test_a_large_one_that_is_never_left_alone_is_copied_in_one_go(self, conn, live, tmp_path, program, monkeypatch):
        """Without a write-ahead log each change sends the copy back to its beginning."""
        make_again(live, "delete")
        monkeypatch.setattr(asking, "PAGES", 20)
        assert live.stat().st_size > 50 * asking.PAGES * 4096
        program(WRITER, live, "delete")
        said = []
        (tmp_path / "archive").mkdir()
        began = time.monotonic()
        manifest = describe(tmp_path / "archive", ENGINE.dump(conn, tmp_path / "archive", run=None, log=said.append))
        assert time.monotonic() - began < 60 and any("copied in one go" in line for line in said)
        with closing(sqlite3.connect(f"file:{unpacked(tmp_path / 'archive', manifest)}?immutable=1", uri=True)) as con:
            number, amount = con.execute("SELECT number, amount FROM totals").fetchone()
            assert con.execute("SELECT count(*), sum(amount) FROM sales").fetchone() == (number, amount)

    def test_a_crash_in_the_middle_of_a_transaction_is_rolled_back_as_the_application_would(self, conn, live, dump):
        make_again(live, "delete")
        before = values(live)
        subprocess.run([sys.executable, "-I", "-c", CRASHER, str(live)], check=False)
        assert live.with_name(LIVE + "-journal").exists()
        folder, manifest = dump()
        assert values(unpacked(folder, manifest)) == before

    def test_what_is_only_in_the_log_is_in_the_copy(self, conn, live, dump):
        with closing(sqlite3.connect(live)) as con:
            con.execute("PRAGMA wal_autocheckpoint = 0")
            con.execute("INSERT INTO sales (amount, note) VALUES (1, 'new')")
            con.commit()
            assert live.with_name(LIVE + "-wal").stat().st_size
            _, manifest = dump()
        assert {table.key: table.rows for table in manifest.tables}["main.sales"] == 3001

    def test_it_can_be_stopped(self, conn, tmp_path):
        def stop() -> None:
            raise KeyboardInterrupt

        folder = tmp_path / "archive"
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            ENGINE.dump(conn, folder, run=None, check=stop)


def make_again(live: Path, journal: str) -> None:
    for path in (live, *place.sidecars(live)):
        path.unlink(missing_ok=True)
    make(live, journal=journal, rows=20_000)


def unpacked(folder: Path, manifest: Manifest) -> Path:
    target = folder.parent / "unpacked.db"
    unpack(folder, manifest, target, lambda done, total, unit: None, lambda: None)
    return target


class TestDamage:
    def verify(self, folder: Path, manifest: Manifest, tmp_path: Path):
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        try:
            return ENGINE.verify(folder, manifest, run=None, work_dir=work)
        finally:
            assert names(work) == []

    def test_what_is_whole_is_verified(self, dump, tmp_path):
        folder, manifest = dump()
        report = self.verify(folder, manifest, tmp_path)
        assert report.rows == manifest.rows and "SQLite finds the database sound" in report.sentence

    @pytest.mark.parametrize("spoil", ["flip", "cut", "extra", "gone"])
    def test_what_is_not_is_found(self, dump, tmp_path, spoil):
        folder, manifest = dump()
        path = folder / PACKED
        data = bytearray(path.read_bytes())
        if spoil == "flip":
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        elif spoil == "cut":
            path.write_bytes(data[:-100])
        elif spoil == "extra":
            (folder / "other").touch()
        else:
            path.unlink()
        with pytest.raises(ArchiveDamaged, match=r"Use another archive|Move what does not belong"):
            self.verify(folder, manifest, tmp_path)

    def test_a_live_database_that_is_broken_is_not_backed_up(self, conn, live, tmp_path):
        with closing(sqlite3.connect(live)) as con:
            con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            root, size = con.execute("SELECT rootpage, 0 FROM sqlite_schema WHERE name = 'by_amount'").fetchone()
            (size,) = con.execute("PRAGMA page_size").fetchone()
        with open(live, "r+b") as file:
            file.seek((root - 1) * size + 50)
            file.write(os.urandom(size - 50))
        (tmp_path / "archive").mkdir()
        with pytest.raises(BackupError, match="is damaged"):
            ENGINE.dump(conn, tmp_path / "archive", run=None)

    @pytest.mark.parametrize(
        ("contents", "sentence"), [(b"x" * 5000, "is not a SQLite database, or it is encrypted"), (None, "no file")]
    )
    def test_what_is_none(self, conn, live, contents, sentence):
        live.unlink()
        if contents is not None:
            live.write_bytes(contents)
        with pytest.raises(BackupError, match=sentence):
            ENGINE.inspect(conn)
        assert live.exists() == (contents is not None)

    def test_a_folder_that_is_gone(self, tmp_path):
        with pytest.raises(TargetUnavailable, match="mount its disk"):
            ENGINE.identify(Connection(str(tmp_path / "gone"), 1, "x.db", "", ""))


@pytest.mark.parametrize("name", ["../till.db", "a/b", "/etc/passwd", "", ".", "..", "x\0y", "x" * 201])
def test_a_name_that_leads_elsewhere_is_refused(conn, name):
    with pytest.raises(BackupError, match="plain name of a file"):
        ENGINE.drop_database(conn, name)


@pytest.mark.parametrize("name", ["; rm -rf x", "-rf", "$(id)", "a\nb", "%00.db", "a?mode=rwc#.db"])
def test_an_odd_name_is_a_name(conn, live, name):
    live.rename(live.with_name(name))
    conn = Connection(conn.host, 1, name, "", "")
    assert ENGINE.live_rows(conn).rows["main.totals"] == 1
    assert names(live.parent) == [name]


class TestSwap:
    OLD, NEW = "till.db_before_1", "till.db_restore_1"

    @pytest.fixture
    def other(self, live) -> Path:
        make(live.with_name(self.NEW), rows=10)
        return live.with_name(self.NEW)

    def test_there_and_back_and_again(self, conn, live, other):
        before, after = values(live), values(other)
        ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert values(live) == after and values(live.with_name(self.OLD)) == before
        ENGINE.swap(conn, LIVE, self.NEW, self.OLD)  # done already
        assert values(live) == after
        ENGINE.swap_back(conn, LIVE, self.OLD, self.NEW)
        assert values(live) == before and values(other) == after
        assert names(live.parent) == [LIVE, self.NEW]

    def test_a_file_that_is_in_the_way_stays(self, conn, live, other):
        live.with_name(self.OLD).write_text("precious")
        with pytest.raises(BackupError, match="already. Rename or remove it"):
            ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert live.with_name(self.OLD).read_text() == "precious" and other.exists()

    @pytest.mark.parametrize("journal", ["wal", "delete"])
    def test_not_while_a_program_has_it_open(self, conn, live, other, program, journal):
        make_again(live, journal)
        before = values(live)
        holder = program(HOLDER, live)
        with pytest.raises(BackupError, match=rf"in use \(.*\({holder.pid}\)") as refused:
            ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert "service control" in refused.value.message
        assert other.exists() and not live.with_name(self.OLD).exists()
        holder.kill()
        holder.wait()
        ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert values(live.with_name(self.OLD)) == before

    def test_not_while_a_program_writes(self, conn, live, other, program, monkeypatch):
        monkeypatch.setattr(place, "BUSY_S", 0.5)
        program(WRITER, live, "wal")
        with pytest.raises(BackupError, match="in use"):
            ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert other.exists() and not live.with_name(self.OLD).exists()

    def test_not_while_a_program_has_a_broken_one_open(self, conn, live, other, program):
        holder = program(HOLDER, live)
        with open(live, "r+b") as file:
            file.write(b"broken" * 20)
        broken = live.read_bytes()
        with pytest.raises(BackupError, match=rf"in use \(.*\({holder.pid}\)"):
            ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert live.read_bytes() == broken and other.exists() and not live.with_name(self.OLD).exists()

    def test_one_who_comes_between_the_last_look_and_the_rename_is_found(self, conn, live, other, program, monkeypatch):
        before, after, started = values(live), values(other), []
        rename = os.rename

        def late(source, target):
            if str(target) == str(live) and not started:
                started.append(program(HOLDER, live))
            rename(source, target)

        monkeypatch.setattr(os, "rename", late)
        with pytest.raises(BackupError, match=r"in use \("):
            ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        started[0].kill()
        started[0].wait()
        assert values(live) == before and values(other) == after and not live.with_name(self.OLD).exists()

    @pytest.mark.parametrize("broken", [False, True])
    def test_a_worker_that_wakes_up_after_its_successor_leaves_nothing(self, conn, live, other, broken):
        if broken:
            left_in_log(live)
            live.write_bytes(b"broken" * 1000)
        before, logs = live.read_bytes(), logs_of(live)

        def successor() -> None:
            """Between the last question to the lease and the first change."""
            ENGINE.drop_database(conn, self.NEW)

        with pytest.raises(BackupError):
            ENGINE.swap(conn, LIVE, self.NEW, self.OLD, check=successor)
        assert live.read_bytes() == before and logs_of(live) == logs and not live.with_name(self.OLD).exists()

    def test_one_that_may_not_be_written_is_no_file_in_use(self, conn, live, other, monkeypatch):
        def connect(*args, **options):
            raise sqlite3.OperationalError("attempt to write a readonly database")

        monkeypatch.setattr(place.sqlite3, "connect", connect)
        with pytest.raises(BackupError, match="Correct owner and mode"):
            ENGINE.swap(conn, LIVE, self.NEW, self.OLD)

    def test_a_log_that_a_crash_has_left_goes_into_the_old_database(self, conn, live, other):
        left_in_log(live)
        ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert names(live.parent) == [LIVE, self.OLD]
        with closing(sqlite3.connect(live.with_name(self.OLD))) as con:
            assert con.execute("SELECT count(*) FROM sales WHERE note = 'only in the log'").fetchone() == (1,)

    def test_a_broken_one_is_set_aside_as_it_is_and_comes_back_as_it_was(self, conn, live, other):
        left_in_log(live)
        live.write_bytes(b"broken" * 1000)
        before = live.read_bytes(), logs_of(live)
        ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert len(values(live)[0]) == 10 and live.with_name(self.OLD + "-wal").exists()
        ENGINE.swap_back(conn, LIVE, self.OLD, self.NEW)
        assert (live.read_bytes(), logs_of(live)) == before

    def test_one_that_is_missing(self, conn, live, other):
        for path in (live, *place.sidecars(live)):
            path.unlink(missing_ok=True)
        ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        assert len(values(live)[0]) == 10 and names(live.parent) == [LIVE]

    @pytest.mark.parametrize("broken", [False, True])
    @pytest.mark.parametrize("way", ["undo", "again"])
    @pytest.mark.parametrize("number", range(1, 12))
    def test_killed_at_any_moment(self, conn, live, other, way, broken, number):
        """Before the n-th change to the folder. The live name leads to the old database or to the new one, always."""
        if broken:
            left_in_log(live)
            live.write_bytes(b"broken" * 1000)
        old, new = live.read_bytes(), other.read_bytes()
        logs = logs_of(live)
        die_in(lambda: ENGINE.swap(conn, LIVE, self.NEW, self.OLD), number)
        assert live.read_bytes() in (old, new)
        if way == "again":
            ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
            assert live.read_bytes() == new and live.with_name(self.OLD).read_bytes() == old
            assert not any(path.exists() for path in place.sidecars(live))
        else:
            if ENGINE.database_exists(conn, self.OLD):
                ENGINE.swap_back(conn, LIVE, self.OLD, self.NEW)
            assert live.read_bytes() == old and other.read_bytes() == new
            assert logs_of(live) == logs
            assert not live.with_name(self.OLD).exists()

    @pytest.mark.parametrize("number", range(1, 8))
    def test_the_way_back_may_be_killed_too(self, conn, live, other, number):
        old, new = live.read_bytes(), other.read_bytes()
        ENGINE.swap(conn, LIVE, self.NEW, self.OLD)
        die_in(lambda: ENGINE.swap_back(conn, LIVE, self.OLD, self.NEW), number)
        assert live.read_bytes() in (old, new)
        ENGINE.swap_back(conn, LIVE, self.OLD, self.NEW)
        assert live.read_bytes() == old and other.read_bytes() == new
        assert names(live.parent) == [LIVE, self.NEW]

    def test_a_new_name_beside(self, conn, live, other):
        ENGINE.rename_database(conn, self.NEW, "copy.db")
        ENGINE.rename_database(conn, self.NEW, "copy.db")
        assert names(live.parent) == ["copy.db", LIVE]
        with pytest.raises(BackupError, match="already"):
            ENGINE.rename_database(conn, "copy.db", LIVE)

    def test_dropping_takes_the_log_along(self, conn, live):
        left_in_log(live)
        assert ENGINE.drop_database(conn, LIVE) and not ENGINE.drop_database(conn, LIVE)
        assert names(live.parent) == []


def left_in_log(live: Path) -> None:
    """A committed row that a crash has left in the write-ahead log."""
    source = (
        "import os, sqlite3, sys; con = sqlite3.connect(sys.argv[1]); con.execute('PRAGMA wal_autocheckpoint = 0');"
        "con.execute(\"INSERT INTO sales (amount, note) VALUES (1, 'only in the log')\"); con.commit();"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-I", "-c", source, str(live)], check=False)
    assert live.with_name(live.name + "-wal").stat().st_size


def logs_of(live: Path) -> dict[Path, bytes]:
    """The log and the journals beside it; the shared memory is only an index to the log."""
    return {path: path.read_bytes() for path in place.sidecars(live) if path.exists() and not path.match("*-shm")}


def die_in(act: Callable[[], object], number: int) -> None:
    """In a process of its own, which kills itself before its n-th change to a folder; it may be over before."""
    child = os.fork()
    if child == 0:
        left = number

        def mortal(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **kwargs: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        for name in ("link", "rename", "unlink", "fsync"):
            setattr(os, name, mortal(getattr(os, name)))
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL


class TestAsking:
    def test_rows_now(self, conn):
        found = ENGINE.live_rows(conn)
        assert found.rows["main.sales"] == 3000 and not found.estimated

    def test_estimates_when_it_takes_too_long(self, conn, live):
        make_again(live, "wal")
        found = ENGINE.live_rows(conn, timeout_s=-1)
        assert found.estimated and found.rows["main.sales"] == 20_000

    @pytest.mark.parametrize(
        ("query", "sentence"),
        [
            ("SELECT count(*) > 10 FROM sales", "answered true"),
            ("", "No smoke test is set"),
            ("SELECT count(*) > 10000 FROM sales;", "answered 0 instead of true"),
            ("SELECT x FROM nowhere", "no such table"),
            ("WITH x AS (SELECT 1) SELECT 1 FROM x WHERE 0", "answered nothing"),
        ],
    )
    def test_smoke_test(self, conn, query, sentence):
        if ("true" in sentence and "instead" not in sentence) or "set" in sentence:
            assert sentence in ENGINE.smoke_test(conn, LIVE, query)
        else:
            with pytest.raises(BackupError, match=sentence):
                ENGINE.smoke_test(conn, LIVE, query)

    def test_a_smoke_test_cannot_write(self, conn, live):
        before = values(live)
        with pytest.raises(BackupError, match="readonly"):
            ENGINE.smoke_test(conn, LIVE, "DELETE FROM sales")
        assert values(live) == before

    def test_one_that_never_ends(self, conn, monkeypatch):
        monkeypatch.setattr("backups.engines.sqlite.SMOKE_TEST_S", 0.2)
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        began = time.monotonic()
        with pytest.raises(BackupError, match="did not answer within"):
            ENGINE.smoke_test(conn, LIVE, endless)
        assert time.monotonic() - began < 20

    def test_another_folder_is_another_place(self, conn, tmp_path):
        (tmp_path / "app2").mkdir()
        here, there = ENGINE.identify(conn), ENGINE.identify(Connection(str(tmp_path / "app2"), 1, "x", "", ""))
        assert here.system_identifier != there.system_identifier
        (tmp_path / "link").symlink_to(conn.host)
        assert ENGINE.identify(Connection(str(tmp_path / "link"), 1, "x", "", "")) == here
