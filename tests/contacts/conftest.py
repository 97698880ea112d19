"""A real mail server and a real receiver on this machine, and committed rows, since messages go out from threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from pytest_django import DjangoDbBlocker

from contacts import sending
from operations import dispatch
from tests.committed import ENGINE_TABLES, committed_rows

LOOPBACK = "127.0.0.0/8"


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    tables = ("auditlog_logentry", "django_session", *ENGINE_TABLES, "catalog_service")
    with committed_rows(django_db_blocker, tables):
        yield


@pytest.fixture
def outbox(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed rows, no messages to workers, nobody passed over from the test before."""
    monkeypatch.setattr(dispatch, "_leave_alone_until", float("inf"))
    sending._passed_over.clear()
    sending._lanes.clear()
    sending._held.clear()


@dataclass
class Mailbox:
    """What a mail server got. `refuses`: what recipients are answered; `delay_s`: how long it takes for a mail."""

    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    sessions: set[Any] = field(default_factory=set)
    refuses: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0
    port: int = 0
    before: Callable[[], None] = lambda: None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if answer := self.refuses.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.sessions.add(session.peer)
        if self.delay_s:
            time.sleep(self.delay_s)
        self.before()
        self.mails.append(BytesParser(policy=default).parsebytes(envelope.content))  # type: ignore[arg-type]
        self.recipients += envelope.rcpt_tos
        return "250 OK"

    @property
    def subjects(self) -> list[str]:
        return [str(mail["subject"]) for mail in self.mails]


class _Controller(Controller):
    """Listens on a port of the system's choice and asks nobody whether it is ready."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    box = Mailbox()
    controller = _Controller(box, hostname="127.0.0.1", port=0)
    controller.start()
    box.port = controller.port
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", controller.port
    settings.EMAIL_FROM = "Ops Portal <ops@example.org>"
    settings.PORTAL_URL = "https://ops.example.org"
    yield box
    controller.stop()


@dataclass
class Receiver:
    """Keeps what it got, and answers `status` with `says` after `delay_s`."""

    server: ThreadingHTTPServer
    got: list[tuple[str, bytes]] = field(default_factory=list)
    status: int = 200
    says: bytes = b"{}"
    location: str = ""
    delay_s: float = 0

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.got.append((self.path, self.rfile.read(int(self.headers.get("content-length") or 0))))
            time.sleep(made.delay_s)
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", str(len(made.says)))
            self.end_headers()
            self.wfile.write(made.says)

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def send_due() -> None:
    """One round, to its end."""
    for begun in sending.start_due():
        begun.result(60)
