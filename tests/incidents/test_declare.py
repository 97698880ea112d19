"""Declaring: two fields, and everything that follows from the service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.core.exceptions import PermissionDenied

from contacts.engine import climb_due
from contacts.models import Escalation, Notification
from incidents.actions import declare as declaring
from incidents.actions import escalating
from incidents.actions.declare import declare
from incidents.exceptions import IncidentError
from incidents.models import Incident, IncidentRole, ProfileRole
from operations.models import Event
from tests.contacts.factories import (
    ContactFactory,
    PolicyFactory,
    SeverityFactory,
    office_hours,
    role_of,
    rule,
)
from tests.factories import ComponentFactory, EnvironmentFactory, ServiceFactory
from tests.incidents.factories import ProfileFactory, StageFactory, WorkflowFactory

pytestmark = pytest.mark.django_db
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FRIDAY = datetime(2026, 3, 6, 15, 0, tzinfo=UTC)  # 16:00 in Berlin


class TestTwoFields:
    def test_a_title_is_enough(self, olga):
        incident = declare("The shop is down", by=olga)
        assert (incident.state, incident.declared_by, incident.rank) == ("open", olga, None)
        assert incident.started_at == incident.declared_at.replace(microsecond=0)  # as a form shows it
        assert incident.response_due_at is None
        entry = incident.timeline.first()
        assert entry.text == "Declared: The shop is down. Severity not decided yet."
        assert (entry.source, entry.user, entry.actor) == ("person", olga, "olga")

    def test_the_service_follows_from_the_severity(self, olga):
        severity = SeverityFactory(rank=1)
        incident = declare("Down", severity=severity, by=olga)
        assert (incident.service, incident.rank) == (severity.service, 1)

    def test_what_belongs_to_different_services_is_refused(self, olga):
        with pytest.raises(IncidentError, match="same service"):
            declare("Down", severity=SeverityFactory(), environment=EnvironmentFactory(), by=olga)

    def test_one_environment_follows_from_the_components(self, olga):
        component = ComponentFactory()
        incident = declare("Down", components=[component], by=olga)
        assert incident.environment == component.environment and list(incident.components.all()) == [component]

    @pytest.mark.parametrize("title", ["", "  ", "\0"])
    def test_without_a_title_it_is_refused(self, olga, title):
        with pytest.raises(IncidentError, match="what is wrong"):
            declare(title, by=olga)

    def test_too_long_a_title_is_said_so(self, olga):
        with pytest.raises(IncidentError, match="Title"):
            declare("x" * 201, by=olga)

    def test_a_manager_may_not(self, mona):
        with pytest.raises(PermissionDenied):
            declare("Down", by=mona)

    def test_nobody_may_without_a_name_but_a_rule(self, db):
        with pytest.raises(PermissionDenied):
            declare("Down")
        assert declare("Down", door=Incident.Door.RULE).declared_by is None

    def test_one_key_is_one_incident(self, olga):
        first = declare("Down", by=olga, key="api:1:a:b")
        assert declare("Down", by=olga, key="api:1:a:b") == first and Incident.objects.count() == 1

    def test_it_is_found_by_its_words_and_its_number(self, olga):
        incident = declare("Orders cannot be saved", description="The disk is full", by=olga)
        for words in ("order saving", "disks", incident.number):
            assert list(Incident.objects.matching(words)) == [incident], words
        assert not Incident.objects.matching("invoices").exists()


class TestWhatFollows:
    def test_the_profile_gives_number_room_stage_and_roles(self, olga):
        service = ServiceFactory(slug="smartcloudops", time_zone="UTC")
        workflow = WorkflowFactory()
        first = StageFactory(workflow=workflow, order=1, name="Detection", limit=2 * MINUTE)
        StageFactory(workflow=workflow, order=2, name="Assessment")
        lead, stand_in, owner = ContactFactory(), ContactFactory(), ContactFactory()
        profile = ProfileFactory(
            service=service, workflow=workflow, channel_pattern="#incident-{service}-{yyyymmdd}-{severity}"
        )
        ProfileRole.objects.create(profile=profile, role=IncidentRole.COMMANDER, primary_role=role_of(lead, stand_in))
        ProfileRole.objects.create(profile=profile, role=IncidentRole.COMMUNICATIONS, primary=owner)
        with time_machine.travel(FRIDAY, tick=False):
            incident = declare("Down", severity=SeverityFactory(service=service, rank=1, code="P0"), by=olga)
        assert incident.number == "INC-2026-03-06-001"
        assert incident.channel_name == "#incident-smartcloudops-20260306-P0"
        assert (incident.stage, incident.stage_due_at) == (first, FRIDAY + 2 * MINUTE)
        roles = {row.role: (row.primary, row.backup) for row in incident.assignments.all()}
        assert roles == {"commander": (lead, stand_in), "communications": (owner, None)}

    def test_in_solo_mode_whoever_declares_commands_and_it_is_looked_at_afterwards(self, olga):
        me = ContactFactory(user=olga)
        lead = ContactFactory()
        ProfileRole.objects.create(profile=ProfileFactory(), role=IncidentRole.COMMANDER, primary=lead)
        incident = declare("Down", by=olga, solo=True)
        command = incident.assignments.get(role="commander")
        assert (command.primary, command.backup) == (me, lead)
        assert incident.solo_review and "works alone" in incident.timeline.first().text

    def test_updates_are_due_by_the_severity(self, olga):
        with time_machine.travel(FRIDAY, tick=False):
            due = {
                every: declare("Down", severity=SeverityFactory(update_every=every), by=olga).update_due_at
                for every in (timedelta(0), HOUR, None)
            }
        assert due == {timedelta(0): FRIDAY, HOUR: FRIDAY + HOUR, None: None}

    def test_those_of_the_matrix_are_told(self, olga):
        severity = SeverityFactory(rank=1)
        row = rule(PolicyFactory(service=severity.service), (timedelta(0), [ContactFactory()]), severity=severity)
        incident = declare("Down", severity=severity, by=olga)
        escalation = Escalation.objects.of(incident).get()
        assert (escalation.rule, escalation.title) == (row, f"{incident.number} Down")
        assert escalation.url == incident.get_absolute_url()
        assert incident.timeline.filter(kind="escalation").exists()

    def test_an_incident_stands_though_its_escalation_cannot_start(self, olga, monkeypatch, caplog):
        monkeypatch.setattr(escalating.escalations, "start", lambda *args, **options: 1 / 0)
        incident = declare("Down", by=olga)
        assert "Tell people by hand" in incident.timeline.get(kind="escalation").text and caplog.records

    def test_the_news_names_it(self, olga):
        incident = declare("Down", severity=SeverityFactory(code="P1", rank=1), by=olga)
        event = Event.objects.get(name="incident.declared")
        assert event.sentence == f"{incident.number} Down: declared by olga"
        assert event.data["number"] == incident.number and event.data["severity"] == "P1"

    def test_of_a_confidential_one_nothing_but_the_number_leaves(self, olga):
        policy = PolicyFactory()
        severity = SeverityFactory(service=policy.service)
        rule(policy, (timedelta(0), [ContactFactory()]))
        incident = declare("Salaries leaked", severity=severity, confidential=True, by=olga)
        said = f"Confidential incident {incident.number}"
        event = Event.objects.get(name="incident.declared")
        assert event.sentence == said
        assert event.data == {"incident": incident.pk, "number": incident.number, "sentence": said}
        ladder = Escalation.objects.of(incident).get()
        assert (ladder.title, ladder.severity_words, ladder.severity_rank) == (said, "", severity.rank)
        climb_due()
        assert Notification.objects.get().subject == said
        for row in (*Event.objects.all(), *Notification.objects.all()):
            assert str(severity) not in str(vars(row))
        assert not any("Salaries" in f"{event.sentence}{event.data}" for event in Event.objects.all())


class TestResponseClocks:
    """N-03: the response times of five teams. What a team has not set stays so."""

    SCHEMES = {
        "S0": [("Critical", None), ("High", None), ("Medium", None), ("Low", None)],
        "S1": [("Critical", 15 * MINUTE), ("High", HOUR), ("Medium", 4 * HOUR), ("Low", 24 * HOUR)],
        "S2": [("P0", 5 * MINUTE), ("P1", 15 * MINUTE), ("P2", HOUR), ("P3", 24 * HOUR)],
        "S3": [("P1", 5 * MINUTE), ("P2", 15 * MINUTE), ("P3", 30 * MINUTE)],
        "S4": [("P1", 15 * MINUTE), ("P2", HOUR), ("P3", 4 * HOUR)],
    }

    @pytest.mark.parametrize("team", SCHEMES)
    def test_each_grade_has_its_own(self, olga, team):
        service = ServiceFactory()
        with time_machine.travel(FRIDAY, tick=False):
            for rank, (code, response) in enumerate(self.SCHEMES[team], start=1):
                severity = SeverityFactory(service=service, rank=rank, code=code, response_time=response)
                incident = declare("Down", severity=severity, by=olga)
                assert incident.response_due_at == (FRIDAY + response if response else None), code

    def test_one_business_day_on_friday_is_monday(self, olga):
        service = ServiceFactory(business_hours=office_hours())
        low = SeverityFactory(service=service, rank=4, response_time=None, response_business_days=1)
        with time_machine.travel(FRIDAY, tick=False):
            incident = declare("A typing error", severity=low, by=olga)
        assert incident.response_due_at == datetime(2026, 3, 9, 16, 0, tzinfo=UTC)  # Monday 17:00 in Berlin

    def test_without_business_hours_of_the_service_too(self, olga):
        low = SeverityFactory(rank=4, response_time=None, response_business_days=1)
        with time_machine.travel(FRIDAY, tick=False):
            incident = declare("A typing error", severity=low, by=olga)
        local = incident.response_due_at.astimezone(ZoneInfo(incident.service.time_zone))
        assert f"{local:%a %F %T}" == "Mon 2026-03-09 23:59:59"

    def test_the_situation_has_a_time_of_its_own(self, olga):
        """S3: 30 minutes or an hour for the same grade."""
        severity = SeverityFactory(rank=3, response_time=30 * MINUTE)
        policy = PolicyFactory(service=severity.service)
        rule(policy, severity=severity)
        rule(policy, severity=severity, situation="Reports are slow", response_time=HOUR)
        with time_machine.travel(FRIDAY, tick=False):
            plain = declare("Slow", severity=severity, by=olga)
            slow = declare("Slow", severity=severity, situation="Reports are slow", by=olga)
        assert (plain.response_due_at, slow.response_due_at) == (FRIDAY + 30 * MINUTE, FRIDAY + HOUR)

    def test_business_hours_that_never_open_do_not_keep_anybody_from_declaring(self, olga):
        calendar = office_hours()
        calendar.openings.all().delete()
        severity = SeverityFactory(service=ServiceFactory(business_hours=calendar), response_in_business_hours=True)
        assert declare("Down", severity=severity, by=olga).response_due_at is None


class TestScales:
    """N-01: the same word means three things; only ranks compare."""

    def test_ranks_compare_across_services_and_codes_do_not(self, olga):
        high_of_s2 = SeverityFactory(code="P1", name="High", rank=2)
        critical_of_s4 = SeverityFactory(code="P1", name="Critical", rank=1)
        milder = declare("Slow", severity=high_of_s2, by=olga)
        worse = declare("Down", severity=critical_of_s4, by=olga)
        assert critical_of_s4.is_worse_than(high_of_s2) and not high_of_s2.is_worse_than(critical_of_s4)
        assert list(Incident.objects.order_by("rank")) == [worse, milder]
        assert list(Incident.objects.filter(rank__lte=1)) == [worse]


def test_sources_cover_every_door():
    assert set(declaring.SOURCES) == set(Incident.Door)
