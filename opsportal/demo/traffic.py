"""`python traffic.py HOST:PORT`: people who use the ERP, a few requests a second, so that there is something to watch.

They read and ask for prices and change nothing, so that the rows of the demo are those of its history.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import sys
import threading
import time

PEOPLE = 3
EVERY_S = 0.9
LIMIT_S = 10
ORDER = re.compile(rb'href="/orders/(\d+)"')


class Person:
    """Somebody with one connection, kept open as browsers do."""

    def __init__(self, address: str, number: int) -> None:
        self.connection = http.client.HTTPConnection(address, timeout=LIMIT_S)
        self.number = number
        self.orders: list[str] = []

    def ask(self, method: str, path: str, body: str | None = None) -> bytes:
        """What was answered; empty when it was no good answer."""
        try:
            self.connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = self.connection.getresponse()
            text = answer.read()
            return text if answer.status < 400 else b""
        except (OSError, http.client.HTTPException):
            self.connection.close()  # opened again by the next request
            return b""

    def work(self) -> None:
        """The list, an order, a price, another order, and so on."""
        for turn in itertools.count(self.number):
            if turn % 4 == 0 or not self.orders:
                found = ORDER.findall(self.ask("GET", "/orders"))
                self.orders = [number.decode() for number in found] or self.orders
            elif turn % 4 == 2:
                self.ask("POST", "/api/quote", json.dumps({"product_id": 1 + turn % 60, "quantity": 5}))
            else:
                self.ask("GET", f"/orders/{self.orders[turn % len(self.orders)]}")
            time.sleep(EVERY_S)


def main() -> None:
    for number in range(PEOPLE):
        threading.Thread(target=Person(sys.argv[1], number).work, daemon=True).start()
        time.sleep(EVERY_S / PEOPLE)
    threading.Event().wait()


if __name__ == "__main__":
    main()
