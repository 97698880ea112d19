"""The public status page: what it says, to whom, and above all what it does not."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
import time_machine
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from core.roles import Role
from incidents import status_page, timeline
from incidents.actions import relate, triage, work
from incidents.actions import updates as actions
from incidents.exceptions import IncidentError
from incidents.models import Incident, Update
from tests.contacts.factories import ChannelFactory, SeverityFactory
from tests.factories import ComponentFactory, EnvironmentFactory, PersonFactory, browser
from tests.incidents.factories import (
    ActionItemFactory,
    IncidentFactory,
    MaintenanceFactory,
    PublicComponentFactory,
    ReviewFactory,
)
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
ADDRESSES = ("/status/", "/status/history/", "/status.json", "/status.rss")


@pytest.fixture(autouse=True)
def _fresh():
    status_page.lately.forget()
    yield
    status_page.lately.forget()


def public(*, said: str = "We look at it.", status: str = "investigating", at: datetime | None = None, **values):
    """An incident on the page, with what was said."""
    rank = values.pop("rank", 2)
    values = {"public_title": "Ordering is slow", "severity": SeverityFactory(rank=rank), **values}
    incident = IncidentFactory(public=True, public_status=status, **values)
    Update.objects.create(
        incident=incident, audience="public", public_status=status, text=said, at=at or status_page.timezone.now()
    )
    return incident


def states() -> dict[str, str]:
    return {part.name: part.state.value for part in status_page.read().parts}


# -- what it says -----------------------------------------------------------------------------------------------------


def test_nothing_is_wrong():
    PublicComponentFactory(name="Ordering")
    page = page_of(Client().get("/status/"))
    assert "Everything works" in page.text
    assert "Ordering Operational" in page.text
    assert "Nothing in the last 90 days." in page.text


def test_without_components_it_says_so():
    assert "No components are listed" in page_of(Client().get("/status/")).text


@pytest.mark.parametrize(("rank", "state"), [(1, "down"), (2, "degraded"), (5, "degraded"), (None, "degraded")])
def test_a_component_is_as_its_gravest_incident(rank, state):
    part, other = PublicComponentFactory(name="Ordering"), PublicComponentFactory(name="Search")
    values = {"severity": None, "service": None} if rank is None else {"rank": rank}
    public(**values).components.add(part.component)
    assert states() == {"Ordering": state, "Search": "operational"}
    assert status_page.read().state.value == state
    public(rank=1).components.add(other.component)
    assert states()["Search"] == "down"


def test_public_status_is_apart_from_the_state_inside():
    part = PublicComponentFactory(name="Ordering")
    inside_over = public(resolved=True)
    inside_over.components.add(part.component)
    assert states() == {"Ordering": "degraded"}  # the public has not been told that it is over
    Update.objects.create(incident=inside_over, audience="public", public_status="resolved", text="Over.")
    Incident.objects.update(public_status="resolved")
    shot = status_page.read()
    assert (shot.state.value, shot.current) == ("operational", [])
    assert shot.past[0].ended_at is not None


def test_what_was_closed_or_merged_is_over():
    incident = public(resolved=True, status="monitoring")
    Incident.objects.filter(pk=incident.pk).update(state="closed", closed_at=NOW)
    shot = status_page.read()
    assert [each.status for each in shot.past] == ["Resolved"]
    assert shot.current == []


@time_machine.travel(NOW, tick=False)
def test_maintenance_reaches_what_it_names():
    environment = EnvironmentFactory()
    ours = PublicComponentFactory(name="Ordering", component=ComponentFactory(environment=environment))
    PublicComponentFactory(name="Billing", component=ComponentFactory(environment=environment, name="billing"))
    PublicComponentFactory(name="Search")
    window = MaintenanceFactory(public=True, title="New disks", text="Orders wait.")
    window.components.add(ours.component)
    assert states() == {"Ordering": "maintenance", "Billing": "operational", "Search": "operational"}
    window.components.clear()
    window.service = environment.service
    window.save()
    assert states() == {"Ordering": "maintenance", "Billing": "maintenance", "Search": "operational"}
    window.service = None
    window.save()
    assert set(states().values()) == {"maintenance"}
    assert "New disks Going on" in page_of(Client().get("/status/")).text
    public(rank=1).components.add(ours.component)
    assert states()["Ordering"] == "down"


@time_machine.travel(NOW, tick=False)
def test_maintenance_that_is_planned_over_or_not_public():
    MaintenanceFactory(public=True, title="Soon", starts_at=NOW + timedelta(days=1), ends_at=NOW + timedelta(days=2))
    MaintenanceFactory(public=True, title="Later", starts_at=NOW + timedelta(days=30), ends_at=NOW + timedelta(days=31))
    MaintenanceFactory(public=True, title="Past", starts_at=NOW - timedelta(days=2), ends_at=NOW - timedelta(days=1))
    MaintenanceFactory(public=False, title="Hidden")
    PublicComponentFactory(name="Ordering")
    assert states() == {"Ordering": "operational"}
    text = page_of(Client().get("/status/")).text
    assert "Soon Planned" in text
    for word in ("Later", "Past", "Hidden"):
        assert word not in text


@time_machine.travel(NOW, tick=False)
def test_ninety_days():
    part = PublicComponentFactory(name="Ordering")
    old = public(status="resolved", said="Old", public_title="Long ago", at=NOW - timedelta(days=91))
    recent = public(status="resolved", said="Over.", rank=1, at=NOW - timedelta(days=3))
    Update.objects.create(
        incident=recent, audience="public", public_status="investigating", text="Hm.", at=NOW - timedelta(days=4)
    )
    for incident in (old, recent):
        incident.components.add(part.component)
    shot = status_page.read()
    assert [each.pk for each in shot.past] == [recent.pk]
    days = dict(shot.parts[0].days)
    assert len(days) == 90
    assert [str(day) for day, state in days.items() if state.value == "down"] == ["2026-03-06", "2026-03-07"]
    html = Client().get("/status/").content.decode()
    assert 'aria-label="Ordering: 88 of 90 days without trouble; 2026-03-06 down; 2026-03-07 down"' in html
    history = page_of(Client().get("/status/history/")).text
    assert "March 2026" in history
    assert "Long ago" not in history


# -- for programs -----------------------------------------------------------------------------------------------------


@time_machine.travel(NOW, tick=False)
def test_json():
    part = PublicComponentFactory(name="Ordering")
    public(rank=1).components.add(part.component)
    answer = Client().get("/status.json")
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert json.loads(answer.content) == {
        "title": "Service status",
        "at": "2026-03-10T12:00:00Z",
        "status": {"state": "down", "sentence": "Something does not work"},
        "components": [{"name": "Ordering", "state": "down"}],
        "incidents": [
            {
                "title": "Ordering is slow",
                "status": "investigating",
                "impact": "down",
                "components": ["Ordering"],
                "started_at": "2026-03-10T12:00:00Z",
                "resolved_at": None,
                "updates": [{"at": "2026-03-10T12:00:00Z", "status": "investigating", "text": "We look at it."}],
            }
        ],
        "maintenance": [],
        "history": [],
    }


@time_machine.travel(NOW, tick=False)
def test_rss(settings):
    settings.PORTAL_URL = "https://ops.example.org"
    incident = public(said="<b>1 & 2</b>", at=NOW - timedelta(hours=1))
    Update.objects.create(incident=incident, audience="public", public_status="identified", text="Found.", at=NOW)
    answer = Client().get("/status.rss")
    assert answer["Content-Type"] == "application/rss+xml; charset=utf-8"
    root = ElementTree.fromstring(answer.content)
    assert (root.tag, root.attrib["version"]) == ("rss", "2.0")
    channel = root.find("channel")
    assert [channel.find(name) is not None for name in ("title", "link", "description")] == [True] * 3
    items = channel.findall("item")
    assert [item.findtext("title") for item in items] == [
        "Ordering is slow: Identified",
        "Ordering is slow: Investigating",
    ]
    assert items[1].findtext("description") == "<b>1 & 2</b>"
    guids = [item.find("guid") for item in items]
    assert len({guid.text for guid in guids}) == 2
    assert {guid.attrib["isPermaLink"] for guid in guids} == {"false"}
    assert items[0].findtext("link").startswith("https://ops.example.org/status/history/#disturbance-")
    assert items[0].findtext("pubDate") == "Tue, 10 Mar 2026 12:00:00 +0000"


# -- what it does not say ---------------------------------------------------------------------------------------------


def test_nothing_of_the_inside_leaves():
    """Every text field of everything around a public incident is a canary."""
    by = PersonFactory(role=Role.ADMINISTRATOR, username="canary-user", first_name="CANARY", last_name="CANARY")
    part = PublicComponentFactory(name="Ordering", component=ComponentFactory(name="canary-component"))
    words = ("title", "description", "impact_words", "cost", "workaround", "root_cause", "resolution", "eta")
    words += ("situation", "channel_name")
    incident = public(
        number="INC-CANARY", declared_by=by, impacts=["CANARY"], **{word: f"CANARY {word}" for word in words}
    )
    incident.components.add(part.component, ComponentFactory(name="canary-2"))
    for row in (incident.severity, incident.service):
        row.name = f"CANARY {row.pk}"
        row.save()
    timeline.write(incident, "CANARY", source="person", user=by)
    actions.send(incident, audience="internal", text="CANARY", channels=[ChannelFactory(name="#canary")], by=by)
    actions.send(incident, audience="public", public_status="identified", text="We know why.", channels=[], by=by)
    ActionItemFactory(incident=incident, text="CANARY")
    ReviewFactory(incident=incident, title="CANARY", summary="CANARY")
    IncidentFactory(title="CANARY not public", public_title="CANARY", public_status="identified")
    for address in ADDRESSES:
        text = Client().get(address).content.decode()
        assert "We know why." in text
        assert not re.search("canary", text, re.IGNORECASE), address


def test_a_confidential_incident_never_shows():
    incident = IncidentFactory(confidential=True, public_title="CANARY", public_status="identified")
    Update.objects.create(incident=incident, audience="public", public_status="identified", text="CANARY")
    shown = public(public_title="CANARY 2")
    Incident.objects.filter(pk=shown.pk).update(public=False)  # as becoming confidential demands
    for address in ADDRESSES:
        assert "CANARY" not in Client().get(address).content.decode()
    assert status_page.read().state.value == "operational"


def test_hostile_words_stay_words():
    public(public_title="<script>alert(1)</script>", said="</p><img src=x onerror=alert(1)>")
    for address in ("/status/", "/status/history/", "/status.rss"):
        text = Client().get(address).content.decode()
        assert "<script>alert" not in text
        assert "<img" not in text


def test_what_no_feed_can_hold_breaks_none():
    """Such as the soft line break of a word processor, in rows that are there already."""
    public(public_title="Sto\x0brm", said="One\x0btwo\x1fthree")
    assert "OneTwothree".lower() in Client().get("/status.rss").content.decode().lower()


# -- how it is served -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_session_and_kept_by_caches(address, django_assert_num_queries):
    public()
    answer = Client().get(address)
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "public, max-age=30, stale-if-error=60"
    assert not answer.cookies
    assert "Set-Cookie" not in answer.headers
    assert "csrf" not in answer.content.decode()
    assert Client().post(address).status_code == 405
    assert Client().head(address).status_code == 200


def test_everybody_gets_the_same():
    PublicComponentFactory()
    public()
    person = PersonFactory(role=Role.ADMINISTRATOR)
    person.time_zone = "Asia/Tokyo"
    person.save()
    assert browser(person).get("/status/").content == Client().get("/status/").content


def test_few_queries_whatever_there_is():
    def cost() -> int:
        with counted() as queries:
            status_page.read()
        return len(queries)

    public().components.add(PublicComponentFactory().component)
    MaintenanceFactory(public=True).components.add(PublicComponentFactory().component)
    one = cost()
    for _ in range(12):
        public().components.add(PublicComponentFactory().component)
        MaintenanceFactory(public=True).components.add(PublicComponentFactory().component)
    assert cost() == one <= 7
    Client().get("/status/")
    with counted() as queries:
        for address in ADDRESSES:
            Client().get(address)
    assert len(queries) == 0  # within a few seconds nobody costs anything more


def test_the_last_answer_serves_while_the_database_does_not(monkeypatch):
    public()
    before = status_page.lately()

    def broken():
        raise OperationalError

    monkeypatch.setattr(status_page.lately, "_seconds", -1)
    monkeypatch.setattr(status_page, "read", broken)
    assert status_page.lately() is before
    status_page.lately.forget()
    with pytest.raises(OperationalError):
        status_page.lately()


def test_redis_is_not_needed(settings):
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    assert Client().get("/status/").status_code == 200


def test_it_can_be_switched_off_and_named(settings):
    settings.STATUS_PAGE_TITLE = "Status of Example"
    assert "Status of Example" in Client().get("/status/").content.decode()
    settings.STATUS_PAGE = False
    for address in ADDRESSES:
        assert Client().get(address).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_an_update_shows_at_once_where_it_was_sent():
    by = PersonFactory(role=Role.RESPONDER)
    incident = IncidentFactory()
    assert status_page.lately().current == []
    actions.send(
        incident, audience="public", public_status="identified", public_title="A", text="B", channels=[], by=by
    )
    assert [each.title for each in status_page.lately().current] == ["A"]
    actions.hide(incident, by=by)
    assert status_page.lately().current == []


@pytest.mark.django_db(transaction=True)
class TestMerging:
    """The trouble lasts when its incident goes on in another: so does what the public reads."""

    def test_the_public_reads_on(self):
        by, incident, goal = PersonFactory(role=Role.ADMINISTRATOR), public(), IncidentFactory()
        assert [each.pk for each in status_page.lately().current] == [incident.pk]
        relate.merge(incident, goal, reason="The same", by=by)
        (shown,) = status_page.lately().current
        assert (shown.pk, shown.title, shown.status) == (goal.pk, "Ordering is slow", "Investigating")
        assert [word.text for word in shown.words] == ["We look at it."]
        assert goal.timeline.filter(kind="update", text__startswith="On the status page").exists()

    def test_the_components_stay_disturbed(self):
        by, part = PersonFactory(role=Role.ADMINISTRATOR), PublicComponentFactory(name="Orders")
        severity = SeverityFactory(rank=2, service=part.component.environment.service)
        incident, goal = public(severity=severity), IncidentFactory(severity=severity)
        incident.components.add(part.component)
        relate.merge(incident, goal, reason="The same", by=by)
        assert states() == {"Orders": "degraded"}

    @pytest.mark.parametrize(("status", "title"), [("monitoring", "Its own"), ("resolved", "Ordering is slow")])
    def test_a_goal_that_is_public_keeps_its_words_while_they_hold(self, status, title):
        by, goal = PersonFactory(role=Role.ADMINISTRATOR), public(public_title="Its own", status=status)
        relate.merge(public(), goal, reason="The same", by=by)
        (shown,) = status_page.lately().current
        assert shown.title == title and len(shown.words) == 2

    def test_into_a_confidential_one_it_is_refused(self):
        by, incident = PersonFactory(role=Role.ADMINISTRATOR), public()
        with pytest.raises(IncidentError, match="off the status page first"):
            relate.merge(incident, IncidentFactory(confidential=True), reason="The same", by=by)
        assert [each.pk for each in status_page.lately().current] == [incident.pk]

    def test_what_was_taken_off_stays_off(self):
        by, incident, goal = PersonFactory(role=Role.ADMINISTRATOR), public(), IncidentFactory(confidential=True)
        relate.merge(actions.hide(incident, by=by), goal, reason="The same", by=by)
        assert status_page.lately().current == [] and not Incident.objects.get(pk=goal.pk).public


@pytest.mark.django_db(transaction=True)
def test_what_becomes_confidential_is_gone_at_once():
    incident = public()
    assert len(status_page.lately().current) == 1
    triage.set_confidential(incident, True, reason="A person is named", by=PersonFactory(role=Role.ADMINISTRATOR))
    assert status_page.lately().current == []


def test_reopened_its_pages_say_that_the_public_reads_resolved():
    by, words = PersonFactory(role=Role.RESPONDER), "The public still reads “Resolved”"
    incident, client = public(resolved=True, status="resolved"), browser(by)
    pages = (incident.get_absolute_url(), reverse("incidents-update", args=[incident.pk]))
    assert not any(words in page_of(client.get(address)).text for address in pages)
    work.reopen(incident, reason="It is back", by=by)
    assert all(words in page_of(client.get(address)).text for address in pages)
    actions.send(incident, audience="public", public_status="investigating", text="Again.", channels=[], by=by)
    assert not any(words in page_of(client.get(address)).text for address in pages)


def test_addresses():
    assert [reverse(f"status-{name}") for name in ("page", "history", "json", "feed")] == list(ADDRESSES)


def test_resolved_inside_the_public_reads_resolved():
    by = PersonFactory(role=Role.RESPONDER)
    incident, hidden = public(status="investigating"), IncidentFactory()
    work.resolve(incident, by=by)
    work.resolve(hidden, by=by)
    incident.refresh_from_db()
    hidden.refresh_from_db()
    assert (incident.public_status, hidden.public_status) == ("resolved", "")
    assert "The status page said “Investigating” and says “Resolved” now." in str(
        list(incident.timeline.values("text"))
    )
    shot = status_page.read()
    assert shot.current == [] and shot.past[0].ended_at == incident.resolved_at
    with pytest.raises(IncidentError, match="is over. Choose “Resolved”, or reopen it first."):
        actions.send(incident, audience="public", public_status="monitoring", text="x", channels=[], by=by)


def test_every_time_says_its_zone():
    public()
    MaintenanceFactory(public=True)
    for address in ADDRESSES[:2]:
        page = Client().get(address).content.decode()
        times = re.findall(r"<time[^>]*>([^<]*)</time>", page)
        assert times and all(each.endswith(" UTC") for each in times), times
