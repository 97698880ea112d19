"""Blue-green under steady load: what users notice of a new version, of the way back, and of doing it carelessly."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, pairwise
from operator import attrgetter
from pathlib import Path

from deployments.drivers.base import Artefact
from opsportal.bench.exceptions import BenchError
from opsportal.bench.ground import Ground, caddy, ground, nginx
from opsportal.bench.report import Figure, percentile
from opsportal.bench.traffic import Answer, Seen, steady

RATE = 200.0
"""Requests a second, without the slow ones."""
SLOW_S = 0.4
QUIET_S = 0.8
SETTLE_S = 0.1
"""After a change, before it counts as quiet."""
READY_WITHIN_S = 20.0
DRAIN_WITHIN_S = 10.0
CONTROL_ROUNDS = 5
FAILURES_SHOWN = 10
LONG_S = 2.0
"""What slow requests take where the old version is ended at once: some are always under way."""
LATENCY_GOAL = 1.5
DEPLOYMENT, ROLLBACK = "deployment", "rollback"
TURNS = (DEPLOYMENT, DEPLOYMENT, ROLLBACK, ROLLBACK)
"""Both slots get a new version and both go back to a warm one."""


@dataclass(frozen=True)
class Change:
    """One switch, by the monotonic clock: begun, traffic is about to move, it has moved, the old version is drained."""

    kind: str
    version: str
    began: float
    switching: float
    switched: float
    ended: float


def variables(made: Ground, slow_s: float = SLOW_S) -> dict[str, str]:
    """Settings of the application."""
    return {"LEDGER": str(made.root.parent / "ledger"), "SLOW_S": str(slow_s)}


@dataclass
class Told:
    """What the clients met."""

    seen: Sequence[Seen]
    ledger: Counter[str]
    answers: list[Answer] = field(init=False)

    @classmethod
    def of(cls, made: Ground, seen: Sequence[Seen]) -> Told:
        """With what POSTs have left behind; the next load begins with an empty ledger."""
        ledger = Path(variables(made)["LEDGER"])
        lines = ledger.read_text().split() if ledger.exists() else []
        ledger.unlink(missing_ok=True)
        return cls(seen, Counter(lines))

    def __post_init__(self) -> None:
        self.answers = sorted(chain.from_iterable(each.times for each in self.seen), key=attrgetter("began"))

    @property
    def failed(self) -> list[str]:
        return [line for each in self.seen for line in each.failed]

    @property
    def races(self) -> int:
        """Resets and answers of other requests on reused connections; POSTs that were not carried out just once."""
        lost = sum(ask not in self.ledger for each in self.seen for ask in each.posted)
        return sum(each.races for each in self.seen) + lost + sum(count > 1 for count in self.ledger.values())

    def between(self, since: float, until: float) -> list[Answer]:
        """Good answers to what was due in that time."""
        ends = (bisect_left(self.answers, moment, key=attrgetter("began")) for moment in (since, until))
        return self.answers[slice(*ends)]

    def latencies(self, since: float, until: float) -> list[float]:
        """Of the quick requests, in milliseconds."""
        return [each.seconds * 1000 for each in self.between(since, until) if each.kind != "slow"]


@dataclass
class Switches:
    """What was done behind one proxy, and what its users noticed."""

    proxy: str
    changes: list[Change]
    told: Told
    controls: Mapping[str, Told]

    def strays(self) -> int:
        """Answers by another version than the live one, asked for and got between two moves of traffic."""
        return sum(
            answer.version != change.version and answer.began + answer.seconds <= after.switching
            for change, after in pairwise(self.changes)
            for answer in self.told.between(change.switched, after.switching)
        )

    def quiet(self) -> list[list[float]]:
        """Latencies between the changes, in milliseconds."""
        pairs = pairwise(self.changes)
        return [self.told.latencies(change.ended + SETTLE_S, after.began) for change, after in pairs]

    def during(self, kind: str) -> list[list[float]]:
        """Latencies from the first command of a change until the old version is drained."""
        return [self.told.latencies(each.began, each.ended) for each in self.changes if each.kind == kind]


class Tour:
    """Changes of one place, one after the other."""

    def __init__(self, made: Ground, slow_s: float = SLOW_S) -> None:
        self.made = made
        self.driver = made.driver(environment=variables(made, slow_s))
        self.built, self.live, self.warm = 0, "", ""
        self.deploy()

    def deploy(self) -> Change:
        self.built += 1
        artefact, began = self.made.artefact(f"v1.{self.built}.0"), time.monotonic()
        self.driver.prepare(artefact)
        self.driver.wait_ready(artefact, READY_WITHIN_S)
        return self._switch(DEPLOYMENT, artefact, began)

    def revert(self) -> Change:
        """Back to the version that is warm, as a rollback does it."""
        artefact, began = Artefact(self.warm, "folder", ""), time.monotonic()
        return self._switch(ROLLBACK, artefact, began)

    def _switch(self, kind: str, artefact: Artefact, began: float) -> Change:
        switching = time.monotonic()
        if kind == ROLLBACK:
            self.driver.revert(artefact.version)
        else:
            self.driver.switch(artefact)
        switched = time.monotonic()
        self.driver.drain(artefact, DRAIN_WITHIN_S)
        self.live, self.warm = artefact.version, self.live
        return Change(kind, artefact.version, began, switching, switched, time.monotonic())

    def go(self, count: int) -> list[Change]:
        """So many changes with quiet before, between and after them."""
        time.sleep(QUIET_S + SETTLE_S)
        made = []
        for number in range(count):
            made.append(self.deploy() if TURNS[number % len(TURNS)] == DEPLOYMENT else self.revert())
            time.sleep(QUIET_S + SETTLE_S)
        return made

    # -- how not to do it ----------------------------------------------------------------------------------------------

    def restart_in_place(self, times: int) -> None:
        for _ in range(times):
            self.driver.stop()
            self.driver.start()
            time.sleep(QUIET_S)

    def switch_without_drain(self, times: int) -> None:
        """The old version is ended the moment that traffic has moved."""
        for _ in range(times):
            time.sleep(QUIET_S)
            self.built += 1
            artefact = self.made.artefact(f"v1.{self.built}.0")
            self.driver.prepare(artefact)
            self.driver.wait_ready(artefact, READY_WITHIN_S)
            old = self.driver.look().instance_of(self.live)
            assert old is not None
            known = json.loads((self.made.root / "slots" / old.name / "state.json").read_text())
            self.driver.switch(artefact)
            os.killpg(known["pid"], signal.SIGKILL)
            self.live = artefact.version


CONTROLS = {"restart in place": Tour.restart_in_place, "no drain": Tour.switch_without_drain}


@contextmanager
def place(proxy: str) -> Iterator[tuple[Ground, int]]:
    """Slots behind Caddy or nginx, and the proxy's port. Gone with the block."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)  # nginx's user has to come through
        with ground(Path(folder), "port_file" if proxy == "Caddy" else "socket_link") as made:
            made.root.mkdir()
            with (caddy if proxy == "Caddy" else nginx)(made) as port:
                yield made, port


