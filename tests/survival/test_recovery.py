"""Back from nothing: the portal's folder is deleted, and the documented commands bring the portal back."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest

from survival import recovery
from tests.conftest import TargetServer
from tests.factories import drop_databases, new_name, sample_database
from tests.opsportal.stack_tools import CHECKOUT, Portal, alive, clean_env, free_port, open_folder, wait_until

GUIDE = CHECKOUT / "docs" / "operations-guide.md"
PASSWORD = "correct-horse-9"

# What a team has in its portal, made through the portal's own code; prints the id of the plan.
FURNISH = """
import django; django.setup()
import sys
from django.contrib.auth.models import Group
from backups import actions
from backups.models import Plan, Storage
from catalog.models import Component, DatabaseTarget, Environment, Host, Service
from core.models import User
root, host, user, database, secret = sys.argv[1:]
olga = User.objects.create_user("olga", password="correct-horse-9")
olga.groups.add(Group.objects.get(name="Operator"))
service = Service.objects.create(name="Shop", slug="shop", time_zone="Europe/Berlin")
environment = Environment.objects.create(service=service, name="production", slug="production", kind="production")
component = Component.objects.create(environment=environment, name="database", kind="database")
target = DatabaseTarget.objects.create(
    component=component, name="shop", host=host, database=database, user=user, password_ref=f"file:{secret}"
)
here = Host.objects.create(name="localhost", address="127.0.0.1")
storage = Storage.objects.create(name="disk", host=here, root=root)
plan = Plan.objects.create(name="Shop nightly", target=target, storage=storage, folder="shop")
print(actions.request_backup(plan, by=olga).pk)
"""
BACK_UP_SELF = """
import django; django.setup()
from survival import actions
print(actions.request_backup(by=None, trigger="command").pk)
"""
BACK_UP_AGAIN = """
import django; django.setup()
from backups import actions
from backups.models import Plan
print(actions.request_backup(Plan.objects.get(), by=None).pk)
"""


def block_after(heading: str, text: str) -> str:
    """The first shell block below a heading."""
    found = re.search(rf"^#+ {re.escape(heading)}$.*?```sh\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


def test_the_guide_says_what_lies_beside_the_backups():
    guide = GUIDE.read_text()
    assert block_after("With its own servers", guide) == recovery.EMBEDDED
    assert block_after("With your own PostgreSQL", guide) == recovery.PRODUCTION
    assert len(recovery.EMBEDDED.replace("\\\n", "").splitlines()) <= 5
    assert len(recovery.PRODUCTION.replace("\\\n", "").splitlines()) <= 5
    assert recovery.EMBEDDED in recovery.text() and recovery.WITHOUT_AGE in recovery.text()


class Team:
    """A portal of its own with the stack, and what is asked of it."""

    def __init__(self, folder: Path, server: TargetServer, database: str) -> None:
        self.folder, self.server, self.database = folder, server, database
        self.checkout = checkout(folder)
        self.data = self.checkout / "var"
        self.archives = folder / "archives"
        self.archives.mkdir()
        self.portal: Portal | None = None

    def start(self) -> Portal:
        self.portal = Portal(self.data, free_port())
        self.portal.wait_for("The ops portal is ready")
        return self.portal

    def stop(self) -> None:
        if self.portal is not None:
            self.portal.end()
            self.portal = None

    def lose_everything(self) -> None:
        """The power goes, and the folder with it."""
        assert self.portal
        tree = self.portal.tree()
        self.portal.process.kill()
        self.portal.process.wait(30)
        wait_until(lambda: not alive(tree), 30, lambda: str(alive(tree)))
        shutil.rmtree(self.data)
        self.portal = None

    def env(self) -> dict[str, str]:
        return clean_env(
            DATA_DIR=str(self.data),
            SECRET_KEY_FILE=str(self.data / "secrets" / "django-secret-key"),
            DATABASE_URL_FILE=str(self.data / "secrets" / "database-url"),
            REDIS_URL_FILE=str(self.data / "secrets" / "redis-url"),
            DJANGO_SETTINGS_MODULE="opsportal.settings",
        )

    def python(self, script: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=CHECKOUT,
            env=self.env(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect((self.data / "secrets" / "database-url").read_text()) as session:
            return session.execute(query, values or None).fetchall()

    def wait_for(self, operation: str) -> str:
        """The sentence an operation ends with; it must succeed."""
        ask = "SELECT state, message FROM operations_operation WHERE id = %s"
        wait_until(
            lambda: self.rows(ask, operation)[0][0] in ("succeeded", "failed", "errored", "cancelled"),
            120,
            lambda: str(self.rows(ask, operation)),
        )
        state, message = self.rows(ask, operation)[0]
        assert state == "succeeded", message
        return str(message)

    def furnish(self) -> None:
        secret = self.data / "target-secrets" / "shop"
        secret.parent.mkdir(mode=0o700, exist_ok=True)
        secret.write_text(self.server.password)
        secret.chmod(0o600)
        arguments = (str(self.archives), self.server.host, self.server.user, self.database, str(secret))
        self.wait_for(self.python(FURNISH, *arguments))

    def pages(self) -> dict[str, str]:
        """What olga sees after she has signed in."""
        assert self.portal
        base = f"http://127.0.0.1:{self.portal.port}"
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        form = browser.open(f"{base}/login/", timeout=20).read().decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        assert token
        fields = {"username": "olga", "password": PASSWORD, "csrfmiddlewaretoken": token[1], "next": "/"}
        home = browser.open(f"{base}/login/", urlencode(fields).encode(), timeout=20).read().decode()
        assert "Situation room" in home and "Sign in" not in home
        paths = {"operations": "/operations/operation/", "archives": "/backups/archive/"}
        return {name: browser.open(f"{base}{path}", timeout=20).read().decode() for name, path in paths.items()}


@pytest.fixture
def team(target_server: TargetServer) -> Iterator[Team]:
    name = new_name("recover")
    sample_database(target_server, name)
    with open_folder() as folder:
        made = Team(folder, target_server, name)
        yield made
        made.stop()
    drop_databases(target_server, name)


def shell(commands: str, folder: Path, **more: str) -> str:
    """Paste the commands into a shell in a checkout."""
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{commands}"],
        cwd=folder,
        env=clean_env(**more),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def checkout(folder: Path) -> Path:
    """A checkout without a data folder. Its environment of Python packages is the one of this checkout."""
    place = folder / "checkout"
    place.mkdir()
    for path in CHECKOUT.iterdir():
        if path.name not in ("var", "var-portal-backup", "var-portal-key", "screenshots"):
            (place / path.name).symlink_to(path)
    return place


@pytest.mark.xdist_group("recovery")
@pytest.mark.needs("age")
@pytest.mark.timeout(600)
def test_a_deleted_portal_comes_back_with_the_documented_commands(team: Team, tmp_path: Path) -> None:
    team.start()
    team.furnish()
    # One that is asked for now holds all of this; the first one was made when the portal started.
    team.wait_for(team.python(BACK_UP_SELF))
    seen = team.pages()
    people = team.rows("SELECT id, username, password FROM core_user ORDER BY id")
    archives = team.rows("SELECT id, name, sha256, verification FROM backups_archive ORDER BY id")
    operations = team.rows("SELECT id, title FROM operations_operation ORDER BY id")
    assert archives and archives[0][1] in seen["archives"]

    # The disaster: no clean stop, and nothing left of the folder.
    team.lose_everything()
    second, key = team.checkout / "var-portal-backup", team.checkout / "var-portal-key" / "portal-backup-key.txt"
    newest = max(second.glob("portal-*.tar.age"))

    *commands, run = recovery.EMBEDDED.splitlines()
    assert run == "DEMO=false make run"
    text = "\n".join(commands).replace("/safe/portal-backup-key.txt", str(key))
    text = text.replace("/second/place/portal-DATE.tar.age", str(newest))
    shell(text, team.checkout, DATA_DIR=str(team.data), PYTHON=sys.executable)
    assert not (team.data / "portal.dump").exists()
    team.start()  # what `make run` starts

    assert team.rows("SELECT id, username, password FROM core_user ORDER BY id") == people
    assert team.rows("SELECT id, name, sha256, verification FROM backups_archive ORDER BY id") == archives
    now = dict(team.rows("SELECT id, title FROM operations_operation"))
    assert all(now[number] == title for number, title in operations)
    again = team.pages()
    for number, _ in operations:
        assert f"/operations/operation/{number}/" in again["operations"]
    assert archives[0][1] in again["archives"]
    secret = team.data / "target-secrets" / "shop"
    assert secret.stat().st_mode & 0o777 == 0o600
    # The secrets work: the database is backed up with the password that came back.
    team.wait_for(team.python(BACK_UP_AGAIN))
    assert len(team.rows("SELECT id FROM backups_archive WHERE verification = 'verified'")) == 2
    # What was running when the backup was made, the backup itself, is taken up and ends well.
    for number, title in operations:
        if title == "Back up the portal":
            team.wait_for(str(number))
    # The next one lists what it finds, the backup that all of this came from among it.
    team.wait_for(team.python(BACK_UP_SELF))
    assert team.rows("SELECT count(*) FROM survival_portalbackup WHERE name = %s", newest.name) == [(1,)]


@pytest.mark.xdist_group("recovery")
def test_commands_beside_a_running_portal_are_refused(tmp_path: Path) -> None:
    """Never in place: the folder's lock says who runs."""
    with open_folder() as folder:
        portal = Portal(folder / "var", free_port())
        try:
            portal.wait_for("The ops portal is ready")
            done = subprocess.run(
                [sys.executable, "-m", "opsportal.stack", "with-database", "--", "true"],
                cwd=CHECKOUT,
                env=clean_env(DATA_DIR=str(folder / "var")),
                capture_output=True,
                text=True,
                timeout=60,
            )
        finally:
            portal.end()
    assert done.returncode == 1 and "A portal already runs on" in done.stderr


