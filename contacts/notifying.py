"""The outbox is filled here, in the transaction of whoever has something to tell.

The key makes sure that a message is written once, whoever asks for it again. What becomes of it is the business of
contacts.sending.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db.models import Q

from contacts.models import Channel, Contact, Escalation, Notification
from contacts.querysets import ContactQuerySet
from core.roles import Role

logger = logging.getLogger(__name__)

State, Urgency = Notification.State, Notification.Urgency
SUBJECT_LENGTH = 300


def notify_contact(
    contact: Contact,
    *,
    key: str,
    subject: str,
    body: str = "",
    url: str = "",
    urgency: str = Urgency.NEWS,
    ways: Iterable[str] = (),
    escalation: Escalation | None = None,
) -> list[Notification]:
    """A message for somebody: one for each of `ways`, or one that goes by whichever way works."""
    common = _message(subject, body, url, urgency, escalation)
    asked = [(f"{key}:{way}", way) for way in ways] or [(key, "")]
    return _write([Notification(key=full, way=way, contact=contact, **common) for full, way in asked])


def notify_channel(
    channel: Channel,
    *,
    key: str,
    subject: str,
    body: str = "",
    url: str = "",
    urgency: str = Urgency.NEWS,
    escalation: Escalation | None = None,
) -> Notification:
    """A message for a place where many read."""
    common = _message(subject, body, url, urgency, escalation)
    return _write([Notification(key=key, channel=channel, **common)])[0]


def notify_administrators(
    *,
    key: str,
    subject: str,
    body: str = "",
    url: str = "",
    urgency: str = Urgency.NEWS,
    escalation: Escalation | None = None,
) -> list[Notification]:
    """A message for everybody who runs the portal and has a contact. Says so in the log when nobody has.

    With an escalation it carries the link that acknowledges, and is withdrawn once somebody has answered.
    """
    contacts = list(administrators())
    if not contacts:
        logger.warning("no administrator has a contact: nobody was told “%s”", subject)
    common = _message(subject, body, url, urgency, escalation)
    return _write([Notification(key=f"{key}:{contact.pk}", contact=contact, **common) for contact in contacts])


def administrators() -> ContactQuerySet:
    """The contacts of those who run the portal."""
    runs_it = Q(user__is_superuser=True) | Q(user__groups__name=Role.ADMINISTRATOR.value)
    return Contact.objects.active().filter(runs_it, user__is_active=True).distinct()


def withdraw(escalation: Escalation) -> int:
    """Nothing more needs to be said of it: what has not gone out does not. Returns how many."""
    rows = Notification.objects.filter(escalation=escalation, state=State.PENDING)
    return rows.update(state=State.CANCELLED, due_at=None, claimed_until=None)


def _message(subject: str, body: str, url: str, urgency: str, escalation: Escalation | None) -> dict[str, Any]:
    """What the columns take: a subject is one line."""
    subject = " ".join(subject.replace("\0", "").split())
    if len(subject) > SUBJECT_LENGTH:
        subject = f"{subject[: SUBJECT_LENGTH - 1]}…"
    return {
        "subject": subject,
        "body": body.replace("\0", ""),
        "url": url,
        "urgency": urgency,
        "escalation": escalation,
    }


_gathered: ContextVar[list[Notification] | None] = ContextVar("gathered", default=None)


@contextmanager
def together() -> Iterator[None]:
    """What is told inside is written at the end, all at once; what is returned inside has no number yet."""
    rows: list[Notification] = []
    token = _gathered.set(rows)
    try:
        yield
    finally:
        _gathered.reset(token)
    if rows:
        Notification.objects.bulk_create(rows, ignore_conflicts=True)


def _write(rows: list[Notification]) -> list[Notification]:
    """Those that are there already stay as they are."""
    if not rows:
        return []
    if (gathered := _gathered.get()) is not None:
        gathered += rows
        return rows
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
    found = {row.key: row for row in Notification.objects.filter(key__in=[row.key for row in rows])}
    return [found[row.key] for row in rows]
