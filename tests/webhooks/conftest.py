"""A real receiver on this machine, and committed rows, since webhooks are sent from other connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from operations import dispatch, events
from operations.models import Event
from tests.committed import ENGINE_TABLES, committed_rows
from tests.factories import WebhookFactory
from webhooks import sending
from webhooks.models import Delivery, Webhook

SECRET = "whsec_c2VjcmV0LWtleS1vZi10aGUtdGVzdHMtb25seQ=="
NEWS = events.declare("tests.webhook", "A test tells something")


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with committed_rows(django_db_blocker, ("auditlog_logentry", "django_session", *ENGINE_TABLES)):
        yield


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signing secret, and no messages to workers."""
    monkeypatch.setenv("OPS_SECRET_TEST_WEBHOOK", SECRET)
    monkeypatch.setattr(dispatch, "_leave_alone_until", float("inf"))


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Keeps what it got, and answers `status` with `says` after `delay_s`."""

    server: ThreadingHTTPServer
    got: list[Request] = field(default_factory=list)
    status: int = 204
    says: bytes = b""
    location: str = ""
    delay_s: float = 0
    before: Callable[[Request], None] = lambda request: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, self.rfile.read(int(headers.get("content-length") or 0)))
            made.got.append(request)
            made.before(request)
            time.sleep(made.delay_s)
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", str(len(made.says)))
            self.end_headers()
            self.wfile.write(made.says)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def webhook(transactional_db: None, receiver: Receiver) -> Webhook:
    return WebhookFactory(url=receiver.url)


def tell(sentence: str = "Something.", **values: object) -> Event:
    with transaction.atomic():
        return events.publish(NEWS, sentence, **values)  # type: ignore[arg-type]


def send_due() -> None:
    """One round, to its end."""
    for begun in sending.start_due():
        begun.result(60)


def due_again(delivery: Delivery | None = None) -> None:
    """As if the pause were over."""
    rows = Delivery.objects.filter(state=Delivery.State.PENDING)
    if delivery is not None:
        rows = rows.filter(pk=delivery.pk)
    rows.update(due_at=timezone.now())
