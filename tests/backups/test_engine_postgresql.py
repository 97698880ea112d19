"""There and back: what was in a real database is in the archive and in the restored database."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time

import pytest
from psycopg import sql

from backups import manifest
from backups.engines.postgresql import PostgreSQLEngine
from backups.engines.postgresql.connect import Clients
from backups.exceptions import BackupError
from tests.backups.postgresql import EVERYTHING, HOSTILE, ORDERS, PREFIX, archive, restore, run, session, value


class TestRoundTrip:
    def test_everything_survives(self, engine, make, admin, tmp_path):
        """Hostile names, all kinds of values, the database's own properties; then undone."""
        reader, setter = f"{PREFIX} reader", f"{PREFIX}\"se'tter"
        for role in (reader, setter):
            admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        conn = make(HOSTILE, *EVERYTHING)
        live = sql.Identifier(HOSTILE)
        for statement in (
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 40").format(live),
            sql.SQL("COMMENT ON DATABASE {} IS 'the ''ERP''\nof all'").format(live),
            sql.SQL('ALTER DATABASE {} SET search_path TO "$user", public, "-Sch""em\'a.x"').format(live),
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only TO on").format(live),
            sql.SQL("ALTER DATABASE {} SET my.setting TO 'it''s'").format(live),
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET work_mem TO '77MB'").format(sql.Identifier(setter), live),
            sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(live),
            sql.SQL("GRANT CONNECT, CREATE ON DATABASE {} TO {} WITH GRANT OPTION").format(
                live, sql.Identifier(reader)
            ),
        ):
            admin.execute(statement)
        seen: list[tuple] = []
        described = archive(engine, conn, tmp_path / "a", progress=lambda *values: seen.append(values))
        assert seen and seen[-1][0] == seen[-1][1] and all(unit == "bytes" for _, _, unit in seen)
        assert {table.key: table.rows for table in described.tables}["public.plain"] == 3
        assert described.large_objects == 2 and described.rows == 39 and described.warnings == []
        assert reader in described.roles
        report = engine.verify(tmp_path / "a", manifest.read(tmp_path / "a"), run=run)
        assert (report.tables, report.rows) == (len(described.tables), 39)

        scratch = f"{PREFIX}_scratch"
        restore(engine, conn, tmp_path / "a", described, scratch, tmp_path / "work")
        assert list((tmp_path / "work").iterdir()) == [], "the spool is gone"
        engine.analyze(conn, scratch, run=run)
        assert engine.compare(described, engine.measure(conn, scratch)) == []
        engine.apply_properties(conn, scratch, described.properties)
        engine.apply_properties(conn, scratch, described.properties)
        engine.swap(conn, HOSTILE, scratch, f"{PREFIX}_old")
        assert archive(engine, conn, tmp_path / "b").properties == described.properties
        restored = value(conn, "SELECT string_agg(p::text, ';' ORDER BY id) FROM public.plain p")
        engine.swap_back(conn, HOSTILE, f"{PREFIX}_old", f"{PREFIX}_aside")
        assert value(conn, "SELECT string_agg(p::text, ';' ORDER BY id) FROM public.plain p") == restored
        assert archive(engine, conn, tmp_path / "c").properties == described.properties, "the comment, too, is back"

    def test_a_database_without_tables_is_honest(self, engine, make, tmp_path):
        conn = make(f"{PREFIX}_void")
        described = archive(engine, conn, tmp_path / "a")
        assert "nothing to compare" in engine.verify(tmp_path / "a", described, run=run).sentence
        assert engine.compare(described, engine.measure(conn, conn.database)) == []

    def test_dump_and_counts_see_one_moment(self, engine, make, tmp_path):
        conn = make(f"{PREFIX}_busy", *ORDERS, "CREATE TABLE ledger (delta int)")
        stop = threading.Event()

        def write():
            with session(conn) as one:
                number = 5000
                while not stop.is_set():
                    number += 1
                    with one.transaction():
                        one.execute("INSERT INTO orders VALUES (%s, 'x', 0)", [number])
                        one.execute("INSERT INTO ledger VALUES (1)")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            time.sleep(0.1)
            described = archive(engine, conn, tmp_path / "a")
        finally:
            stop.set()
            writer.join()
        rows = {table.key: table.rows for table in described.tables}
        assert rows["public.orders"] - 5000 == rows["public.ledger"] > 0
        assert rows["public.ledger"] < value(conn, "SELECT count(*) FROM ledger"), "writing went on meanwhile"
        engine.verify(tmp_path / "a", described, run=run)

    def test_an_ordinary_owner_can_do_it_all(self, engine, make, admin, tmp_path):
        role = f"{PREFIX}_owner"
        admin.execute(f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'se:cr\\et' IN ROLE pg_signal_backend")
        conn = make(f"{PREFIX}_owned", *ORDERS)
        superuser = conn
        conn = dataclasses.replace(conn, user=role, password="se:cr\\et")
        admin.execute(f"ALTER DATABASE {PREFIX}_owned OWNER TO {role}")
        with session(superuser) as one:
            one.execute(f"ALTER TABLE orders OWNER TO {role}")
        described = archive(engine, conn, tmp_path / "a")
        scratch, old = f"{PREFIX}_owned_s", f"{PREFIX}_owned_old"
        checks = engine.preflight_restore(
            conn, described, tmp_path / "a", system_identifier=None, forbidden=[], work_dir=tmp_path
        )
        assert not [check for check in checks if check.ok is False]
        restore(engine, conn, tmp_path / "a", described, scratch, tmp_path / "work")
        assert engine.compare(described, engine.measure(conn, scratch)) == []
        engine.apply_properties(conn, scratch, described.properties)
        with session(superuser), pytest.raises(BackupError, match="superuser “ops” is connected .* only a superuser"):
            engine.swap(conn, conn.database, scratch, old)
        with session(conn):
            engine.swap(conn, conn.database, scratch, old)
        assert engine.drop_database(conn, old)

    def test_globals_that_may_not_be_read_are_a_warning(self, engine, make, tmp_path):
        conn = dataclasses.replace(make(f"{PREFIX}_glob", *ORDERS), maintenance_database="gone")
        logged = []
        described = archive(engine, conn, tmp_path / "a", log=logged.append)
        assert described.warnings and described.warnings[0].startswith(
            "Roles and tablespaces were not saved: pg_dumpall failed"
        )
        assert logged == described.warnings and "globals.sql" not in [file.path for file in described.files]


@pytest.fixture(scope="module")
def measured(engine, target, admin):
    name = f"{PREFIX}_fp"
    admin.execute(f"CREATE DATABASE {name}")
    conn = dataclasses.replace(target, database=name)
    with session(conn) as one:
        for statement in (
            *ORDERS,
            "CREATE TABLE other (v float8, t interval)",
            "INSERT INTO other VALUES (0.1, '1 day'), (2, '1 h')",
        ):
            one.execute(statement)
    return conn


class TestFingerprints:
    @pytest.fixture
    def described(self, engine, measured, tmp_path):
        return archive(engine, measured, tmp_path / "a")

    @pytest.mark.parametrize(
        ("change", "undo", "found"),
        [
            (
                "UPDATE orders SET note = 'ordes 7' WHERE id = 7",
                "UPDATE orders SET note = 'order 7' WHERE id = 7",
                "other contents",
            ),
            (
                "UPDATE other SET v = 0.10000000000000002 WHERE v < 1",
                "UPDATE other SET v = 0.1 WHERE v < 1",
                "other contents",
            ),
            ("UPDATE other SET t = '25 h' WHERE v > 1", "UPDATE other SET t = '1 h' WHERE v > 1", "other contents"),
            (
                "DELETE FROM orders WHERE id = 1",
                "INSERT INTO orders VALUES (1, 'order 1', 1.1)",
                "4999 rows instead of 5000",
            ),
            ("ALTER TABLE other RENAME TO another", "ALTER TABLE another RENAME TO other", "public.other is missing"),
            ("CREATE TABLE more (i int)", "DROP TABLE more", "public.more is not in the archive"),
            ("SELECT lo_create(4711)", "SELECT lo_unlink(4711)", "1 large objects instead of 0"),
        ],
    )
    def test_a_difference_is_found(self, engine, measured, described, change, undo, found):
        with session(measured) as one:
            one.execute(change)
            try:
                assert found in " ".join(engine.compare(described, engine.measure(measured, measured.database)))
            finally:
                one.execute(undo)
        assert engine.compare(described, engine.measure(measured, measured.database)) == []

    def test_settings_of_the_database_do_not_matter(self, engine, measured, described, admin):
        name = measured.database
        for setting in (
            "DateStyle = 'German'",
            "IntervalStyle = 'sql_standard'",
            "extra_float_digits = -10",
            "TimeZone = 'Asia/Tokyo'",
        ):
            admin.execute(f"ALTER DATABASE {name} SET {setting}")
        assert engine.compare(described, engine.measure(measured, name)) == []
        admin.execute(f"ALTER DATABASE {name} RESET ALL")

    def test_nothing_measured_is_not_the_same(self, engine, described):
        with pytest.raises(BackupError, match="nothing to compare"):
            engine.compare(described, {})

    def test_another_major_version_compares_rows_only(self, engine, measured, described):
        now = engine.measure(measured, measured.database)
        changed = {name: dataclasses.replace(facts, fingerprint="1") for name, facts in now.items()}
        assert engine.compare(described, changed, server_version_num=180000)
        older = dataclasses.replace(described, server_version_num=160000)
        assert engine.compare(older, changed, server_version_num=180000) == []


# A client that knows zstd, made of one that does not: what Debian's packages do and the wheel's binaries cannot.
ZSTD_CLIENT = """
import glob, os, subprocess, sys
real, name, arguments = {real!r}, os.path.basename(sys.argv[0]), sys.argv[1:]
def option(key):
    return next((one.split("=", 1)[1] for one in arguments if one.startswith(key + "=")), None)
def pack(*extra):
    files = [f for f in glob.glob(folder + "/*.dat*") if not f.endswith("toc.dat")]
    if files: subprocess.run(["zstd", "-q", "--rm", *extra, *files], check=True)
if name == "pg_dump" and option("--compress") == "zstd:1":
    if option("--host"): sys.exit("pg_dump: error: connection failed")
    folder = option("--file")
    arguments[arguments.index("--compress=zstd:1")] = "--compress=none"
    code = subprocess.run([f"{{real}}/{{name}}", *arguments], close_fds=False).returncode
    pack("-1")
    sys.exit(code)
if name == "pg_restore" and option("--dbname"):
    folder = arguments[-1]
    subprocess.run(["cp", "-r", folder, folder + ".copy"], check=True)
    folder = arguments[-1] = folder + ".copy"
    pack("-d")
    code = subprocess.run([f"{{real}}/{{name}}", *arguments], close_fds=False).returncode
    subprocess.run(["rm", "-r", folder])
    sys.exit(code)
os.execv(f"{{real}}/{{name}}", [f"{{real}}/{{name}}", *arguments])
"""


@pytest.mark.needs("zstd")
def test_a_client_with_zstd_needs_no_spool(engine, make, tmp_path):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    real = engine.bin_dir or os.path.dirname(subprocess.check_output(["which", "pg_dump"], text=True))
    for program in ("pg_dump", "pg_restore", "pg_dumpall", "vacuumdb"):
        (bin_dir / program).write_text(f"#!{sys.executable}\n" + ZSTD_CLIENT.format(real=real))
        (bin_dir / program).chmod(0o755)
    packing = PostgreSQLEngine(str(bin_dir))
    assert packing.clients.has_zstd()
    conn = make(f"{PREFIX}_zstd", *EVERYTHING, *ORDERS)
    described = archive(packing, conn, tmp_path / "a")
    assert all(table.file.endswith(".dat.zst") for table in described.tables)
    assert packing.verify(tmp_path / "a", described, run=run).rows == described.rows == 5039
    scratch = f"{PREFIX}_zstd_s"
    restore(packing, conn, tmp_path / "a", described, scratch, tmp_path / "work")
    assert not (tmp_path / "work").exists()
    assert packing.compare(described, packing.measure(conn, scratch)) == []
    # And either client reads what the other one made.
    assert engine.verify(tmp_path / "a", described, run=run).rows == 5039
    restore(engine, conn, tmp_path / "a", described, scratch, tmp_path / "work")
    assert engine.compare(described, engine.measure(conn, scratch)) == []


def test_these_binaries_say_what_they_can(engine):
    """The probe agrees with a real attempt."""
    clients = Clients(engine.bin_dir)
    out = subprocess.run(
        [clients.path("pg_dump"), "--compress=zstd", "--file=/dev/null", "--host=/nonexistent"],
        capture_output=True,
        text=True,
    )
    assert clients.has_zstd() is ("compression" not in out.stderr)
