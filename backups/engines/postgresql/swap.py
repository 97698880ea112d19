"""Renaming databases under load, ending clients, dropping databases."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psycopg
from psycopg import sql

from backups.engines.base import Check, Connection, no_check
from backups.engines.postgresql.connect import Session, connect, one, said_by_server
from backups.exceptions import BackupError

PATIENCE_S = 60.0
EVERY_S = 0.02
NEVER = frozenset({"postgres", "template0", "template1"})
_MARK = "[ops portal] "


def exists(session: Session, database: str) -> bool:
    """Is there a database of that name?"""
    return bool(one(session, "SELECT 1 FROM pg_database WHERE datname = %s", [database]))


class Evictor:
    """Keeps ending the clients of some databases, by their object ids, while the block runs.

    By id, so that clients of a new database of the same name are left alone the moment it exists.
    """

    def __init__(self, conn: Connection, databases: list[str]) -> None:
        self._session = connect(conn, conn.maintenance_database)
        rows = self._session.execute("SELECT oid::bigint FROM pg_database WHERE datname = ANY (%s)", [databases])
        self._ids = [row[0] for row in rows]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Evictor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._session.close()

    def _run(self) -> None:
        query = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datid = ANY (%s::bigint[]::oid[]) AND pid <> pg_backend_pid()
              AND backend_type IN ('client backend', 'walsender')"""
        while not self._stop.is_set():
            try:
                self._session.execute(query, [self._ids])
            except psycopg.Error:
                pass  # a superuser's client, or the session is gone; the rename says what is in the way
            self._stop.wait(EVERY_S)


def blockers(session: Session, database: str) -> list[str]:
    """What keeps ``database`` from being renamed, as sentences."""
    found = []
    prepared = [row[0] for row in session.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [database])]
    if prepared:
        found.append(
            f"“{database}” has prepared transactions ({', '.join(prepared[:3])}). "
            "COMMIT PREPARED or ROLLBACK PREPARED them first."
        )
    subscriptions = """
        SELECT subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
        WHERE datname = %s AND subenabled"""
    if names := [row[0] for row in session.execute(subscriptions, [database])]:
        found.append(f"“{database}” receives the subscription “{names[0]}”. ALTER SUBSCRIPTION … DISABLE it first.")
    superusers = """
        SELECT DISTINCT usename::text FROM pg_stat_activity JOIN pg_roles ON oid = usesysid
        WHERE datname = %s AND rolsuper AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"""
    if names := [row[0] for row in session.execute(superusers, [database])]:
        found.append(
            f"The superuser “{names[0]}” is connected to “{database}” and only a superuser may end that. "
            "Close the session or give the target a superuser role."
        )
    return found


def swap(conn: Connection, live: str, scratch: str, old: str, check: Check = no_check) -> None:
    """``live`` becomes ``old`` and ``scratch`` becomes ``live``. Done already when only ``scratch`` is gone.

    Both renames are one transaction, so a crash at any moment leaves either all or nothing. The first takes an
    exclusive lock on the database: clients that come meanwhile wait, and are told at the end of it to connect once
    more. The kept copy takes no connections, so that nobody writes into it by mistake; that is part of the same
    transaction.
    """
    _refuse(conn, live, scratch, old)
    with connect(conn, conn.maintenance_database, long=True) as session:
        there = {name: exists(session, name) for name in (live, scratch, old)}
        if not there[scratch]:
            if there[live] and there[old] and _kept_for(session, old, live):
                return
            raise BackupError(f"The database “{scratch}” is gone. Start the restore again.")
        if there[live] and there[old]:
            raise BackupError(f"There is a database “{old}” already. Drop or rename it, then try again.")
        statements = []
        if there[live]:
            statements = [_rename(live, old), *_set_aside(session, live, old, "before a restore replaced it")]
        statements.append(_rename(scratch, live))
        _in_one_transaction(conn, session, [live, scratch], statements, check)


def swap_back(conn: Connection, live: str, old: str, aside: str, check: Check = no_check) -> None:
    """``old`` becomes ``live`` again, a ``live`` that is there becomes ``aside``. Done already when ``old`` is gone."""
    _refuse(conn, live, old, aside)
    with connect(conn, conn.maintenance_database, long=True) as session:
        there = {name: exists(session, name) for name in (live, old, aside)}
        if not there[old]:
            if there[live] and there[aside] and _kept_for(session, aside, live):
                return
            raise BackupError(f"There is no database “{old}” to go back to. Restore an archive instead.")
        if there[live] and there[aside]:
            raise BackupError(f"There is a database “{aside}” already. Drop or rename it, then try again.")
        statements = []
        if there[live]:
            statements = [_rename(live, aside), *_set_aside(session, live, aside, "when a restore was undone")]
        comment = _comment(session, old)
        if comment and comment.startswith(_MARK):
            comment = comment.partition("\n")[2] or None
        statements += [
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(old)),
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(old), sql.Literal(comment)),
            _rename(old, live),
        ]
        _in_one_transaction(conn, session, [live, old], statements, check)


