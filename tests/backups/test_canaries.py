"""Ten thousand secrets go through the portal, and none comes out where people or programs could read it."""

from __future__ import annotations

import http.server
import io
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from django.core.cache import cache
from django.db import connection

from backups import actions
from catalog import actions as catalog
from catalog import probing
from catalog.models import DatabaseTarget, Probe
from core.exceptions import PortalError
from core.models import User
from core.roles import Role
from operations import actions as operations
from operations import commands, engine
from operations.commands import Command
from operations.models import Operation
from tests import factories
from tests.core.test_outbound import serving, url
from tests.operations.samples import Sample, script
from tests.pages import page_of
from tests.webhooks.conftest import send_due
from webhooks.models import Delivery

COUNT = 10_080
IN_COMMANDS = 9_800
CANARY = re.compile(rb"canary-[0-9a-f]{32}")


class Canaries:
    """Secrets that are easy to recognise, handed out one by one."""

    def __init__(self, count: int) -> None:
        self.all = [f"canary-{secrets.token_hex(16)}" for _ in range(count)]
        self._left = iter(self.all)

    def take(self, count: int = 1) -> list[str]:
        return [next(self._left) for _ in range(count)]

    def found_in(self, data: bytes) -> set[str]:
        known = set(self.all)
        return {text for match in CANARY.findall(data) if (text := match.decode()) in known}


class ProcessList:
    """Every command line on this machine, looked at again and again."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._enough.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if b"canary-" in line:
                    self.seen.add(line)
            time.sleep(0.01)

    def __enter__(self) -> ProcessList:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._enough.set()
        self._thread.join()


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """All that is logged, at every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


class Parrot(http.server.BaseHTTPRequestHandler):
    """Repeats the token it was sent, as a careless service does."""

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "")
        body = json.dumps({"you": token}).encode()
        self.send_response(302 if self.path == "/redirect" else 200)
        self.send_header("Location", f"/?token={token.removeprefix('Bearer ')}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Repeats everything it was sent, and does not take it."""
        told = self.rfile.read(int(self.headers["Content-Length"])) + str(self.headers).encode()
        self.server.told += told  # type: ignore[attr-defined]  # set by the test
        self.send_response(500)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *args: object) -> None:
        pass


