"""Reminders: each once, to whoever it concerns, with nothing of a confidential incident in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from contacts.models import Notification
from core.roles import Role
from incidents import duties, hearing, rules
from incidents.actions import work
from incidents.actions.declare import declare
from incidents.models import Assignment, Incident
from operations import duties as engine_duties
from operations import events
from tests.contacts.factories import ContactFactory, SeverityFactory
from tests.factories import PersonFactory
from tests.incidents.factories import ActionItemFactory, IncidentFactory, ProfileFactory, StageFactory

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 3, 6, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def told():
    """Who was told what."""
    rows = Notification.objects.filter(key__regex="^(update|stage|action-item):").order_by("pk")
    return [(row.contact.name, row.subject.partition(": ")[2]) for row in rows.select_related("contact")]


def person(name, **values):
    return ContactFactory(name=name, **values)


def hourly(by, **values):
    return declare("Down", severity=SeverityFactory(update_every=HOUR, response_time=None), by=by, **values)


class TestUpdates:
    def test_the_communications_lead_hears_of_each_due_update_once(self, clock, olga):
        incident = hourly(olga)
        Assignment.objects.create(incident=incident, role="communications", primary=person("Cleo"))
        clock.shift(59 * MINUTE)
        duties.remind()
        assert told() == []
        clock.shift(2 * MINUTE)
        for _ in range(3):
            duties.remind()
        assert told() == [("Cleo", "an update is due")]
        assert incident.timeline.filter(text="An update is due. Reminded: Cleo.").count() == 1
        Incident.objects.update(update_due_at=NOON + 2 * HOUR)  # as an update does
        clock.shift(HOUR)
        duties.remind()
        assert len(told()) == 2

    @pytest.mark.parametrize(
        ("roles", "expected"),
        [
            ({"communications": (None, "Bea")}, "Bea"),
            ({"communications": ("off", None), "commander": ("Carl", None)}, "Carl"),
            ({"commander": (None, "Dora")}, "Dora"),
            ({}, "Ada"),
        ],
    )
    def test_else_who_stands_in_else_the_commander_else_the_administrators(self, clock, olga, roles, expected):
        person("Ada", user=PersonFactory(role=Role.ADMINISTRATOR))
        incident = hourly(olga)
        for role, names in roles.items():
            primary, backup = (name and person(name, active=name != "off") for name in names)
            Assignment.objects.create(incident=incident, role=role, primary=primary, backup=backup)
        clock.shift(2 * HOUR)
        duties.remind()
        assert [name for name, _ in told()] == [expected]

    def test_of_a_confidential_one_the_number_alone(self, clock, olga):
        incident = hourly(olga, confidential=True)
        Assignment.objects.create(incident=incident, role="communications", primary=person("Cleo"))
        clock.shift(2 * HOUR)
        duties.remind()
        row = Notification.objects.get(contact__name="Cleo")
        assert row.subject == f"Confidential incident {incident.number}: an update is due" and "Down" not in row.body

    def test_one_that_goes_wrong_holds_up_no_other(self, clock, olga, monkeypatch, caplog):
        incidents = [hourly(olga), hourly(olga)]
        for incident in incidents:
            Assignment.objects.create(incident=incident, role="communications", primary=person(f"Of {incident.pk}"))
        real = duties._remind_of_update
        monkeypatch.setattr(
            duties, "_remind_of_update", lambda row, now: 1 / 0 if row.pk == incidents[1].pk else real(row, now)
        )
        clock.shift(2 * HOUR)
        duties.remind()
        assert told() == [(f"Of {incidents[0].pk}", "an update is due")] and "could be reminded" in caplog.text

    def test_none_is_due_of_one_that_is_over(self, clock, olga):
        work.resolve(hourly(olga), by=olga)
        clock.shift(2 * HOUR)
        duties.remind()
        assert told() == []


class TestStagesAndResponses:
    def test_a_stage_that_takes_too_long_once(self, clock, olga):
        stage = StageFactory(name="Detection", limit=2 * MINUTE)
        ProfileFactory(workflow=stage.workflow)
        incident = declare("Down", by=olga)
        Assignment.objects.create(incident=incident, role="commander", primary=person("Carl"))
        clock.shift(3 * MINUTE)
        duties.remind()
        duties.remind()
        assert told() == [("Carl", "“Detection” takes too long")]
        assert incident.timeline.filter(text__startswith="The time box of “Detection” is over").count() == 1

    def test_a_late_response_stands_on_the_timeline_once(self, clock, olga):
        incident = declare("Down", severity=SeverityFactory(response_time=15 * MINUTE), by=olga)
        clock.shift(14 * MINUTE)
        duties.remind()
        late = incident.timeline.filter(text__startswith="Nobody has answered")
        assert not late.exists()
        clock.shift(2 * MINUTE)
        duties.remind()
        duties.remind()
        assert late.get().at == NOON + 15 * MINUTE

    def test_one_that_was_answered_is_not_late(self, clock, olga):
        incident = work.acknowledge(declare("Down", severity=SeverityFactory(), by=olga), by=olga)
        clock.shift(DAY)
        duties.remind()
        assert not incident.timeline.filter(text__startswith="Nobody has answered").exists()


class TestActionItems:
    def test_the_owner_hears_once_a_day_in_the_morning_until_it_is_done(self, clock):
        owner = person("Owen", time_zone="America/New_York")  # noon UTC is 07:00 there
        item = ActionItemFactory(owner=owner, due_on=NOON.date() + DAY)
        duties.remind()
        assert told() == []
        for _ in range(3):
            clock.shift(HOUR)
            duties.remind()
        assert told() == [("Owen", "an action item is due tomorrow")]
        clock.shift(DAY)
        duties.remind()
        clock.shift(DAY)
        duties.remind()
        later = [what.removeprefix("an action item ") for _, what in told()][1:]
        assert later == ["is due today", "was due on 2026-03-07"]
        item.refresh_from_db()
        item.done_at = datetime.now(UTC)
        item.save()
        clock.shift(DAY)
        duties.remind()
        assert len(told()) == 3

    def test_without_an_owner_the_commander(self, clock):
        item = ActionItemFactory(due_on=NOON.date())
        Assignment.objects.create(incident=item.incident, role="commander", primary=person("Carl"))
        duties.remind()
        assert told() == [("Carl", "an action item is due today")]

    def test_of_a_confidential_incident_nothing_of_its_text(self, clock):
        incident = IncidentFactory(confidential=True)
        ActionItemFactory(owner=person("Owen"), due_on=NOON.date(), incident=incident, text="Change the locks")
        duties.remind()
        assert "locks" not in Notification.objects.get().body


def test_the_duties_and_receivers_are_known():
    names = {duty.name for duty in engine_duties.all_duties()}
    assert {"duty-incident-rules", "duty-recovery-points", "duty-incident-reminders", "duty-chain-digest"} <= names
    assert {rules.keep, hearing.hear_escalation, hearing.hear_operation} <= set(events._receivers)


def test_a_quiet_round_costs_little(db, django_assert_max_num_queries):
    IncidentFactory()
    with django_assert_max_num_queries(8):
        duties.remind()
