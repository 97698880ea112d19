"""`python smoke.py ADDRESS VERSION --password-file FILE`: sign in, take an order, read it, change it, delete it.

ADDRESS is host:port, of the proxy: what is tested is what people get.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ACCOUNT = "test"
LIMIT_S = 5


class Failed(Exception):
    """What did not work, in a sentence."""


class Person:
    """Somebody with a browser."""

    def __init__(self, address: str, version: str) -> None:
        self.connection = http.client.HTTPConnection(address, timeout=LIMIT_S)
        self.version, self.cookie = version, ""

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, form: bool = False) -> Any:
        """The JSON that came back, or the text. Raises Failed unless all is well."""
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        data = None if body is None else (urlencode(body) if form else json.dumps(body))
        headers = {"Content-Type": kind, **({"Cookie": self.cookie} if self.cookie else {})}
        try:
            self.connection.request(method, path, data, headers)
            answer = self.connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{method} {path} was not answered: {error}.") from error
        if answer.status >= 400:
            raise Failed(f"{method} {path} was answered with {answer.status}.")
        if self.version and answer.getheader("X-ERP-Version") != self.version:
            raise Failed(f"{method} {path} was answered by {answer.getheader('X-ERP-Version')}, not {self.version}.")
        if cookie := answer.getheader("Set-Cookie"):
            self.cookie = cookie.partition(";")[0]
        return json.loads(text) if answer.getheader("Content-Type") == "application/json" else text


def test(person: Person, password: str) -> None:
    person.ask("POST", "/sign-in", {"name": ACCOUNT, "password": password}, form=True)
    if not person.cookie:
        raise Failed("The test account cannot sign in.")
    made = person.ask("POST", "/api/orders", {"customer_id": 1, "product_id": 1, "quantity": 2})["id"]
    try:
        if person.ask("GET", f"/api/orders/{made}")["lines"][0]["quantity"] != 2:
            raise Failed("The new order is not as it was taken.")
        person.ask("PATCH", f"/api/orders/{made}", {"quantity": 3})
        if person.ask("GET", f"/api/orders/{made}")["lines"][0]["quantity"] != 3:
            raise Failed("The change of the order was not kept.")
        person.ask("GET", f"/orders/{made}")
    finally:
        person.ask("DELETE", f"/api/orders/{made}")


def main() -> int:
    options = argparse.ArgumentParser(description="Smoke test of the ERP.")
    options.add_argument("address")
    options.add_argument("version")
    options.add_argument("--password-file", type=Path, required=True)
    given = options.parse_args()
    began = time.monotonic()
    try:
        test(Person(given.address, given.version), given.password_file.read_text().strip())
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    spent_ms = 1000 * (time.monotonic() - began)
    print(f"{ACCOUNT} signed in; an order was taken, read, changed and deleted in {spent_ms:.0f} ms.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
