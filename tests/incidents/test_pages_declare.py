"""Declaring: two fields, one click, from every page; a double click is one incident; what was typed is kept."""

from __future__ import annotations

import pytest

from catalog.models import Severity
from core.roles import Role
from incidents.forms import DeclareForm
from incidents.models import Incident
from tests.contacts.factories import SeverityFactory
from tests.factories import ComponentFactory, EnvironmentFactory
from tests.incidents.record import person, service_with_everything
from tests.pages import page_of

pytestmark = pytest.mark.django_db
PAGE = "/incidents/declare/"


def fill(client, **fields):
    """The form as it comes, with these fields typed."""
    form = next(form for form in page_of(client.get(PAGE)).forms if form.method == "post" and "title" in form.fields)
    return {**form.fields, **fields}


def test_two_fields_make_an_incident_with_all_that_follows():
    user, client = person(Role.RESPONDER)
    severity = service_with_everything()
    response = client.post(PAGE, fill(client, title="Orders cannot be saved", place=f"severity-{severity.pk}"))
    incident = Incident.objects.get()
    assert response.status_code == 302 and response["Location"] == incident.get_absolute_url()
    assert (incident.title, incident.service, incident.severity) == (
        "Orders cannot be saved",
        severity.service,
        severity,
    )
    assert incident.declared_by == user and incident.response_due_at and incident.stage.name == "Detection"
    assert "Orders cannot be saved" in page_of(client.get(response["Location"])).text


@pytest.mark.parametrize("place", ["service", "none"])
def test_severity_and_service_may_be_left_for_later(place):
    _, client = person(Role.RESPONDER)
    severity = SeverityFactory()
    value = f"service-{severity.service.pk}" if place == "service" else "none"
    client.post(PAGE, fill(client, title="Something smells burnt", place=value))
    incident = Incident.objects.get()
    assert incident.severity is None and incident.service == (severity.service if place == "service" else None)


def test_one_select_groups_severities_by_service():
    _, client = person(Role.RESPONDER)
    severity = SeverityFactory(rank=1, name="System down")
    html = client.get(PAGE).content.decode()
    assert f'<optgroup label="{severity.service}">' in html
    assert f"{severity.service}: P1 System down" in html
    assert f"{severity.service}: severity not decided yet" in html and "No service in particular" in html


def test_definitions_and_examples_stand_beside_the_choice():
    _, client = person(Role.RESPONDER)
    severity = SeverityFactory(definition="Nobody can order.", examples="The site is silent.")
    text = page_of(client.get(PAGE)).text
    assert severity.definition in text and severity.examples in text


def test_what_is_folded_away_can_be_said_at_once():
    _, client = person(Role.OPERATOR)
    severity = SeverityFactory()
    component = ComponentFactory(environment=EnvironmentFactory(service=severity.service))
    client.post(
        PAGE,
        fill(
            client,
            title="Orders are lost",
            place=f"severity-{severity.pk}",
            situation="data at risk",
            environment=component.environment.pk,
            components=[component.pk],
            description="Since the morning.",
            started_at="2026-01-05T09:00:00",
            confidential="on",
            solo="on",
        ),
    )
    incident = Incident.objects.get()
    assert (incident.situation, incident.environment) == ("data at risk", component.environment)
    assert list(incident.components.all()) == [component] and incident.description == "Since the morning."
    assert incident.confidential and incident.solo and incident.started_at < incident.declared_at


def test_a_double_click_is_one_incident():
    _, client = person(Role.RESPONDER)
    fields = fill(client, title="Orders cannot be saved", place="none")
    first, second = client.post(PAGE, fields), client.post(PAGE, fields)
    assert first["Location"] == second["Location"] and Incident.objects.count() == 1


def test_a_key_of_somebody_else_is_another_key():
    (_, one), (_, two) = person(Role.RESPONDER), person(Role.RESPONDER)
    fields = fill(one, title="Orders cannot be saved", place="none")
    one.post(PAGE, fields)
    two.post(PAGE, fields)
    assert Incident.objects.count() == 2


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"title": "", "place": "none"}, "This field is required"),
        ({"title": "Broken", "place": ""}, "This field is required"),
        ({"title": "Broken", "place": "severity-999999"}, "Select a valid choice"),
        ({"title": "Broken", "place": "none", "request_key": ""}, "lost its one-time key"),
        ({"title": "Broken", "place": "none", "started_at": "yesterday"}, "Enter a valid date/time"),
    ],
)
def test_wrong_input_keeps_what_was_typed(fields, sentence):
    _, client = person(Role.RESPONDER)
    typed = fill(client, description="Since the morning.", **fields)
    response = client.post(PAGE, typed)
    page = page_of(response)
    assert response.status_code == 200 and sentence in page.text and not Incident.objects.exists()
    again = next(form for form in page.forms if "title" in form.fields)
    assert again.fields["title"] == fields["title"] and again.fields["description"] == "Since the morning."
    assert len(again.fields["request_key"]) >= 16
    assert '<details class="folded" open' in response.content.decode()


def test_an_environment_of_another_service_is_refused():
    _, client = person(Role.RESPONDER)
    severity, other = SeverityFactory(), EnvironmentFactory()
    typed = fill(client, title="Broken", place=f"severity-{severity.pk}", environment=other.pk)
    assert "belongs to another service" in page_of(client.post(PAGE, typed)).text
    assert not Incident.objects.exists()


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.MANAGER, False),
        (Role.APPROVER, False),
        (Role.RESPONDER, True),
        (Role.OPERATOR, True),
        (Role.ADMINISTRATOR, True),
    ],
)
def test_the_button_stands_on_every_page_for_those_who_may(role, may):
    _, client = person(role)
    for path in ("/", "/incidents/incident/", "/backups/archive/", "/me/"):
        assert (PAGE in page_of(client.get(path)).links) == may, path
    assert client.get(PAGE).status_code == (200 if may else 403)
    sent = client.post(PAGE, {"title": "Broken", "place": "none", "request_key": "k" * 20})
    assert sent.status_code == (302 if may else 403) and Incident.objects.exists() == may


def test_signed_out_leads_to_the_sign_in(client):
    assert "/login/" in client.get(PAGE)["Location"]


def test_a_link_chooses_the_service():
    _, client = person(Role.RESPONDER)
    service = SeverityFactory().service
    response = client.get(f"{PAGE}?service={service.pk}")
    assert f'<option value="service-{service.pk}" selected>' in response.content.decode()
    assert client.get(f"{PAGE}?service=x").status_code == 200 and Severity.objects.exists()


def test_components_are_asked_for_where_there_are_some():
    assert "components" not in DeclareForm().fields
    part = ComponentFactory()
    service = part.environment.service
    field = DeclareForm().fields["components"]
    assert not field.required
    assert list(field.choices) == [(str(service), [(part.pk, str(part))])]
