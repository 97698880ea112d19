"""Reaching a PostgreSQL server: sessions, the environment of its client programs, and what went wrong in words."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql

from backups.engines.base import Check, Connection, Progress
from backups.exceptions import BackupError, TargetUnavailable
from operations.commands import Command, run
from operations.exceptions import CommandFailed

OLDEST_SERVER = 140000
# A table that is locked for longer ends the work instead of holding up all that comes later.
LOCK_WAIT_MS = 600_000
LONG_OPTIONS = f"-c client_connection_check_interval=2s -c statement_timeout=0 -c lock_timeout={LOCK_WAIT_MS}"
SHORT_OPTIONS = "-c statement_timeout=60s -c lock_timeout=10s"
COMMAND_TIMEOUT_S = 24 * 3600


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A session that says in words what ended it: whatever a block does in it, the server may go away meanwhile."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            raise broken_off(error) from error


def broken_off(error: psycopg.Error) -> TargetUnavailable:
    """The sentence for a session that ended in the middle of something."""
    said = (error.diag.message_primary or " ".join(str(error).split()))[:300].rstrip(".")
    return TargetUnavailable(f"The server ended the session: {said}. Look at the server, then try again.")


# What the server or libpq says -> what it means. The first match counts.
_EXPLANATIONS: Sequence[tuple[str, str]] = (
    (
        r"password authentication failed|authentication failed for user",
        "The server refused the password of “{user}”. Correct the secret of this target and test the connection again.",
    ),
    (
        r"no password supplied",
        "The server wants a password for “{user}” and none is set. Set the secret of this target.",
    ),
    (
        r"(not translate|failed to resolve) host|Name or service not known|Temporary failure in name resolution",
        "The host name “{host}” is not known here. Correct it, or repair the name service of the worker's machine.",
    ),
    (
        r"role \"?.*\"? does not exist",
        "The server has no role “{user}”. Create it or correct the user name of this target.",
    ),
    (
        r"database \"?.*\"? does not exist",
        "The server has no database “{database}”. Correct the name, or restore the database first.",
    ),
    (
        r"no encryption|SSL is required|SSL required|no pg_hba.conf entry .*SSL off",
        "The server only lets “{user}” in over TLS. Set the TLS mode of this target to “require” or stricter. ({said})",
    ),
    (
        r"does not support SSL|SSL support is not compiled in",
        "TLS mode “{sslmode}” asks for TLS, but there is none. Enable it there or choose another mode. ({said})",
    ),
    (
        r"certificate verify failed|root certificate file|server certificate for",
        "The certificate of {host} could not be verified. Install its root certificate on the worker. ({said})",
    ),
    (
        r"no pg_hba.conf entry|pg_hba.conf rejects",
        "The server's pg_hba.conf does not let “{user}” in from here. Add an entry for the worker's address. ({said})",
    ),
    (
        r"too many (connections|clients)|remaining connection slots",
        "The server has no free connection for “{user}”. Close some or raise the limit, then try again. ({said})",
    ),
    (
        r"not currently accepting connections",
        "The database “{database}” is closed to connections. Allow them with ALTER DATABASE … ALLOW_CONNECTIONS true.",
    ),
    (
        r"starting up|shutting down|in recovery mode|not yet accepting connections",
        "The server at {host} is starting or stopping. Wait until it is ready and try again.",
    ),
    (
        r"permission denied for database",
        "The role “{user}” may not connect to “{database}”. GRANT CONNECT ON DATABASE to it.",
    ),
    (
        r"No such file or directory|is the server running locally",
        "There is no server socket in {host} (port {port}). Start the server or correct the folder.",
    ),
    (
        r"Connection refused",
        "Nothing answers at {host}:{port}. Start the server, open the firewall or correct the address.",
    ),
    (
        r"timeout|timed out|No route to host|Network is unreachable|Host is down",
        "{host}:{port} did not answer within {connect_timeout_s} seconds. Check address, network and firewall.",
    ),
)


def explain(conn: Connection, database: str, error: Exception) -> TargetUnavailable:
    """The sentence for a failed connection. Never holds the password."""
    said = " ".join(str(error).split())
    if conn.password:
        said = said.replace(conn.password, "********")
    said = re.sub(r"^connection failed: ", "", said)[-300:]
    values = {
        "user": conn.user,
        "host": conn.address or conn.host,
        "port": conn.port,
        "database": database,
        "sslmode": conn.sslmode,
        "connect_timeout_s": conn.connect_timeout_s,
        "said": said,
    }
    if conn.address and re.search(r"closed the connection unexpectedly|Connection refused|No such file", said):
        return TargetUnavailable(
            f"Nothing answers at {conn.address}. Start the server there, or correct its address as seen from that host."
        )
    for pattern, sentence in _EXPLANATIONS:
        if re.search(pattern, said, re.IGNORECASE):
            return TargetUnavailable(sentence.format_map(values))
    return TargetUnavailable(f"Could not connect to {conn}: {said}. Check the target's settings.")


def connect(conn: Connection, database: str | None = None, *, long: bool = False) -> Session:
    """A session in autocommit mode. ``long`` is for work of minutes: no time limits, and it ends when we are gone.

    Raises ``TargetUnavailable``.
    """
    name = conn.database if database is None else database
    try:
        session = Session.connect(
            host=conn.host,
            port=conn.port,
            dbname=name,
            user=conn.user,
            password=conn.password or None,
            sslmode=conn.sslmode,
            application_name=conn.application_name,
            connect_timeout=conn.connect_timeout_s,
            client_encoding="UTF8",
            options=LONG_OPTIONS if long else SHORT_OPTIONS,
            require_auth=_required_auth(conn),
            autocommit=True,
        )
    except (psycopg.Error, UnicodeError, ValueError) as error:
        raise explain(conn, name, error) from None
    if conn.system_identifier:
        try:
            found = str(one(session, "SELECT system_identifier FROM pg_control_system()"))
        except psycopg.OperationalError as error:
            raise broken_off(error) from error
        if found != conn.system_identifier:
            session.close()
            raise TargetUnavailable(
                f"{conn} is another server than the pinned one: it says {found} instead of {conn.system_identifier}. "
                "Nothing was done there. Correct the address, or empty the pinned identifier in the catalog."
            )
    return session


def _required_auth(conn: Connection) -> str:
    """How the server may ask for the password: in clear text only where its certificate is checked."""
    return "" if conn.sslmode.startswith("verify-") else "!password"


@contextmanager
def said_by_server(doing: str) -> Iterator[None]:
    """Turn an error of the server into a sentence."""
    try:
        yield
    except psycopg.Error as error:
        said = error.diag.message_primary or " ".join(str(error).split())
        hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
        raise BackupError(f"{doing} failed, the server says: {said}.{hint}") from error


def one(session: Session, query: str | sql.Composed | sql.SQL, values: Mapping[str, Any] | Sequence[Any] = ()) -> Any:
    """The first column of the first row, None without a row."""
    row = session.execute(query, values or None).fetchone()
    return row[0] if row else None


class Stopped(Exception):
    """Raised inside a background job that is to end; never leaves this package."""


class Background:
    """Work with one session in a thread of its own, so that the caller can go on asking and showing.

    ``work`` gets a ``note(done, total, what)``; the caller reads the latest note. Callbacks of the portal are called
    in the caller's thread only, because they may use its database connection.
    """

    def __init__(self, session: Session, work: Callable[[Progress], Any]) -> None:
        self._session, self._work = session, work
        self._stop = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self.latest: tuple[int, int | None, str] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._work(self._note)
        except BaseException as error:  # handed over in result()
            self._error = error

    def _note(self, done: int, total: int | None, what: str) -> None:
        if self._stop.is_set():
            raise Stopped
        self.latest = (done, total, what)

    @property
    def failed(self) -> bool:
        """Did it end with an error?"""
        return self._error is not None

    def wait(self, timeout_s: float) -> bool:
        """Wait a moment; True when it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """End it, the running query included."""
        self._stop.set()
        while not self.wait(0):
            try:
                self._session.cancel_safe(timeout=5)
            except psycopg.Error:
                self._session.close()
            self.wait(0.5)

    def result(self) -> Any:
        """What ``work`` returned; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value


def watched(
    session: Session, work: Callable[[Progress], Any], check: Check, progress: Progress, every_s: float = 0.2
) -> Any:
    """Run ``work`` in the background, keep asking ``check`` (which may raise to cancel it) and showing its progress."""
    job = Background(session, work)
    try:
        while not job.wait(every_s):
            check()
            if job.latest:
                progress(*job.latest)
    except BaseException:
        job.cancel()
        raise
    if job.latest:
        progress(*job.latest)
    return job.result()


def conninfo(database: str) -> str:
    """``--dbname`` for a client program, such that any name stays a name: a lone value with = in it would be parsed."""
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass(frozen=True)
class Clients:
    """PostgreSQL's own programs in one folder; an empty one means the PATH."""

    bin_dir: str = ""

    def path(self, program: str) -> str:
        """What to put first into argv."""
        return str(Path(self.bin_dir) / program) if self.bin_dir else program

    def command(self, conn: Connection, program: str, *arguments: str, options: str = "") -> Command:
        """A command that connects as ``conn``. The password travels in a memory file, never in argv or environment."""
        env = {
            "PGHOST": conn.host,
            "PGPORT": str(conn.port),
            "PGUSER": conn.user,
            "PGSSLMODE": conn.sslmode,
            "PGAPPNAME": conn.application_name,
            "PGREQUIREAUTH": _required_auth(conn),
            "PGCONNECT_TIMEOUT": str(conn.connect_timeout_s),
            "PGOPTIONS": f"{LONG_OPTIONS} {options}".strip(),
        }
        if re.search(r"[\r\n\0]", conn.password):
            raise BackupError("The password holds a line break, which PostgreSQL's programs cannot take. Change it.")
        # Also without a password: else libpq would look into a file of the worker's account.
        line = "*:*:*:*:" + re.sub(r"([:\\])", r"\\\1", conn.password) + "\n" if conn.password else ""
        return Command(
            argv=(self.path(program), *arguments),
            env=env,
            secrets=(conn.password,) if conn.password else (),
            secret_files={"PGPASSFILE": line},
            timeout_s=COMMAND_TIMEOUT_S,
        )

    def version(self, program: str) -> tuple[int, str]:
        """(major, full text) of a program. Raises ``BackupError`` when it is not there."""
        try:
            text = (
                run(Command((self.path(program), "--version"), timeout_s=20)).stdout.decode("utf-8", "replace").strip()
            )
        except CommandFailed as error:
            raise BackupError(f"{error.message} PG_BIN names the folder of PostgreSQL's client programs.") from error
        found = re.search(r"\(PostgreSQL\) (\d+)(\.\d+)?", text)
        if not found:
            raise BackupError(f"{self.path(program)} does not answer like PostgreSQL's {program}. Correct PG_BIN.")
        return int(found[1]), found[1] + (found[2] or "")

    def has_zstd(self) -> bool:
        """Were these programs built with zstd? They only say so when asked to use it."""
        probe = ("--compress=zstd:1", "--file=/dev/null", "--host=/nonexistent", "--no-password")
        result = run(Command((self.path("pg_dump"), *probe), timeout_s=20))
        return "compress" not in result.stderr
