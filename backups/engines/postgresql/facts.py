"""What a server says of itself, the database and our role."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from backups.engines.base import Connection, ServerFacts, ServerIdentity, TableSize
from backups.engines.postgresql.connect import connect, said_by_server
from backups.engines.postgresql.measure import read_tables

_QUERY = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int,
           (SELECT system_identifier::text FROM pg_control_system()), pg_database_size(current_database()),
           current_user::text, r.rolsuper, r.rolcreatedb OR r.rolsuper, r.rolbypassrls OR r.rolsuper,
           r.rolsuper OR pg_has_role('pg_signal_backend', 'USAGE'),
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
           current_setting('max_connections')::int
    FROM pg_roles r WHERE r.rolname = current_user"""


def inspect(conn: Connection) -> ServerFacts:
    """Ask the server. Raises ``TargetUnavailable``, or ``BackupError`` when the role may not see what is needed."""
    with connect(conn) as session, said_by_server("Looking at the server"):
        row: Any = session.execute(_QUERY).fetchone()
        version, number, identifier, size, role, superuser, creates, bypasses, ends, connections, limit = row
        extensions = session.execute("SELECT extname::text FROM pg_extension ORDER BY 1").fetchall()
        return ServerFacts(
            version=version.split(" ")[0],
            version_num=number,
            system_identifier=identifier,
            database_bytes=size,
            tables=tuple(TableSize(table.key, table.bytes) for table in read_tables(session)),
            extensions=tuple(name for (name,) in extensions),
            role=role,
            is_superuser=superuser,
            can_create_databases=creates,
            bypasses_row_security=bypasses,
            can_terminate=ends,
            connections=connections,
            max_connections=limit,
        )


def identify(conn: Connection) -> ServerIdentity:
    """Which server it is, asked through the maintenance database. Raises ``TargetUnavailable``."""
    anyone = replace(conn, system_identifier="")
    with connect(anyone, conn.maintenance_database) as session, said_by_server("Asking the server who it is"):
        row: Any = session.execute(
            "SELECT system_identifier::text, current_setting('server_version') FROM pg_control_system()"
        ).fetchone()
        return ServerIdentity(system_identifier=row[0], version=row[1].split(" ")[0])
