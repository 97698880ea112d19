"""Whom a target of the matrix means at a moment: people, channels and queues, and the same in words.

Left out, and named in the words: who is switched off, who is outside the hours of being reached, who has no address or
none that a message can be sent to; and channels that somebody has to tell by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db.models import QuerySet, prefetch_related_objects

from catalog import business_time
from contacts import rota
from contacts.models import Channel, Contact, Level, Provider, Queue, RoleHolder, Target, TeamMember, Way
from contacts.routes import why_no_channel

Kind = Target.Kind
Part = Target.Part

FIRST_RANK = {Part.PRIMARY: 1, Part.BACKUP: 2}


@dataclass(frozen=True)
class Reached:
    """Empty lists mean that nobody can be told."""

    contacts: list[Contact] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    queues: list[Queue] = field(default_factory=list)
    words: str = ""


def resolve(target: Target, at: datetime, sendable: frozenset[str] | None = None) -> Reached:
    """Whom `target` means at `at`. Whoever resolves many asks for `sendable_kinds` once."""
    return _RESOLVERS[Kind(target.kind)](target, at, sendable_kinds() if sendable is None else sendable)


def sendable_kinds() -> frozenset[str]:
    """The kinds of ways that something can be sent by: email, and whatever a provider is switched on for."""
    return frozenset({Way.Kind.EMAIL.value, *Provider.objects.filter(enabled=True).values_list("kind", flat=True)})


def why_no_way(contact: Contact, sendable: frozenset[str]) -> str:
    """Why nothing can be sent to this contact; empty where something can."""
    kinds = [way.kind for way in contact.ways.all() if way.address]
    if not kinds:
        return "has no address"
    if sendable.isdisjoint(kinds):
        return f"has no way that a provider is switched on for ({', '.join(dict.fromkeys(map(_word, kinds)))})"
    return ""


def _word(kind: str) -> str:
    return str(Way.Kind(kind).label)


def why_not(contact: Contact, at: datetime, sendable: frozenset[str]) -> str:
    """Why this contact cannot be told at `at`; empty means that nothing speaks against it."""
    if not contact.active:
        return "is switched off"
    if reason := why_no_way(contact, sendable):
        return reason
    if contact.business_hours and not business_time.is_open(contact.business_hours, at):
        return "is outside business hours"
    return ""


def out_of_reach(contacts: Iterable[Contact], at: datetime) -> dict[int, str]:
    """Of these, who cannot be told at `at`, by number, and why."""
    people = list({contact.pk: contact for contact in contacts}.values())
    prefetch_related_objects(people, "ways", "business_hours__openings", "business_hours__holidays")
    sendable = sendable_kinds()
    reasons = {contact.pk: why_not(contact, at, sendable) for contact in people}
    return {pk: why for pk, why in reasons.items() if why}


def _channel(target: Target, at: datetime, sendable: frozenset[str]) -> Reached:
    channel = target.channel
    assert channel is not None
    if why := why_no_channel(channel):
        return Reached(words=f"Channel {channel} ({why})")
    return Reached(channels=[channel], words=f"Channel {channel}")


def _queue(target: Target, at: datetime, sendable: frozenset[str]) -> Reached:
    assert target.queue is not None
    return Reached(queues=[target.queue], words=f"Queue {target.queue}")


def _contact(target: Target, at: datetime, sendable: frozenset[str]) -> Reached:
    assert target.contact is not None
    return _people("", [target.contact], at, sendable)


def _oncall(target: Target, at: datetime, sendable: frozenset[str]) -> Reached:
    assert target.oncall is not None
    level = Level(target.level)
    found = rota.who(target.oncall, level, at)
    return _people(f"On call, {level.label.lower()}", [found] if found else [], at, sendable)


def _team(target: Target, at: datetime, sendable: frozenset[str]) -> Reached:
    assert target.team is not None
    return _places(f"Team {target.team}", target.team.members.all(), target.part, at, sendable)


def _role(target: Target, at: datetime, sendable: frozenset[str]) -> Reached:
    assert target.role is not None
    return _places(f"Role {target.role}", target.role.holders.all(), target.part, at, sendable)


_RESOLVERS: dict[Target.Kind, Callable[[Target, datetime, frozenset[str]], Reached]] = {
    Kind.CONTACT: _contact,
    Kind.TEAM: _team,
    Kind.ROLE: _role,
    Kind.ONCALL: _oncall,
    Kind.QUEUE: _queue,
    Kind.CHANNEL: _channel,
}


def _places(name: str, rows: QuerySet[Any], part: str, at: datetime, sendable: frozenset[str]) -> Reached:
    """Everybody of a team or a role; or of the first rank, from the primary's or the backup's on, that can be told."""
    places: list[TeamMember | RoleHolder] = list(
        rows.select_related("contact__business_hours").order_by("rank", "contact__name")
    )
    if part == Part.ALL:
        return _people(name, [place.contact for place in places], at, sendable)
    title = f"{name}, {Part(part).label}"
    tried: list[Contact] = []
    for _, group in groupby((place for place in places if place.rank >= FIRST_RANK[Part(part)]), lambda row: row.rank):
        tried += [place.contact for place in group]
        reached = _people(title, tried, at, sendable)
        if reached.contacts:
            return reached
    return _people(title, tried, at, sendable)


def _people(title: str, contacts: Sequence[Contact], at: datetime, sendable: frozenset[str]) -> Reached:
    """Those of `contacts` who can be told; the words name the others too."""
    prefetch_related_objects(contacts, "ways", "business_hours__openings", "business_hours__holidays")
    reasons = [(contact, why_not(contact, at, sendable)) for contact in contacts]
    reached = [contact for contact, reason in reasons if not reason]
    words = ", ".join(map(str, reached)) or "nobody"
    if missed := "; ".join(f"{contact} {reason}" for contact, reason in reasons if reason):
        words += f" ({missed})"
    return Reached(contacts=reached, words=f"{title}: {words}" if title else words)
