"""The link in a page that leads to a button which acknowledges. It needs no account: whoever holds it may answer.

Mail scanners follow links, so opening it changes nothing. The token names the message it was sent in, signed, for a
week.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.urls import reverse

from contacts.models import Escalation, Notification

SALT = "contacts.answer"
WORKS_FOR = timedelta(days=7)


class Expired(Exception):
    """The link is genuine and too old."""


class Forged(Exception):
    """No link of this portal, or one that does not count any more: its message is gone, or its contact switched off."""


def _signer() -> signing.TimestampSigner:
    return signing.TimestampSigner(salt=SALT, sep=".")  # a colon in an address is cut off by some mail programs


def token_for(notification: Notification) -> str:
    return _signer().sign(str(notification.pk))


def link_for(notification: Notification) -> str:
    """The whole address of the page; empty where nobody could answer, or while the portal does not know its own."""
    if not notification.escalation_id or not notification.contact_id or not settings.PORTAL_URL:
        return ""
    return f"{settings.PORTAL_URL}{reverse('answer', args=[token_for(notification)])}"


def read(token: str) -> Notification:
    """The message that a link was sent in. Raises Expired or Forged."""
    try:
        value = _signer().unsign(token, max_age=WORKS_FOR)
    except signing.SignatureExpired:
        raise Expired from None
    except signing.BadSignature:
        raise Forged from None
    rows = Notification.objects.select_related(
        "contact", "escalation__acknowledged_by", "escalation__acknowledged_by_user"
    )
    found = rows.filter(pk=int(value), escalation__isnull=False, contact__active=True).first()
    if found is None:
        raise Forged
    return found


def escalation_of(notification: Notification) -> Escalation:
    """What a link answers now. Where an escalation was replaced or given away, the one that runs in its place.

    Whoever holds the old mail must not read that it is over while others are called.
    """
    found = notification.escalation
    assert found is not None  # read() looks for one
    if found.ending not in (Escalation.Ending.REPLACED, Escalation.Ending.REASSIGNED):
        return found
    same = Escalation.objects.filter(subject_type=found.subject_type, subject_id=found.subject_id)
    running = same.exclude(state=Escalation.State.STOPPED)
    return running.select_related("acknowledged_by", "acknowledged_by_user").first() or found
