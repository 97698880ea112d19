"""Action items: added, changed, done, and their story on the timeline."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import time_machine
from auditlog.models import LogEntry
from django.core.exceptions import PermissionDenied
from django.urls import reverse

from core.links import list_url, page_url
from core.roles import Role
from incidents.actions import items as actions
from incidents.exceptions import IncidentError
from incidents.models import ActionItem
from tests.contacts.factories import ContactFactory
from tests.factories import PersonFactory, browser
from tests.incidents.factories import ActionItemFactory, IncidentFactory
from tests.pages import page_of

pytestmark = pytest.mark.django_db
TODAY = date(2026, 3, 10)


def said(incident):
    return [entry.text for entry in incident.timeline.all()]


def test_from_added_to_done():
    by, owner = PersonFactory(role=Role.RESPONDER), ContactFactory(name="Ann")
    incident = IncidentFactory()
    item = actions.add(incident, text=" Watch  the free space ", owner=owner, due_on=TODAY, by=by)
    item.reminded_on = TODAY
    item.save()
    actions.edit(item, text="Watch the free space", owner=owner, due_on=TODAY + timedelta(days=7), by=by)
    item.refresh_from_db()
    assert item.reminded_on is None  # it is reminded of anew
    for _ in range(2):
        actions.done(item, by=by)
    item.refresh_from_db()
    assert (item.done_by, item.done_at is None) == (by, False)
    for _ in range(2):
        actions.reopen(item, by=by)
    assert said(incident) == [
        "Action item added: Watch the free space (owner Ann, due 2026-03-10)",
        "Action item changed: Watch the free space (owner Ann, due 2026-03-17) (was: Watch the free space (owner Ann, "
        "due 2026-03-10))",
        "Action item done: Watch the free space",
        "Action item opened again: Watch the free space",
    ]
    with pytest.raises(IncidentError, match="what is to be done"):
        actions.add(incident, text=" ", by=by)
    with pytest.raises(PermissionDenied):
        actions.remove(item, by=by)
    actions.remove(item, by=PersonFactory(role=Role.ADMINISTRATOR))
    assert not ActionItem.objects.exists()


def test_managers_read_and_change_nothing():
    item, manager = ActionItemFactory(), PersonFactory(role=Role.MANAGER)
    for act in (actions.done, actions.reopen, actions.remove):
        with pytest.raises(PermissionDenied):
            act(item, by=manager)
    with pytest.raises(PermissionDenied):
        actions.add(item.incident, text="A", by=manager)
    client = browser(manager)
    assert item.text in page_of(client.get(page_url(item))).text
    assert client.post(page_url(item, "do", "done")).status_code == 403
    assert client.get(reverse("admin:incidents_actionitem_add")).status_code == 403


def test_of_a_confidential_incident_nothing_leaks():
    item = ActionItemFactory(incident=IncidentFactory(confidential=True, number="INC-HIDDEN-1"), text="SECRET")
    by = PersonFactory(role=Role.RESPONDER)
    client = browser(by)
    assert "SECRET" not in page_of(client.get(list_url(ActionItem))).text
    for page in ("detail", "change", "history"):
        assert client.get(page_url(item, page)).status_code in (302, 404)
        assert "SECRET" not in client.get(page_url(item, page)).content.decode()
    with pytest.raises(PermissionDenied):
        actions.done(item, by=by)
    address = reverse("admin:incidents_actionitem_add")
    assert "INC-HIDDEN" not in client.get(address, {"incident": item.incident_id}).content.decode()
    text = page_of(client.post(address, {"number": "INC-HIDDEN-1", "text": "A"})).text
    assert "There is no incident INC-HIDDEN-1." in text
    actions.done(item, by=PersonFactory(role=Role.ADMINISTRATOR))
    assert not LogEntry.objects.filter(object_repr__contains="SECRET").exists()
    assert not LogEntry.objects.filter(changes__icontains="SECRET").exists()


def test_added_and_edited_on_pages():
    incident = IncidentFactory()
    client = browser(PersonFactory(role=Role.RESPONDER))
    address = f"{reverse('admin:incidents_actionitem_add')}?incident={incident.pk}"
    page = page_of(client.get(address))
    assert page.post.fields["number"] == incident.number
    answer = client.post(address, {**page.post.fields, "text": "Buy a disk", "due_on": "2026-03-10"})
    item = ActionItem.objects.get()
    assert answer["Location"] == item.get_absolute_url()
    assert item.incident == incident
    edit = page_url(item, "change")
    values = page_of(client.get(edit)).post.fields
    assert "number" not in values
    assert client.post(edit, {**values, "text": "Buy two disks"}).status_code == 302
    button = next(form for form in page_of(client.get(page_url(item))).forms if "/do/done/" in form.action)
    assert client.post(button.action, button.fields).status_code == 302
    item.refresh_from_db()
    assert item.text == "Buy two disks"
    assert item.done_at
    assert len(said(incident)) == 3


@time_machine.travel("2026-03-10 12:00+00:00", tick=False)
def test_filters_of_the_list():
    person = PersonFactory(role=Role.MANAGER)
    mine = ContactFactory(user=person)
    ActionItemFactory(text="Late", due_on=TODAY - timedelta(days=1))
    ActionItemFactory(text="Mine", owner=mine, due_on=TODAY)
    ActionItemFactory(text="Over", done_at="2026-03-01T00:00Z", due_on=TODAY - timedelta(days=20))
    client = browser(person)

    def shown(**query):
        return {row.text for row in client.get(list_url(ActionItem), query).context["cl"].result_list}

    assert shown() == {"Late", "Mine", "Over"}
    assert shown(state="open") == {"Late", "Mine"}
    assert shown(state="overdue") == {"Late"}
    assert shown(state="done") == {"Over"}
    assert shown(whose="mine") == {"Mine"}
    assert shown(whose="nobody") == {"Late", "Over"}
    text = page_of(client.get(list_url(ActionItem))).text
    for word in ("Overdue", "Due today", "Done"):
        assert word in text
