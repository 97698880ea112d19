"""Messages go out by real SMTP and HTTP: in what order, by which way, how often, and what is written down."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from contacts import claims, notifying, results, sending
from contacts.actions import messages as actions
from contacts.exceptions import ContactsError
from contacts.models import Attempt, Notification, Provider, Way
from contacts.senders.services import Service
from contacts.wording import message_of
from core.roles import Role
from operations.models import Event
from tests.contacts.conftest import LOOPBACK, Mailbox, Receiver, send_due
from tests.contacts.factories import ChannelFactory, ContactFactory, EscalationFactory, NotificationFactory
from tests.contacts.factories import ProviderFactory as PlainProviderFactory
from tests.factories import PersonFactory

pytestmark = pytest.mark.usefixtures("outbox")
State, PAGE = Notification.State, Notification.Urgency.PAGE
CANARY = "c4nary-t0ken-98765"


def due_again() -> None:
    """As if every pause were over."""
    Notification.objects.filter(state=State.PENDING).update(due_at=timezone.now())
    sending._passed_over.clear()


def provider(monkeypatch: pytest.MonkeyPatch, url: str, **values: object) -> Provider:
    name = f"OPS_SECRET_TEST_{Provider.objects.count()}"
    monkeypatch.setenv(name, url)
    return PlainProviderFactory(url_ref=f"env:{name}", **{"allowed_networks": LOOPBACK, **values})


# --- email -----------------------------------------------------------------------------------------------------------


def test_a_message_arrives_and_is_written_down(mailbox: Mailbox):
    row = NotificationFactory(contact=ContactFactory(email="ann@example.org"), url="/x/1/", urgency=PAGE)
    send_due()
    (mail,) = mailbox.mails
    assert (mail["to"], mail["subject"]) == ("ann@example.org", "The shop does not answer")
    assert "Look at it." in mail.get_content()
    assert "https://ops.example.org/x/1/" in mail.get_content()
    assert mail["message-id"] == f"<notification-{row.pk}@example.org>"
    row.refresh_from_db()
    assert (row.state, row.due_at, row.claimed_until) == (State.SENT, None, None)
    attempt = row.attempts.get()
    assert attempt.taken and attempt.address == "ann@example.org" and attempt.through == "mail server 127.0.0.1"
    send_due()
    assert len(mailbox.mails) == 1


def test_many_go_through_one_connection_and_fast(mailbox: Mailbox):
    """Time of this process, which is also the mail server: the machine may be busy with other tests."""
    NotificationFactory()  # whatever is loaded at the first is loaded
    send_due()
    for _ in range(200):
        NotificationFactory()
    began = time.process_time()
    send_due()
    took = time.process_time() - began
    assert len(mailbox.mails) == 201
    assert len(mailbox.sessions) <= 1 + sending.THREADS_A_LANE
    assert took < 4, f"{200 / took:.0f} a second"
    print(f"{200 / took:.0f} messages a second of processor time")


def test_a_server_that_was_restarted_is_reached_again_in_the_same_batch(mailbox: Mailbox, monkeypatch):
    from contacts.routes import mail_server
    from contacts.senders.base import Message
    from contacts.senders.smtp import Smtp

    sender = Smtp(mail_server())
    sender.send(Message("a", "A", "Text", "A"), "ann@example.org")
    assert sender._session is not None and sender._session.sock is not None
    sender._session.sock.shutdown(2)
    sender.send(Message("b", "B", "Text", "B"), "ann@example.org")
    sender.close()
    assert mailbox.subjects == ["A", "B"]


def test_a_subject_cannot_add_headers(mailbox: Mailbox):
    with transaction.atomic():
        notifying.notify_contact(
            ContactFactory(email="ann@example.org"),
            key="k",
            subject="Hello\r\nBcc: eve@example.org",
            body="x\r\n.\r\ny",
        )
    send_due()
    assert mailbox.recipients == ["ann@example.org"]
    assert mailbox.mails[0]["bcc"] is None
    assert mailbox.subjects == ["Hello Bcc: eve@example.org"]


def test_letters_may_be_in_any_language(mailbox: Mailbox):
    body = "Störung im Lager — ∆\n" + "x" * 3000
    subject = "Störung: Lager steht. " * 12 + "Ende"
    NotificationFactory(contact=ContactFactory(email="ann@bücher.example"), subject=subject, body=body)
    NotificationFactory(contact=ContactFactory(email="Ann <ann@example.org>"))
    send_due()
    (mail,) = mailbox.mails
    assert (mail["subject"], mailbox.recipients) == (subject, ["ann@xn--bcher-kva.example"])
    assert body in mail.get_content().replace("\r\n", "\n")
    assert "is not an email address" in Attempt.objects.get(taken=False).message


# --- one after the other ---------------------------------------------------------------------------------------------


def test_when_a_way_fails_the_next_is_tried_at_once(mailbox: Mailbox, receiver: Receiver, monkeypatch):
    provider(monkeypatch, f"json://{receiver.place}/{CANARY}/{{to}}", name="First SMS")
    provider(monkeypatch, f"json://127.0.0.1:1/{CANARY}", name="Second SMS", rank=2)
    receiver.status = 500
    contact = ContactFactory(sms="+49 170 123", email="ann@example.org")
    row = NotificationFactory(contact=contact, way="sms", urgency=PAGE)
    began = time.monotonic()
    send_due()
    assert time.monotonic() - began < 15
    tries = [(attempt.through, attempt.way, attempt.taken) for attempt in row.attempts.all()]
    assert tries == [
        ("First SMS", "sms", False),
        ("Second SMS", "sms", False),
        ("mail server 127.0.0.1", "email", True),
    ]
    assert receiver.got[0][0] == f"/{CANARY}/+49170123"
    row.refresh_from_db()
    assert (row.state, row.tries) == (State.SENT, 0)


_patient = Service.__init__


def _impatient(self: Service, *args: object, **values: object) -> None:
    """A second and a half instead of ten."""
    _patient(self, *args, **values, timeout_s=1.5)  # type: ignore[arg-type]


def test_a_provider_that_hangs_costs_one_try_and_holds_up_nobody_else(
    mailbox: Mailbox, receiver: Receiver, monkeypatch
):
    monkeypatch.setattr("contacts.senders.services.Service.__init__", _impatient)
    receiver.delay_s = 8
    provider(monkeypatch, f"json://{receiver.place}/{CANARY}")
    people = [ContactFactory(sms="+49 1", email=f"sms-{n}@example.org") for n in range(8)]
    for contact in people:
        NotificationFactory(contact=contact, way="sms", urgency=PAGE)
    by_mail = NotificationFactory(contact=ContactFactory(email="mail@example.org"))
    began = time.monotonic()
    begun = sending.start_due()
    while not Notification.objects.filter(pk=by_mail.pk, state=State.SENT).exists():
        assert time.monotonic() - began < 5, "email waits for the SMS"
        time.sleep(0.05)
    for one in begun:
        one.result(60)
    assert time.monotonic() - began < 30, "nobody waited for more than one try"
    assert Notification.objects.filter(state=State.SENT).count() == 9
    assert Attempt.objects.filter(message__startswith="Passed over").exists()


def test_the_way_that_was_asked_for_comes_first(mailbox: Mailbox, receiver: Receiver, monkeypatch):
    provider(monkeypatch, f"json://{receiver.place}/push", kind="push")
    contact = ContactFactory(email="ann@example.org", push="ann")
    with transaction.atomic():
        rows = notifying.notify_contact(contact, key="k", subject="S", ways=("push", "email"))
        assert notifying.notify_contact(contact, key="k", subject="Other", ways=("push", "email")) == rows
    send_due()
    assert [row.key for row in rows] == ["k:push", "k:email"]
    assert len(receiver.got) == 1 and len(mailbox.mails) == 1


def test_somebody_without_any_address_is_given_up_at_once(mailbox: Mailbox):
    admin = ContactFactory(email="root@example.org", user=PersonFactory(role=Role.ADMINISTRATOR))
    row = NotificationFactory(contact=ContactFactory(name="Bo", sms=""), urgency=PAGE)
    send_due()
    row.refresh_from_db()
    assert (row.state, row.message) == (
        State.FAILED,
        "Bo has no address. Add one on the page of the contact, then try again.",
    )
    event = Event.objects.get(name="notification.failed")
    assert event.data["notification"] == row.pk
    send_due()
    assert mailbox.subjects == ["Bo was not reached"]
    assert Notification.objects.get(contact=admin).urgency == Notification.Urgency.NEWS


def test_after_all_pauses_it_is_given_up_and_can_be_tried_again(mailbox: Mailbox):
    mailbox.refuses["ann@example.org"] = "550 No such user"
    row = NotificationFactory(contact=ContactFactory(email="ann@example.org"))
    pauses = []
    for _ in range(len(results.PAUSES) + 1):
        due_again()
        send_due()
        row.refresh_from_db()
        if row.due_at:
            pauses.append((row.due_at - timezone.now()).total_seconds())
    assert row.state == State.FAILED and row.attempts.count() == len(results.PAUSES) + 1
    assert row.message == "The mail server refused ann@example.org: 550 No such user."
    for pause, planned in zip(pauses, results.PAUSES, strict=True):
        assert planned * 0.85 < pause < planned * 1.15
    assert Event.objects.filter(name="notification.failed").count() == 1
    mailbox.refuses.clear()
    actions.try_again(row)
    send_due()
    row.refresh_from_db()
    assert row.state == State.SENT
    with pytest.raises(ContactsError, match="Only what was given up"):
        actions.try_again(row)


@pytest.mark.parametrize(("over", "word"), [("stopped", "resolved"), ("acknowledged", "acknowledged")])
def test_what_is_over_is_not_sent_again(mailbox: Mailbox, over: str, word: str):
    now = timezone.now()
    ends = {"ended_at": now, "ending": "resolved"} if over == "stopped" else {"acknowledged_at": now}
    about = EscalationFactory(state=over, due_at=None, **ends)
    row = NotificationFactory(state=State.FAILED, due_at=None, urgency=PAGE, escalation=about)
    with pytest.raises(ContactsError, match=f"is {word}, so nobody is told of it any more"):
        actions.try_again(row)
    send_due()
    row.refresh_from_db()
    assert row.state == State.FAILED and mailbox.mails == []


def test_administrators_that_cannot_be_reached_call_nobody_again(mailbox: Mailbox):
    ContactFactory(sms="", user=PersonFactory(is_superuser=True))
    NotificationFactory(contact=ContactFactory(sms=""), urgency=PAGE)
    for _ in range(4):
        send_due()
    assert Notification.objects.count() == 2
    assert set(Notification.objects.values_list("state", flat=True)) == {State.FAILED}


def test_without_a_provider_the_sentence_says_so(mailbox: Mailbox):
    row = NotificationFactory(contact=ContactFactory(phone="+49 40 1"))
    send_due()
    row.refresh_from_db()
    assert row.state == State.PENDING and row.tries == 1
    assert "No provider for this way (phone call) is switched on." in row.message


# --- as one message ----------------------------------------------------------------------------------------------


def test_what_is_overdue_for_one_person_is_one_message(mailbox: Mailbox):
    ann, bo = ContactFactory(email="ann@example.org"), ContactFactory(email="bo@example.org")
    for number in range(30):
        NotificationFactory(contact=ann, subject=f"News {number}")
    page = NotificationFactory(contact=ann, subject="Page", urgency=PAGE, escalation=EscalationFactory())
    NotificationFactory(contact=bo)
    send_due()
    assert sorted(mailbox.recipients) == ["ann@example.org", "bo@example.org"]
    mail = next(mail for mail in mailbox.mails if mail["to"] == "ann@example.org")
    assert mail["subject"] == "Page (and 30 more messages)"
    assert "News 0" in mail.get_content() and "News 29" in mail.get_content()
    assert "/answer/" in mail.get_content()
    carried = Notification.objects.filter(contact=ann).exclude(pk=page.pk)
    assert {row.sent_with_id for row in carried} == {page.pk}
    assert {row.state for row in carried} == {State.SENT}
    assert Attempt.objects.count() == 2


def test_of_very_many_none_is_left_out(mailbox: Mailbox):
    ann, about = ContactFactory(email="ann@example.org"), EscalationFactory()
    for number in range(60):
        NotificationFactory(contact=ann, subject=f"News {number}.", body=f"Body {number}.", url="")
    NotificationFactory.create_batch(2, contact=ann, subject="Last page", urgency=PAGE, escalation=about)
    send_due()
    (mail,) = mailbox.mails
    assert mail["subject"] == "Last page (and 61 more messages)"
    said = mail.get_content()
    assert "And 22 more messages, in short; the portal has them in full:" in said
    assert all(f"News {number}." in said for number in range(60))
    assert sum(f"Body {number}." in said for number in range(60)) == 38
    assert len(message_of(list(Notification.objects.all())).items) == 62


def test_a_storm_is_held_back_and_goes_as_one(mailbox: Mailbox, settings):
    settings.NOTIFY_MAX = 4
    ann = ContactFactory(email="ann@example.org")
    for number in range(7):
        NotificationFactory(contact=ann, subject=f"Page {number}", urgency=PAGE)
        send_due()
    assert mailbox.subjects == [f"Page {number}" for number in range(4)]
    waiting = Notification.objects.filter(state=State.PENDING)
    assert waiting.count() == 3
    assert all("Held back" in row.message for row in waiting)
    assert all(timedelta(minutes=9) < row.due_at - timezone.now() <= timedelta(minutes=10) for row in waiting)
    NotificationFactory(contact=ContactFactory(email="bo@example.org"))
    send_due()
    assert mailbox.recipients[-1] == "bo@example.org"
    Notification.objects.filter(state=State.SENT).update(sent_at=timezone.now() - timedelta(minutes=11))
    due_again()
    send_due()
    assert mailbox.subjects[-1] == "Page 4 (and 2 more messages)"


def test_a_graver_page_is_not_held_back_by_a_storm(mailbox: Mailbox, settings):
    settings.NOTIFY_MAX = 4
    ann = ContactFactory(email="ann@example.org")

    def page(subject: str, rank: int | None) -> None:
        about = EscalationFactory(severity_rank=rank)
        NotificationFactory(contact=ann, subject=subject, urgency=PAGE, escalation=about)
        send_due()

    for number, rank in enumerate((4, None, 4, 4)):
        page(f"P3 {number}", rank)
    page("P3 more", 4)
    page("Without a severity", None)
    page("P0", 1)
    page("P0 again", 1)
    assert mailbox.subjects == ["P3 0", "P3 1", "P3 2", "P3 3", "P0"]


def test_news_leave_room_for_pages(mailbox: Mailbox, settings):
    settings.NOTIFY_MAX = 4
    ann = ContactFactory(email="ann@example.org")
    for number in range(4):
        NotificationFactory(contact=ann, subject=f"News {number}")
        send_due()
    NotificationFactory(contact=ann, subject="Page", urgency=PAGE)
    send_due()
    assert mailbox.subjects == ["News 0", "News 1", "Page"]


def test_pages_go_before_news(mailbox: Mailbox, monkeypatch):
    monkeypatch.setattr(sending, "THREADS_A_LANE", 1)
    for number in range(30):
        NotificationFactory(subject=f"News {number}")
    NotificationFactory(subject="Page", urgency=PAGE)
    send_due()
    assert mailbox.subjects[0] == "Page" and len(mailbox.mails) == 31


# --- withdrawn, two at once, dying ---------------------------------------------------------------------------------


def test_what_was_withdrawn_does_not_go_out(mailbox: Mailbox):
    escalation = EscalationFactory()
    row = NotificationFactory(urgency=PAGE, escalation=escalation)
    parcels = claims.take()
    assert notifying.withdraw(escalation) == 1
    with sending.Batch() as batch:
        batch.send(parcels)
    row.refresh_from_db()
    assert (mailbox.mails, row.state, row.claimed_until) == ([], State.CANCELLED, None)


def test_two_senders_at_once_send_each_once(mailbox: Mailbox):
    for _ in range(60):
        NotificationFactory()
    taken: list[list[int]] = [[], []]
    ready = threading.Barrier(2)

    def worker(which: int) -> None:
        try:
            ready.wait()
            for _ in range(12):
                parcels = claims.take(10)
                taken[which] += [pk for parcel in parcels for pk in parcel.ids]
                with sending.Batch() as batch:
                    batch.send(parcels)
        finally:
            connection.close()

    threads = [threading.Thread(target=worker, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not set(taken[0]) & set(taken[1])
    assert len(mailbox.mails) == 60
    assert Notification.objects.filter(state=State.SENT).count() == 60


def test_the_next_message_to_somebody_waits_for_the_one_on_its_way(mailbox: Mailbox):
    ann = ContactFactory(email="ann@example.org")
    NotificationFactory(contact=ann, subject="First")
    on_its_way = claims.take()
    NotificationFactory(contact=ann, subject="Second")
    assert claims.take() == []
    with sending.Batch() as batch:
        batch.send(on_its_way)
    send_due()
    assert mailbox.subjects == ["First", "Second"]


def test_what_a_dead_process_had_taken_goes_out_after_its_claim(mailbox: Mailbox):
    row = NotificationFactory()
    assert len(claims.take()) == 1
    send_due()
    assert mailbox.mails == []
    claims.renew([row.pk])
    with connection.cursor() as cursor:  # eight seconds later, by the clock of the database
        cursor.execute("UPDATE contacts_notification SET claimed_until = now() - interval '1 s'")
    send_due()
    row.refresh_from_db()
    assert (len(mailbox.mails), row.state, row.tries) == (1, State.SENT, 0)


def test_whoever_dies_before_writing_down_sends_it_again_under_the_same_reference(mailbox: Mailbox, monkeypatch):
    NotificationFactory()
    with monkeypatch.context() as patched:
        patched.setattr(results, "write_down", lambda done: 1 / 0)
        send_due()
    Notification.objects.update(claimed_until=None)
    send_due()
    assert len(mailbox.mails) == 2
    assert len({mail["message-id"] for mail in mailbox.mails}) == 1
    assert not sending._held


def test_claims_are_renewed_while_their_process_lives(mailbox: Mailbox):
    mailbox.delay_s = 1
    row = NotificationFactory()
    begun = sending.start_due()
    first = Notification.objects.get(pk=row.pk).claimed_until
    time.sleep(0.3)
    sending.start_due()
    assert Notification.objects.get(pk=row.pk).claimed_until > first
    for one in begun:
        one.result(30)
    assert not sending._held


def test_lanes_whose_threads_have_ended_get_new_ones_although_its_hands_are_full(mailbox: Mailbox, monkeypatch):
    """As after the end of PostgreSQL during a backlog: what was claimed waits, and nobody is at it."""
    for number in range(3):
        NotificationFactory(subject=f"Claimed {number}")
    with monkeypatch.context() as patched:
        patched.setattr(sending._pool, "submit", lambda *args: None)
        sending.start_due()
    assert sending._lanes["mail"].threads and len(sending._held) == 3
    sending._lanes["mail"].threads = 0
    monkeypatch.setattr(sending, "MOST_HELD", 3)
    NotificationFactory(subject="Later")
    send_due()
    assert sorted(mailbox.subjects) == ["Claimed 0", "Claimed 1", "Claimed 2"]
    send_due()
    assert mailbox.subjects[-1] == "Later"


def test_no_more_is_claimed_than_there_is_room_for(mailbox: Mailbox, monkeypatch):
    monkeypatch.setattr(sending, "MOST_HELD", 2)
    for _ in range(5):
        NotificationFactory()
    with monkeypatch.context() as patched:
        patched.setattr(sending._pool, "submit", lambda *args: None)
        sending.start_due()
        assert len(sending._held) == 2
        sending.start_due()
        assert len(sending._held) == 2


# --- channels ------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_json(mailbox: Mailbox, receiver: Receiver, monkeypatch):
    monkeypatch.setenv("OPS_SECRET_TEST_HOOK", f"http://{receiver.place}/{CANARY}")
    channel = ChannelFactory(kind="webhook", address="", url_ref="env:OPS_SECRET_TEST_HOOK", allowed_networks=LOOPBACK)
    with transaction.atomic():
        row = notifying.notify_channel(channel, key="k", subject="Down", body="Look.", url="/x/", urgency=PAGE)
    send_due()
    path, body = receiver.got[0]
    sent = json.loads(body)
    assert path == f"/{CANARY}"
    assert (sent["subject"], sent["urgent"], sent["items"][0]["url"]) == ("Down", True, "https://ops.example.org/x/")
    assert sent["reference"] == f"notification-{row.pk}"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"enabled": False}, "is switched off"),
        ({"address": ""}, "has no address yet"),
        ({"kind": "hand", "address": "040 112"}, "is used by hand: tell them yourself at 040 112."),
    ],
)
def test_a_channel_that_cannot_be_used_says_why(mailbox: Mailbox, values, sentence):
    row = NotificationFactory(contact=None, channel=ChannelFactory(**values))
    send_due()
    row.refresh_from_db()
    assert row.state == State.FAILED and sentence in row.message


# --- who may be talked to, and what is said about it ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "networks", "why"),
    [
        ("127.0.0.1", "", "is an internal address"),
        ("169.254.169.254", "169.254.0.0/16", "which is never asked"),
        ("localhost", "", "is an internal address"),
    ],
)
def test_internal_addresses_and_metadata_are_refused(mailbox, receiver, monkeypatch, place, networks, why):
    port = receiver.server.server_port
    provider(monkeypatch, f"json://{place}:{port}/{CANARY}", allowed_networks=networks)
    row = NotificationFactory(contact=ContactFactory(sms="+49 1"))
    send_due()
    row.refresh_from_db()
    assert why in row.message and place in row.message
    assert receiver.got == []


def test_redirects_are_not_followed(mailbox: Mailbox, receiver: Receiver, monkeypatch):
    receiver.status, receiver.location = 302, f"http://{receiver.place}/inside"
    provider(monkeypatch, f"json://{receiver.place}/{CANARY}")
    row = NotificationFactory(contact=ContactFactory(sms="+49 1"))
    send_due()
    row.refresh_from_db()
    assert "leads elsewhere, which is not followed" in row.message
    assert len(receiver.got) == 1


@pytest.mark.parametrize("url", ["mailto://u:p@127.0.0.1", "syslog://", "xmpp://u:p@127.0.0.1", "mqtt://127.0.0.1/t"])
def test_services_that_cannot_be_judged_are_not_used(mailbox: Mailbox, monkeypatch, url):
    provider(monkeypatch, url)
    row = NotificationFactory(contact=ContactFactory(sms="+49 1"))
    send_due()
    row.refresh_from_db()
    assert row.tries == 1 and row.state == State.PENDING
    assert "does not speak HTTP" in row.message or "none that a known service reads" in row.message


def test_nothing_tells_the_secret(mailbox: Mailbox, receiver: Receiver, monkeypatch, caplog, settings):
    settings.EMAIL_USER, settings.EMAIL_PASSWORD = "ops", CANARY
    caplog.set_level(logging.DEBUG)
    receiver.status = 403
    receiver.says = f"bad token {CANARY} in /hook/{CANARY}?key={CANARY}".encode()
    provider(monkeypatch, f"json://user:{CANARY}@{receiver.place}/hook/{CANARY}?+X-Key={CANARY}")
    provider(monkeypatch, f"jsons://{receiver.place}/{CANARY}", rank=2)
    provider(monkeypatch, f"nonsense://{CANARY}", rank=3)
    provider(monkeypatch, f"tgram://{CANARY}", rank=4)
    monkeypatch.setenv("OPS_SECRET_TEST_HOOK", f"http://{receiver.place}/{CANARY}")
    channel = ChannelFactory(kind="webhook", address="", url_ref="env:OPS_SECRET_TEST_HOOK", allowed_networks=LOOPBACK)
    NotificationFactory(contact=None, channel=channel)
    NotificationFactory(contact=ContactFactory(sms="+49 1", email="ann@example.org"), way="sms")
    send_due()
    assert Attempt.objects.count() == 6
    told = [attempt.message for attempt in Attempt.objects.all()] + [row.message for row in Notification.objects.all()]
    assert "answered 403 and said: bad token ********" in " ".join(told)
    everything = " ".join(told) + caplog.text + repr([vars(row) for row in Attempt.objects.all()])
    assert CANARY not in everything


# --- test messages -------------------------------------------------------------------------------------------------


def test_a_test_of_the_pager_goes_through_every_way_by_itself(mailbox: Mailbox, receiver: Receiver, monkeypatch):
    provider(monkeypatch, f"json://{receiver.place}/sms")
    contact = ContactFactory(sms="+49 1", email="ann@example.org")
    Way.objects.create(contact=contact, kind="email", address="private@example.org", rank=3)
    Way.objects.create(contact=contact, kind="phone", address="", rank=4)
    receiver.status = 500
    by = PersonFactory()
    rows = actions.test_pager(contact, by=by, key="one")
    assert [row.pk for row in actions.test_pager(contact, by=by, key="one")] == [row.pk for row in rows]
    send_due()
    assert sorted(mailbox.recipients) == ["ann@example.org", "private@example.org"]
    by_sms = Notification.objects.get(way="sms")
    assert by_sms.state == State.PENDING and by_sms.attempts.count() == 1, "no other way stands in"


def test_a_provider_can_be_tried(mailbox: Mailbox, receiver: Receiver, monkeypatch):
    row = provider(monkeypatch, f"json://{receiver.place}/{{to}}", name="Twilio")
    assert actions.try_provider(row, "+49 (0) 40 123", by=PersonFactory()) == "Taken by Twilio."
    assert receiver.got[0][0] == "/+4940123"
    receiver.status = 401
    with pytest.raises(ContactsError, match="Twilio answered 401"):
        actions.try_provider(row, "+49 40 123", by=PersonFactory())
    with pytest.raises(ContactsError, match="not a number"):
        actions.try_provider(row, "Ann", by=PersonFactory())
