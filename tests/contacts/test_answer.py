"""The link in a page: it leads to a button, the button acknowledges, nothing else does."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from contacts import answer
from contacts.models import Escalation, Notification
from tests.contacts.conftest import Mailbox, send_due
from tests.contacts.factories import ChannelFactory, ContactFactory, EscalationFactory, NotificationFactory
from tests.pages import counted, page_of

State = Escalation.State


@pytest.fixture
def page(db: None, settings) -> Notification:
    settings.PORTAL_URL = "https://ops.example.org"
    contact = ContactFactory(name="Ann")
    return NotificationFactory(
        contact=contact,
        escalation=EscalationFactory(title="The shop does not answer"),
        body="Secret details",
        urgency=Notification.Urgency.PAGE,
    )


def path_of(notification: Notification) -> str:
    return answer.link_for(notification).removeprefix("https://ops.example.org")


@pytest.mark.usefixtures("outbox")
def test_a_mail_that_a_real_server_got_leads_to_the_button_that_acknowledges(mailbox: Mailbox):
    escalation = EscalationFactory()
    NotificationFactory(
        contact=ContactFactory(name="Ann"), escalation=escalation, urgency=Notification.Urgency.PAGE, url="/x/"
    )
    later = NotificationFactory(escalation=escalation, due_at=timezone.now() + timedelta(minutes=5))
    send_due()
    found = re.search(r"https://ops\.example\.org(/answer/\S+)", mailbox.mails[0].get_content())
    assert found
    client = Client(enforce_csrf_checks=True)
    for ask in (client.get, client.head, client.options):
        ask(found[1])
        escalation.refresh_from_db()
        assert escalation.state == State.ACTIVE
    assert client.post(found[1]).status_code == 403, "without the token of the page"
    form = page_of(client.get(found[1])).post
    assert client.post(found[1], form.fields).status_code == 302
    escalation.refresh_from_db()
    assert escalation.state == State.ACKNOWLEDGED
    assert escalation.acknowledged_by is not None and escalation.acknowledged_by.name == "Ann"
    later.refresh_from_db()
    assert later.state == Notification.State.CANCELLED


def test_the_page_says_what_is_wrong_and_no_more(page: Notification):
    client = Client()
    client.get(path_of(page))
    with counted() as queries:
        response = client.get(path_of(page))
    text = page_of(response).text
    assert "The shop does not answer" in text and "Secret details" not in text
    assert len(queries) <= 2
    assert response["Cache-Control"].startswith("max-age=0")
    assert "noindex" in response["X-Robots-Tag"]


def test_whoever_is_second_reads_who_was_first(page: Notification):
    client = Client()
    other = NotificationFactory(contact=ContactFactory(name="Bo"), escalation=page.escalation)
    assert client.post(path_of(page)).status_code == 302
    assert client.post(path_of(other), follow=True).status_code == 200
    text = page_of(client.get(path_of(other))).text
    assert "Acknowledged by Ann" in text
    page.escalation.refresh_from_db()
    assert page.escalation.acknowledged_by.name == "Ann"


def test_what_is_over_has_no_button(page: Notification):
    Escalation.objects.update(state="stopped", due_at=None, ended_at=timezone.now(), ending="resolved")
    response = Client().get(path_of(page))
    assert "This is over" in page_of(response).text
    assert not page_of(response).forms


def test_old_and_forged_links_are_told_apart(page: Notification):
    path = path_of(page)
    client = Client()
    with time_machine.travel(timezone.now() + timedelta(days=7, seconds=5), tick=False):
        response = client.get(path)
        assert (response.status_code, client.post(path).status_code) == (410, 410)
        assert "has run out" in page_of(response).text
    number, stamp, signature = path.removeprefix("/answer/").rstrip("/").split(".")
    other = NotificationFactory(contact=page.contact, escalation=EscalationFactory())
    for forged in (f"{other.pk}.{stamp}.{signature}", f"{number}.{stamp}.x", "x", f"{number}.zz.{signature}"):
        assert client.get(f"/answer/{forged}/").status_code == 404
    Notification.objects.all().delete()
    assert client.get(path).status_code == 404
    assert Escalation.objects.filter(state=State.ACTIVE).count() == 2


def test_messages_that_nobody_could_answer_have_no_link(page: Notification, settings):
    assert answer.link_for(NotificationFactory(contact=page.contact)) == ""
    assert (
        answer.link_for(NotificationFactory(contact=None, channel=ChannelFactory(), escalation=page.escalation)) == ""
    )
    settings.PORTAL_URL = ""
    assert answer.link_for(page) == ""


@pytest.mark.parametrize("ending", ["replaced", "reassigned"])
def test_an_old_link_answers_what_runs_in_its_place(page: Notification, ending):
    old = page.escalation
    old.state, old.due_at, old.ended_at, old.ending = State.STOPPED, None, timezone.now(), ending
    old.acknowledged_at = timezone.now()
    old.save()
    new = EscalationFactory(subject_type=old.subject_type, subject_id=old.subject_id, title="It got worse")
    other = EscalationFactory(title="Something else")
    text = page_of(Client().get(path_of(page))).text
    assert "It got worse" in text and "This is over" not in text and "Nobody more is called" not in text
    assert Client().post(path_of(page)).status_code == 302
    new.refresh_from_db(), other.refresh_from_db()
    assert (new.state, new.acknowledged_by, other.state) == (State.ACKNOWLEDGED, page.contact, State.ACTIVE)
    assert "Acknowledged by Ann" in page_of(Client().get(path_of(page))).text


def test_what_was_resolved_answers_nothing_that_came_later(page: Notification):
    old = page.escalation
    Escalation.objects.filter(pk=old.pk).update(
        state="stopped", due_at=None, ended_at=timezone.now(), ending="resolved"
    )
    new = EscalationFactory(subject_type=old.subject_type, subject_id=old.subject_id)
    Client().post(path_of(page))
    new.refresh_from_db()
    assert new.state == State.ACTIVE


def test_the_link_of_a_contact_that_is_switched_off_answers_nothing(page: Notification):
    page.contact.active = False
    page.contact.save()
    assert Client().get(path_of(page)).status_code == 404
    assert Client().post(path_of(page)).status_code == 404
    page.escalation.refresh_from_db()
    assert page.escalation.state == State.ACTIVE
