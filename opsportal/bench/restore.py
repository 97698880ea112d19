"""Restore: the portal's load step against `pg_restore -j2`, and what a client sees of the swap."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import psycopg

from backups import actions
from backups.models import Archive, Restore
from opsportal.bench.backup import meters
from opsportal.bench.bare import Bare
from opsportal.bench.cpu import Meter
from opsportal.bench.exceptions import BenchError
from opsportal.bench.portal import Place, Portal, click_to_end, finished, step_seconds, wait_for_step
from opsportal.bench.report import Figure, ratio
from opsportal.bench.server import Server

GOAL = 1.15
PROBE = "SELECT count(*) FROM country"


@dataclass
class Restores:
    """What the rounds gave, in seconds."""

    bare: list[float] = field(default_factory=list)
    bare_cpu: list[float] = field(default_factory=list)
    load_cpu: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    outage: list[float] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)


class Client:
    """An application that asks now and then and connects again at once when it was cut off.

    It asks seldom until `hurry`, so that it takes nothing from the load; it is there from the beginning, because a
    small database is swapped in before anybody could connect.
    """

    SELDOM_S = 0.05
    OFTEN_S = 0.005

    def __init__(self, server: Server, database: str) -> None:
        self.server, self.database = server, database
        self.pause_s = self.SELDOM_S
        self.answers: list[float] = []
        self.errors: list[float] = []
        self._connected = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Client:
        self._thread.start()
        self._connected.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(10)

    def hurry(self) -> None:
        """Ask often from now on: the swap is near."""
        self.pause_s = self.OFTEN_S

    def _run(self) -> None:
        session = None
        while not self._stop.is_set():
            try:
                session = session or self.server.connect(self.database)
                session.execute(PROBE)
                self.answers.append(time.monotonic())
                self._connected.set()
                self._stop.wait(self.pause_s)
            except psycopg.Error:
                self.errors.append(time.monotonic())
                if session:
                    with contextlib.suppress(psycopg.Error):
                        session.close()
                session = None
        if session:
            session.close()

    def outage_s(self) -> float:
        """Seconds from the last answer before the first error to the first answer after the last error."""
        if not self.errors:
            raise BenchError("The client was never cut off, so the swap was not measured. Run it again.")
        before = [at for at in self.answers if at <= self.errors[0]]
        after = [at for at in self.answers if at >= self.errors[-1]]
        if not before or not after:
            raise BenchError("The client had no answer on both sides of the swap. Run it again.")
        return after[0] - before[-1]


def measure(
    portal: Portal, place: Place, archive: Archive, bare: Bare, rounds: int, say: Callable[[str], None]
) -> Restores:
    """Interleaved rounds, each kind first in turn."""
    found = Restores()
    database = place.plan.target.database
    source = bare.dump_folder(database)
    bare_cpu, portal_cpu = meters(portal, bare)

    def reference() -> None:
        bare.server.settle()
        bare_cpu.start()
        found.bare.append(bare.restore(source, f"{database}_bare"))
        found.bare_cpu.append(bare_cpu.stop())

    def ours() -> None:
        bare.server.settle()
        _restore(place, archive, bare.server, portal_cpu, found)

    for number in range(rounds):
        for run in (ours, reference) if number % 2 == 0 else (reference, ours):
            run()
        say(f"  restore {number + 1}: load {found.load[-1]:.2f} s, bare {found.bare[-1]:.2f} s")
    return found


def _restore(place: Place, archive: Archive, server: Server, cpu: Meter, found: Restores) -> None:
    database = place.plan.target.database
    with Client(server, database) as client:
        operation = actions.request_restore(
            archive, by=place.by, reason_kind=Restore.Reason.OTHER, reason="Measurement", typed_name=database
        )
        # The time of the check is left out of the step's seconds, so its processor time has to be as well.
        wait_for_step(operation, "check")
        cpu.start()
        wait_for_step(operation, "load")
        found.load_cpu.append(cpu.stop())
        client.hurry()
        operation = finished(operation)
        time.sleep(0.2)
    steps = step_seconds(operation)
    found.load.append(steps["load"])
    found.whole.append(click_to_end(operation))
    found.outage.append(client.outage_s())
    found.parts.append(steps)
    finished(actions.request_drop_safety_copy(Restore.objects.get(operation=operation), by=place.by))


def figures(found: Restores) -> list[Figure]:
    """For the report."""
    return [
        ratio("Restore: load / pg_restore -j2", found.load, found.bare, GOAL),
        Figure("  portal: load step", "s", found.load),
        Figure("  bare: pg_restore -j2 --exit-on-error", "s", found.bare),
        ratio("  processor time, portal / bare", found.load_cpu, found.bare_cpu),
        Figure("  portal: click to tested", "s", found.whole),
        Figure("  outage of a reconnecting client", "s", found.outage),
    ]
