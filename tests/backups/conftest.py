"""A real server with databases made for one test."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from backups.engines.base import Connection
from backups.engines.postgresql import PostgreSQLEngine
from tests.backups.postgresql import PREFIX, session


@pytest.fixture(scope="session")
def engine() -> PostgreSQLEngine:
    return PostgreSQLEngine(os.environ.get("PG_BIN", ""))


@pytest.fixture(scope="session")
def target(target_server) -> Connection:
    return Connection(
        target_server.host,
        5432,
        "postgres",
        target_server.user,
        target_server.password,
        application_name="opsportal/op1/a1",
    )


@pytest.fixture(scope="session")
def admin(target) -> Iterator[psycopg.Connection]:
    """A superuser session; at the end every database and role of this run goes."""
    with psycopg.connect(
        host=target.host, user=target.user, password=target.password, dbname="postgres", autocommit=True
    ) as session:
        yield session
        for (name,) in session.execute(
            "SELECT datname FROM pg_database WHERE strpos(datname, %s) > 0", [PREFIX]
        ).fetchall():
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for (name,) in session.execute(
            "SELECT rolname FROM pg_roles WHERE strpos(rolname, %s) > 0", [PREFIX]
        ).fetchall():
            session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def make(admin, target) -> Callable[..., Connection]:
    """Make a database by running statements in it; returns the connection to it."""

    def create(name: str, *statements: str, options: str = "") -> Connection:
        identifier = sql.Identifier(name)
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 " + options).format(identifier))
        conn = dataclasses.replace(target, database=name)
        with session(conn) as one:
            for statement in statements:
                one.execute(statement)
        return conn

    return create
