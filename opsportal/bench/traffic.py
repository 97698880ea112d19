"""Clients that use an application and count what goes wrong: `python traffic.py PORT RATE` until its input ends.

Nothing but the standard library: a process of its own measures others best when it does little itself.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

LIMIT_S = 10
KINDS = {"keep": 6, "post": 4, "slow": 2, "fresh": 2}
"""Clients of a steady load: over kept connections, by POST, with answers that take long, each time anew."""
SLOW_EVERY_S = 0.5


class Answer(NamedTuple):
    """One good answer. `began`: when the request was due, by the monotonic clock of this machine."""

    kind: str
    began: float
    seconds: float
    version: str


@dataclass
class Seen:
    """What one client met. `races`: on a connection that had been used before, a reset or another request's answer."""

    times: list[Answer] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    races: int = 0
    versions: set[str] = field(default_factory=set)
    posted: list[str] = field(default_factory=list)
    """What was asked by every POST that was answered."""


class Client:
    """One client. `every_s`: a request is due so often, whether or not the last one was quick; 0: without a rest."""

    def __init__(self, port: int, kind: str, number: int, every_s: float) -> None:
        self.port, self.kind, self.number, self.every_s = port, kind, number, every_s
        self.seen = Seen()
        self.connect()

    def connect(self) -> None:
        self.connection, self.used = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S), 0

    def work(self, stop: threading.Event) -> None:
        due = time.monotonic() + self.every_s * (self.number % 10) / 10  # not all at once
        count = 0
        while not stop.wait(max(0.0, due - time.monotonic()) if self.every_s else 0.002):
            count += 1
            self.ask(f"{self.number}-{count}", due if self.every_s else time.monotonic())
            due += self.every_s
        self.connection.close()

    def ask(self, ask: str, began: float) -> None:
        if self.kind == "fresh":
            self.connection.close()
        if self.connection.sock is None:  # or the proxy has said good-bye
            self.connect()
        method, path = ("POST", "/") if self.kind == "post" else ("GET", "/slow" if self.kind == "slow" else "/")
        try:
            body = b"x" * 100 if method == "POST" else None
            self.connection.request(method, path, body=body, headers={"Ask": ask})
            answer = self.connection.getresponse()
            version = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.seen.races += self.used > 0
            self._failed(type(error).__name__)
            return
        if answer.status != 200:
            self.seen.failed.append(f"{self.kind}: {answer.status}")
        elif answer.headers["Ask"] != ask:
            self.seen.races += 1
            self._failed(f"asked {ask}, answered {answer.headers['Ask']}")
        else:
            self.used += 1
            self.seen.versions.add(version)
            self.seen.times.append(Answer(self.kind, began, time.monotonic() - began, version))
            if method == "POST":
                self.seen.posted.append(ask)

    def _failed(self, how: str) -> None:
        self.seen.failed.append(f"{self.kind}: {how}")
        self.connection.close()
        self.connect()


@contextmanager
def load(port: int, kinds: Mapping[str, int] | None = None, rate: float = 0) -> Iterator[list[Seen]]:
    """So many clients of each kind in this process. `rate`: requests a second of all together; 0: what they can."""
    names = [kind for kind, count in (kinds or {**KINDS, "post": 2}).items() for _ in range(count)]
    quick = sum(kind != "slow" for kind in names)
    stop, threads, seen = threading.Event(), [], []
    for number, kind in enumerate(names):
        every_s = (SLOW_EVERY_S if kind == "slow" else quick / rate) if rate else 0
        client = Client(port, kind, number, every_s)
        seen.append(client.seen)
        threads.append(threading.Thread(target=client.work, args=(stop,), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(LIMIT_S)


@contextmanager
def steady(port: int, rate: float) -> Iterator[list[Seen]]:
    """The steady load by a process of its own. The list is empty until the block has ended."""
    seen: list[Seen] = []
    argv = [sys.executable, "-I", str(Path(__file__)), str(port), str(rate)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield seen
        finally:
            told, _ = process.communicate()
            for each in json.loads(told):
                each |= {"times": [Answer(*one) for one in each["times"]], "versions": set(each["versions"])}
                seen.append(Seen(**each))


def main() -> None:
    sys.setswitchinterval(0.0005)
    with load(int(sys.argv[1]), KINDS, float(sys.argv[2])) as seen:
        print("begun", flush=True)
        sys.stdin.read()
    json.dump([{**asdict(each), "versions": sorted(each.versions)} for each in seen], sys.stdout)


if __name__ == "__main__":
    main()
