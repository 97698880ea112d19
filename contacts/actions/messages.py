"""The write path into messages for people: send again, try a channel, a provider or somebody's pager."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from contacts import notifying
from contacts.exceptions import ContactsError
from contacts.models import Channel, Contact, Escalation, Notification, Provider
from contacts.routes import to_way
from contacts.senders.base import Message, NotTaken
from contacts.ways import cleaned
from core.models import User

State = Notification.State


@transaction.atomic
def try_again(notification: Notification) -> Notification:
    """Send it from now on as often as a new one. Raises ContactsError where nobody needs to hear of it any more."""
    if notification.escalation_id is not None:
        about = Escalation.objects.select_for_update(of=("self",), no_key=True).get(pk=notification.escalation_id)
        if not about.is_open:
            raise ContactsError(f"“{about}” is {about.state_word.lower()}, so nobody is told of it any more.")
    rows = Notification.objects.select_for_update(of=("self",), no_key=True)
    row = rows.get(pk=notification.pk)
    if row.state != State.FAILED:
        raise ContactsError("Only what was given up can be sent again.")
    row.state, row.tries, row.due_at = State.PENDING, 0, timezone.now()
    row.save(update_fields=["state", "tries", "due_at"])
    return row


@transaction.atomic
def send_test(channel: Channel, *, by: User, key: str) -> Notification:
    """A message that says it is a test. The same key sends once."""
    if not channel.enabled:
        raise ContactsError("This channel is off. Edit it and switch it on first.")
    if channel.is_missing:
        raise ContactsError("This channel has no address yet. Edit it first.")
    if channel.kind == Channel.Kind.HAND:
        raise ContactsError("This channel is used by people, not by the portal. There is nothing to send.")
    return notifying.notify_channel(
        channel,
        key=f"test:channel:{channel.pk}:{key}",
        subject=f"Test message for {channel}",
        body=f"{by} tries whether messages arrive here. Nothing is wrong.",
        url=channel.get_absolute_url(),
    )


@transaction.atomic
def test_pager(contact: Contact, *, by: User, key: str) -> list[Notification]:
    """A test through every way of a contact, each by itself. The same key sends once."""
    if not contact.active:
        raise ContactsError(f"{contact} is switched off. Edit the contact and switch it on first.")
    ways = [way for way in contact.ways.all() if way.address]
    if not ways:
        raise ContactsError(f"{contact} has no address yet. Edit the contact and add one first.")
    body = f"{by} tries whether messages of the portal reach {contact} by this way. Nothing is wrong."
    rows = [
        Notification(
            key=f"test:contact:{contact.pk}:{key}:{way.pk}",
            contact=contact,
            way=way.kind,
            only_way=way,
            urgency=Notification.Urgency.PAGE,
            subject=f"Test of your pager: {way.get_kind_display()}",
            body=body,
            url=contact.get_absolute_url(),
        )
        for way in ways
    ]
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
    return list(Notification.objects.filter(key__in=[row.key for row in rows]))


def try_provider(provider: Provider, address: str, *, by: User) -> str:
    """Send a test through this provider, now. Returns what it said. Raises ContactsError with why it was not taken."""
    try:
        address = cleaned(provider.kind, address)
    except ValidationError as error:
        raise ContactsError(error.messages[0]) from None
    if not address:
        raise ContactsError("Give an address of your own that the test goes to.")
    route = to_way(provider.kind, address, [provider])[0]
    text = f"Test by {by}: nothing is wrong."
    message = Message(f"test-{provider.pk}", "Test of the portal", text, text)
    try:
        sender = route.open()
        try:
            return sender.send(message, route.to)
        finally:
            sender.close()
    except NotTaken as error:
        raise ContactsError(error.message) from None
