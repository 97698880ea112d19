"""Contacts go stale: whoever was not confirmed for long is asked once a period, colleagues themselves, of vendors and
providers the administrators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from contacts import notifying, routes
from contacts.models import Contact, Way
from core.links import list_url
from core.words import counted
from operations import duties

EVERY_S = 3600.0  # a look costs one query; who was reminded is left alone for the whole period
MOST_AT_ONCE = 500


def stale_before() -> datetime | None:
    """What was confirmed before this moment is old; None when nobody is reminded."""
    days = settings.CONTACTS_CONFIRM_DAYS
    return timezone.now() - timedelta(days=days) if days > 0 else None


def remind_due() -> int:
    """Ask about everybody whose turn it is. Returns how many. Without a mail server nobody is asked."""
    before = stale_before()
    if before is None or not routes.sends_mail():
        return 0
    old = Q(confirmed_at__lt=before) | Q(confirmed_at=None)
    not_asked = Q(reminded_at__lt=before) | Q(reminded_at=None)
    with transaction.atomic():
        rows = Contact.objects.active().select_for_update(skip_locked=True, no_key=True, of=("self",))
        due = list(rows.filter(old, not_asked).order_by("pk")[:MOST_AT_ONCE])
        now = timezone.now()
        stamp = f"{now:%Y-%m-%dT%H}"
        inside = [contact for contact in due if contact.kind == Contact.Kind.INTERNAL]
        for contact in inside:
            _ask(contact, stamp)
        if outside := [contact for contact in due if contact.kind != Contact.Kind.INTERNAL]:
            _ask_administrators(outside, stamp)
        Contact.objects.filter(pk__in=[contact.pk for contact in due]).update(reminded_at=now)
    return len(due)


def _ask(contact: Contact, stamp: str) -> None:
    notifying.notify_contact(
        contact,
        key=f"confirm:{contact.pk}:{stamp}",
        subject="Is this still how we reach you?",
        body="The portal calls you by the numbers and addresses on your page when something is wrong. Open it, correct "
        "what is out of date, and press “Confirm that this is right”. If you may not, tell an administrator.",
        url=contact.get_absolute_url(),
        ways=(Way.Kind.EMAIL,),
    )


def _ask_administrators(contacts: Sequence[Contact], stamp: str) -> None:
    names = "\n".join(f"- {contact} ({contact.get_kind_display()})" for contact in contacts)
    notifying.notify_administrators(
        key=f"confirm:outside:{contacts[0].pk}:{stamp}",
        subject=f"{counted(len(contacts), 'outside contact')} to confirm",
        body="Nobody has confirmed lately how these vendors and providers are reached. Check each, and press “Confirm "
        f"that this is right” on its page:\n\n{names}",
        url=list_url(Contact, "confirmed=stale"),
    )


duties.declare("contacts", lambda: EVERY_S if settings.CONTACTS_CONFIRM_DAYS > 0 else None, lambda: remind_due())
