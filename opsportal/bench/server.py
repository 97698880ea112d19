"""The target server of the environment, and a database on it that has a bit of everything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from opsportal.bench.exceptions import BenchError

NEEDED = ("DATABASE_URL", "REDIS_URL", "DATA_DIR", "PG_BIN", "TARGET_SOCKET", "TARGET_USER", "TARGET_PASSWORD")
SQL = Path(__file__).with_name("database.sql")
# Size of the database that database.sql makes with scale 1, in MB, indexes included.
MB_AT_SCALE_1 = 640


@dataclass(frozen=True)
class Server:
    """How the target server is reached by its superuser."""

    host: str  # folder of its socket
    user: str
    password: str = field(repr=False)
    bin: Path

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> Server:
        """Raises BenchError when the environment names no servers."""
        missing = [name for name in NEEDED if not env.get(name)]
        if missing:
            raise BenchError(f"{missing[0]} is not set. Run `make bench`, which starts throwaway servers.")
        return cls(env["TARGET_SOCKET"], env["TARGET_USER"], env["TARGET_PASSWORD"], Path(env["PG_BIN"]))

    @property
    def environment(self) -> dict[str, str]:
        """For PostgreSQL's own programs."""
        return {**os.environ, "PGHOST": self.host, "PGUSER": self.user, "PGPASSWORD": self.password, "PGPORT": "5432"}

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A session in autocommit mode."""
        return psycopg.connect(
            host=self.host, user=self.user, password=self.password, dbname=database, connect_timeout=10, autocommit=True
        )

    def create(self, database: str) -> None:
        """An empty database; one of that name is dropped first."""
        self.drop(database)
        with self.connect() as session:
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))

    def drop(self, database: str) -> None:
        with self.connect() as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def databases_like(self, pattern: str) -> list[str]:
        """Names matching a LIKE pattern."""
        with self.connect() as session:
            rows = session.execute("SELECT datname::text FROM pg_database WHERE datname LIKE %s", [pattern])
            return [row[0] for row in rows]

    def fill(self, database: str, size_mb: float) -> int:
        """Make the mixed database of about this size; returns its real size in bytes."""
        self.create(database)
        with self.connect(database) as session:
            session.execute("SELECT set_config('bench.scale', %s, false)", [str(size_mb / MB_AT_SCALE_1)])
            session.execute(SQL.read_bytes())
            session.execute("VACUUM (FREEZE, ANALYZE)")
            row = session.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])

    def settle(self) -> None:
        """Nothing that one measurement left to be written may burden the next."""
        with self.connect() as session:
            session.execute("CHECKPOINT")
        os.sync()
