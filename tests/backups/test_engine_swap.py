"""Swapping databases under load, killed at any moment."""

from __future__ import annotations

import dataclasses
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psycopg
import pytest

from backups.engines.postgresql import PostgreSQLEngine
from backups.exceptions import BackupError
from tests.backups.postgresql import MARK, PREFIX, session, value

ROOT = Path(__file__).resolve().parents[2]


class TestSwap:
    @pytest.fixture
    def pair(self, make):
        """(connection to live holding 1, name of a scratch holding 2, name for the old one)"""
        live, scratch = f"{PREFIX}_swap", f"{PREFIX}_swap_new"
        conn = make(live, "CREATE TABLE t AS SELECT 1 AS v")
        make(scratch, "CREATE TABLE t AS SELECT 2 AS v")
        yield conn, scratch, f"{PREFIX}_swap_old"
        for name in (live, scratch, f"{PREFIX}_swap_old", f"{PREFIX}_swap_aside"):
            PostgreSQLEngine().drop_database(conn, name)

    def test_there_and_back_and_again(self, engine, pair, admin):
        conn, scratch, old = pair
        engine.swap(conn, conn.database, scratch, old)
        assert value(conn, "SELECT v FROM t") == 2
        engine.swap(conn, conn.database, scratch, old)  # a second attempt after a death finds it done
        assert value(conn, "SELECT v FROM t") == 2
        comment = admin.execute(
            f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{old}'"
        )
        assert f"“{conn.database}” as it was before a restore" in comment.fetchone()[0]
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            session(dataclasses.replace(conn, database=old))
        for _ in range(2):
            engine.swap_back(conn, conn.database, old, f"{PREFIX}_swap_aside")
            assert value(conn, "SELECT v FROM t") == 1
        engine.swap_back(conn, conn.database, f"{PREFIX}_swap_aside", old)
        assert value(conn, "SELECT v FROM t") == 2

    def test_without_a_live_database(self, engine, pair):
        conn, scratch, old = pair
        assert engine.drop_database(conn, conn.database)
        engine.swap(conn, conn.database, scratch, old)
        assert value(conn, "SELECT v FROM t") == 2
        assert not engine.database_exists(conn, old)
        with pytest.raises(BackupError, match="no database .* to go back to"):
            engine.swap_back(conn, conn.database, old, f"{PREFIX}_swap_aside")

    def test_a_swap_whose_scratch_was_taken_away_fails_whole(self, engine, pair):
        """The fence: a successor has dropped the scratch database, so a zombie cannot swap."""
        conn, scratch, old = pair
        engine.drop_database(conn, scratch)
        with pytest.raises(BackupError, match="is gone. Start the restore again"):
            engine.swap(conn, conn.database, scratch, old)
        assert value(conn, "SELECT v FROM t") == 1

    def test_a_name_in_the_way(self, engine, pair, make):
        conn, scratch, old = pair
        make(old)
        with pytest.raises(BackupError, match="There is a database .* already"):
            engine.swap(conn, conn.database, scratch, old)
        assert value(conn, "SELECT v FROM t") == 1

    @pytest.mark.parametrize("name", ["postgres", "template1"])
    def test_the_servers_own_databases(self, engine, pair, name):
        conn, scratch, old = pair
        with pytest.raises(BackupError, match="never renamed or dropped"):
            engine.swap(conn, name, scratch, old)
        with pytest.raises(BackupError, match="never renamed or dropped"):
            engine.drop_database(conn, name)

    def test_under_clients_that_come_back_at_once(self, engine, pair):
        """Clients never see a mix or a closed database; who waits at the moment of the rename connects once more."""
        conn, scratch, old = pair
        stop, seen, errors = threading.Event(), [], []

        def client():
            last = time.monotonic()
            while not stop.is_set():
                try:
                    with session(conn) as one:
                        while not stop.is_set():
                            answer = one.execute("SELECT v FROM t").fetchone()[0]
                            now = time.monotonic()
                            seen.append((now, now - last, answer))
                            last = now
                            time.sleep(0.002)
                except psycopg.Error as error:
                    errors.append(str(error))

        threads = [threading.Thread(target=client) for _ in range(8)]
        [thread.start() for thread in threads]
        try:
            time.sleep(0.3)
            engine.swap(conn, conn.database, scratch, old)
            time.sleep(0.3)
            engine.swap_back(conn, conn.database, old, scratch)
            time.sleep(0.3)
        finally:
            stop.set()
            [thread.join() for thread in threads]
        answers = [answer for _, _, answer in sorted(seen)]
        assert [a for n, a in enumerate(answers) if n == 0 or answers[n - 1] != a] == [1, 2, 1]
        refused = [e for e in errors if "does not exist" in e and "just been dropped or renamed" not in e]
        assert not refused + [error for error in errors if "not currently accepting" in error]
        assert len(errors) < 8 * 2 * 3, "a few errors per client and swap"
        assert max(gap for _, gap, _ in seen) < 5

    def test_killed_at_any_moment(self, engine, pair, target_server):
        """After SIGKILL of whoever swaps, the live name is there and open, with the old or the new data."""
        conn, scratch, old = pair
        code = textwrap.dedent(
            """
            import sys
            from backups.engines.base import Connection
            from backups.engines.postgresql import PostgreSQLEngine
            host, user, password, session_name, *names = sys.argv[1:]
            conn = Connection(host, 5432, names[0], user, password, application_name=session_name)
            engine = PostgreSQLEngine()
            print("ready", flush=True)
            sys.stdin.readline()
            engine.swap(conn, *names)
            """
        )
        chance, outcomes = random.Random(11), set()
        arguments = [conn.host, conn.user, conn.password, f"{MARK}/op9/a1", conn.database, scratch, old]
        for number in range(8):
            child = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            with session(conn):  # a client in the way, so that the rename has to wait
                child.stdout.readline()
                child.stdin.write(b"\n")
                child.stdin.flush()
                time.sleep((3.0, 0.0)[number] if number < 2 else chance.uniform(0, 0.12))
                child.send_signal(signal.SIGKILL)
                child.communicate()
            engine.end_backends(conn, f"{MARK}/op9")
            now = value(conn, "SELECT v FROM t")
            there = engine.database_exists(conn, old), engine.database_exists(conn, scratch)
            assert (now, *there) in {(1, False, True), (2, True, False)}
            outcomes.add(now)
            if now == 2:
                engine.swap_back(conn, conn.database, old, scratch)
                with psycopg.connect(
                    host=conn.host, user=conn.user, password=conn.password, dbname="postgres", autocommit=True
                ) as one:
                    one.execute(f"ALTER DATABASE {scratch} ALLOW_CONNECTIONS true")
        assert outcomes == {1, 2}, "some attempts were killed before and some after the commit"

    def test_renaming(self, engine, pair):
        conn, scratch, old = pair
        with session(dataclasses.replace(conn, database=scratch)):
            engine.rename_database(conn, scratch, old)
        engine.rename_database(conn, scratch, old)
        assert engine.database_exists(conn, old) and not engine.database_exists(conn, scratch)

    def test_dropping_with_clients(self, engine, pair):
        conn, scratch, _ = pair
        with session(dataclasses.replace(conn, database=scratch)):
            assert engine.drop_database(conn, scratch) is True
        assert engine.drop_database(conn, scratch) is False
