"""The control loop: notices, wakes, goes on through any trouble."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from operations import control, lease, scheduling, worker
from operations.models import LogLine, Operation, WorkerNode
from tests.operations.conftest import at_once, expire, fresh

Ask = Callable[..., Operation]


@pytest.fixture
def loop(settings: object) -> Iterator[control.ControlLoop]:
    settings.OPERATIONS_TICK_S = 0.05  # type: ignore[attr-defined]
    thread = control.ControlLoop()
    yield thread
    thread.stop()
    thread.join(10)
    assert not thread.is_alive()


def eventually(true: Callable[[], bool], within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def claimed(ask: Ask) -> Operation:
    operation = ask(lock_keys=["database:1"])
    assert lease.claim(operation.pk, "w1") is not None
    return operation


def test_sweep_takes_what_has_lost_its_lease_and_nothing_else(ask: Ask) -> None:
    operation = claimed(ask)
    assert control.sweep() == 0
    expire(operation)
    assert control.sweep() == 1
    operation = fresh(operation)
    assert (operation.state, operation.interrupted, operation.dispatched_at) == ("queued", True, None)
    assert "w1 has not reported" in LogLine.objects.get(operation=operation).text
    assert operation.locks.count() == 1


def test_sweepers_do_not_wait_for_each_other(ask: Ask) -> None:
    operation = claimed(ask)
    expire(operation)
    with transaction.atomic():
        Operation.objects.select_for_update().get(pk=operation.pk)
        assert at_once(control.sweep) == [0]
    assert sum(at_once(*[control.sweep] * 4)) == 1  # type: ignore[arg-type]


def test_of_many_claims_one_gets_it(ask: Ask) -> None:
    operation = ask()
    claims = at_once(*(lambda name=str(n): lease.claim(operation.pk, name) for n in range(6)))
    assert sum(claim is not None for claim in claims) == 1


def test_a_claim_waits_for_a_transaction_that_only_touches_the_row(ask: Ask) -> None:
    """The message is faster than its sender, who is just writing down that it was sent."""
    operation = ask()

    def touch() -> None:
        with transaction.atomic():
            Operation.objects.filter(pk=operation.pk).update(dispatched_at=timezone.now())
            time.sleep(0.3)

    def claim() -> object:
        time.sleep(0.1)
        return lease.claim(operation.pk, "w1")

    assert at_once(touch, claim)[1] is not None


def test_a_parent_that_nobody_woke_is_woken(ask: Ask) -> None:
    parent, other = ask(), ask()
    child = ask("tests.child", parent=parent)
    ask("tests.child", parent=other)
    Operation.objects.filter(pk__in=(parent.pk, other.pk)).update(state="waiting")
    Operation.objects.filter(pk=child.pk).update(state="failed", ended_at=timezone.now())
    assert control.wake_parents() == 1
    assert (fresh(parent).state, fresh(other).state) == ("queued", "waiting")


def test_workers_that_are_long_gone_are_forgotten(rows: None) -> None:
    now = timezone.now()
    for name, seen in (("old", timedelta(days=2)), ("away", timedelta(hours=2))):
        WorkerNode.objects.create(name=name, pid=1, started_at=now, heartbeat_at=now - seen)
    control.forget_workers()
    assert list(WorkerNode.objects.values_list("name", flat=True)) == ["away"]


def test_no_part_of_a_round_keeps_another_from_its_turn(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = claimed(ask)
    expire(operation)
    decided: list[int] = []
    monkeypatch.setattr(control, "announce", lambda: 1 // 0)
    monkeypatch.setattr(control.announce, "__name__", "announce")
    monkeypatch.setattr(scheduling, "decide_due", lambda: decided.append(1))
    monkeypatch.setattr(scheduling.decide_due, "__name__", "decide_due")
    control.tick()
    assert fresh(operation).state == "queued"
    assert decided == [1]


def test_the_loop_survives_a_database_that_goes_away(
    ask: Ask, loop: control.ControlLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = claimed(ask)
    expire(operation)
    real, troubles = control.sweep, []

    def sweep() -> int:
        if len(troubles) < 3:
            troubles.append(1)
            raise OperationalError("server closed the connection unexpectedly")
        return real()

    monkeypatch.setattr(control, "sweep", sweep)
    loop.start()
    eventually(lambda: fresh(operation).state == "queued")
    assert len(troubles) == 3


def test_the_loop_notices_a_dead_worker_by_itself(ask: Ask, loop: control.ControlLoop, settings: object) -> None:
    settings.OPERATIONS_LEASE_S = 0.5  # type: ignore[attr-defined]
    operation = claimed(ask)
    loop.start()
    started = time.monotonic()
    eventually(lambda: fresh(operation).state == "queued")
    assert time.monotonic() - started < 2


def test_a_worker_reports_itself_and_says_once_a_round_that_it_stops(rows: None) -> None:
    reports: list[bool] = []

    class Counting(worker.Reporter):
        def run(self) -> None:
            with contextlib.suppress(SystemExit):
                super().run()

        def report(self) -> None:
            if self.node == "":
                raise SystemExit  # the real one goes on until its process ends
            super().report()
            reports.append(self.stopping)

    reporter = Counting("reporting", ["operations"], 2)
    reporter.start()
    try:
        eventually(lambda: bool(reports))
        node = WorkerNode.objects.get(name="reporting")
        assert (node.queues, node.concurrency, node.is_live) == (["operations"], 2, True)
        reporter.shut_down()
        eventually(lambda: WorkerNode.objects.filter(name="reporting", stopping=True).exists())
        time.sleep(0.3)
        assert len(reports) <= 3
        assert not WorkerNode.objects.live().exists()
    finally:
        reporter.node = ""
        reporter.shut_down()
        reporter.join(5)
