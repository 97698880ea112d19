"""Connections to the database. What is taken has to be given back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

Row = dict[str, Any]
Connection = psycopg.Connection[Row]


class Busy(Exception):
    """No connection was free in time."""


class Pool:
    """At most `limit` connections at a time, made when they are needed, kept while they live."""

    def __init__(self, conninfo: str, *, limit: int = 8, wait_s: float = 2.0) -> None:
        self.conninfo, self.wait_s = conninfo, wait_s
        self._free = threading.Semaphore(limit)
        self._idle: deque[Connection] = deque()

    def connect(self) -> Connection:
        """A connection of one's own, beside the pool."""
        return psycopg.connect(self.conninfo, autocommit=True, connect_timeout=3, row_factory=dict_row)

    def take(self) -> Connection:
        """Raises Busy after `wait_s`, psycopg.Error when the database is away."""
        if not self._free.acquire(timeout=self.wait_s):
            raise Busy(f"No connection to the database was free within {self.wait_s:g} s.")
        try:
            while self._idle:
                connection = self._idle.pop()
                try:
                    connection.execute("SELECT 1")
                    return connection
                except psycopg.Error:  # ended meanwhile, as by a restore
                    connection.close()
            return self.connect()
        except BaseException:
            self._free.release()
            raise

    def give(self, connection: Connection) -> None:
        """Back to the others."""
        if not connection.closed:
            self._idle.append(connection)
        self._free.release()

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Take one for the length of a block."""
        connection = self.take()
        try:
            yield connection
        finally:
            self.give(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
