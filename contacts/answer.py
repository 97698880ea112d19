"""The link in a page that leads to a button which acknowledges. It needs no account: whoever holds it may answer.

Mail scanners follow links, so opening it changes nothing. The token names the message it was sent in, signed, for a
week.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.urls import reverse

from contacts.models import Notification

SALT = "contacts.answer"
WORKS_FOR = timedelta(days=7)


class Expired(Exception):
    """The link is genuine and too old."""


class Forged(Exception):
    """No link of this portal, or one whose message is gone."""


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
    found = rows.filter(pk=int(value), escalation__isnull=False, contact__isnull=False).first()
    if found is None:
        raise Forged
    return found
