"""Escalations that cannot be climbed hold up no other; what pages and news say; what climbing costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from contacts import engine, paging
from contacts.actions import escalation as actions
from contacts.models import Escalation, Notification, StepRun
from operations.models import Event
from tests.contacts.factories import (
    ContactFactory,
    EscalationFactory,
    team_of,
)
from tests.contacts.ladders import MONDAY, NOW, Story, matrix, minutes, people, scheme
from tests.factories import ServiceFactory

pytestmark = pytest.mark.django_db


# --- robust ----------------------------------------------------------------------------------------------------------


def test_one_that_fails_holds_up_no_other(monkeypatch):
    good, bad = ServiceFactory(), ServiceFactory()
    ann, bob = people("Ann", "Bob")
    matrix(good, (None, "", [(NOW, [ann])]))
    matrix(bad, (None, "", [(NOW, [bob])]))
    first, second = Story(service=bad), Story(service=good)
    tell = paging.tell

    def broken(row, *args):
        if row.pk == first.row.pk:
            raise RuntimeError("no way")
        return tell(row, *args)

    monkeypatch.setattr(paging, "tell", broken)
    assert first.at(0) == ["Ann"]
    second.row.refresh_from_db()
    assert second.row.runs.count() == 1
    assert first.row.due_at == MONDAY + engine.AGAIN_AFTER
    monkeypatch.undo()
    assert first.at(1) == ["Bob"]
    assert first.row.runs.get().due_at == MONDAY, "how late it really was"


def test_a_climbing_escalation_without_a_due_time_is_refused():
    with pytest.raises(IntegrityError, match="escalation_climbing_is_due"), transaction.atomic():
        EscalationFactory(due_at=None)
    row = EscalationFactory()
    with pytest.raises(IntegrityError, match="escalation_climbing_is_due"), transaction.atomic():
        Escalation.objects.filter(pk=row.pk).update(state="waiting")


def test_a_step_is_written_down_once():
    row = EscalationFactory()
    values = {"escalation": row, "round": 0, "position": 0, "due_at": timezone.now(), "outcome": "told"}
    StepRun.objects.create(**values)
    with pytest.raises(IntegrityError, match="steprun_once"), transaction.atomic():
        StepRun.objects.create(**values)


def test_a_kind_of_subject_that_is_gone_is_climbed_too():
    (ann,) = people("Ann")
    row = EscalationFactory(subject_type="gone.thing", due_at=MONDAY)
    service = ServiceFactory()
    policy = matrix(service, (None, "", [(NOW, [ann])]))
    version = policy.versions.get()
    Escalation.objects.filter(pk=row.pk).update(version=version, rule=version.rules.get(), service=service)
    assert engine.climb_due(now=MONDAY) == 1
    assert Notification.objects.get().contact == ann


# --- the words -------------------------------------------------------------------------------------------------------


def test_a_page_says_what_how_bad_since_when_and_who_was_told():
    service, severities = scheme("P0")
    ann = ContactFactory(name="Ann", time_zone="Europe/Berlin")
    (bob,) = people("Bob")
    matrix(service, (severities["P0"], "", [(NOW, [bob]), (minutes(5), [ann])]))
    story = Story(service=service, severity=severities["P0"], url="/incident/1/")
    story.at(0), story.at(5)
    page = Notification.objects.get(contact=ann)
    assert page.subject == "P0 P0: The shop is down"
    assert page.url == "/incident/1/"
    assert (page.urgency, page.escalation) == ("page", story.row)
    assert page.body.splitlines() == [
        "The shop is down",
        "Severity: P0 P0",
        "Since: 2026-03-02 11:00 CET",
        "This is step 2 of 2.",
        "Told before, without an answer so far:",
        "- 2026-03-02 11:00 CET: Bob",
    ]


def test_every_step_is_news():
    service = ServiceFactory()
    (ann,) = people("Ann")
    matrix(service, (None, "", [(NOW, [ann])]))
    story = Story(service=service)
    story.at(0)
    started, step = Event.objects.order_by("pk")
    assert (started.name, step.name) == ("escalation.started", "escalation.step")
    assert step.data["subject_id"] == service.pk
    assert step.data["sentence"] == "Step 1 of 1: told. Ann."
    assert step.subject_id == story.row.pk


def test_many_escalations_cost_few_queries_each(django_assert_max_num_queries):
    service = ServiceFactory()
    team = team_of(*people("Ann", "Bob"))
    matrix(service, (None, "", [(NOW, [team])]))
    for subject in [ServiceFactory() for _ in range(20)]:
        actions.start(subject, title="Down", service=service, now=MONDAY)
    with django_assert_max_num_queries(60):
        assert engine.climb_due(now=MONDAY + timedelta(seconds=1)) == 20
