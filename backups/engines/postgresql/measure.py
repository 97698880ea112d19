"""Counting and fingerprinting tables, so that what was restored can be compared with what was dumped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from backups.engines.base import Check, LiveRows, Progress
from backups.engines.comparing import differences
from backups.engines.postgresql.connect import Session, one, said_by_server, watched
from backups.manifest import Manifest, TableFacts, table_key

LARGE_OBJECTS = "large objects"

# The text form of a value depends on these; search_path decides whether names are written with their schema.
PINNED = {
    "search_path": "pg_catalog",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "row_security": "off",
}

# Hashed as they are: the hash of these types is fixed by their value. Everything else is hashed by its text form;
# an enum's own hash, for example, is that of an object id, which is another one after a restore.
HASHED_TYPES = [
    *("boolean", "bytea", '"char"', "name", "bigint", "smallint", "integer", "text", "oid", "real", "double precision"),
    *("character", "character varying", "date", "time", "timestamp", "timestamptz", "numeric", "uuid", "jsonb"),
    *("inet", "cidr", "macaddr"),
]

_TABLES = r"""
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, {size}, greatest(c.reltuples, 0)::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
    ORDER BY 4 DESC, 2, 3"""

_COLUMNS = """
    SELECT attrelid::bigint, attname::text, atttypid = ANY (%s::regtype[])
    FROM pg_attribute WHERE attrelid = ANY (%s::oid[]) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attrelid, attname COLLATE "C" """


@dataclass(frozen=True)
class Table:
    """An ordinary table with user data; a table of an extension is not one. ``bytes`` without indexes."""

    oid: int
    schema: str
    name: str
    bytes: int
    estimated_rows: int

    @property
    def key(self) -> str:
        return table_key(self.schema, self.name)

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def pin(session: Session) -> None:
    """Make the text form of values independent of the server's, database's and role's settings."""
    for name, value in PINNED.items():
        session.execute("SELECT set_config(%s, %s, false)", [name, value])


def read_tables(session: Session, *, sizes: bool = True) -> list[Table]:
    """The tables, largest first. Reading a size waits for who has locked the table."""
    size = sql.SQL("pg_table_size(c.oid)" if sizes else "0::bigint")
    return [Table(*row) for row in session.execute(sql.SQL(_TABLES).format(size=size))]


def measure_tables(
    session: Session, tables: list[Table], note: Progress, *, fingerprints: bool = True
) -> dict[str, TableFacts]:
    """Rows and fingerprint of each table as the session's snapshot sees it.

    The fingerprint is the sum of a hash per row, so it does not depend on their order and finds a row that is there
    twice. Generated columns are left out and columns go by name, because a restore may arrange them differently.
    """
    columns: dict[int, list[sql.Composable]] = {}
    for oid, name, hashed in session.execute(_COLUMNS, [HASHED_TYPES, [table.oid for table in tables]]):
        column = sql.SQL("t.{}").format(sql.Identifier(name))
        columns.setdefault(oid, []).append(column if hashed else sql.SQL("{}::text").format(column))
    total, done = sum(table.bytes for table in tables), 0
    found = {}
    for table in tables:
        note(done, total, "bytes")
        names = columns.get(table.oid) if fingerprints else None
        mark = (
            sql.SQL("sum(hash_record_extended(ROW({}), 0))").format(sql.SQL(", ").join(names))
            if names
            else sql.SQL("NULL")
        )
        query = sql.SQL("SELECT count(*), {} FROM ONLY {} t").format(mark, table.identifier)
        rows, value = session.execute(query).fetchone() or (0, None)
        found[table.key] = TableFacts(rows, (str(value) if rows else "0") if names else None)
        done += table.bytes
    note(total, total, "bytes")
    return found


def count_large_objects(session: Session) -> int:
    """How many large objects there are."""
    return int(one(session, "SELECT count(*) FROM pg_largeobject_metadata"))


def measure_database(
    session: Session, check: Check, progress: Progress, *, fingerprints: bool = True
) -> dict[str, TableFacts]:
    """``measure_tables`` for all tables, and the number of large objects under its own name."""

    def work(note: Progress) -> dict[str, TableFacts]:
        with session.transaction():
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            found = measure_tables(session, read_tables(session), note, fingerprints=fingerprints)
            found[LARGE_OBJECTS] = TableFacts(count_large_objects(session))
            return found

    with said_by_server("Counting the rows"):
        pin(session)
        measured: dict[str, TableFacts] = watched(session, work, check, progress)
    return measured


def compare(manifest: Manifest, measured: dict[str, TableFacts], server_version_num: int | None = None) -> list[str]:
    """The differences as sentences. Fingerprints count only between the same major versions.

    Raises ``BackupError`` when nothing was measured although the archive has tables.
    """
    tables = {name: facts for name, facts in measured.items() if name != LARGE_OBJECTS}
    if not manifest.tables and not tables:
        return []
    same_major = server_version_num is None or server_version_num // 10000 == manifest.server_version_num // 10000
    found = differences(manifest, tables, fingerprints=same_major)
    objects = measured.get(LARGE_OBJECTS)
    if objects and objects.rows != manifest.large_objects:
        found.append(f"There are {objects.rows} large objects instead of {manifest.large_objects}.")
    return found


def live_rows(session: Session, timeout_s: float) -> LiveRows:
    """Rows per table now; estimates from the statistics when counting takes longer than ``timeout_s`` in all."""
    with said_by_server("Counting the rows"):
        tables = read_tables(session, sizes=False)
        try:
            with session.transaction():
                session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                return LiveRows(_count(session, tables, timeout_s), estimated=False)
        except psycopg.errors.QueryCanceled:
            return LiveRows({table.key: table.estimated_rows for table in tables}, estimated=True)


def _count(session: Session, tables: list[Table], timeout_s: float) -> dict[str, int]:
    left = """
        SELECT set_config('statement_timeout',
            greatest(1, extract(epoch FROM %s::interval - (clock_timestamp() - now())) * 1000)::int::text, true)"""
    found: dict[str, Any] = {}
    for table in tables:
        session.execute(left, [f"{timeout_s} seconds"])
        found[table.key] = one(session, sql.SQL("SELECT count(*) FROM ONLY {}").format(table.identifier))
    return found
