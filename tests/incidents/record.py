"""Incidents as people make them, for tests of pages: declared, worked on, with people in their roles."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.test import Client

from catalog.models import Severity
from contacts.models import Contact
from core.models import User
from core.roles import Role
from incidents.actions import people
from incidents.actions.declare import declare
from incidents.models import Incident, IncidentRole, Stage
from tests.contacts.factories import (
    ContactFactory,
    OnCallScheduleFactory,
    PolicyFactory,
    SeverityFactory,
    layer_of,
    rule,
)
from tests.factories import PersonFactory, browser
from tests.incidents.factories import ProfileFactory, WorkflowFactory
from tests.pages import Page, page_of

CHECKLIST = "Find out who is affected\nOpen the chat room"
GATES = ["All systems are back to normal", "Users were informed"]


def person(role: Role, **values: Any) -> tuple[User, Client]:
    """Somebody of that role, and the browser they have signed in with."""
    user = PersonFactory(role=role, **values)
    return user, browser(user)


def with_contact(user: User, **values: Any) -> Contact:
    return ContactFactory(name=f"Contact of {user.username}", user=user, **values)


def service_with_everything() -> Severity:
    """The worst severity of a service with a matrix, on-call, a workflow and closing gates."""
    worst = SeverityFactory(rank=1, name="System down", definition="Nobody can order.", examples="The site is silent.")
    service = worst.service
    SeverityFactory(service=service, rank=2, name="Degraded")
    workflow = WorkflowFactory(name=f"Workflow of {service}")
    for order, (name, state) in enumerate(
        [("Detection", "open"), ("Assessment", "acknowledged"), ("Recovery", "mitigated"), ("Looking back", "resolved")]
    ):
        Stage.objects.create(
            workflow=workflow,
            order=order,
            name=name,
            core_state=state,
            limit=timedelta(minutes=5),
            checklist=CHECKLIST if order == 1 else "",
        )
    ProfileFactory(service=service, workflow=workflow, gates=GATES)
    schedule = OnCallScheduleFactory(name=f"On call of {service}", service=service)
    layer_of(schedule, ContactFactory(name=f"Olga of {service}", phone="+49 40 123456", email="olga@example.org"))
    policy = PolicyFactory(service=service)
    rule(policy, (timedelta(0), [schedule]), (timedelta(minutes=5), [ContactFactory(name=f"Second of {service}")]))
    return worst


def declared(by: User, title: str = "Orders cannot be saved", **values: Any) -> Incident:
    return declare(title, by=by, **values)


def commanded_by(incident: Incident, user: User, *, by: User) -> Contact:
    """This person commands the incident."""
    contact = Contact.objects.filter(user=user).first() or with_contact(user)
    people.assign(incident, IncidentRole.COMMANDER, primary=contact, by=by)
    return contact


def url(incident: Incident, rest: str = "") -> str:
    return f"/incidents/incident/{incident.pk}/{rest}"


def press(client: Client, incident: Incident, name: str, **fields: Any) -> Any:
    """The confirm page of a button and its POST, as a person does it."""
    shown = page_of(client.get(url(incident, f"do/{name}/"))).post.fields
    hidden = {name: shown[name] for name in ("request_key", "seen") if name in shown}
    return client.post(url(incident, f"do/{name}/"), {**hidden, **fields})


def press_now(client: Client, incident: Incident, name: str) -> Any:
    """A button that runs at once, from the page where it stands."""
    page = page_of(client.get(url(incident)))
    form = next(form for form in page.forms if form.action.endswith(f"/do/{name}/"))
    return client.post(form.action, form.fields)


def read(client: Client, incident: Incident, rest: str = "") -> Page:
    response = client.get(url(incident, rest))
    assert response.status_code == 200, response.status_code
    return page_of(response)
