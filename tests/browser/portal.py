"""The whole portal as `make run` starts it, with the demo, for a browser: stack, people, databases."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from opsportal.stack.postgres import USER
from opsportal.stack.process import die_with_parent

CHECKOUT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 240
# What a test's own environment says and the portal must find out by itself.
NOT_INHERITED = ("DATA_DIR", "SECRET_DIRS", "STATIC_ROOT", "TARGET_SOCKET", "TARGET_USER", "TARGET_PASSWORD")
SUPERUSER = "root"

Row = tuple[Any, ...]


@dataclass
class Portal:
    """A running portal. Passwords are those of the demo, and one superuser's."""

    address: str  # without a slash at the end
    database_url: str
    data: Path
    passwords: dict[str, str] = field(repr=False)  # role in small letters, or "root" -> password
    usernames: dict[str, str]

    def rows(self, query: str, *values: object) -> list[Row]:
        """Read the portal's own database."""
        with psycopg.connect(self.database_url) as session:
            return session.execute(query, values or None).fetchall()

    def value(self, query: str, *values: object) -> Any:
        """The first value of the first row; None when there is no row."""
        rows = self.rows(query, *values)
        return rows[0][0] if rows else None

    @contextmanager
    def target(self, database: str, *, autocommit: bool = True) -> Iterator[psycopg.Connection[Row]]:
        """A session of the administrator in one of the databases that the portal looks after."""
        host = self.value("SELECT host FROM catalog_databasetarget LIMIT 1")
        password = (self.data / "secrets" / "postgres-demo-password").read_text().strip()
        with psycopg.connect(
            host=host, user=USER, password=password, dbname=database, autocommit=autocommit, application_name="test"
        ) as session:
            yield session

    @contextmanager
    def dumps_held(self, database: str) -> Iterator[None]:
        """Every dump of the database waits inside its step until the block ends.

        Of all that a backup does, pg_dump alone reads the initial privileges. No cache is made of them, so a session
        that has to build its caches of the catalog anew does not meet the lock either.
        """
        with self.target(database, autocommit=False) as session:
            session.execute("LOCK TABLE pg_catalog.pg_init_privs IN ACCESS EXCLUSIVE MODE")
            yield
            session.rollback()

    @contextmanager
    def new_databases_held(self) -> Iterator[None]:
        """No database is made or renamed until the block ends, so that a restore waits in its loading step."""
        with self.target("postgres", autocommit=False) as session:
            session.execute("LOCK TABLE pg_catalog.pg_database IN SHARE MODE")
            yield
            session.rollback()

    def wait_for_operation(self, pk: int, *states: str, limit_s: float = 60) -> str:
        """Wait in the database until the operation is in one of the states; which one."""
        deadline = time.monotonic() + limit_s
        while (state := self.value("SELECT state FROM operations_operation WHERE id = %s", pk)) not in states:
            assert time.monotonic() < deadline, f"operation {pk} is {state}, not {' or '.join(states)}"
            time.sleep(0.1)
        return str(state)


@contextmanager
def running_portal(*, demo: bool = True) -> Iterator[Portal]:
    """Start a portal on the servers of `with-services`, and a database server of its own for the demo."""
    name = f"browser_{secrets.token_hex(4)}"
    server_url = os.environ["DATABASE_URL"]
    # Every account can pass through; the servers may run as another one.
    data = Path(tempfile.mkdtemp(prefix="browser-", dir="/tmp"))
    data.chmod(0o711)
    with psycopg.connect(server_url, autocommit=True) as session:
        session.execute(f'CREATE DATABASE "{name}"')
    try:
        with _stack(data, _other_database(server_url, name), demo=demo) as portal:
            yield portal
    finally:
        for folder in (data, *data.parent.glob(f"{data.name}-portal-*")):  # the second place and the key too
            shutil.rmtree(folder, ignore_errors=True)
        with psycopg.connect(server_url, autocommit=True) as session:
            session.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _other_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def _stack(data: Path, database_url: str, *, demo: bool) -> Iterator[Portal]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if key.removesuffix("_FILE") not in NOT_INHERITED}
    env |= {"DATABASE_URL": database_url, "DATA_DIR": str(data), "HOST": "127.0.0.1", "PORT": str(port)}
    env["DEMO"] = "true" if demo else "false"
    # A Redis of its own: another test's doorbell would ring for operations of another database.
    env = {key: value for key, value in env.items() if key.removesuffix("_FILE") != "REDIS_URL"}
    log = data / "stack.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "opsportal.stack", "run"],
            cwd=CHECKOUT,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
    try:
        _wait_ready(process, log)
        assert not demo or (data / "demo-sign-ins.txt").exists(), f"no demo:\n{log.read_text()}"
        yield _with_people(data, database_url, f"http://127.0.0.1:{port}", env)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while "The ops portal is ready" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, f"the portal did not start:\n{log.read_text()}"
        time.sleep(0.1)


def _with_people(data: Path, database_url: str, address: str, env: dict[str, str]) -> Portal:
    """The demo's people, and a superuser for the screens that only one may see."""
    password = secrets.token_hex(12)
    subprocess.run(
        [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", SUPERUSER, "--email", "a@b.test"],
        cwd=CHECKOUT,
        env={**env, "DJANGO_SUPERUSER_PASSWORD": password},
        check=True,
        capture_output=True,
    )
    return demo_portal(data, database_url, address, {SUPERUSER: password})


def demo_portal(data: Path, database_url: str, address: str, more: dict[str, str] | None = None) -> Portal:
    """A portal that runs already, with the demo's sign-ins if it has any."""
    path = data / "demo-sign-ins.txt"
    sign_ins = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
    more = more or {}
    return Portal(
        address=address,
        database_url=make_conninfo(**conninfo_to_dict(database_url)),
        data=data,
        passwords={role.lower(): password for role, _, password in sign_ins} | more,
        usernames={role.lower(): username for role, username, _ in sign_ins} | {name: name for name in more},
    )
