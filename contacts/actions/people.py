"""The write path into the directory of contacts for people: save, confirm, take out of a queue, bring in a list."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.utils import timezone

from contacts import records
from contacts.csv_files import Line, missing_rights
from contacts.exceptions import ContactsError
from contacts.models import Contact, QueueEntry, Way
from core.models import User


@transaction.atomic
def save(contact: Contact) -> None:
    """Save what was edited of a contact. Who was on call until now stays a fact, also when this switches somebody."""
    records.keep_before_switching([contact])
    contact.save()


@transaction.atomic
def confirm(contact: Contact, *, by: User) -> Contact:
    """Somebody has looked at the whole page and found it right."""
    row = Contact.objects.select_for_update(of=("self",), no_key=True).get(pk=contact.pk)
    row.confirmed_at, row.confirmed_by = timezone.now(), by
    row.save(update_fields=["confirmed_at", "confirmed_by"])
    return row


@transaction.atomic
def take(entry: QueueEntry, *, by: User) -> QueueEntry:
    """Somebody works on it now."""
    row = QueueEntry.objects.select_for_update(of=("self",), no_key=True).select_related("taken_by").get(pk=entry.pk)
    if row.taken_at is not None:
        raise ContactsError(f"{row.taken_by or 'Somebody'} has taken it already.")
    row.taken_at, row.taken_by = timezone.now(), by
    row.save(update_fields=["taken_at", "taken_by"])
    return row


@transaction.atomic
def bring_in(lines: Sequence[Line], *, by: User) -> int:
    """Save the contacts of a file as it was shown. Returns how many were new or changed. All or none."""
    if any(line.errors for line in lines):
        raise ContactsError("Nothing was saved: lines of the file are wrong. Correct them and choose the file again.")
    if lacking := missing_rights(lines, by):
        raise ContactsError(lacking)
    changed = [line for line in lines if line.changes]
    try:
        with transaction.atomic():
            records.keep_before_switching([line.contact for line in changed])
            for line in changed:
                line.contact.save()
                if line.ways is not None:
                    _set_ways(line.contact, line.ways)
    except IntegrityError:
        raise ContactsError("Somebody changed contacts meanwhile. Nothing was saved; choose the file again.") from None
    return len(changed)


def _set_ways(contact: Contact, ways: Sequence[Way]) -> None:
    """Exactly these, in this order. What stays the same keeps its row, and with it what was sent through it."""
    old = {(way.kind, way.address): way for way in contact.ways.all()}
    kept = []
    for rank, new in enumerate(ways, start=1):
        row = old.get((new.kind, new.address)) or Way(contact=contact, kind=new.kind, address=new.address)
        row.label, row.rank = new.label, rank
        kept.append(row)
    for key in set(old) - {(way.kind, way.address) for way in ways}:
        old[key].delete()
    for row in kept:
        row.save()
