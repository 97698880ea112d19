"""Who is on call, from the database: the one answer for the tile, the API, the offline card, pages and escalations.

The past is told by OnCallRecord, where contacts/records.py has kept it; present and future are computed from layers and
overrides. The turn of a contact that is switched off is nobody's, so that the layer below answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Prefetch, prefetch_related_objects
from django.utils import timezone

from contacts import oncall
from contacts.models import Contact, Layer, LayerMember, Level, OnCallRecord, OnCallSchedule, Override, Way
from contacts.ways import compact


@dataclass(frozen=True)
class OnCall:
    """A place of a schedule at one moment. Without a contact it is a gap.

    `until` is when somebody else answers, or nobody; `next` is who. Without `until` nothing changes within a year.
    """

    schedule: OnCallSchedule
    level: Level
    contact: Contact | None
    until: datetime | None
    next: Contact | None

    @property
    def phone(self) -> str:
        """The number to call, else the one that takes messages; empty for none."""
        ways = [way for way in self.contact.ways.all() if way.address] if self.contact else []
        numbers = [way.address for kind in (Way.Kind.PHONE, Way.Kind.SMS) for way in ways if way.kind == kind]
        return numbers[0] if numbers else ""

    @property
    def tel(self) -> str:
        """The same as a telephone dials it, for a link."""
        return compact(self.phone)


@dataclass(frozen=True)
class Shift:
    """A stretch of time in which one contact answers, or nobody."""

    contact: Contact | None
    starts_at: datetime
    ends_at: datetime
    is_override: bool = False


@dataclass(frozen=True)
class Book:
    """A schedule as it is computed with: a rota for each level that has layers or an override."""

    schedule: OnCallSchedule
    rotas: dict[Level, oncall.Rota]
    people: dict[int, Contact]
    layered: frozenset[Level]  # the levels that somebody is meant to answer at any time

    def contact(self, turn: oncall.Turn) -> Contact | None:
        return None if turn.member is None else self.people[turn.member]

    def on_call(self, level: Level, at: datetime) -> OnCall:
        contact = self.contact(self.rotas[level].who(at))
        change = self.rotas[level].next_change(at)
        after = self.contact(change.turn) if change else None
        return OnCall(self.schedule, level, contact, change.starts_at if change else None, after)

    def levels_at(self, at: datetime) -> list[Level]:
        """Those with layers, and those where somebody stands in at this moment."""
        return [level for level, rota in self.rotas.items() if level in self.layered or rota.who(at).member is not None]

    def shifts(self, level: Level, start: datetime, end: datetime) -> list[Shift]:
        """Computed; what was, may have been different. A level without layers has no gaps."""
        runs = self.rotas[level].timeline(start, end) if level in self.rotas else []
        return [
            Shift(self.contact(run.turn), run.starts_at, run.ends_at, run.turn.is_override)
            for run in runs
            if run.turn.member is not None or level in self.layered
        ]


def books(schedules: Iterable[OnCallSchedule], *, since: datetime) -> list[Book]:
    """What computing these schedules from `since` on needs; four queries however many they are."""
    wanted = list(schedules)
    numbers = [schedule.pk for schedule in wanted]
    layers: dict[int, list[Layer]] = defaultdict(list)
    overrides: dict[int, list[Override]] = defaultdict(list)
    members = Prefetch("members", LayerMember.objects.select_related("contact"))
    for layer in Layer.objects.filter(schedule__in=numbers).prefetch_related(members, "windows"):
        layers[layer.schedule_id].append(layer)
    standing_in = Override.objects.filter(schedule__in=numbers, ends_at__gt=since).select_related("contact")
    for override in standing_in.order_by("made_at", "pk"):
        overrides[override.schedule_id].append(override)
    return [_book(schedule, layers[schedule.pk], overrides[schedule.pk]) for schedule in wanted]


def book(schedule: OnCallSchedule, *, since: datetime) -> Book:
    """The same for one schedule."""
    return books([schedule], since=since)[0]


def _book(schedule: OnCallSchedule, layers: list[Layer], overrides: list[Override]) -> Book:
    people = {turn.contact_id: turn.contact for layer in layers for turn in layer.members.all()}
    people |= {override.contact_id: override.contact for override in overrides}
    levels = sorted({row.level for row in layers} | {row.level for row in overrides})
    rotas = {
        Level(level): oncall.Rota(
            schedule.time_zone,
            [_layer(row) for row in layers if row.level == level],
            [
                oncall.Override(_member(row.contact), row.starts_at, row.ends_at)
                for row in overrides
                if row.level == level
            ],
        )
        for level in levels
    }
    return Book(schedule, rotas, people, frozenset(Level(row.level) for row in layers))


def _member(contact: Contact) -> int | None:
    return contact.pk if contact.active else None


def _layer(row: Layer) -> oncall.Layer:
    return oncall.Layer(
        members=tuple(_member(turn.contact) for turn in row.members.all()),
        starts_on=row.starts_on,
        rank=row.rank,
        ends_on=row.ends_on,
        handoff=row.handoff,
        length=row.shift_length,
        unit=row.shift_unit,
        windows=tuple(oncall.Window(window.weekday, window.begins, window.ends) for window in row.windows.all()),
    )


def who(schedule: OnCallSchedule, level: int, at: datetime | None = None) -> Contact | None:
    """Who is, was or will be on call. For a past time the fact that was kept, whatever the schedule says today."""
    now = timezone.now()
    at = at or now
    if at < now and (until := _recorded_until(schedule)) is not None and at < until:
        rows = OnCallRecord.objects.filter(schedule=schedule, level=level, starts_at__lte=at, ends_at__gt=at)
        found = rows.select_related("contact").first()
        return found.contact if found else None
    loaded = book(schedule, since=at)
    rota = loaded.rotas.get(Level(level))
    return loaded.contact(rota.who(at)) if rota else None


def _recorded_until(schedule: OnCallSchedule) -> datetime | None:
    """Read anew: whoever asks may have held the schedule for long."""
    return OnCallSchedule.objects.filter(pk=schedule.pk).values_list("recorded_until", flat=True).first()


def on_call_now(at: datetime | None = None, *, of: OnCallSchedule | None = None) -> list[OnCall]:
    """Every schedule, or one, and level with who answers, until when, and who comes next. Contacts come with ways."""
    at = at or timezone.now()
    schedules = [of] if of else OnCallSchedule.objects.select_related("service")
    found = [loaded.on_call(level, at) for loaded in books(schedules, since=at) for level in loaded.levels_at(at)]
    people = [person for each in found for person in (each.contact, each.next) if person is not None]
    prefetch_related_objects(people, "ways")
    return found


def timeline(schedule: OnCallSchedule, level: int, start: datetime, end: datetime) -> list[Shift]:
    """Who answers from `start` to `end`, neighbours merged. Of what was before the first fact nothing is told."""
    return timelines(schedule, start, end).get(Level(level), [])


def timelines(schedule: OnCallSchedule, start: datetime, end: datetime) -> dict[Level, list[Shift]]:
    """The same for every level that has something to tell."""
    recorded_until = _recorded_until(schedule)
    shifts: dict[Level, list[Shift]] = defaultdict(list)
    if recorded_until is not None and start < recorded_until:
        for level, fact in _facts(schedule, start, min(end, recorded_until)):
            shifts[level].append(fact)
        start = recorded_until
    loaded = book(schedule, since=start)
    for level in loaded.rotas:
        shifts[level] += loaded.shifts(level, start, end)
    return {level: _merged(shifts[level]) for level in sorted(shifts) if shifts[level]}


def _facts(schedule: OnCallSchedule, start: datetime, end: datetime) -> list[tuple[Level, Shift]]:
    rows = OnCallRecord.objects.filter(schedule=schedule, ends_at__gt=start, starts_at__lt=end)
    return [
        (Level(row.level), Shift(row.contact, max(row.starts_at, start), min(row.ends_at, end)))
        for row in rows.select_related("contact").order_by("starts_at")
    ]


def _merged(shifts: list[Shift]) -> list[Shift]:
    """Without seams where the same contact goes on, also from what was to what will be."""
    merged: list[Shift] = []
    for shift in shifts:
        last = merged[-1] if merged else None
        if last is not None and last.contact == shift.contact and last.ends_at == shift.starts_at:
            is_override = last.is_override and shift.is_override
            merged[-1] = Shift(last.contact, last.starts_at, shift.ends_at, is_override)
        else:
            merged.append(shift)
    return merged
