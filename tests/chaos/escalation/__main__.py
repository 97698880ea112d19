"""`python -m tests.chaos.escalation`: run, break, and count."""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import django
import psycopg
import redis

from opsportal.stack.folders import CHECKOUT
from opsportal.stack.postgres import USER
from opsportal.stack.process import Service
from opsportal.stack.servers import DATABASE
from tests.chaos.servers import PORTAL, Machine, Running

WORKERS = 3
KILL_EVERY_S, FLUSH_EVERY_S, PROBE_EVERY_S = 2.0, 10.0, 1.0
AFTER_S = 10.0  # so long after an outage lateness counts as one of its consequences
SETTLES_WITHIN_S = 90.0
READY_WITHIN_S = 120.0


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    with Machine() as machine:
        assert machine.servers.portal
        env = {
            **machine.environment(),
            "DATABASE_URL": machine.servers.portal.url(DATABASE),
            "OPERATIONS_LEASE_S": "30",  # with it comes how long a session may stand still
            "OPERATIONS_HEARTBEAT_S": "5",
            "EMAIL_HOST": "127.0.0.1",
            "NOTIFY_MAX": "1000000",  # everybody gets everything
        }
        for name in env:
            os.environ.pop(f"{name}_FILE", None)  # would win over what follows
        os.environ.update(env)
        _keep_commit_times(machine)
        django.setup()
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        figures = _measure(options) if options.measure else Run(machine, env, options).run()
    for what, value in figures.items():
        print(f"{what:44}{value:>12}" if not isinstance(value, float) else f"{what:44}{value:>12.2f}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.escalation", description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=200.0, help="steps a second")
    parser.add_argument("--crashes", type=int, default=None, help="of PostgreSQL; by default one every 100 s")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--measure", action="store_true", help="how many steps one process takes a second, at most")
    parser.add_argument("--json", help="write the figures into this file")
    return parser.parse_args()


def _portal(machine: Machine) -> psycopg.Connection[Any]:
    cluster = machine.servers.portal
    assert cluster
    return psycopg.connect(
        host=str(cluster.sockets), dbname=DATABASE, user=USER, password=cluster.password, autocommit=True
    )


def _keep_commit_times(machine: Machine) -> None:
    """PostgreSQL keeps when each row was committed: that, and not when it was written, is when a step was taken."""
    with _portal(machine) as session:
        session.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    machine.running[PORTAL].stop()
    machine.tend()
    machine.wait_ready()


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from django.utils import timezone

    from contacts import engine
    from contacts.models import Escalation
    from tests.chaos.escalation.world import STEPS, World

    world = World(options.steps, options.rate)
    world.create()
    figures: dict[str, Any] = {}
    # Four overdue steps of each escalation in one pass, then one step of each.
    for what, base, steps in (
        ("overdue", timezone.now() - timedelta(days=1), STEPS),
        ("single", timezone.now() - timedelta(days=1), 1),
    ):
        Escalation.objects.all().delete()
        world.fill(base)
        now = timezone.now() if steps > 1 else base + timedelta(seconds=1)
        if steps == 1:
            Escalation.objects.update(due_at=base, round_at=base)
        began, cpu, taken = time.monotonic(), time.process_time(), 0
        while count := engine.climb_due(200, now=now):
            taken += count * steps
        figures[f"{what} steps"] = taken
        figures[f"{what} steps a second"] = taken / (time.monotonic() - began)
        figures[f"{what} steps, ms of this process each"] = (time.process_time() - cpu) / taken * 1000
    return figures


@dataclass
class Outage:
    began: float
    ended: float = 0.0


@dataclass
class Counts:
    kills: int = 0
    flushes: int = 0
    outages: list[Outage] = field(default_factory=list)


