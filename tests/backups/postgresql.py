"""Real databases for the tests of the PostgreSQL engine: hostile names, all kinds of values."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from backups import manifest
from backups.engines.base import Connection
from backups.engines.postgresql import PostgreSQLEngine
from backups.manifest import Manifest
from operations.commands import Command, Result, run_checked

PREFIX = f"eng{os.getpid()}"

# What this process puts before "/opN/aN" in the names of its sessions: another process's sessions at the same server
# must not look like an earlier attempt of this one's operations.
MARK = f"opsportal/{PREFIX}"


HOSTILE = f"-{PREFIX} \"we''ird\\' näme\n=1 %s"


ORDERS = (
    "CREATE TABLE orders (id int PRIMARY KEY, note text, total numeric(10,2))",
    "INSERT INTO orders SELECT i, 'order ' || i, i * 1.1 FROM generate_series(1, 5000) i",
)


EVERYTHING = (
    'CREATE SCHEMA "-Sch""em\'a.x"',
    "CREATE TYPE mood AS ENUM ('sad', 'glad')",
    "CREATE DOMAIN short AS text CHECK (length(value) < 10)",
    "CREATE TYPE pair AS (a int, b text)",
    r"""CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY, t text, m mood, d short, p pair, j json, jb jsonb,
        n numeric, f float8, f4 real, b bytea, a text[], ts timestamptz, iv interval, mo money, r int4range, x point,
        rc regclass, i inet, "char" "char", doubled numeric GENERATED ALWAYS AS (n * 2) STORED)""",
    r"""INSERT INTO plain (t, m, d, p, j, jb, n, f, f4, b, a, ts, iv, mo, r, x, rc, i, "char") VALUES
        (E'tab\tnew\nline\\.\r\\N', 'glad', 'ok', '(1,"x,y")', '{"b": 1,  "a":2}', '{"b":1}', 'NaN', '-0',
         'Infinity', '\x00ff5c2e0a', '{"a,b",NULL,"\"\""}', '1999-12-31 23:59:60+05', '1 mon -2 days', 12.5, '[1,5)',
         '(1.1,2)', 'pg_class', '10.0.0.1/8', 'c'),
        ('', NULL, NULL, NULL, NULL, NULL, 1.10, 0.1, 1e-30, '', '{}', '-infinity', '0', 0, 'empty',
         NULL, NULL, '::1', NULL),
        ('', NULL, NULL, NULL, NULL, NULL, 1.10, 0.1, 1e-30, '', '{}', '-infinity', '0', 0, 'empty',
         NULL, NULL, '::1', NULL)""",
    'CREATE TABLE "-Sch""em\'a.x"."ta\nble, ""é🙂" ("co\nl" text, "%s {} $1" int)',
    'INSERT INTO "-Sch""em\'a.x"."ta\nble, ""é🙂" VALUES (E\'\\\\.\', 1), (E\'\\n\', 2)',
    'CREATE TABLE "b\npg_dump: finished item 1 TABLE DATA x" (i int)',
    "CREATE TABLE nothing ()",
    "INSERT INTO nothing DEFAULT VALUES",
    "CREATE TABLE empty (i int)",
    "CREATE TABLE parts (k int, v text) PARTITION BY LIST (k)",
    "CREATE TABLE parts_one PARTITION OF parts FOR VALUES IN (1)",
    "CREATE TABLE parts_rest (v text, k int)",
    "ALTER TABLE parts ATTACH PARTITION parts_rest DEFAULT",
    "INSERT INTO parts SELECT i % 3, 'v' || i FROM generate_series(1, 30) i",
    "CREATE TABLE parent (a int)",
    "CREATE TABLE child (b int, a int)",
    "ALTER TABLE child INHERIT parent",
    "INSERT INTO child VALUES (1, 2)",
    "INSERT INTO parent VALUES (3)",
    "ALTER TABLE parent ADD COLUMN gone int",
    "ALTER TABLE parent DROP COLUMN gone",
    "CREATE UNLOGGED TABLE scratchpad AS SELECT 1 AS i",
    "CREATE VIEW seen AS SELECT count(*) FROM plain",
    "CREATE MATERIALIZED VIEW kept AS SELECT * FROM parts",
    "CREATE SEQUENCE counter START 77",
    "SELECT nextval('counter')",
    "SELECT lo_from_bytea(0, '\\x010203'), lo_from_bytea(0, '')",
)


def run(command: Command, *, on_line=None, on_stdout=None, stdin=None) -> Result:
    return run_checked(command, on_line=on_line, on_stdout=on_stdout, stdin=stdin)


def session(conn: Connection, **options) -> psycopg.Connection:
    return psycopg.connect(
        host=conn.host, user=conn.user, password=conn.password, dbname=conn.database, autocommit=True, **options
    )


def value(conn: Connection, query: str):
    with session(conn) as one:
        return one.execute(query).fetchone()[0]


def archive(engine: PostgreSQLEngine, conn: Connection, folder: Path, **options) -> Manifest:
    folder.mkdir(exist_ok=True)
    facts = engine.dump(conn, folder, run=run, **options)
    described = Manifest.of(facts, operation_id=1, plan="nightly", name=folder.name, created_at=datetime.now(UTC))
    manifest.write(folder, described)
    return described


def restore(engine, conn, folder, described, scratch, work_dir) -> None:
    engine.create_scratch(conn, scratch, described.properties)
    engine.load(folder, described, conn, scratch, work_dir=work_dir, run=run)
