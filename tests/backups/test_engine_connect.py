"""Reaching a PostgreSQL server: every failure is a sentence that says what to do, and never the password."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from pathlib import Path

import psycopg
import pytest

from backups import manifest
from backups.engines import ENGINES
from backups.engines.base import Connection
from backups.engines.postgresql import PostgreSQLEngine
from backups.engines.postgresql.connect import conninfo, explain
from backups.engines.postgresql.properties import split_names
from backups.exceptions import BackupError, TargetUnavailable
from backups.manifest import DatabaseProperties
from tests.backups.postgresql import ORDERS, PREFIX, session, value


class TestConnecting:
    """Every failure says what to do next and never the password."""

    def refused(self, engine, conn: Connection) -> str:
        with pytest.raises(TargetUnavailable) as caught:
            engine.inspect(conn)
        message = caught.value.message
        assert conn.password not in message or not conn.password
        assert message.endswith((".", ")"))
        return message

    def test_wrong_password(self, engine, target):
        message = self.refused(engine, dataclasses.replace(target, password="Wr0ng:pass word"))
        assert "refused the password of “ops”" in message and "Correct the secret" in message

    def test_no_password(self, engine, target):
        assert "wants a password" in self.refused(engine, dataclasses.replace(target, password=""))

    def test_unknown_database(self, engine, target):
        message = self.refused(engine, dataclasses.replace(target, database="no such db"))
        assert message == "The server has no database “no such db”. Correct the name, or restore the database first."

    def test_no_socket(self, engine, target):
        message = self.refused(engine, dataclasses.replace(target, host="/nonexistent"))
        assert "no server socket in /nonexistent" in message

    def test_nothing_listens(self, engine, target):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            message = self.refused(engine, dataclasses.replace(target, host="127.0.0.1", port=port))
        assert (
            message
            == f"Nothing answers at 127.0.0.1:{port}. Start the server, open the firewall or correct the address."
        )

    def test_unknown_host(self, engine, target):
        message = self.refused(engine, dataclasses.replace(target, host="no-such-host.invalid"))
        assert "host name “no-such-host.invalid” is not known" in message

    def peer(self, answer: bytes) -> int:
        """A server that answers the first message with ``answer`` and then falls silent."""
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            with listener, listener.accept()[0] as client:
                client.recv(1024)
                client.sendall(answer)
                client.recv(1024)
                time.sleep(3 if not answer else 0)

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1]

    def test_silence(self, engine, target):
        conn = dataclasses.replace(target, host="127.0.0.1", port=self.peer(b""), connect_timeout_s=2)
        assert "did not answer within 2 seconds" in self.refused(engine, conn)

    def test_tls_is_wanted_and_the_server_has_none(self, engine, target):
        conn = dataclasses.replace(target, host="127.0.0.1", port=self.peer(b"N"), sslmode="require")
        assert "TLS mode “require” asks for TLS" in self.refused(engine, conn)

    def test_the_server_wants_tls(self, engine, target):
        said = b'no pg_hba.conf entry for host "10.0.0.9", user "ops", database "erp", no encryption'
        fields = b"SFATAL\0VFATAL\0C28000\0M" + said + b"\0\0"
        answer = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
        conn = dataclasses.replace(target, host="127.0.0.1", port=self.peer(answer), sslmode="disable")
        assert "only lets “ops” in over TLS" in self.refused(engine, conn)

    def test_no_free_connection(self, engine, target, admin):
        role = f"{PREFIX}_full"
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
        assert "no free connection" in self.refused(engine, dataclasses.replace(target, user=role, password="x"))

    def test_a_closed_database(self, engine, make, admin):
        conn = make(f"{PREFIX}_closed")
        admin.execute(f"ALTER DATABASE {PREFIX}_closed ALLOW_CONNECTIONS false")
        assert "is closed to connections" in self.refused(engine, conn)

    def test_no_privilege_to_connect(self, engine, make, admin):
        conn = make(f"{PREFIX}_private")
        admin.execute(f"CREATE ROLE {PREFIX}_nobody LOGIN PASSWORD 'x'")
        admin.execute(f"REVOKE CONNECT ON DATABASE {PREFIX}_private FROM PUBLIC")
        message = self.refused(engine, dataclasses.replace(conn, user=f"{PREFIX}_nobody", password="x"))
        assert "GRANT CONNECT" in message

    def test_whatever_else_is_said_without_the_password(self, target):
        error = explain(target, "erp", psycopg.OperationalError(f"odd failure with {target.password} in it"))
        assert target.password not in error.message and "odd failure" in error.message


class TestLooking:
    def test_it_is_registered(self):
        assert ENGINES["postgresql"] is PostgreSQLEngine

    def test_inspect_and_identify(self, engine, make, admin):
        conn = make(f"{PREFIX}_look", *ORDERS)
        facts = engine.inspect(conn)
        assert facts.version_num // 10000 == int(facts.version.split(".")[0])
        assert facts.system_identifier == engine.identify(conn).system_identifier
        assert [table.name for table in facts.tables] == ["public.orders"]
        assert 0 < facts.tables[0].bytes == facts.table_bytes < facts.database_bytes
        assert facts.extensions == ("plpgsql",) and facts.role == conn.user
        assert facts.is_superuser and facts.can_create_databases and facts.bypasses_row_security and facts.can_terminate
        assert 0 < facts.connections < facts.max_connections
        missing = dataclasses.replace(conn, database="gone")
        assert engine.identify(missing).system_identifier == facts.system_identifier

    def test_live_rows(self, engine, make):
        conn = make(f"{PREFIX}_rows", *ORDERS, "CREATE TABLE e (i int)", "ANALYZE orders")
        assert engine.live_rows(conn) == type(engine.live_rows(conn))({"public.orders": 5000, "public.e": 0}, False)
        with session(conn) as holder, holder.transaction():
            holder.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            estimated = engine.live_rows(conn, timeout_s=0.5)
            assert time.monotonic() - began < 3
        assert estimated.estimated and estimated.rows["public.orders"] == 5000

    def test_commands_are_shown_without_the_password(self, engine, target):
        for command in (
            *engine.dump_commands(target, Path("/backups/x")),
            *engine.restore_commands(target, Path("/x"), "s"),
        ):
            assert target.password not in command.shown()
        assert "pg_dump" in engine.dump_commands(target, Path("/backups/x"))[0].shown()


class TestSmallThings:
    @pytest.mark.parametrize(
        ("stored", "names"),
        [
            ('"$user", public', ["$user", "public"]),
            ('a, "b ""c", "d,e"', ["a", 'b "c', "d,e"]),
            ('""', []),
            ("", []),
            ("one", ["one"]),
        ],
    )
    def test_lists_of_names(self, stored, names):
        assert split_names(stored) == names

    @pytest.mark.parametrize("name", ["plain", "a=b", "o'brien", "back\\slash", "-x", " ", "dbname=x host=y"])
    def test_conninfo_takes_any_name(self, name):
        assert psycopg.conninfo.conninfo_to_dict(conninfo(name)) == {"dbname": name}

    def test_a_password_with_a_line_break_is_refused(self, engine, target):
        with pytest.raises(BackupError, match="line break"):
            engine.dump_commands(dataclasses.replace(target, password="a\nb"), Path("/x"))

    def test_properties_survive_json(self):
        properties = DatabaseProperties("o", "UTF8", "i", "de", "C", "C", icu_rules="&a < b")
        assert manifest.decode(DatabaseProperties, json.loads(json.dumps(manifest.encode(properties)))) == properties

    def test_the_password_is_in_no_representation(self, target):
        assert target.password not in repr(target) and target.password not in str(target)

    def test_smoke_test(self, engine, make):
        conn = make(f"{PREFIX}_smoke", *ORDERS)
        assert "true" in engine.smoke_test(
            conn, conn.database, "SELECT count(*) = 5000 FROM orders WHERE note LIKE 'order %'"
        )
        assert "has 1 table." in engine.smoke_test(conn, conn.database, "")
        with pytest.raises(BackupError, match="False instead of true"):
            engine.smoke_test(conn, conn.database, "SELECT false")
        with pytest.raises(BackupError, match="read-only"):
            engine.smoke_test(conn, conn.database, "DELETE FROM orders RETURNING true")
        assert value(conn, "SELECT count(*) FROM orders") == 5000
