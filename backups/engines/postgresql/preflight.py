"""What can be known beforehand: checks before a dump and before a restore."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from backups.engines.base import CheckResult, Connection, ServerFacts
from backups.engines.checks import Checks, gb, room, writable
from backups.engines.postgresql import swap
from backups.engines.postgresql.connect import OLDEST_SERVER, Clients, Session, connect, one
from backups.exceptions import BackupError
from backups.manifest import Manifest

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
ROOM_FOR_RESTORE = 1.2  # the loaded database is as large as the dumped one; the rest is for WAL and sorting
ROOM_FOR_DUMP = {True: 0.7, False: 1.2}  # of the tables' size; without zstd in the client a plain spool comes first


def before_dump(clients: Clients, conn: Connection, facts: ServerFacts, folder: Path) -> list[CheckResult]:
    """Versions, readable tables, a writable folder and room in it."""
    checks = Checks()
    _server_age(checks, facts.version_num)
    for program in ("pg_dump", "pg_restore", "pg_dumpall"):
        _client_age(checks, clients, program, facts.version_num // 10000, facts.version)
    with connect(conn) as session:
        _readable(checks, session, conn)
    writable(checks, folder)
    zstd = clients.has_zstd()
    needed = int(facts.table_bytes * ROOM_FOR_DUMP[zstd]) + 16 * 2**20
    room(checks, "space", folder, needed, "the archive" if zstd else "the archive with its plain spool")
    return checks.results


def _server_age(checks: Checks, version_num: int) -> None:
    if version_num < OLDEST_SERVER:
        checks.fail(
            "server version",
            f"PostgreSQL {version_num // 10000} is too old for this portal. "
            f"Upgrade the server to {OLDEST_SERVER // 10000} or newer.",
        )
    checks.ok("server version", f"The server is PostgreSQL {version_num // 10000}.")


def _client_age(checks: Checks, clients: Clients, program: str, major: int, what: str) -> None:
    try:
        client, full = clients.version(program)
    except BackupError as error:
        checks.fail(program, error.message)
        return
    if client < major:
        checks.fail(
            program,
            f"{program} {client} cannot read a server of version {major} ({what}). Install the client programs of "
            f"PostgreSQL {major} on the worker or set PG_BIN to the folder that has them.",
        )
    checks.ok(program, f"{program} {full} can read PostgreSQL {major}.")


def _readable(checks: Checks, session: Session, conn: Connection) -> None:
    query = """
        SELECT format('%%I.%%I', n.nspname, c.relname),
               has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
          AND n.nspname <> 'information_schema'"""
    rows = session.execute(query.replace("%%", "%")).fetchall()
    if hidden := [name for name, readable, _ in rows if not readable]:
        checks.fail(
            "permissions",
            f"The role “{conn.user}” may not read {len(hidden)} tables, among them {', '.join(hidden[:3])}. "
            "GRANT pg_read_all_data to it.",
        )
    if filtered := [name for name, _, active in rows if active]:
        checks.fail(
            "permissions",
            f"Row security hides rows of {', '.join(filtered[:3])} from “{conn.user}”, the backup would lack them. "
            "ALTER ROLE … BYPASSRLS, or use another role.",
        )
    checks.ok("permissions", f"“{conn.user}” may read all {len(rows)} tables and sequences.")


def before_restore(
    clients: Clients,
    conn: Connection,
    manifest: Manifest,
    folder: Path,
    *,
    system_identifier: str | None,
    forbidden: Iterable[tuple[str, str]],
    work_dir: Path,
) -> list[CheckResult]:
    """Everything that does not need the live database, which may be missing or unreadable."""
    checks = Checks()
    live = conn.database
    if live in swap.NEVER or live == conn.maintenance_database:
        checks.fail("database", f"“{live}” belongs to the server itself. Choose another database to restore into.")
    with connect(conn, conn.maintenance_database) as session:
        _identity(checks, session, live, system_identifier, forbidden)
        _versions(checks, clients, session, manifest)
        _extensions(checks, session, manifest)
        _roles(checks, session, manifest, folder)
        _rights(checks, session, conn, manifest)
        for sentence in swap.blockers(session, live):
            checks.fail("clients", sentence)
        _slots(checks, session, live)
        needed = int(manifest.database_bytes * ROOM_FOR_RESTORE)
        _server_room(checks, session, conn, needed, "the restored database")
    if not clients.has_zstd():
        plain = sum(file.plain_size or 4 * file.size for file in manifest.files)
        room(checks, "spool", work_dir, int(plain * 1.05) + 16 * 2**20, "the unpacked archive")
    return checks.results


def before_foreign(conn: Connection, needed: int) -> list[CheckResult]:
    """Room at the server for a dump of others, which needs about so many bytes when it is loaded."""
    checks = Checks()
    with connect(conn, conn.maintenance_database) as session:
        _server_room(checks, session, conn, needed, "the loaded backup")
    return checks.results


def _identity(
    checks: Checks, session: Session, live: str, pinned: str | None, forbidden: Iterable[tuple[str, str]]
) -> None:
    identifier = str(one(session, "SELECT system_identifier FROM pg_control_system()"))
    if pinned and identifier != pinned:
        checks.fail(
            "identity",
            f"This is not the server that was confirmed for this target: it says {identifier} instead of {pinned}. "
            "If the move is intended, confirm the target's identity again.",
        )
    if (identifier, live) in set(forbidden):
        checks.fail(
            "identity",
            f"“{live}” is the portal's own database, which it cannot replace. Choose another target.",
        )
    checks.ok("identity", f"The server is {identifier}" + (", as confirmed." if pinned else "."))


def _versions(checks: Checks, clients: Clients, session: Session, manifest: Manifest) -> None:
    server, archived = session.info.server_version // 10000, manifest.server_version_num // 10000
    _server_age(checks, session.info.server_version)
    if server < archived:
        checks.fail(
            "archive version",
            f"The archive is of PostgreSQL {archived}, this server is {server}. "
            f"Restore into a server of version {archived} or newer.",
        )
    client, full = clients.version("pg_restore")
    made_by = int(manifest.client_version.split(".")[0])
    if client < made_by:
        checks.fail(
            "pg_restore",
            f"pg_restore {client} cannot read an archive made by pg_dump {made_by}. Install the client programs of "
            f"PostgreSQL {made_by} on the worker or set PG_BIN to the folder that has them.",
        )
    checks.ok("archive version", f"pg_restore {full} can load this archive of PostgreSQL {archived} into {server}.")


def _extensions(checks: Checks, session: Session, manifest: Manifest) -> None:
    known = {row[0] for row in session.execute("SELECT name::text FROM pg_available_extensions")}
    if missing := sorted(set(manifest.extensions) - known):
        checks.fail("extensions", f"The server lacks the extensions {', '.join(missing)}. Install them on it.")
    checks.ok("extensions", f"All {len(manifest.extensions)} extensions are available.")


def _roles(checks: Checks, session: Session, manifest: Manifest, folder: Path) -> None:
    known = {row[0] for row in session.execute("SELECT rolname::text FROM pg_roles")}
    needed = {manifest.properties.owner, *manifest.roles}
    if missing := sorted(needed - known):
        checks.fail(
            "roles",
            f"The server lacks the roles {', '.join(missing)}, which own or use something in the archive. "
            f"CREATE ROLE them; {folder / 'globals.sql'} has the statements.",
        )
    checks.ok("roles", f"All {len(needed)} roles exist.")


def _rights(checks: Checks, session: Session, conn: Connection, manifest: Manifest) -> None:
    query = """
        SELECT rolsuper, rolcreatedb, rolsuper OR pg_has_role('pg_signal_backend', 'USAGE'),
               pg_has_role(%s, 'MEMBER'),
               coalesce((SELECT pg_has_role(datdba, 'MEMBER') FROM pg_database WHERE datname = %s), true)
        FROM pg_roles WHERE rolname = current_user"""
    row = session.execute(query, [manifest.properties.owner, conn.database]).fetchone()
    superuser, creates, ends, is_owner, owns_live = row or (False,) * 5
    wrong = {
        "may not create databases. ALTER ROLE … CREATEDB": superuser or creates,
        "may not end other sessions. GRANT pg_signal_backend to it": superuser or ends,
        f"is not a member of the owner “{manifest.properties.owner}”. GRANT that role to it": superuser or is_owner,
        f"does not own “{conn.database}”. GRANT its owner's role to it": superuser or owns_live,
    }
    for sentence, fine in wrong.items():
        if not fine:
            checks.fail("rights", f"The role “{conn.user}” {sentence}.")
    checks.ok("rights", f"“{conn.user}” may create databases, end clients and rename “{conn.database}”.")


def _slots(checks: Checks, session: Session, live: str) -> None:
    slots = [
        r[0] for r in session.execute("SELECT slot_name::text FROM pg_replication_slots WHERE database = %s", [live])
    ]
    if slots:
        checks.unknown(
            "replication",
            f"The replication slots {', '.join(slots)} stay with the replaced database. "
            "Set their consumers up again afterwards.",
        )


def _server_room(checks: Checks, session: Session, conn: Connection, needed: int, what: str) -> None:
    """Free space beside the live database; only known when the server's files are on this machine."""
    over_a_way = bool(conn.address)  # then this end is here, and the disk is not
    if not over_a_way and (conn.host.startswith("/") or conn.host in LOCAL_HOSTS):
        readable = one(session, "SELECT pg_has_role('pg_read_all_settings', 'MEMBER')")
        data = Path(one(session, "SHOW data_directory")) if readable else None
        try:
            if data and (data / "global").stat():
                room(checks, "server space", data, needed, f"{what} beside the live one")
                return
        except OSError:
            pass
    checks.unknown(
        "server space",
        "The free space of the server could not be measured from here. "
        f"{what[0].upper()}{what[1:]} needs about {gb(needed)} beside the live one.",
    )