def measure(proxy: str, count: int, say: Callable[[str], None]) -> Switches:
    """So many switches, half of them rollbacks, and the controls. Raises BenchError when a control sees nothing."""
    with place(proxy) as (made, port):
        tour = Tour(made)
        with steady(port, RATE) as seen:
            changes = tour.go(count)
        told = Told.of(made, seen)
        say(f"  {proxy}: {len(told.answers):,} answers, {len(told.failed)} failed, {told.races} races")
        for line in told.failed[:FAILURES_SHOWN]:
            say(f"    {line}")
    return Switches(proxy, changes, told, {name: controlled(proxy, name) for name in CONTROLS})


def controlled(proxy: str, name: str) -> Told:
    """What the same load meets when it is done carelessly. Raises BenchError when it notices nothing."""
    with place(proxy) as (made, port):
        tour = Tour(made, LONG_S)
        with steady(port, RATE) as seen:
            CONTROLS[name](tour, CONTROL_ROUNDS)
        told = Told.of(made, seen)
    if not told.failed:
        raise BenchError(f"The load behind {proxy} did not notice “{name}”, so it would notice nothing else.")
    return told


def proxies(say: Callable[[str], None]) -> list[str]:
    """Those that are installed."""
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        return ["Caddy", "nginx"]
    say("nginx is not installed; it is left out.")
    return ["Caddy"]


def figures(found: Switches) -> list[Figure]:
    """For the report."""
    told, quiet = found.told, found.quiet()
    made = [
        Figure(f"{found.proxy}: failed requests in {len(found.changes)} switches", "", [len(told.failed)], 0, "max"),
        Figure("  races on reused connections", "", [told.races], 0, "max"),
        Figure("  answers by a version that is not live", "", [found.strays()], 0, "max"),
        Figure("  good answers", "", [len(told.answers)]),
        Figure("  quiet", "ms", list(chain(*quiet)), statistic="p99"),
    ]
    for kind in (DEPLOYMENT, ROLLBACK):
        changes, latencies = [each for each in found.changes if each.kind == kind], found.during(kind)
        if not changes:
            continue
        ratio = percentile(list(chain(*latencies)), 0.99) / percentile(list(chain(*quiet)), 0.99)
        made += [
            Figure(f"  during a {kind}", "ms", list(chain(*latencies)), statistic="p99"),
            Figure(f"  p99 during a {kind} / quiet", "x", [ratio], LATENCY_GOAL),
            Figure(f"  switch of a {kind}", "s", [each.switched - each.switching for each in changes], statistic="p95"),
            Figure(f"  {kind}, drained", "s", [each.ended - each.began for each in changes], statistic="p95"),
        ]
    made += [
        Figure(f"  control: {name}, failed requests", "", [len(each.failed)]) for name, each in found.controls.items()
    ]
    return made
