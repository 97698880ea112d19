"""Which change is suspected of having caused an incident: reasons, order, and how often the order is right."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog.models import Component, Environment, Service
from core import gates
from core.models import User
from core.roles import Role
from deployments.models import ConfigurationChange, Deployment, LiveState, Release
from incidents import hearing, rules
from incidents.actions.declare import declare
from incidents.models import CauseRule, Incident
from incidents.suspects import names_version, suspects
from operations.models import Event
from tests.deployments.conftest import Stage, paper, stage  # noqa: F401  fixtures
from tests.factories import PersonFactory

pytestmark = pytest.mark.django_db
START = datetime(2026, 5, 4, 12, tzinfo=timezone.get_default_timezone())


class Scene:
    """A service with its places; changes are written as they would have been."""

    def __init__(self, name: str = "Shop") -> None:
        self.service = Service.objects.create(name=name, slug=name.lower())
        self.places = {
            kind: Environment.objects.create(service=self.service, name=kind, slug=kind, kind=kind)
            for kind in ("production", "staging")
        }
        self.count = 0

    def deployment(
        self, before: timedelta, *, place: str = "production", kind: str = "deploy", notes: str = "", **more: Any
    ) -> Deployment:
        self.count += 1
        schema = more.pop("schema", False)
        release = Release.objects.create(
            service=self.service,
            version=f"v1.{self.count}.0",
            source_kind="git",
            source=f"repo@{self.count}",
            notes=notes,
            changes_schema=schema,
        )
        at = START - before
        if more.get("emergency"):
            more = {**more, "review_needed": True}
        return Deployment.objects.create(
            environment=self.places[place],
            release=release,
            kind=kind,
            fingerprint="x",
            reason="Because",
            requested_at=at - timedelta(minutes=2),
            started_at=at - timedelta(minutes=1),
            switched_at=at,
            ended_at=at + timedelta(minutes=1),
            **{"state": "live", **more},
        )

    def change(self, before: timedelta, kind: str, name: str = "") -> ConfigurationChange:
        return ConfigurationChange.objects.create(
            environment=self.places["production"], kind=kind, name=name, new="1", reason="Tuning", at=START - before
        )

    def incident(self, title: str, **more: Any) -> Incident:
        self.count += 1
        return Incident.objects.create(
            number=f"{self.service.slug}-{self.count}",
            title=title,
            service=self.service,
            environment=self.places["production"],
            started_at=START,
            **more,
        )


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def test_each_change_says_why_it_is_suspected() -> None:
    scene = Scene()
    scene.deployment(minutes(4), notes="New checkout form", state="suspect", checks=[{"name": "Health", "good": False}])
    scene.deployment(minutes(3), place="staging")
    scene.change(minutes(30), "setting", "CHECKOUT_TIMEOUT")
    first, second, third = suspects(scene.incident("Checkout does not answer"))
    assert first.title == "v1.1.0 to production"
    assert first.reasons == ["4 min before the start", "Its checks failed: Health", "It is about checkout"]
    assert second.reasons == ["30 min before the start", "It is about checkout"]
    assert third.reasons == ["3 min before the start", "In another environment"]


def test_what_came_after_and_what_is_elsewhere_is_no_suspect() -> None:
    scene, other = Scene(), Scene("Other")
    scene.deployment(minutes(-5))
    scene.deployment(timedelta(hours=30))
    other.deployment(minutes(1))
    assert suspects(scene.incident("Broken")) == []


def test_what_went_back_by_itself_is_no_cause_and_a_release_that_is_named_is_likelier() -> None:
    scene = Scene()
    named = scene.deployment(minutes(4))
    scene.deployment(minutes(2))
    scene.deployment(minutes(1), kind="rollback", automatic=True)
    first, second = suspects(scene.incident(f"Deployment of {named.release.version} failed."))
    assert first.deployment == named and "The incident names it" in first.reasons
    assert "The incident names it" not in second.reasons


@pytest.mark.parametrize(
    ("text", "named"),
    [("v1.5.0 fails", True), ("ERP (v1.5.0).", True), ("v1.5.01", False), ("v1.5.0-rc1", False), ("xv1.5.0", False)],
)
def test_a_version_is_named_by_itself_and_not_by_a_longer_one(text: str, named: bool) -> None:
    assert names_version("v1.5.0", text) is named


def test_one_that_is_live_can_be_rolled_back_from_here() -> None:
    scene = Scene()
    live, old = scene.deployment(minutes(5)), scene.deployment(minutes(300))
    LiveState.objects.create(environment=scene.places["production"], release=live.release)
    found = suspects(scene.incident("Broken"))
    assert [(each.deployment, each.live) for each in found] == [(live, True), (old, False)]


def test_the_questions_are_few(django_assert_num_queries: Any) -> None:
    scene = Scene()
    for number in range(30):
        scene.deployment(minutes(number + 1))
        scene.change(minutes(number + 1), "restart")
    incident = scene.incident("Broken")
    with django_assert_num_queries(3):
        assert len(suspects(incident)) == 60


# -- how often it is right ---------------------------------------------------------------------------------------------

PARTS = ("checkout", "invoices", "search", "login", "stock", "reports", "payments", "labels")


def seeded(number: int) -> tuple[Incident, object, Deployment]:
    """An incident, its culprit, and the latest deployment, in a day of changes such as teams have.

    The culprit is a deployment (seven in ten), a setting or a rollback; its trouble shows after some minutes, rarely
    hours (log-normal). Around it there are other deployments at both places, restarts, settings: on a busy day several
    after the culprit. What the incident says names the part that broke in six of ten cases; checks had noticed
    something in a third. Unrelated releases are about other parts, mostly.
    """
    dice = random.Random(number)
    scene = Scene(f"Service{number}")
    part = dice.choice(PARTS)
    delay = minutes(min(dice.lognormvariate(2.2, 1.0), 600))
    notes = f"Changes {part} and some texts"
    kind = dice.choices(("deploy", "setting", "rollback"), (70, 20, 10))[0]
    culprit: object
    if kind == "setting":
        culprit = scene.change(delay, "setting", f"{part.upper()}_LIMIT")
    else:
        noticed = dice.random() < 0.33
        checks = [{"name": "Log", "good": False}] if noticed else []
        state = "suspect" if noticed else "live"
        culprit = scene.deployment(delay, kind=kind, notes=notes, checks=checks, state=state)
    for _ in range(dice.randint(2, 5)):  # others of the day
        others = f"Changes {dice.choice([each for each in PARTS if each != part or dice.random() < 0.2])}"
        scene.deployment(minutes(dice.uniform(2, 400)), notes=others, schema=dice.random() < 0.2)
    for _ in range(dice.randint(1, 3)):  # staging is deployed to all the time, also a moment ago
        scene.deployment(minutes(dice.uniform(0.5, 300)), place="staging", notes=f"Changes {dice.choice(PARTS)}")
    for _ in range(dice.randint(0, 2)):
        scene.change(minutes(dice.uniform(1, 600)), dice.choice(("restart", "scale")))
    title = f"{part.capitalize()} answers with errors" if dice.random() < 0.6 else "Customers report a slow shop"
    latest = Deployment.objects.filter(environment__service=scene.service).order_by("-switched_at").first()
    assert latest is not None
    return scene.incident(title), culprit, latest


def _place_of(culprit: object, incident: Incident) -> int:
    urls = [each.url for each in suspects(incident)]
    return urls.index(culprit.get_absolute_url())  # type: ignore[attr-defined]


def test_the_culprit_is_found_more_often_than_by_taking_the_latest_deployment() -> None:
    places, latest = [], 0
    for number in range(50):
        incident, culprit, newest = seeded(number)
        places.append(_place_of(culprit, incident))
        latest += newest == culprit
    first, first_three = sum(place == 0 for place in places), sum(place < 3 for place in places)
    print(f"first {first}, first three {first_three}, latest deployment {latest} of 50")
    assert first >= 40 and first_three >= 48
    assert first > latest


# -- joined up ---------------------------------------------------------------------------------------------------------


def test_a_grave_incident_stops_all_but_its_fix(stage: Stage) -> None:  # noqa: F811
    severity = stage.service.severities.create(code="P1", name="Down", rank=1)
    incident = declare("Shop is down", service=stage.service, severity=severity, by=stage.olga, escalate=False)
    asked = gates.Question(stage.production.pk, stage.service.pk, limit=1)
    (answer,) = [each for each in gates.ask(asked) if not each.good]
    assert answer.sentence.startswith(f"{incident.number} “Shop is down” is open, so nothing is deployed but its fix.")
    fix = gates.Question(stage.production.pk, stage.service.pk, incident=incident.number, limit=1)
    assert all(each.good for each in gates.ask(fix))
    Incident.objects.update(rank=2)
    assert all(each.good for each in gates.ask(asked))


def test_a_failed_production_deployment_opens_an_incident_and_its_rollback_resolves_it(stage: Stage) -> None:  # noqa: F811
    CauseRule.objects.create(cause="deployment-failed", escalate=False)
    stage.deploy("v1.0.0")
    stage.change(answers_within_ms=5)
    bad = stage.deploy("v1.1.0")
    rules.work_off()
    incident = Incident.objects.get()
    assert incident.title == "Deployment of v1.1.0 to ERP · production failed"
    assert suspects(incident)[0].deployment == bad
    client = Client()
    client.force_login(stage.olga)
    page = client.get(f"/incidents/incident/{incident.pk}/beside/").content.decode()
    assert "Likely causes" in page and "Roll back …" in page
    url = f"/incidents/incident/{incident.pk}/rollback/{stage.production.pk}/"
    form = client.get(url)
    assert b"v1.0.0 still runs, warm" in form.content
    key = form.context["request_key"]
    previous = Release.objects.get(version="v1.0.0")
    stage.change(answers_within_ms=None)
    for _ in range(2):  # a double click
        answer = client.post(url, {"to": previous.pk, "reason": "Orders are lost", "request_key": key})
        assert answer.status_code == 302, answer.content
    row = Deployment.objects.get(kind="rollback")
    assert (row.incident, row.trigger) == (incident.number, "incident")
    assert stage.carry_out(row).state == "live"
    rules.work_off()
    incident.refresh_from_db()
    assert incident.state == "resolved"
    said = list(incident.timeline.values_list("text", flat=True))
    assert sum("Started: Roll back ERP production to v1.0.0" in text for text in said) == 1
    assert any("v1.0.0 is live again" in text for text in said)


def test_deployments_elsewhere_stand_on_the_timeline_of_an_open_incident(stage: Stage) -> None:  # noqa: F811
    incident = declare("Slow", service=stage.service, by=stage.olga, escalate=False)
    stage.deploy("v1.0.0")
    said = [text for text in incident.timeline.values_list("text", flat=True) if "v1.0.0" in text]
    assert said == [
        "Deploy ERP production to v1.0.0.",
        "Deployment of ERP v1.0.0 to production: succeeded. v1.0.0 is live.",
    ]
    assert hearing.hear_deployment and Event.objects.filter(name="deployment.live").exists()


def test_who_may_not_roll_back_is_refused(stage: Stage) -> None:  # noqa: F811
    stage.deploy("v1.0.0")
    stage.deploy("v1.1.0")
    incident = declare("Slow", service=stage.service, by=stage.olga, escalate=False)
    url = f"/incidents/incident/{incident.pk}/rollback/{stage.production.pk}/"
    for person in (stage.ana, PersonFactory(role=Role.MANAGER), PersonFactory(role=Role.RESPONDER)):
        client = Client()
        client.force_login(person)
        assert client.get(url).status_code == client.post(url, {}).status_code == 403
        assert b"Roll back" not in client.get(f"/incidents/incident/{incident.pk}/beside/").content
    assert not Deployment.objects.filter(kind="rollback").exists()


def test_whoever_works_alone_rolls_back_within_the_service(stage: Stage) -> None:  # noqa: F811
    stage.deploy("v1.0.0")
    stage.deploy("v1.1.0")
    alone: User = PersonFactory(role=Role.RESPONDER)
    incident = declare("Slow", service=stage.service, by=alone, escalate=False, solo=True)
    other = Component.objects.create(
        environment=Environment.objects.create(
            service=Service.objects.create(name="CRM", slug="crm"),
            name="production",
            slug="production",
            kind="production",
        ),
        name="api",
        kind="api",
    )
    client = Client()
    client.force_login(alone)
    assert client.get(f"/incidents/incident/{incident.pk}/rollback/{stage.production.pk}/").status_code == 200
    assert client.get(f"/incidents/incident/{incident.pk}/rollback/{other.environment_id}/").status_code == 403
