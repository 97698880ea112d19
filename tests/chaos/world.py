"""What the portal of the harness manages: one database in two known states, a plan, a service. Needs Django set up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import redis
from django.core.management import call_command
from django.db import close_old_connections, connection
from psycopg import sql

from backups.models import Archive, Plan, Restore, Storage
from catalog.models import Component, DatabaseTarget, Environment, Host, Service, ServiceControlCommands
from core.models import User
from opsportal.stack.postgres import USER
from opsportal.stack.servers import DATABASE
from tests.chaos.faults import Faults
from tests.chaos.servers import Machine
from tests.chaos.watch import Client, LeaseWatcher

LIVE = "shop"
ROWS_A, ROWS_B = 30_000, 20_000
# Every change of state, kept where no attempt can take it back.
JOURNAL = """
CREATE TABLE chaos_journal (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), what text NOT NULL, id bigint NOT NULL, state text NOT NULL);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_journal (what, id, state) VALUES (TG_TABLE_NAME, NEW.id, NEW.state);
    RETURN NEW;
END $$;
CREATE TRIGGER chaos_operation AFTER UPDATE ON operations_operation FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.ended_at IS DISTINCT FROM NEW.ended_at)
    EXECUTE FUNCTION chaos_note();
CREATE TRIGGER chaos_archive AFTER UPDATE ON backups_archive FOR EACH ROW
    WHEN (NEW.state = 'available' AND (OLD.state <> 'available' OR OLD.name <> NEW.name))
    EXECUTE FUNCTION chaos_note();
"""
SHOP = """
CREATE TABLE marker (value text NOT NULL);
CREATE TABLE item (id bigint PRIMARY KEY, name text NOT NULL, price numeric(10, 2) NOT NULL);
INSERT INTO marker VALUES ('A');
INSERT INTO item SELECT n, 'item ' || md5(n::text), n % 1000 FROM generate_series(1, {rows}) n;
CREATE INDEX item_name ON item (name);
"""
TO_B = "UPDATE marker SET value = 'B'; DELETE FROM item WHERE id > {rows}; UPDATE item SET price = price + 1;"


class World:
    """The managed things, and how each case finds them again as the first one did."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.faults = Faults(machine.faults)
        self.marks = machine.root / "marks"
        self.service_folder = machine.root / "service"
        self.durations: dict[tuple[str, str], float] = {}
        for folder in (self.marks, self.service_folder, machine.root / "archives"):
            folder.mkdir(mode=0o700)
        self.watcher = LeaseWatcher(self.portal)
        self.client = Client(lambda: self.target(LIVE))

    # -- connections ----------------------------------------------------------------------------------------------

    def portal(self) -> psycopg.Connection[tuple[Any, ...]]:
        cluster = self.machine.servers.portal
        assert cluster
        return self._connect(str(cluster.sockets), DATABASE, cluster.password)

    def target(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        cluster = self.machine.servers.demo
        assert cluster
        return self._connect(str(cluster.sockets), database, cluster.password)

    def _connect(self, host: str, database: str, password: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=host,
            dbname=database,
            user=USER,
            password=password,
            autocommit=True,
            connect_timeout=10,
            application_name="chaos",
        )

    def flush_redis(self) -> None:
        path, user, password = self.machine.redis_admin_socket()
        redis.Redis(unix_socket_path=path, username=user, password=password).flushall()

    # -- set up ---------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Schema, rows, both states of the managed database, the service."""
        with connection.cursor() as cursor:
            cursor.execute("SET idle_in_transaction_session_timeout = 0")  # a busy machine renders models for long
            call_command("migrate", verbosity=0, interactive=False)
            cursor.execute("RESET idle_in_transaction_session_timeout")
            cursor.execute(JOURNAL)
        self._databases()
        self._rows()
        self.service("start")

    def _databases(self) -> None:
        with self.target() as session:
            # A client that stands still in the middle of signing in holds up every DROP DATABASE of the server until
            # its time is over, by default a minute.
            session.execute("ALTER SYSTEM SET authentication_timeout = '5s'")
            session.execute("SELECT pg_reload_conf()")
            session.execute("CREATE DATABASE master_a")
            with self.target("master_a") as inside:
                inside.execute(SHOP.format(rows=ROWS_A))
            session.execute("CREATE DATABASE master_b TEMPLATE master_a STRATEGY FILE_COPY")
            with self.target("master_b") as inside:
                inside.execute(TO_B.format(rows=ROWS_B))
            session.execute(f"CREATE DATABASE {LIVE} TEMPLATE master_a STRATEGY FILE_COPY")
        self.states = {letter: self._state(f"master_{letter}") for letter in ("a", "b")}

    def _state(self, database: str) -> str:
        """What the client sees of a database in this state."""
        with self.target(database) as session:
            row = session.execute(self.client._query).fetchone()
        assert row
        return str(row[0])

    def _rows(self) -> None:
        service = Service.objects.create(name="Shop", slug="shop")
        environment = Environment.objects.create(service=service, name="Live", slug="live", kind="production")
        component = Component.objects.create(environment=environment, name="Database", kind="database")
        host = Host.objects.create(name="here", address="localhost", queue="operations")
        cluster = self.machine.servers.demo
        assert cluster
        target = DatabaseTarget.objects.create(
            component=component,
            name="shop",
            host=str(cluster.sockets),
            database=LIVE,
            user=USER,
            password_ref="env:OPS_SECRET_CHAOS",
            sslmode="disable",
            smoke_test="SELECT count(*) > 0 FROM item",
        )
        storage = Storage.objects.create(name="archives", host=host, root=str(self.machine.root / "archives"))
        self.plan = Plan.objects.create(name="Shop", target=target, storage=storage, folder="shop")
        command = [sys.executable, "-S", str(Path(__file__).with_name("service.py"))]
        folder = str(self.service_folder)
        ServiceControlCommands.objects.create(
            environment=environment,
            start=[*command, "start", folder],
            stop=[*command, "stop", folder],
            status=[*command, "status", folder],
            timeout_s=30,
            ready_timeout_s=30,
        )
        self.person = User.objects.create_superuser("chaos", password=None)

    def service(self, word: str) -> int:
        command = [sys.executable, "-S", str(Path(__file__).with_name("service.py")), word, str(self.service_folder)]
        return subprocess.run(command, env={}, timeout=30).returncode

    # -- between cases --------------------------------------------------------------------------------------------

    def reset(self, state: str) -> None:
        """The live database in state "a" or "b", nothing beside it, the service running."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self._reset_databases(state)
                break
            except psycopg.Error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        close_old_connections()
        Restore.objects.exclude(safety_copy=Restore.SafetyCopy.NONE).update(
            safety_copy=Restore.SafetyCopy.DROPPED, safety_database=""
        )
        self.service("start")

    def _reset_databases(self, state: str) -> None:
        with self.target() as session:
            for name in self.databases():
                if name != LIVE or self._state(LIVE) != self.states[state]:
                    session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            if LIVE not in self.databases():
                session.execute(f"CREATE DATABASE {LIVE} TEMPLATE master_{state} STRATEGY FILE_COPY")

    def databases(self) -> list[str]:
        """All of the target's databases but its own and the masters."""
        with self.target() as session:
            query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname !~ '^(postgres$|master_)'"
            return [row[0] for row in session.execute(query)]

    def restore_point(self) -> Archive:
        """A verified archive of state "a"; made by the first backup."""
        found = Archive.objects.with_place().filter(state="available", verification="verified").order_by("pk").first()
        assert found is not None, "no backup has succeeded"
        return found
