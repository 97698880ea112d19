"""Incidents, on-call and escalations over the API: the same rights as on the pages, one key for one thing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from contacts.actions import escalation as escalations
from contacts.models import Escalation
from core.roles import Role
from core.scopes import READ, RESPOND
from incidents.actions.declare import declare
from incidents.models import Incident, TimelineEntry
from tests.contacts.factories import (
    ChannelFactory,
    ContactFactory,
    OnCallScheduleFactory,
    PolicyFactory,
    SeverityFactory,
    layer_of,
    rule,
)
from tests.factories import ComponentFactory, EnvironmentFactory, PersonFactory, ServiceFactory
from tests.incidents.factories import IncidentFactory
from tests.opsportal.test_api import Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def call(olga):
    return Caller(olga)


@pytest.fixture
def service():
    service = ServiceFactory(slug="shop")
    SeverityFactory(service=service, rank=1, code="P1")
    EnvironmentFactory(service=service)
    return service


class TestDeclaring:
    def test_two_fields_are_enough(self, call, service, olga):
        answer = call.post("/incidents", {"title": "Down", "service": "shop", "severity": "P1"})
        assert answer.status_code == 201
        said = answer.json()
        assert (said["title"], said["service"], said["severity"], said["rank"]) == ("Down", "shop", "P1", 1)
        incident = Incident.objects.get(pk=said["id"])
        assert (incident.door, incident.declared_by) == ("api", olga) and said["number"] == incident.number
        assert incident.timeline.first().source == "api" and Escalation.objects.of(incident).exists()

    def test_one_key_is_one_incident(self, call, service):
        body = {"title": "Down", "service": "shop"}
        first, again = (call.post("/incidents", body, **{"Idempotency-Key": "k"}) for _ in range(2))
        assert first.json()["id"] == again.json()["id"] and Incident.objects.count() == 1
        other = call.post("/incidents", {"title": "Else"}, **{"Idempotency-Key": "k"})
        assert other.status_code == 422 and "another request" in other.json()["detail"]

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"title": ""}, 422),
            ({"title": "  "}, 422),
            ({"title": "x", "service": "nowhere"}, 404),
            ({"title": "x", "service": "shop", "severity": "P9"}, 404),
            ({"title": "x", "service": "shop", "environment": "moon"}, 404),
            ({"title": "x", "severity": "P1"}, 404),
            ({"title": "x", "solo": True}, 422),
            ({"title": "x\0"}, 422),
        ],
    )
    def test_what_cannot_be_is_said_so(self, call, service, body, status):
        answer = call.post("/incidents", body)
        assert answer.status_code == status and answer.json()["detail"]
        assert not Incident.objects.exists()

    def test_a_manager_and_a_token_without_the_scope_may_not(self, mona, olga):
        assert Caller(mona).post("/incidents", {"title": "x"}).status_code == 403
        assert Caller(olga, READ).post("/incidents", {"title": "x"}).status_code == 403
        assert Caller(olga, RESPOND).post("/incidents", {"title": "x"}).status_code == 201


class TestReading:
    def test_filters_and_pages(self, call, olga):
        ServiceFactory(slug="empty")
        first = declare("The disk is full", severity=SeverityFactory(rank=1), by=olga)
        second = declare("Slow", severity=SeverityFactory(rank=3), by=olga)
        third = IncidentFactory(resolved=True)

        def numbers(**query):
            answer = call.get("/incidents", **query)
            assert answer.status_code == 200, answer.json()
            return [item["id"] for item in answer.json()["items"]]

        assert numbers() == [third.pk, second.pk, first.pk]
        assert numbers(open="true") == [second.pk, first.pk] and numbers(open="false") == [third.pk]
        assert numbers(state="resolved") == [third.pk]
        assert numbers(rank=2, open="true") == [first.pk]
        assert numbers(service=second.service.slug) == [second.pk] and numbers(service="empty") == []
        assert numbers(search="full disks") == [first.pk]
        assert numbers(declared_from="2099-01-01T00:00:00Z") == []
        page = call.get("/incidents", limit=2).json()
        assert numbers(limit=2, before=page["next"]) == [first.pk]

    def test_a_confidential_one_does_not_exist_for_others(self, call, ada):
        secret = declare("Salaries leaked", by=ada, confidential=True)
        assert call.get("/incidents").json()["items"] == []
        for path in ("", "/timeline"):
            assert call.get(f"/incidents/{secret.pk}{path}").status_code == 404
        for path in ("", "/acknowledge", "/resolve"):
            assert call.post(f"/incidents/{secret.pk}{path}").status_code == 404
        assert call.post(f"/incidents/{secret.pk}/notes", {"text": "x"}).status_code == 404
        assert Caller(ada).get(f"/incidents/{secret.pk}").json()["title"] == "Salaries leaked"

    def test_the_timeline_comes_in_parts(self, call, olga):
        incident = declare("Down", by=olga)
        whole = call.get(f"/incidents/{incident.pk}/timeline").json()
        assert [item["sequence"] for item in whole["items"]] == list(range(1, incident.timeline.count() + 1))
        part = call.get(f"/incidents/{incident.pk}/timeline", after=1, limit=1).json()
        assert part["last"] == 2 and part["items"][0]["hash"] == incident.timeline.get(sequence=2).hash

    def test_a_list_costs_the_same_for_many(self, call, olga, django_assert_max_num_queries):
        for _ in range(5):
            IncidentFactory(environment=EnvironmentFactory())
        with django_assert_max_num_queries(6):
            assert len(call.get("/incidents").json()["items"]) == 5


class TestResponding:
    def test_from_the_answer_to_the_end(self, call, olga):
        incident = declare("Down", severity=SeverityFactory(), by=olga)
        path = f"/incidents/{incident.pk}"
        said = call.post(f"{path}/acknowledge").json()
        assert (said["state"], said["response_met"]) == ("acknowledged", True)
        said = call.post(path, {"users_affected": 40, "workaround": "Use the phone", "eta": None}).json()
        assert (said["users_affected"], said["workaround"]) == (40, "Use the phone")
        entry = call.post(f"{path}/notes", {"text": "The disk", "kind": "root-cause"})
        assert entry.status_code == 201 and entry.json()["source"] == "api"
        said = call.post(f"{path}/resolve", {"text": "Freed the disk"}).json()
        assert (said["state"], said["resolution"]) == ("resolved", "Freed the disk") and said["downtime_s"] >= 0
        assert call.post(f"{path}/resolve").status_code == 200
        refused = call.post(f"{path}/acknowledge")
        assert refused.status_code == 422 and "Reopen it" in refused.json()["detail"]
        sources = set(TimelineEntry.objects.filter(incident=incident, user=olga).values_list("source", flat=True))
        assert sources == {"person", "api"}

    def test_one_key_is_one_note(self, call, olga):
        path = f"/incidents/{declare('Down', by=olga).pk}/notes"
        first, again = (call.post(path, {"text": "Once"}, **{"Idempotency-Key": "k"}) for _ in range(2))
        assert first.json()["sequence"] == again.json()["sequence"]
        assert call.post(path, {"text": "Twice"}, **{"Idempotency-Key": "k"}).status_code == 422

    @pytest.mark.parametrize(
        "at", ["2026-03-06T12:00:00", "2026-03-06T12:00:00Z", "2026-03-06T13:00:00+01:00", "2026-03-07T11:51:00+23:51"]
    )
    def test_times_come_with_or_without_a_zone(self, call, olga, at):
        incident = declare("Down", by=olga)
        call.post(f"/incidents/{incident.pk}/notes", {"text": "Seen", "at": at})
        assert incident.timeline.last().at == datetime(2026, 3, 6, 12, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("path", "body"),
        [("", {"state": "closed"}), ("", {"title": ""}), ("/notes", {"text": "x", "kind": "state"}), ("/notes", {})],
    )
    def test_what_cannot_be_is_said_so(self, call, olga, path, body):
        incident = declare("Down", by=olga)
        assert call.post(f"/incidents/{incident.pk}{path}", body).status_code == 422

    def test_a_responder_may_and_a_manager_may_not(self, rene, mona, olga):
        incident = declare("Down", by=olga)
        assert Caller(mona).post(f"/incidents/{incident.pk}/acknowledge").status_code == 403
        assert Caller(rene).post(f"/incidents/{incident.pk}/acknowledge").status_code == 200

    def test_components_impacts_and_data_loss(self, call, olga):
        part = ComponentFactory()
        incident = declare("Down", service=part.environment.service, by=olga)
        path, body = f"/incidents/{incident.pk}", {"impacts": ["Orders"], "data_loss": "some"}
        said = call.post(path, {"components": [part.name], **body}).json()
        assert (said["components"], said["impacts"], said["data_loss"]) == ([part.name], ["Orders"], "some")
        assert call.post(path, {"components": []}).json()["components"] == []
        assert call.post(path, {"components": [ComponentFactory(name="elsewhere").name]}).status_code == 404
        assert call.post(path, {"data_loss": "lots"}).status_code == 422

    def test_a_name_in_two_environments_wants_the_environment(self, call, service, olga):
        here, there = (EnvironmentFactory(service=service, name=name, slug=name) for name in ("here", "there"))
        parts = [ComponentFactory(environment=each, name="db") for each in (here, there)]
        incident, placed = declare("A", service=service, by=olga), declare("B", environment=there, by=olga)
        refused = call.post(f"/incidents/{incident.pk}", {"components": ["db"]})
        assert refused.status_code == 422 and "several environments" in refused.json()["detail"]
        assert call.post(f"/incidents/{placed.pk}", {"components": ["db"]}).status_code == 200
        assert list(placed.components.all()) == [parts[1]]


class TestSeverity:
    def test_the_code_and_why(self, ada, service):
        SeverityFactory(service=service, rank=2, code="P2")
        incident, call = declare("Down", service=service, by=ada), Caller(ada)
        path = f"/incidents/{incident.pk}/severity"
        said = call.post(path, {"severity": "P2", "reason": "Only reports"}).json()
        assert (said["severity"], said["rank"]) == ("P2", 2)
        assert incident.timeline.filter(kind="severity", text__contains="Only reports").exists()
        assert call.post(path, {"severity": "P9", "reason": "x"}).status_code == 404
        assert call.post(path, {"severity": "P1", "reason": " "}).status_code == 422

    def test_without_a_service_it_is_named(self, ada, service):
        incident, call = declare("Down", by=ada), Caller(ada)
        path, body = f"/incidents/{incident.pk}/severity", {"severity": "P1", "reason": "It is the shop"}
        assert "name the service" in call.post(path, body).json()["detail"]
        assert call.post(path, {**body, "service": "shop"}).json()["service"] == "shop"

    def test_who_does_not_command_and_a_token_without_the_scope_may_not(self, rene, ada, service):
        path, body = f"/incidents/{declare('Down', service=service, by=ada).pk}/severity", {"severity": "P1"}
        for caller in (Caller(rene), Caller(ada, READ)):
            assert caller.post(path, {**body, "reason": "x"}).status_code == 403


class TestUpdates:
    def test_to_a_channel_once(self, call, olga):
        incident, channel = declare("Down", by=olga), ChannelFactory(name="#alerts")
        path, body = f"/incidents/{incident.pk}/updates", {"text": "We are on it.", "channels": ["#alerts"]}
        first, again = (call.post(path, body, **{"Idempotency-Key": "k"}) for _ in range(2))
        assert first.status_code == 201 and first.json() == again.json()
        assert (first.json()["channels"], first.json()["by"]) == (["#alerts"], "olga")
        assert list(incident.updates.get().channels.all()) == [channel]
        other = call.post(path, {"text": "Else"}, **{"Idempotency-Key": "k"})
        assert other.status_code == 422 and "another request" in other.json()["detail"]

    def test_for_the_public(self, call, olga):
        path, body = f"/incidents/{declare('Down', by=olga).pk}/updates", {"text": "We look.", "audience": "public"}
        assert "public status" in call.post(path, body).json()["detail"]
        sent = call.post(path, {**body, "public_status": "identified", "public_title": "Orders are slow"})
        assert sent.status_code == 201 and Incident.objects.get().public_title == "Orders are slow"

    def test_what_cannot_be_is_said_so(self, call, olga):
        path = f"/incidents/{declare('Down', by=olga).pk}/updates"
        assert call.post(path, {"text": "x", "channels": ["#none"]}).status_code == 404
        for body in ({"text": " "}, {"text": "x", "audience": "all"}, {}):
            assert call.post(path, body).status_code == 422, body

    def test_who_may_not(self, mona, olga, ada):
        path = f"/incidents/{declare('Down', by=ada).pk}/updates"
        for caller in (Caller(mona), Caller(olga, READ)):
            assert caller.post(path, {"text": "x"}).status_code == 403


class TestContacts:
    def test_who_is_on_call_and_how_to_reach_them(self, call, service):
        ann = ContactFactory(name="Ann", sms="+49 40 1", email="ann@example.org")
        layer_of(OnCallScheduleFactory(name="Shop", service=service), ann)
        (place,) = call.get("/on-call").json()["items"]
        assert (place["schedule"], place["service"], place["level"], place["contact"]) == (
            "Shop",
            "shop",
            "primary",
            "Ann",
        )
        assert {way["kind"] for way in place["ways"]} == {"email", "sms"}

    def test_nobody_is_said_so(self, call):
        layer_of(OnCallScheduleFactory(), ContactFactory(active=False))
        (place,) = call.get("/on-call").json()["items"]
        assert place["contact"] is None and place["ways"] == []

    def test_acknowledging_an_escalation_acknowledges_the_incident(self, call, service, olga):
        rule(PolicyFactory(service=service), (timedelta(0), [ContactFactory()]))
        incident = declare("Down", severity=service.severities.get(), by=olga)
        (row,) = call.get("/escalations", open="true", service="shop").json()["items"]
        answer = call.post(f"/escalations/{row['id']}/acknowledge")
        assert answer.status_code == 200 and answer.json()["acknowledged_by"] == "olga"
        incident.refresh_from_db()
        assert incident.state == "acknowledged" and call.get("/escalations", open="true").json()["items"] == []

    def test_of_a_confidential_incident_it_says_the_number_alone(self, call, ada):
        incident = declare("Salaries leaked", by=ada, confidential=True)
        assert escalations.current(incident) is not None
        titles = [item["title"] for item in call.get("/escalations").json()["items"]]
        assert titles == [f"Confidential incident {incident.number}"]

    def test_who_may_not(self, mona):
        nobody = Caller(PersonFactory())
        assert nobody.get("/on-call").status_code == 403 and nobody.get("/escalations").status_code == 403
        assert Caller(mona).get("/on-call").status_code == 200
        assert Caller(PersonFactory(role=Role.APPROVER)).post("/escalations/1/acknowledge").status_code == 403
