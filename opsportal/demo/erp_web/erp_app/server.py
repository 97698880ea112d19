"""Requests and answers."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import psycopg

from . import features, orders, pages
from .pool import Busy, Pool
from .signing import COOKIE, LASTS_S, Accounts

MOST_BYTES = 65_536
T = TypeVar("T")
HTML, JSON = "text/html; charset=utf-8", "application/json"


@dataclass
class Application:
    """What all requests share."""

    version: str
    slot: str
    pool: Pool
    accounts: Accounts


class Server(ThreadingHTTPServer):
    """A thread a connection; it knows how many requests it has begun."""

    request_queue_size = 128

    def __init__(self, port: int, app: Application) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.app = app
        self.under_way = 0
        self._counting = threading.Lock()

    def count(self, by: int) -> None:
        with self._counting:
            self.under_way += by


@dataclass
class Answer:
    """What goes back."""

    code: int
    body: bytes = b""
    kind: str = HTML
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer that ends a request early."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    server: Server

    def do_GET(self) -> None:
        self._handle({"style.css": self._style, "version": self._version, "sign-in": self._sign_in_form})

    def do_POST(self) -> None:
        self._handle({"sign-in": self._sign_in})

    do_HEAD = do_GET
    do_PATCH = do_DELETE = do_POST

    def _handle(self, special: dict[str, Callable[[], Answer]]) -> None:
        self.server.count(1)
        try:
            path = urlsplit(self.path).path.strip("/")
            asks_json = path.startswith("api/")
            try:
                self._body = self._read()
                answer = special[path]() if path in special else self._route(path.split("/"))
            except (Refused, orders.NotPossible) as refusal:
                code = refusal.code if isinstance(refusal, Refused) else 400
                answer = self._trouble(code, str(refusal), asks_json)
            except psycopg.errors.ForeignKeyViolation:
                answer = self._trouble(409, "This order has been worked on already.", asks_json)
            except (psycopg.Error, Busy) as error:
                self._report(f"{type(error).__name__}: {' '.join(str(error).split())}")
                answer = self._trouble(500, "The order system has no connection to its data.", asks_json)
            except Exception:
                self._report(traceback.format_exc())
                answer = self._trouble(500, "Something went wrong.", asks_json)
            self._send(answer)
        finally:
            self.server.count(-1)

    # -- where to ------------------------------------------------------------------------------------------------------

    def _route(self, parts: list[str]) -> Answer:
        method = "GET" if self.command == "HEAD" else self.command
        match (method, *parts):
            case ("GET", ""):
                return Answer(303, headers={"Location": "/orders"})
            case ("GET", "health", "live"):
                return Answer(200, b"alive\n", "text/plain")
            case ("GET", "health", "ready"):
                return self._ready()
            case ("GET", "orders"):
                return self._page("Orders", pages.order_list(self._ask(orders.newest)))
            case ("GET", "orders", "new"):
                return self._new_order()
            case ("POST", "orders"):
                self._demand_person()
                number = self._ask(orders.create, self._body)
                return Answer(303, headers={"Location": f"/orders/{number}"})
            case ("GET", "orders", number):
                order = self._order(number)
                return self._page(
                    f"Order {order['number']}", pages.one_order(order, features.recent_orders(self.app.pool, order))
                )
            case (_, "api", *rest):
                return self._api(method, rest)
        raise Refused(404, "There is nothing here.")

    def _api(self, method: str, rest: list[str]) -> Answer:
        match (method, *rest):
            case ("GET", "orders"):
                return self._json(200, self._ask(orders.newest))
            case ("POST", "quote"):
                return self._json(200, self._ask(orders.quote, self._body))
            case ("GET", "orders", number):
                return self._json(200, self._order(number))
            case ("POST", "orders"):
                self._demand_person()
                return self._json(201, {"id": self._ask(orders.create, self._body)})
            case ("PATCH", "orders", number) if number.isdecimal():
                self._demand_person()
                return self._changed(self._ask(orders.change, int(number), self._body))
            case ("DELETE", "orders", number) if number.isdecimal():
                self._demand_person()
                return self._changed(self._ask(orders.delete, int(number)))
        raise Refused(404, "There is nothing here.")

    # -- answers -------------------------------------------------------------------------------------------------------

    def _ready(self) -> Answer:
        """Ready is who reaches the database, by a connection of its own: a busy moment is no reason to be taken out."""
        try:
            with self.app.pool.connect() as connection:
                connection.execute("SELECT 1 FROM orders LIMIT 1")
        except psycopg.Error as error:
            return Answer(503, f"The database does not answer: {type(error).__name__}.\n".encode(), "text/plain")
        return Answer(200, b"ready\n", "text/plain")

    def _version(self) -> Answer:
        return self._json(200, {"version": self.app.version, "slot": self.app.slot})

    def _style(self) -> Answer:
        return Answer(200, pages.STYLE.encode(), "text/css", {"Cache-Control": "max-age=60"})

    def _new_order(self) -> Answer:
        if not self._who():
            return Answer(303, headers={"Location": "/sign-in"})
        return self._page("New order", pages.new_order(*self._ask(orders.choices)))

    def _sign_in_form(self) -> Answer:
        return self._page("Sign in", pages.sign_in(wrong=False))

    def _sign_in(self) -> Answer:
        if self.command != "POST":
            raise Refused(405, "Send the form.")
        if not self.app.accounts.check(str(self._body.get("name")), str(self._body.get("password"))):
            return self._page("Sign in", pages.sign_in(wrong=True), 403)
        cookie = f"{COOKIE}={self.app.accounts.cookie()}; Path=/; Max-Age={LASTS_S}; HttpOnly; SameSite=Strict"
        return Answer(303, headers={"Location": "/orders", "Set-Cookie": cookie})

    def _order(self, number: str) -> dict[str, Any]:
        found = self._ask(orders.one, int(number)) if number.isdecimal() and len(number) < 10 else None
        if found is None:
            raise Refused(404, "There is no such order.")
        return found

    def _changed(self, done: bool) -> Answer:
        if not done:
            raise Refused(404, "There is no such open order.")
        return self._json(200, {"done": True})

    def _page(self, title: str, body: str, code: int = 200) -> Answer:
        app = self.app
        return Answer(code, pages.page(title, body, version=app.version, slot=app.slot, who=self._who()))

    def _json(self, code: int, value: object) -> Answer:
        return Answer(code, json.dumps(value, default=str).encode() + b"\n", JSON)

    def _trouble(self, code: int, sentence: str, asks_json: bool) -> Answer:
        if asks_json:
            return self._json(code, {"error": sentence})
        return self._page("This did not work", pages.trouble(sentence), code)

    # -- the request ---------------------------------------------------------------------------------------------------

    @property
    def app(self) -> Application:
        return self.server.app

    def _ask(self, question: Callable[..., T], *values: Any) -> T:
        with self.app.pool.session() as session:
            return question(session, *values)

    def _who(self) -> str:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except Exception:
            return ""
        return self.app.accounts.whose(morsel.value) if morsel else ""

    def _demand_person(self) -> None:
        if not self._who():
            raise Refused(403, "Sign in first.")

    def _read(self) -> dict[str, Any]:
        """The form or the JSON object that was sent."""
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= MOST_BYTES:
            self.close_connection = True
            raise Refused(413, "That is too much.")
        raw = self.rfile.read(length)
        if not raw:
            return {}
        try:
            if self.headers.get_content_type() == JSON:
                value = json.loads(raw)
                return value if isinstance(value, dict) else {}
            return {name: values[-1] for name, values in parse_qs(raw.decode()).items()}
        except ValueError:
            raise Refused(400, "That cannot be read.") from None

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.code)
        headers = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "X-ERP-Version": self.app.version,
            "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            **answer.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _report(self, what: str) -> None:
        print(f"ERROR {self.command} {urlsplit(self.path).path}: {what}", file=sys.stdout, flush=True)

    def log_message(self, format: str, *args: Any) -> None:
        """The proxy keeps the access log."""
