"""A portal in production: the example environment with this run's addresses, its own database, secrets as files."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from opsportal.stack.identity import Account
from tests.deploy.install import install
from tests.deploy.units import DEPLOY, Running, Unit, environment_file
from tests.opsportal.stack_tools import free_port, wait_until

EXAMPLE = DEPLOY / "opsportal.env.example"
PASSWORD = "correct-horse-battery-staple"  # of the first person, ada
NAME = "ops.example.org"  # the host of the example
# A plan for one database, and the operation that its button would ask for. Prints the operation's number.
BACK_UP = """
from backups import actions
from backups.models import Plan, Storage
from catalog.models import Component, DatabaseTarget, Environment, Host, Service
from core.models import User
service = Service.objects.create(name="Shop", slug="shop", owner_team="Orders team", time_zone="UTC")
environment = Environment.objects.create(service=service, name="Production", slug="production", kind="production")
part = Component.objects.create(environment=environment, name="database", kind="database")
host = Host.objects.create(name="localhost", address="127.0.0.1")
target = DatabaseTarget.objects.create(
    component=part, name="shop", host={host!r}, port={port}, database={database!r}, user={user!r},
    password_ref={password!r})
storage = Storage.objects.create(name="archives", host=host, root={archives!r})
plan = Plan.objects.create(name="Shop nightly", target=target, storage=storage, folder="shop")
print("operation", actions.request_backup(plan, by=User.objects.get(username="ada")).pk)
"""


@dataclass
class Site:
    folder: Path
    installed: Path  # stands for /opt/opsportal
    configured: Path  # stands for /etc/opsportal
    port: int
    account: Account
    database_url: str
    units: dict[str, Running] = field(default_factory=dict)

    def manage(self, *arguments: str, stdin: str = "", **env: str) -> str:
        """The script that runs manage.py with this environment."""
        name = "nobody" if self.account.dropped else "root"
        done = subprocess.run(
            [str(self.installed / "deploy" / "systemd" / "manage"), *arguments],
            env={"PATH": os.defpath, "OPSPORTAL_ETC": str(self.configured), "OPSPORTAL_ACCOUNT": name, **env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *names: str) -> None:
        for name in names:
            self.units[name] = Running(Unit.read(name), self.installed, self.configured, self.account, self.folder)

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": NAME})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def wait_ready(self) -> None:
        wait_until(lambda: self.get("/health/ready") == 200, 90, self.logs)

    def value(self, query: str, *values: object) -> Any:
        with psycopg.connect(self.database_url) as session:
            row = session.execute(query, values or None).fetchone()
            return row[0] if row else None

    def logs(self) -> str:
        return "\n".join(f"--- {name}\n{unit.output()[-3000:]}" for name, unit in self.units.items())


@contextmanager
def production() -> Iterator[Site]:
    """Migrated, static files collected, the first person made; nothing started yet. Only root can do this."""
    name = f"deploy_{secrets.token_hex(4)}"
    server_url = os.environ["DATABASE_URL"]
    folder = Path(tempfile.mkdtemp(prefix="site-", dir="/tmp"))
    folder.chmod(0o755)
    account = install(folder / "opt", Account.current())
    with psycopg.connect(server_url, autocommit=True) as session:
        session.execute(f'CREATE DATABASE "{name}"')
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    site = Site(folder, folder / "opt", folder / "etc", free_port(), account, url)
    try:
        _configure(site)
        site.manage("migrate", "--noinput", "--verbosity", "0")
        site.manage("collectstatic", "--noinput", "--verbosity", "0")
        person = ("--noinput", "--username", "ada", "--email", "ada@example.org")
        site.manage("createsuperuser", *person, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
        yield site
    finally:
        for unit in site.units.values():
            unit.kill()
        shutil.rmtree(folder, ignore_errors=True)
        with psycopg.connect(server_url, autocommit=True) as session:
            session.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _configure(site: Site) -> None:
    """The example with what differs here; nothing is added to it."""
    data = site.account.own_folder(site.folder / "data")
    changes = {
        "PORT": str(site.port),
        "DATA_DIR": str(data),
        "STATIC_ROOT": str(data / "static"),
        "PORTAL_BACKUP_DIR": str(site.account.own_folder(site.folder / "portal-backup")),
        "PORTAL_KEY_DIR": str(site.account.own_folder(site.folder / "portal-key")),
        "SECRET_DIRS": str(site.configured / "target-secrets"),
        "PG_BIN": os.environ["PG_BIN"],
    }
    values = environment_file(EXAMPLE)
    assert changes.keys() <= values.keys()
    site.configured.mkdir(mode=0o755)
    (site.configured / "opsportal.env").write_text("".join(f"{k}={v}\n" for k, v in (values | changes).items()))
    (site.configured / "secrets").mkdir(mode=0o700)
    # A broker database of its own: other tests' workers listen to the first.
    for name, value in {
        "secret-key": secrets.token_urlsafe(50),
        "database-url": site.database_url,
        "redis-url": os.environ["REDIS_URL"].replace("virtual_host=0", "virtual_host=9"),
    }.items():
        (site.configured / "secrets" / name).write_text(value)
    site.account.own_folder(site.configured / "target-secrets")
