"""The write path of on-call. Whatever changes who answers first keeps as fact who answered until now."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

from django.db import transaction
from django.utils import timezone

from contacts import records
from contacts.exceptions import ContactsError
from contacts.models import (
    CalendarFeed,
    Contact,
    Layer,
    LayerMember,
    LayerWindow,
    Level,
    OnCallSchedule,
    Override,
)
from contacts.oncall import Window
from core.models import User

EDITED = ("name", "service", "time_zone", "alarm_gaps")


@dataclass(frozen=True)
class LayerValues:
    """A layer as somebody wants it. Without a number it is new."""

    number: int | None
    level: int
    rank: int
    starts_on: date
    members: Sequence[Contact]
    name: str = ""
    ends_on: date | None = None
    handoff: time = time(9)
    shift_length: int = 1
    shift_unit: str = Layer.Unit.WEEKS
    windows: Sequence[Window] = ()


@transaction.atomic
def save_schedule(schedule: OnCallSchedule) -> OnCallSchedule:
    """Save what is edited of a schedule. Facts of a new one begin now."""
    if schedule.pk is None:
        schedule.recorded_until = timezone.now()
        schedule.save()
        return schedule
    records.keep(schedule)
    schedule.save(update_fields=EDITED)
    return schedule


@transaction.atomic
def save_layers(schedule: OnCallSchedule, layers: Sequence[LayerValues]) -> None:
    """Make these the layers of a schedule; others go."""
    places = [(values.level, values.rank) for values in layers]
    if len(set(places)) < len(places):
        raise ContactsError("Two layers of a level have the same rank. Give each its own.")
    row = records.keep(schedule)
    row.layers.exclude(pk__in=[values.number for values in layers if values.number]).delete()
    present = {layer.pk: layer for layer in row.layers.all()}
    _free_ranks(row, layers, present)
    for values in layers:
        _save_layer(present.get(values.number or 0) or Layer(schedule=row), values)


def _free_ranks(schedule: OnCallSchedule, layers: Sequence[LayerValues], present: dict[int, Layer]) -> None:
    """Two layers that change places would meet under one rank: those that move step aside first."""
    highest = max((layer.rank for layer in present.values()), default=0)
    highest = max([highest, *(values.rank for values in layers)])
    for step, values in enumerate(layers, start=1):
        layer = present.get(values.number or 0)
        if layer is not None and (layer.level, layer.rank) != (values.level, values.rank):
            Layer.objects.filter(pk=layer.pk).update(rank=highest + step)


def _save_layer(layer: Layer, values: LayerValues) -> None:
    layer.level, layer.rank, layer.name = values.level, values.rank, values.name
    layer.starts_on, layer.ends_on, layer.handoff = values.starts_on, values.ends_on, values.handoff
    layer.shift_length, layer.shift_unit = values.shift_length, values.shift_unit
    layer.save()
    wanted = [contact.pk for contact in values.members]
    if wanted != list(layer.members.values_list("contact_id", flat=True)):
        layer.members.all().delete()
        for position, number in enumerate(wanted):
            LayerMember.objects.create(layer=layer, position=position, contact_id=number)
    hours = [(window.weekday, window.begins, window.ends) for window in values.windows]
    if hours != list(layer.windows.values_list("weekday", "begins", "ends")):
        layer.windows.all().delete()
        for weekday, begins, ends in hours:
            LayerWindow.objects.create(layer=layer, weekday=weekday, begins=begins, ends=ends)


@transaction.atomic
def add_override(
    schedule: OnCallSchedule,
    *,
    level: int,
    contact: Contact,
    starts_at: datetime,
    ends_at: datetime,
    reason: str = "",
    by: User | None,
) -> Override:
    """`contact` stands in from `starts_at` to `ends_at`; what was before now stays as it was.

    The same asked twice in a row is one override. Raises ContactsError for a time that is over or is none.
    """
    if not contact.active:
        raise ContactsError(f"{contact} is switched off and cannot stand in. Choose somebody else.")
    if ends_at <= starts_at:
        raise ContactsError("Standing in ends after it begins. Correct one of the two times.")
    row = records.keep(schedule)
    now = timezone.now()
    if ends_at <= now:
        raise ContactsError("This time is over. Who was on call is kept as it was; choose a time that is to come.")
    starts_at = max(starts_at, now)
    last = row.overrides.filter(level=level).order_by("-made_at", "-pk").first()
    if last is not None and last.contact_id == contact.pk and last.starts_at <= starts_at and last.ends_at == ends_at:
        return last
    return Override.objects.create(
        schedule=row,
        level=Level(level),
        contact=contact,
        starts_at=starts_at,
        ends_at=ends_at,
        reason=reason,
        made_by=by,
    )


@transaction.atomic
def end_override(override: Override) -> OnCallSchedule:
    """From now on the layers name who is on call again. One that has not begun is removed."""
    schedule = records.keep(override.schedule)
    row = Override.objects.filter(pk=override.pk).first()
    now = timezone.now()
    if row is None or row.ends_at <= now:
        raise ContactsError("This is over already. Nothing is left to end.")
    if row.starts_at >= now:
        row.delete()
    else:
        row.ends_at = now
        row.save(update_fields=["ends_at"])
    return schedule


def make_feed(
    *, by: User, schedule: OnCallSchedule | None = None, contact: Contact | None = None
) -> tuple[CalendarFeed, str]:
    """A calendar link of a schedule, or of a contact's shifts. Returns it and its secret, which is not kept."""
    if (schedule is None) == (contact is None):
        raise ContactsError("A calendar link is of one schedule or of one person.")
    secret = secrets.token_urlsafe(32)
    feed = CalendarFeed.objects.create(schedule=schedule, contact=contact, sha256=digest(secret), made_by=by)
    return feed, secret


def revoke_feed(feed: CalendarFeed) -> None:
    """Nothing can be read under this link any more."""
    CalendarFeed.objects.filter(pk=feed.pk, revoked_at=None).update(revoked_at=timezone.now())


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
