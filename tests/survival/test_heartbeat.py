"""The heartbeat goes out while the portal keeps its promises, and stops with the reason when one breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import DatabaseError
from django.utils import timezone

from operations import duties
from operations.models import WorkerNode
from survival import heartbeat
from survival.models import Heartbeat, PortalBackup
from tests import factories

pytestmark = pytest.mark.usefixtures("transactional_db")
SECRET = "6f1c-secret-path"


@dataclass
class Receiver:
    """An address outside: keeps what it got, answers `status` after `delay_s`."""

    server: ThreadingHTTPServer
    got: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, body
    status: int = 200
    delay_s: float = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{SECRET}"


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            made.got.append((self.command, self.path, body))
            time.sleep(made.delay_s)
            self.send_response(made.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.HEARTBEAT_URL, settings.HEARTBEAT_NETWORKS = made.url, ["127.0.0.0/8"]
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def well(transactional_db: None) -> None:
    now = timezone.now()
    factories.WorkerNodeFactory(queues=["operations"])
    factories.WorkerNodeFactory(queues=["control"], looped_at=now)
    factories.PortalBackupFactory()


def row() -> Heartbeat:
    return Heartbeat.objects.get(pk=1)


def test_it_arrives_while_all_is_well(receiver):
    assert heartbeat.beat()
    assert receiver.got == [("POST", f"/{SECRET}", "")]
    assert row().sent_at is not None and row().trouble == ""


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda: WorkerNode.objects.filter(queues=["operations"]).delete(), "No worker for operations is live"),
        (lambda: factories.OperationFactory(state="queued", queue="host-far"), "“host-far”"),
        (lambda: WorkerNode.objects.update(looped_at=timezone.now() - timedelta(hours=1)), "control loop stands still"),
        (lambda: factories.ScheduleFactory(decided_until=timezone.now() - timedelta(days=2)), "schedules are late"),
        (lambda: PortalBackup.objects.update(made_at=timezone.now() - timedelta(days=2)), "2 d old"),
    ],
)
def test_it_stops_with_the_reason_when_a_promise_breaks(receiver, break_it, reason):
    assert heartbeat.beat()
    sent = row().sent_at
    break_it()
    assert not heartbeat.beat()
    method, path, body = receiver.got[-1]
    assert (method, path) == ("POST", f"/{SECRET}/fail") and reason in body
    assert reason in row().trouble and row().sent_at == sent


def test_a_database_that_takes_no_writes_stops_it(receiver, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise DatabaseError("cannot execute UPDATE in a read-only transaction")

    monkeypatch.setattr(Heartbeat.objects, "update_or_create", refuse)
    assert not heartbeat.beat()
    assert receiver.got == [("POST", f"/{SECRET}/fail", "The portal's database takes no writes.")]


def test_an_address_that_refuses_or_is_away_is_told_without_its_secret(receiver, settings, caplog):
    receiver.status = 404
    assert not heartbeat.beat()
    assert "answered 404" in row().trouble
    receiver.server.shutdown()
    receiver.server.server_close()
    assert not heartbeat.beat()
    assert SECRET not in row().trouble + caplog.text


def test_it_goes_where_it_is_allowed_to_only(receiver, settings):
    settings.HEARTBEAT_NETWORKS = []
    assert not heartbeat.beat()
    assert receiver.got == [] and "127.0.0.1" in row().trouble
    settings.HEARTBEAT_NETWORKS, settings.HEARTBEAT_URL = ["169.254.0.0/16"], "http://169.254.169.254/latest/"
    assert not heartbeat.beat()
    assert "never asked" in row().trouble


def test_a_slow_address_holds_up_no_other_duty(receiver, settings, monkeypatch):
    """Each duty has a thread of its own; the control loop is in none of them."""
    receiver.delay_s = 3
    settings.HEARTBEAT_EVERY_S = 0.01
    done = threading.Event()
    others = duties.Duty("other", 0.01, done.set)
    slow = next(duty for duty in duties.all_duties() if duty.name == "duty-heartbeat")
    slow.start()
    try:
        deadline = time.monotonic() + 20
        while not receiver.got:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        others.start()
        assert done.wait(2.5), "it must not wait for the address"
    finally:
        slow.stop()
        others.stop()
        slow.join(30)
        others.join(30)
    assert not slow.is_alive() and not others.is_alive()


def test_without_an_address_there_is_no_such_duty(settings):
    settings.HEARTBEAT_URL = "https://beats.example.org/one"
    some = {duty.name for duty in duties.all_duties()}
    settings.HEARTBEAT_URL = ""
    assert some - {duty.name for duty in duties.all_duties()} == {"duty-heartbeat"}