@pytest.mark.needs("age")
def test_your_own_postgresql_and_without_age(done, settings, places, transactional_db, target_server, tmp_path) -> None:
    """The commands for a portal on a PostgreSQL of its own; the key's program replaced by what .venv has."""
    from core.models import User
    from survival import actions
    from survival.models import PortalBackup

    settings.SECRET_KEY = "this-portal-signs-with-it"
    (places / "var" / "secrets" / "django-secret-key").unlink()
    User.objects.create_user("olga", password=PASSWORD)
    operation = done(actions.request_backup(by=None))
    newest = PortalBackup.objects.get(operation=operation).path
    key = places / "var-portal-key" / "portal-backup-key.txt"
    database = new_name(f"portal{secrets.token_hex(3)}")
    (tmp_path / "pgpass").write_text(f"*:*:*:*:{target_server.password}\n")
    (tmp_path / "pgpass").chmod(0o600)
    env = {
        "PGHOST": target_server.host,
        "PGUSER": target_server.user,
        "PGPASSFILE": str(tmp_path / "pgpass"),
        "PATH": f"{os.environ['PG_BIN']}:{os.environ['PATH']}",
    }
    with_age, *others = recovery.PRODUCTION.splitlines()
    migrate = others.pop()
    assert migrate == ".venv/bin/python manage.py migrate --noinput"
    changes = {
        "/safe/portal-backup-key.txt": str(key),
        "/second/place/portal-DATE.tar.age": newest,
        "/tmp/portal": str(tmp_path / "portal"),
        " opsportal": f" {database}",
        "=opsportal": f"={database}",
        ".venv/bin/python": sys.executable,
        "survival/after_recovery.sql": str(CHECKOUT / "survival" / "after_recovery.sql"),
    }

    def real(text: str) -> str:
        for shown, put in changes.items():
            text = text.replace(shown, put)
        return text

    work = tmp_path / "work"
    work.mkdir()
    try:
        for opening in (with_age, recovery.WITHOUT_AGE):
            (work / "portal.tar").unlink(missing_ok=True)
            shell(real(opening), work)
        shell(real("\n".join(others)), work, **env)
        assert (tmp_path / "portal" / "secrets" / "django-secret-key").read_text() == "this-portal-signs-with-it"
        url = f"postgresql://{target_server.user}:{target_server.password}@/{database}?host={target_server.host}"
        shell(
            real(migrate).replace("manage.py", str(CHECKOUT / "manage.py")), work, SECRET_KEY="x" * 50, DATABASE_URL=url
        )
        with psycopg.connect(url) as session:
            assert session.execute("SELECT username FROM core_user").fetchall() == [("olga",)]
            assert session.execute("SELECT count(*) FROM operations_operation").fetchone()[0] >= 1
            following = session.execute("SELECT nextval(pg_get_serial_sequence('operations_operation', 'id'))")
            highest = session.execute("SELECT max(id) FROM operations_operation")
            assert following.fetchone()[0] > highest.fetchone()[0] + 1_000_000
        manifest = json.loads((tmp_path / "portal" / "manifest.json").read_text())
        assert manifest["format"] == 1
    finally:
        drop_databases(target_server, database)
