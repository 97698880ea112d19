"""The directory, the send log and what messages go through, as pages."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from contacts import confirming
from contacts.actions import people as actions
from contacts.exceptions import ContactsError
from contacts.models import Contact, Notification, QueueEntry, Way
from core.links import list_url, page_url
from core.roles import Role
from tests.contacts.factories import (
    ChannelFactory,
    ContactFactory,
    EscalationFactory,
    NotificationFactory,
    OnCallScheduleFactory,
    ProviderFactory,
    QueueFactory,
    layer_of,
    role_of,
    team_of,
)
from tests.factories import PersonFactory, browser
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db
State = Notification.State


def press(client: Client, obj: object, name: str, **data: str):
    """A button without a confirm page."""
    key = "5a3c2f0e-6d0c-4d0c-9a3a-0f9d1f1d1f1d"
    return client.post(page_url(obj, "do", name), {"request_key": key, **data}, follow=True)  # type: ignore[arg-type]


@pytest.fixture
def operator() -> Client:
    return browser(PersonFactory(role=Role.OPERATOR, username="olga"))


@pytest.fixture
def manager() -> Client:
    return browser(PersonFactory(role=Role.MANAGER))


# --- contacts --------------------------------------------------------------------------------------------------------


def test_a_page_dials(manager: Client):
    contact = ContactFactory(name="Ann", phone="+49 (0) 40 123", email="ann@example.org", sms="")
    team_of(contact, name="Database")
    role_of(ContactFactory(), contact, name="Technical Lead")
    response = manager.get(contact.get_absolute_url())
    page = page_of(response)
    assert 'href="tel:+4940123"' in response.content.decode()
    assert "mailto:ann@example.org" in page.links
    assert "Still missing: SMS." in page.text
    assert "Database Primary" in page.text and "Technical Lead Backup" in page.text


def test_the_list_flags_what_is_missing(manager: Client):
    gap = ContactFactory(name="Gap", email="a@example.org", phone="")
    nobody = ContactFactory(name="Nobody", email="")
    fine = ContactFactory(name="Fine", confirmed_at=timezone.now())
    old = ContactFactory(name="Old", confirmed_at=timezone.now() - timedelta(days=100))

    def shown(query: str = "") -> set[Contact]:
        return set(manager.get(list_url(Contact, query)).context["cl"].result_list)

    assert shown() == {gap, nobody, fine, old}
    assert shown("missing=some") == {gap, nobody}
    assert shown("missing=all") == {nobody}
    assert shown("confirmed=stale") == {gap, nobody, old}
    assert shown("confirmed=never") == {gap, nobody}
    text = page_of(manager.get(list_url(Contact))).text
    assert text.count("Missing") >= 3


def test_edit_turns_placeholders_into_gaps(operator: Client):
    contact = ContactFactory(name="Ann")
    form = next(
        form for form in page_of(operator.get(page_url(contact, "change"))).forms if "name" in form.fields
    ).fields
    form |= {"ways-TOTAL_FORMS": "3"}
    form |= {"ways-1-kind": "phone", "ways-1-address": "[Insert phone number]", "ways-1-rank": "2", "ways-1-label": ""}
    form |= {"ways-2-kind": "email", "ways-2-address": "nonsense", "ways-2-rank": "3", "ways-2-label": ""}
    form |= {"ways-1-contact": str(contact.pk), "ways-2-contact": str(contact.pk), "ways-1-id": "", "ways-2-id": ""}
    refused = operator.post(page_url(contact, "change"), form)
    assert "is not an email address" in page_of(refused).text
    form["ways-2-address"] = "ann@example.com"
    assert operator.post(page_url(contact, "change"), form).status_code == 302
    assert list(contact.ways.order_by("rank").values_list("kind", "address"))[1:] == [
        ("phone", ""),
        ("email", "ann@example.com"),
    ]


def test_somebody_confirms(operator: Client, manager: Client):
    contact = ContactFactory()
    assert press(manager, contact, "confirm").status_code == 403
    response = press(operator, contact, "confirm")
    contact.refresh_from_db()
    assert contact.confirmed_by is not None and contact.confirmed_by.username == "olga"
    assert "Confirmed just now by olga" in page_of(response).text


def test_everybody_may_test_their_own_pager_and_responders_any(manager: Client, operator: Client):
    person = PersonFactory(role=Role.MANAGER)
    own = ContactFactory(name="Me", user=person, email="me@example.org", sms="+49 1")
    other = ContactFactory(name="Other")
    mine = browser(person)
    assert "Test my pager" in page_of(mine.get(own.get_absolute_url())).text
    assert press(mine, other, "test").status_code == 403
    response = press(mine, own, "test")
    assert Notification.objects.filter(contact=own).count() == 2
    press(mine, own, "test")
    assert Notification.objects.filter(contact=own).count() == 2, "a double click sends once"
    text = page_of(response).text
    assert "Email, me@example.org Waiting" in text and "SMS, +49 1 Waiting" in text
    assert mine.get(page_url(own, "live")).status_code == 200
    Notification.objects.update(state=State.SENT, due_at=None, sent_at=timezone.now(), message="Taken.")
    live = mine.get(page_url(own, "live"))
    assert live.status_code == 286 and "Sent Taken." in page_of(live).text
    press(operator, other, "test")
    assert Notification.objects.filter(contact=other).count() == 1
    Way.objects.filter(contact=other).delete()
    Notification.objects.all().delete()
    assert "has no address yet" in page_of(press(operator, other, "test")).text


def test_who_is_in_nothing_sees_nothing():
    client = browser(PersonFactory())
    own = ContactFactory(user=PersonFactory())
    assert client.get(own.get_absolute_url()).status_code == 403
    assert press(client, own, "test").status_code == 403


# --- reminders -------------------------------------------------------------------------------------------------------


def test_whoever_was_not_confirmed_for_long_is_asked_once_a_period(settings):
    settings.EMAIL_HOST, settings.CONTACTS_CONFIRM_DAYS = "mail.example.org", 90
    admin = ContactFactory(user=PersonFactory(role=Role.ADMINISTRATOR), confirmed_at=timezone.now())
    ann = ContactFactory(name="Ann", confirmed_at=timezone.now() - timedelta(days=91))
    ContactFactory(name="Off", active=False)
    ContactFactory(name="AWS", kind="vendor")
    ContactFactory(name="Hetzner", kind="provider")
    assert confirming.remind_due() == 3
    assert confirming.remind_due() == 0
    (to_ann,) = Notification.objects.filter(contact=ann)
    assert (to_ann.way, to_ann.url) == ("email", ann.get_absolute_url())
    (to_admin,) = Notification.objects.filter(contact=admin)
    assert "2 outside contacts to confirm" in to_admin.subject
    assert "AWS (Vendor)" in to_admin.body and "Hetzner (Provider)" in to_admin.body
    Contact.objects.update(reminded_at=timezone.now() - timedelta(days=91))
    assert confirming.remind_due() == 3


@pytest.mark.parametrize(("host", "days"), [("", 90), ("mail.example.org", 0)])
def test_nobody_is_asked_where_it_is_switched_off(settings, host, days):
    settings.EMAIL_HOST, settings.CONTACTS_CONFIRM_DAYS = host, days
    ContactFactory()
    assert confirming.remind_due() == 0
    assert not Notification.objects.exists()


# --- teams, roles, queues --------------------------------------------------------------------------------------------


def test_teams_and_roles_say_who_is_first(manager: Client):
    team = team_of(ContactFactory(name="Ann", phone="+49 40 1"), ContactFactory(name="Bo"))
    text = page_of(manager.get(team.get_absolute_url())).text
    assert "Primary Ann" in text and "Backup Bo" in text
    assert "Nobody is in it" in page_of(manager.get(role_of().get_absolute_url())).text


def test_somebody_takes_what_waits_in_a_queue(operator: Client, manager: Client):
    queue = QueueFactory()
    entry = QueueEntry.objects.create(queue=queue, escalation=EscalationFactory(title="Slow search"))
    assert press(manager, entry, "take").status_code == 403
    assert "Take it" not in page_of(manager.get(queue.get_absolute_url())).text
    page = page_of(operator.get(queue.get_absolute_url()))
    assert "Take it : Slow search" in page.text or "Take it: Slow search" in page.text
    assert operator.post(page.post.action, page.post.fields).status_code == 302
    entry.refresh_from_db()
    assert entry.taken_by is not None and entry.taken_by.username == "olga"
    with pytest.raises(ContactsError, match="olga has taken it already"):
        actions.take(entry, by=PersonFactory())


# --- messages --------------------------------------------------------------------------------------------------------


def test_a_message_shows_its_tries_and_can_be_tried_again(operator: Client, manager: Client):
    row = NotificationFactory(
        state="failed", due_at=None, tries=7, message="Nobody answers.", escalation=EscalationFactory()
    )
    row.attempts.create(way="phone", through="Twilio", address="+49 40 1", taken=False, message="Busy.", seconds=2)
    text = page_of(manager.get(row.get_absolute_url())).text
    assert "Nobody answers." in text and "Busy." in text and "Twilio" in text
    assert press(manager, row, "try_again").status_code == 403
    press(operator, row, "try_again")
    row.refresh_from_db()
    assert (row.state, row.tries) == (State.PENDING, 0)
    assert operator.get(page_url(row, "live")).status_code == 200


def test_a_channel_is_tried(manager: Client):
    channel = ChannelFactory()
    admin = browser(PersonFactory(role=Role.ADMINISTRATOR))
    assert press(manager, channel, "test").status_code == 403
    press(admin, channel, "test")
    press(admin, channel, "test")
    row = Notification.objects.get(channel=channel)
    assert "Test message" in row.subject
    by_hand = ChannelFactory(kind="hand", address="040 1")
    assert "Send a test" not in page_of(admin.get(by_hand.get_absolute_url())).text
    assert "Missing" in page_of(admin.get(ChannelFactory(address="").get_absolute_url())).text


def test_a_provider_is_tried_and_what_fails_is_said(monkeypatch: pytest.MonkeyPatch, manager: Client):
    monkeypatch.setenv("OPS_SECRET_TEST_SMS", "json://127.0.0.1:1/canary-12345")
    row = ProviderFactory()
    person = PersonFactory(role=Role.ADMINISTRATOR)
    ContactFactory(user=person, sms="+49 170 1")
    admin = browser(person)
    assert manager.get(page_url(row, "do", "test")).status_code == 403
    page = page_of(admin.get(page_url(row, "do", "test")))
    assert page.post.fields["address"] == "+49 170 1"
    text = page_of(admin.post(page_url(row, "do", "test"), page.post.fields)).text
    assert "127.0.0.1 is an internal address" in text and "canary" not in text


def test_pages_cost_the_same_with_many_rows(manager: Client):
    contact = ContactFactory()
    channel = ChannelFactory()
    team, role, queue = team_of(contact), role_of(contact), QueueFactory()
    message = NotificationFactory(contact=contact)

    def cost() -> list[int]:
        counts = []
        for obj in (contact, channel, team, role, queue, message):
            with counted() as queries:
                assert manager.get(obj.get_absolute_url()).status_code == 200
            counts.append(len(queries))
        return counts

    def more() -> None:
        for _ in range(5):
            other = ContactFactory(sms="+49 1")
            team.members.create(contact=other)
            role.holders.create(contact=other)
            escalation = EscalationFactory()
            queue.entries.create(escalation=escalation)
            for taken in (None, timezone.now()):
                QueueEntry.objects.get_or_create(
                    queue=queue, escalation=EscalationFactory(), defaults={"taken_at": taken}
                )
            NotificationFactory(contact=contact, sent_with=message, state="sent", due_at=None, sent_at=timezone.now())
            NotificationFactory(contact=None, channel=channel)
            message.attempts.create(way="sms", through="x", taken=False, seconds=1)

    cost()
    more()
    before = cost()
    more()
    assert cost() == before


def test_the_form_keeps_who_was_on_call_before_it_switches_somebody_off(operator: Client):
    ann, schedule = (
        ContactFactory(name="Ann"),
        OnCallScheduleFactory(recorded_until=timezone.now() - timedelta(hours=1)),
    )
    layer_of(schedule, ann)
    forms = page_of(operator.get(page_url(ann, "change"))).forms
    fields = next(form for form in forms if "name" in form.fields).fields
    fields.pop("active")
    assert operator.post(page_url(ann, "change"), fields).status_code == 302
    ann.refresh_from_db()
    assert not ann.active
    assert schedule.records.get().contact == ann