class Run:
    def __init__(self, machine: Machine, env: dict[str, str], options: argparse.Namespace) -> None:
        from tests.chaos.escalation.world import World

        self.machine, self.env = machine, env
        self.world = World(options.steps, options.rate)
        seed = options.seed if options.seed is not None else random.randrange(1_000_000)
        print(f"seed {seed}", flush=True)
        self.dice = random.Random(seed)
        length = self.world.count * 4 / options.rate + 8
        crashes = options.crashes if options.crashes is not None else max(1, round(length / 100))
        self.crash_at = [length * (number + 0.5) / crashes for number in range(crashes)]
        self.counts = Counts()
        self.pids = machine.root / "pids"

    def run(self) -> dict[str, Any]:
        from django.utils import timezone

        from tests.chaos.escalation.world import Mailbox

        self.world.create()
        with Mailbox() as mailbox:
            self._start_workers(mailbox.port)
            base = timezone.now() + timedelta(seconds=4 + self.world.count / 2000)
            self.world.fill(base)
            if base < timezone.now():
                raise RuntimeError("This machine was too slow to write the rows in time.")
            self._strike(base)
            settled = self._settle()
            return {**self._figures(mailbox), "seconds until all was told, after the last": settled}

    def _start_workers(self, port: int) -> None:
        argv = [sys.executable, "-m", "tests.chaos.escalation.workers", str(WORKERS), str(self.pids)]
        service = Service(
            name="workers", title="workers", argv=argv, env={**self.env, "EMAIL_PORT": str(port)}, cwd=CHECKOUT
        )
        self.machine.running["workers"] = Running(service, self.machine.folders.logs)
        self.machine.tend()
        until = time.monotonic() + READY_WITHIN_S
        while not self.pids.exists():
            if time.monotonic() > until:
                raise RuntimeError(self.machine.running["workers"].last_lines())
            time.sleep(0.1)

    def _strike(self, base: datetime) -> None:
        """Until the last step is due: kill, flush, crash, and let faults happen."""
        from django.utils import timezone

        start = time.monotonic() + (base - timezone.now()).total_seconds()
        length = (self.world.last_due(base) - base).total_seconds()
        kill_at, flush_at, probe_at = start, start + FLUSH_EVERY_S / 2, start
        crashes = [start + at for at in self.crash_at]
        while (now := time.monotonic()) < start + length:
            self._tend()
            if now >= kill_at:
                kill_at = now + KILL_EVERY_S
                self._kill()
            if now >= flush_at:
                flush_at = now + FLUSH_EVERY_S
                self._flush()
            if crashes and now >= crashes[0]:
                crashes.pop(0)
                self.counts.outages.append(Outage(time.time()))
                self.machine.running[PORTAL].stop()
            if now >= probe_at:
                probe_at = now + PROBE_EVERY_S
                self.world.probe()
            if not self.counts.outages or self.counts.outages[-1].ended:
                self.world.tell()
            time.sleep(0.02)

    def _tend(self) -> None:
        self.machine.tend()
        if self.counts.outages and not self.counts.outages[-1].ended and self.machine.running[PORTAL].is_ready():
            self.counts.outages[-1].ended = time.time()

    def _kill(self) -> None:
        alive = [int(pid) for pid in self.pids.read_text().split()] if self.pids.exists() else []
        if alive:
            try:
                os.kill(self.dice.choice(alive), signal.SIGKILL)
                self.counts.kills += 1
            except ProcessLookupError:
                pass

    def _flush(self) -> None:
        path, user, password = self.machine.redis_admin_socket()
        try:
            redis.Redis(unix_socket_path=path, username=user, password=password).flushall()
            self.counts.flushes += 1
        except redis.RedisError:
            pass

    def _settle(self) -> float:
        """Nothing strikes any more: wait until all is told."""
        from django.db import connection

        connection.close()
        began = time.monotonic()
        question = """
            SELECT (SELECT count(*) FROM contacts_escalation WHERE state = 'active' AND due_at <= now())
                 + (SELECT count(*) FROM contacts_notification WHERE state = 'pending')"""
        while time.monotonic() - began < SETTLES_WITHIN_S:
            self._tend()
            try:
                self.world.tell()
                with connection.cursor() as cursor:
                    cursor.execute(question)
                    if not cursor.fetchone()[0]:
                        break
            except django.db.Error:
                connection.close()
            time.sleep(0.25)
        return time.monotonic() - began

    def _figures(self, mailbox: Any) -> dict[str, Any]:
        from django.db import connection

        from contacts.models import Notification, StepRun
        from operations.models import Event
        from tests.chaos.escalation.world import STEPS

        expected = self.world.count * STEPS
        runs = StepRun.objects.filter(escalation__service=self.world.service)
        messages = Notification.objects.filter(escalation__service=self.world.service)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM s.due_at), extract(epoch FROM pg_xact_commit_timestamp(s.xmin))"
                " FROM contacts_steprun s JOIN contacts_escalation e ON e.id = s.escalation_id"
                " WHERE e.service_id = %s",
                [self.world.service.pk],
            )
            times = [(float(due), float(at)) for due, at in cursor.fetchall()]
            cursor.execute(
                "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) n FROM contacts_notification"
                " WHERE escalation_id IS NOT NULL GROUP BY escalation_id, contact_id HAVING count(*) > 1) d"
            )
            doubled = int(cursor.fetchone()[0])
        outside = [at - due for due, at in times if self._outage_of(due) is None]
        after = [at - max(due, outage.ended) for due, at in times if (outage := self._outage_of(due)) is not None]
        waits = self.world.waits(mailbox)
        told = sorted(wait for wait in waits if wait is not None)
        taken = runs.count()
        untold, broken = self.world.timelines()
        news = Event.objects.filter(name="escalation.step", subject_id__in=runs.values("escalation"))
        return {
            "steps": expected,
            "steps lost": expected - taken,
            "messages lost": expected - messages.count(),
            "outbox rows doubled": doubled,
            "news of steps lost": taken - news.count(),
            "timeline entries lost or doubled": untold,
            "timelines broken": broken,
            "messages not sent": messages.exclude(state="sent").count(),
            "workers killed": self.counts.kills,
            "Redis flushed": self.counts.flushes,
            "PostgreSQL crashed": len(self.counts.outages),
            "longest outage, s": max((each.ended - each.began for each in self.counts.outages), default=0.0),
            "lateness outside outages p50, s": _percentile(outside, 50),
            "lateness outside outages p99, s": _percentile(outside, 99),
            "lateness outside outages worst, s": max(outside, default=0.0),
            "steps during and after outages": len(after),
            "lateness after outages p99, s": _percentile(after, 99),
            "lateness after outages worst, s": max(after, default=0.0),
            "faults": len(waits),
            "faults without a message": len(waits) - len(told),
            "fault to message received p50, s": _percentile(told, 50),
            "fault to message received p99, s": _percentile(told, 99),
            "fault to message received worst, s": max(told, default=0.0),
            "mails received": len(mailbox.came),
        }

    def _outage_of(self, due: float) -> Outage | None:
        """The outage in which, or shortly after which, a step was due."""
        for outage in self.counts.outages:
            if outage.began - 1 <= due <= outage.ended + AFTER_S:
                return outage
        return None


def _percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


if __name__ == "__main__":
    sys.exit(main())