def rename(conn: Connection, before: str, after: str, check: Check = no_check) -> None:
    """``before`` becomes ``after``. Done already when only ``after`` is there."""
    _refuse(conn, before, after)
    with connect(conn, conn.maintenance_database, long=True) as session:
        if exists(session, after):
            if not exists(session, before):
                return
            raise BackupError(f"There is a database “{after}” already. Drop or rename it, then try again.")
        if not exists(session, before):
            raise BackupError(f"The database “{before}” is gone. Start the restore again.")
        _in_one_transaction(conn, session, [before], [_rename(before, after)], check)


def _rename(before: str, after: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(before), sql.Identifier(after))


def _set_aside(session: Session, live: str, kept: str, when: str) -> list[sql.Composed]:
    """The statements that close the renamed database and say what it is; its own comment stays below."""
    said = f"{_MARK}“{live}” as it was {when}. To use it: ALTER DATABASE … ALLOW_CONNECTIONS true.".replace("\n", " ")
    comment = _comment(session, live)
    return [
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(kept)),
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(
            sql.Identifier(kept), sql.Literal(f"{said}\n{comment}" if comment else said)
        ),
    ]


def _comment(session: Session, database: str) -> str | None:
    comment: str | None = one(
        session, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [database]
    )
    return comment


def _kept_for(session: Session, kept: str, live: str) -> bool:
    return (_comment(session, kept) or "").startswith(f"{_MARK}“{live}” as it was".replace("\n", " "))


def _refuse(conn: Connection, *names: str) -> None:
    for name in names:
        if name in NEVER or name == conn.maintenance_database:
            raise BackupError(f"“{name}” belongs to the server itself and is never renamed or dropped.")


def _in_one_transaction(
    conn: Connection, session: Session, busy: list[str], statements: list[sql.Composed], check: Check
) -> None:
    """Try until the clients are out, at most a minute."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        for name in busy:
            if found := blockers(session, name):
                raise BackupError(found[0])
        check()
        try:
            with Evictor(conn, busy), said_by_server("Renaming the databases"), session.transaction():
                session.execute("SET LOCAL lock_timeout = '10s'")
                for statement in statements:
                    session.execute(statement)
            return
        except BackupError as error:
            in_use = isinstance(error.__cause__, psycopg.errors.ObjectInUse | psycopg.errors.LockNotAvailable)
            if not in_use or time.monotonic() > give_up:
                raise
            time.sleep(EVERY_S)


def end_backends(conn: Connection, prefix: str, before_attempt: int | None = None) -> int:
    """End the sessions named ``PREFIX/a<ATTEMPT>``, of attempts before ``before_attempt``, and wait for their end."""
    query = """
        SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE starts_with(application_name, %(start)s) AND pid <> pg_backend_pid()
          AND substr(application_name, length(%(start)s) + 1) ~ '^[0-9]{1,9}$'
          AND (%(before)s::int IS NULL
               OR (substring(application_name FROM '[0-9]{1,9}$'))::int < %(before)s::int)"""
    ended: set[int] = set()
    give_up = time.monotonic() + PATIENCE_S
    with connect(conn, conn.maintenance_database) as session, said_by_server("Ending what an earlier attempt left"):
        while pids := [row[0] for row in session.execute(query, {"start": f"{prefix}/a", "before": before_attempt})]:
            ended.update(pids)
            if time.monotonic() > give_up:
                raise BackupError(
                    f"{len(pids)} sessions of an earlier attempt do not end. Look at them in pg_stat_activity."
                )
            time.sleep(EVERY_S)
    return len(ended)


def drop(conn: Connection, database: str, check: Check = no_check) -> bool:
    """Drop a database, its clients ended; False when there was none."""
    _refuse(conn, database)
    give_up = time.monotonic() + PATIENCE_S
    with connect(conn, conn.maintenance_database, long=True) as session:
        while exists(session, database):
            check()
            _raise_if_undroppable(session, database)
            try:
                with said_by_server(f"Dropping “{database}”"):
                    session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
                return True
            except BackupError as error:
                if not isinstance(error.__cause__, psycopg.errors.ObjectInUse) or time.monotonic() > give_up:
                    raise
                time.sleep(EVERY_S)
    return False


def _raise_if_undroppable(session: Session, database: str) -> None:
    found = blockers(session, database)
    slots = "SELECT slot_name::text FROM pg_replication_slots WHERE database = %s AND active"
    if names := [row[0] for row in session.execute(slots, [database])]:
        found.append(f"The replication slot “{names[0]}” of “{database}” is in use. Stop its consumer first.")
    subscriptions = "SELECT subname::text FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = %s"
    if names := [row[0] for row in session.execute(subscriptions, [database])]:
        found.append(f"“{database}” holds the subscription “{names[0]}”. DROP SUBSCRIPTION it first.")
    if found:
        raise BackupError(found[0])
