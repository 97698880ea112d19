"""Two who look all the time: at the portal's rows, and, as a client, at the live database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

Connect = Callable[[], psycopg.Connection[tuple[object, ...]]]


class Looker(threading.Thread):
    """Asks one query again and again, over a connection that it makes anew when it breaks."""

    def __init__(self, name: str, connect: Connect, query: str, every_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self._connect, self._query, self._every_s = connect, query, every_s
        self._stopped = threading.Event()
        self._session: psycopg.Connection[tuple[object, ...]] | None = None

    def run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                if self._session is None:
                    self._session = self._connect()
                row = self._session.execute(self._query).fetchone()
                assert row is not None
                self.saw(row)
            except psycopg.Error as error:
                self.missed(error)
                self._close()
        self._close()

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def stop(self) -> None:
        self._stopped.set()
        self.join(10)

    def saw(self, row: tuple[object, ...]) -> None:
        raise NotImplementedError

    def missed(self, error: psycopg.Error) -> None: ...


class LeaseWatcher(Looker):
    """How long rows stay `running` after their lease has run out, by the database's own clock."""

    def __init__(self, connect: Connect) -> None:
        query = """
            SELECT coalesce(max(extract(epoch FROM clock_timestamp() - lease_until)), 0)::float
            FROM operations_operation WHERE state = 'running' AND lease_until < clock_timestamp()"""
        super().__init__("lease-watcher", connect, query, 0.1)
        self.worst_s = 0.0

    def saw(self, row: tuple[object, ...]) -> None:
        self.worst_s = max(self.worst_s, float(row[0]))  # type: ignore[arg-type]


@dataclass
class Seen:
    """What the client saw in the course of a case."""

    states: set[str] = field(default_factory=set)
    longest_gap_s: float = 0.0
    answers: int = 0


class Client(Looker):
    """Reads which of its states the live database is in, and for how long it could not read."""

    def __init__(self, connect: Connect) -> None:
        query = """
            SELECT (SELECT string_agg(value, '+' ORDER BY value) FROM marker)
                || ':' || (SELECT count(*) FROM item) || ':' || (SELECT coalesce(sum(price), 0) FROM item)"""
        super().__init__("client", connect, query, 0.03)
        self.seen = Seen()
        self._last = time.monotonic()
        self._excused = False

    def begin(self) -> Seen:
        """Forget what was; from now on a new case is watched."""
        self.seen, self._last = Seen(), time.monotonic()
        return self.seen

    def excuse(self, yes: bool) -> None:
        """While the server itself is down, nobody has locked anybody out."""
        if not yes and self._excused:
            self._last = time.monotonic()
        self._excused = yes

    def saw(self, row: tuple[object, ...]) -> None:
        self._gap()
        self._last = time.monotonic()
        self.seen.states.add(str(row[0]))
        self.seen.answers += 1

    def missed(self, error: psycopg.Error) -> None:
        self._gap()

    def _gap(self) -> None:
        if not self._excused:
            self.seen.longest_gap_s = max(self.seen.longest_gap_s, time.monotonic() - self._last)
