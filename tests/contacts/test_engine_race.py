"""Two engines at once on committed rows: each step once, and nobody waits for a lock."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from contacts import engine
from contacts.actions import escalation as actions
from contacts.models import Escalation, Notification, Queue, StepRun
from tests.contacts.factories import QueueFactory
from tests.contacts.ladders import NOW, matrix, people
from tests.factories import ServiceFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def many():
    """Sixty escalations of three steps that are all due."""
    service = ServiceFactory()
    ann, bob, cid = people("Ann", "Bob", "Cid")
    matrix(service, (None, "", [(NOW, [ann]), (timedelta(seconds=1), [bob]), (timedelta(seconds=2), [cid])]))
    began = timezone.now() - timedelta(hours=1)
    return [actions.start(QueueFactory(), title="Down", service=service, now=began) for _ in range(60)]


def in_threads(count: int, work) -> None:
    together = threading.Barrier(count)

    def run() -> None:
        together.wait()
        try:
            work()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


def test_two_engines_take_each_step_once(many, monkeypatch):
    monkeypatch.setattr(engine, "AT_ONCE", 5)

    def climb() -> None:
        while Escalation.objects.filter(state="active", due_at__lte=timezone.now()).exists():
            engine.climb_due()

    in_threads(2, climb)
    runs = Counter(StepRun.objects.values_list("escalation", "position"))
    assert len(runs) == 180 and set(runs.values()) == {1}
    assert Notification.objects.count() == 180


def test_what_somebody_else_works_on_has_its_turn_later(many):
    """Nobody waits for the engine that way either: whoever holds the subject may take the escalation next."""
    subject = Queue.objects.get(pk=many[0].subject_id)
    with transaction.atomic():
        Queue.objects.select_for_update().get(pk=subject.pk)
        in_threads(1, engine.climb_due)
        assert not StepRun.objects.filter(escalation=many[0]).exists()
        assert StepRun.objects.count() == 59 * 3
        actions.acknowledge(many[0])
    engine.climb_due()
    assert not StepRun.objects.filter(escalation=many[0]).exists(), "it was answered meanwhile"


def test_an_answer_and_the_engine_at_once_never_block_each_other(many):
    left = list(many)
    lock = threading.Lock()

    def answer_or_climb() -> None:
        while True:
            with lock:
                row = left.pop() if left else None
            if row is None:
                return
            actions.acknowledge(row)
            engine.climb_due(5)

    in_threads(3, answer_or_climb)
    assert set(Escalation.objects.values_list("state", flat=True)) == {"acknowledged"}
