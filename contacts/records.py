"""Who was on call is kept as fact: written up to now, again and again, and before every change of a schedule
and every switch of a contact.

Facts are only appended: a record grows while the same contact goes on, and is never changed otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from contacts import rota
from contacts.models import Contact, Level, OnCallRecord, OnCallSchedule


@transaction.atomic
def keep(schedule: OnCallSchedule, now: datetime | None = None) -> OnCallSchedule:
    """Write down who was on call up to now, and return the schedule, locked until the transaction ends.

    The first time is the beginning: what was before is not known.
    """
    row = OnCallSchedule.objects.select_for_update().get(pk=schedule.pk)
    now = now or timezone.now()  # after the lock, so that two who keep them go one after the other
    since = row.recorded_until
    if since is not None and since >= now:
        return row
    if since is not None:
        _append(row, since, now)
    row.recorded_until = now
    row.save(update_fields=["recorded_until"])
    return row


@transaction.atomic
def keep_before_switching(contacts: Iterable[Contact]) -> None:
    """Write down who was on call up to now wherever one of these, about to be saved, is switched off or on by it.

    Without it the time since the schedule was last looked at would be told as if the switch had been there already.
    """
    wanted = {contact.pk: contact.active for contact in contacts if contact.pk is not None}
    stored = Contact.objects.filter(pk__in=wanted).values_list("pk", "active")
    switched = [pk for pk, active in stored if active != wanted[pk]]
    if not switched:
        return
    named = Q(layers__members__contact__in=switched) | Q(overrides__contact__in=switched)
    for schedule in OnCallSchedule.objects.filter(named).distinct().order_by("pk"):
        keep(schedule)


def _append(schedule: OnCallSchedule, since: datetime, until: datetime) -> None:
    loaded = rota.book(schedule, since=since)
    for level in loaded.rotas:
        for shift in loaded.shifts(level, since, until):
            _write(schedule, level, shift.contact, shift.starts_at, shift.ends_at)


def _write(
    schedule: OnCallSchedule, level: Level, contact: Contact | None, starts_at: datetime, ends_at: datetime
) -> None:
    grown = OnCallRecord.objects.filter(schedule=schedule, level=level, contact=contact, ends_at=starts_at)
    if not grown.update(ends_at=ends_at):
        OnCallRecord.objects.create(
            schedule=schedule, level=level, contact=contact, starts_at=starts_at, ends_at=ends_at
        )
