"""The doorbell: after commit, best effort, and nobody waits long for it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from operations import control, dispatch
from operations.models import Operation, WorkerNode
from tests.operations.conftest import Broker, fresh

Ask = Callable[..., Operation]


def worker(name: str = "w1", concurrency: int = 1, **values: object) -> WorkerNode:
    now = timezone.now()
    values = {"queues": ["operations"], "pid": 1, "started_at": now, "heartbeat_at": now, **values}
    return WorkerNode.objects.create(name=name, concurrency=concurrency, **values)


def test_a_commit_sends_the_id_and_nothing_else(ask: Ask, broker: Broker) -> None:
    with transaction.atomic():
        operation = ask(params={"archive": 7})
        assert broker.messages() == []
    assert broker.messages() == [[operation.pk]]
    assert fresh(operation).dispatched_at is not None


def test_a_rollback_sends_nothing(ask: Ask, broker: Broker) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        ask()
        raise RuntimeError
    assert broker.messages() == []
    assert not Operation.objects.exists()


def test_a_click_without_redis_succeeds_and_is_announced_later(ask: Ask, broker: Broker) -> None:
    broker.stop()
    started = time.monotonic()
    with transaction.atomic():
        operation = ask()
    assert time.monotonic() - started < 1
    assert fresh(operation).state == "queued"
    assert fresh(operation).dispatched_at is None
    worker()
    assert control.announce() == 0
    broker.start()
    time.sleep(dispatch.LEAVE_ALONE_S)
    assert control.announce() == 1
    assert broker.messages() == [[operation.pk]]


def test_a_redis_that_hangs_holds_nobody_up_for_long(ask: Ask, broker: Broker) -> None:
    broker.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        ask()
        first = time.monotonic() - started
        for _ in range(20):
            ask()
        rest = time.monotonic() - started - first
    finally:
        broker.signal(signal.SIGCONT)
    assert first < 4
    assert rest < 1
    assert Operation.objects.count() == 21


def test_what_was_announced_a_moment_ago_is_left_alone(ask: Ask, broker: Broker) -> None:
    worker(concurrency=5)
    operation = ask()
    assert control.announce() == 0
    Operation.objects.update(dispatched_at=timezone.now() - control.RING_AGAIN_AFTER - timedelta(seconds=1))
    assert control.announce() == 1
    assert broker.messages() == [[operation.pk], [operation.pk]]


def test_a_flushed_redis_is_rung_again_as_places_free_up(ask: Ask, broker: Broker) -> None:
    """Thirty queued, two places: the doorbell does not ring thirty times."""
    broker.stop()
    operations = [ask() for _ in range(30)]
    broker.start()
    dispatch._leave_alone_until = 0.0
    Operation.objects.update(dispatched_at=timezone.now() - timedelta(minutes=1))
    worker(concurrency=2)
    assert control.announce() == 2
    assert broker.messages() == [[operations[0].pk], [operations[1].pk]]


def test_nothing_is_rung_for_workers_that_are_away_stopping_or_busy(ask: Ask, broker: Broker) -> None:
    ask()
    Operation.objects.update(dispatched_at=None)
    assert control.announce() == 0
    worker("elsewhere", queues=["host-b"])
    worker("stopping", stopping=True)
    worker("gone", heartbeat_at=timezone.now() - timedelta(minutes=1))
    assert control.announce() == 0
    busy = Operation(procedure="tests.sample", title="busy", trigger="click", state="running", attempt=1)
    busy.lease_until = timezone.now() + timedelta(minutes=1)
    busy.save()
    worker("w1")
    assert control.announce() == 0
    worker("w2")
    assert control.announce() == 1


def test_the_blocked_and_those_without_a_worker_do_not_keep_others_from_the_bell(ask: Ask, broker: Broker) -> None:
    dispatch._leave_alone_until = float("inf")
    ask(lock_keys=["database:1"])
    for _ in range(40):
        ask(lock_keys=["database:1"], wait_for_locks=True)
    ask(queue="nobody-here")
    last = ask(lock_keys=["database:2"])
    dispatch._leave_alone_until = 0.0
    worker(concurrency=2)
    assert control.announce() == 2
    assert broker.messages()[-1] == [last.pk]


def test_a_child_is_rung_although_its_parent_holds_the_lock(ask: Ask, broker: Broker) -> None:
    parent = ask(lock_keys=["database:1"])
    Operation.objects.update(state="waiting")
    child = ask("tests.child", parent=parent, lock_keys=["database:1"])
    Operation.objects.update(dispatched_at=None)
    worker(concurrency=5)
    assert control.announce() == 1
    assert broker.messages()[-1] == [child.pk]