def database_as_text() -> bytes:
    """Every row of every table of the portal's database."""
    out = bytearray()
    with connection.cursor() as cursor:
        cursor.execute("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            with cursor.copy(f"COPY {table} TO STDOUT") as copy:
                for piece in copy:
                    out += bytes(piece)
    return bytes(out)


def broker_as_text() -> bytes:
    """Every message and every other key in Redis."""
    parts = urlsplit(os.environ["REDIS_URL"])
    client = redis.Redis(unix_socket_path=parts.path, username=parts.username, password=parts.password)
    out = bytearray()
    with client:
        for key in client.scan_iter(count=1000):
            try:
                out += key + (client.dump(key) or b"")
            except redis.ResponseError:  # gone meanwhile
                continue
    return bytes(out)


def files_below(folder: Path, but: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and but not in path.parents)


def printing(canaries: list[str], number: int) -> Command:
    """A command that is given secrets and prints them in every way: whole, split, quoted, on both streams."""
    code = (
        "import os, sys, json, time, urllib.parse\n"
        "for n, line in enumerate(open(os.environ['SECRETS'])):\n"
        "    s = line.strip()\n"
        "    out = sys.stdout if n % 2 else sys.stderr\n"
        "    out.write(f'login {s[:9]}'); out.flush()\n"
        "    out.write(f'{s[9:]} {json.dumps(s)} {urllib.parse.quote(s)} x{s}y\\n'); out.flush()\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    return Command(
        ("python3", "-c", code, str(number % 2)),
        secrets=tuple(canaries),
        secret_files={"SECRETS": "\n".join(canaries)},
        timeout_s=60,
    )


@pytest.mark.timeout(280)
def test_no_secret_comes_out_anywhere(shop, logs, settings, tmp_path, capfd):
    canaries = Canaries(COUNT)
    settings.SECRET_DIRS = [tmp_path / "secret-files"]
    settings.SECRET_DIRS[0].mkdir()
    cache.clear()
    pages = bytearray()
    ada = factories.browser(factories.PersonFactory(username="ada", role=Role.ADMINISTRATOR))

    def kept(canary: str) -> str:
        path = settings.SECRET_DIRS[0] / secrets.token_hex(4)
        path.write_text(canary)
        return f"file:{path}"

    def look(address: str) -> None:
        response = ada.get(address)
        pages.extend(b"".join(response.streaming_content) if response.streaming else response.content)

    with ProcessList() as process_list, serving(Parrot) as elsewhere:
        # Other systems that are told of all of it, each with a signing secret of its own.
        elsewhere.told = b""
        for canary in canaries.take(40):
            factories.WebhookFactory(url=url(elsewhere), secret_ref=kept(canary))
        # Commands of operations that print what they were given, and fail half of the time.
        batches = [canaries.take(200) for _ in range(IN_COMMANDS // 200)]
        for number, batch in enumerate(batches):
            script.on("two", lambda ctx, batch=batch, number=number: ctx.run(printing(batch, number)))
            operation = operations.request(Sample.name, title="Prints", params={}, by=shop.operator)
            engine.run(operation.pk, "worker-1")
            if number % 10 == 0:
                look(f"/operations/operation/{operation.pk}/")
                look(f"/operations/operation/{operation.pk}/log/")
        # Databases with wrong passwords: checked and backed up.
        for canary in canaries.take(40):
            DatabaseTarget.objects.filter(pk=shop.target.pk).update(password_ref=kept(canary))
            shop.target.refresh_from_db()
            with pytest.raises(PortalError):
                catalog.check_connection(shop.target, by=shop.operator)
        failed = shop.run(actions.request_backup(shop.plan, by=shop.operator))
        assert failed.state == Operation.State.FAILED
        look(f"/operations/operation/{failed.pk}/")
        look(f"/catalog/databasetarget/{shop.target.pk}/")
        look(f"/catalog/databasetarget/{shop.target.pk}/history/")
        # Tokens sent to a service that repeats them.
        with serving(Parrot) as server:
            environment = shop.target.component.environment
            environment.allowed_networks = "127.0.0.0/8"
            environment.save()
            for number, canary in enumerate(canaries.take(40)):
                parameters = {"url": url(server, "/redirect" if number % 2 else "/"), "token_ref": kept(canary)}
                parameters |= {"json_path": "you", "json_value": "nobody"}
                probe = Probe.objects.create(
                    environment=environment, name=f"p{number}", kind="http", parameters=parameters
                )
                probing.record(probe, probing.ask(probe, commands.run_checked))
                look(f"/catalog/probe/{probe.pk}/")
        # Passwords typed into forms that refuse them.
        server = shop.database.server
        for number, canary in enumerate(canaries.take(40)):
            cache.clear()
            typed = {"host": server.host, "port": "5432", "user": server.user, "database": shop.database.name}
            typed |= {"service": f"S{number}", "kind": "staging", "folder": str(tmp_path), "at": "02:00"}
            for address in ("/backups/plan/first/test/", "/backups/plan/first/"):
                form = page_of(ada.get("/backups/plan/first/")).post
                response = ada.post(address, {**form.fields, **typed, "password": canary})
                pages.extend(response.content)
        for canary in canaries.take(40):
            response = ada.post("/login/", {"username": "nobody", "password": canary})
            pages.extend(response.content)
        # Tokens that are none, and what a token of an administrator may read.
        for canary in canaries.take(40):
            response = ada.get("/api/v1/me", headers={"Authorization": f"Bearer {canary}"})
            assert response.status_code == 401
            pages.extend(response.content)
        headers = factories.bearer(User.objects.get(username="ada"), "read")
        for address in ("services", "databases", "probes", "operations?limit=200"):
            pages.extend(ada.get(f"/api/v1/{address}", headers=headers).content)
        for pk in Operation.objects.values_list("pk", flat=True):
            for part in ("", "/log?limit=1000"):
                pages.extend(ada.get(f"/api/v1/operations/{pk}{part}", headers=headers).content)
        send_due()
        assert b"operation.ended" in elsewhere.told
        delivery = Delivery.objects.exclude(message="").first()
        assert delivery.answer == 500
        look(delivery.get_absolute_url())
        for address in (
            "/",
            "/operations/event/",
            "/webhooks/webhook/",
            "/webhooks/delivery/",
            "/operations/operation/",
            "/auditlog/logentry/",
            "/axes/accessattempt/",
            "/catalog/probe/",
        ):
            look(address)

    database = database_as_text()
    assert len(database) > 100_000 and b"********" in database, "there must have been something to find"
    places = {
        "database, log lines and audit included": database,
        "pages and API": bytes(pages),
        "what other systems are told": elsewhere.told,
        "logs": logs.getvalue().encode() + "".join(capfd.readouterr()).encode(),
        "broker": broker_as_text(),
        "process list": b"\n".join(process_list.seen),
        "files of the portal": files_below(Path(settings.DATA_DIR), but=settings.SECRET_DIRS[0]),
        "archives": files_below(shop.root, but=settings.SECRET_DIRS[0]),
    }
    found = {place: sorted(canaries.found_in(data))[:3] for place, data in places.items()}
    assert found == {place: [] for place in places}
    # The control: the same search finds one that stands where it should not.
    assert canaries.found_in(database + canaries.all[0].encode()) == {canaries.all[0]}
    assert os.environ.get("SECRETS") is None
