"""The timeline: what happened, written once and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.utils import timezone

from incidents import chain
from incidents.models import Incident, TimelineEntry

if TYPE_CHECKING:
    from core.models import User

Kind = TimelineEntry.Kind
Source = TimelineEntry.Source
PORTAL = "The portal"
LONGEST_ACTOR, LONGEST_URL = 160, 300


def write(
    incident: Incident,
    text: str,
    *,
    kind: str = Kind.NOTE,
    source: str,
    user: User | None = None,
    actor: str = "",
    at: datetime | None = None,
    url: str = "",
    data: Mapping[str, Any] | None = None,
    corrects: TimelineEntry | None = None,
) -> TimelineEntry:
    """Append an entry. Call it in the transaction of what it tells: it locks the incident, so that entries follow each
    other in one chain. `actor` is who did it in words, if it was no person who signs in."""
    if not connection.in_atomic_block:
        raise RuntimeError("A timeline entry must be written in the transaction of what it tells.")
    Incident.objects.select_for_update(of=("self",), no_key=True).only("pk").get(pk=incident.pk)
    last = TimelineEntry.objects.filter(incident=incident).order_by("-sequence").only("sequence", "hash").first()
    now = timezone.now()
    entry = TimelineEntry(
        incident=incident,
        sequence=last.sequence + 1 if last else 1,
        at=at or now,
        recorded_at=now,
        kind=kind,
        source=source,
        user=user,
        actor=(actor or (user.display_name if user else PORTAL))[:LONGEST_ACTOR],
        text=text,
        url=url[:LONGEST_URL],
        data=chain.plain(data or {}),
        corrects=corrects,
        previous_hash=last.hash if last else "",
    )
    entry.hash = chain.entry_hash(entry)
    entry.save(force_insert=True)
    return entry
