"""The hash chain of a timeline: every entry's hash covers the entry and the hash before it.

A change, a removal or an insertion in the middle shows. Somebody who may write to the database can make the whole chain
anew; that is what the daily digests are for, which leave the portal (see incidents.digests).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import OuterRef, Subquery

from incidents.models import Incident, TimelineEntry


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data as it comes back from the database, so that its hash does too."""
    return _steady(json.loads(json.dumps(data, cls=DjangoJSONEncoder)))


def _steady(value: Any) -> Any:
    """PostgreSQL writes 1e20 as digits."""
    if isinstance(value, dict):
        return {key: _steady(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_steady(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def entry_hash(entry: TimelineEntry) -> str:
    """SHA-256 over the canonical JSON of an entry and the hash before it."""
    said = {
        "incident": entry.incident_id,
        "sequence": entry.sequence,
        "at": _moment(entry.at),
        "recorded_at": _moment(entry.recorded_at),
        "kind": str(entry.kind),
        "source": str(entry.source),
        "user": entry.user_id,
        "actor": entry.actor,
        "text": entry.text,
        "url": entry.url,
        "data": _steady(entry.data),
        "corrects": entry.corrects_id,
        "previous": entry.previous_hash,
    }
    return hashlib.sha256(canonical(said)).hexdigest()


def canonical(value: Any) -> bytes:
    """One spelling of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def append(entries: Sequence[TimelineEntry]) -> None:
    """Write entries at the ends of the chains of their incidents, in their order, in as many statements for a hundred
    as for one. Call it in a transaction: it locks the incidents, so that entries follow each other in one chain."""
    incidents = Incident.objects.filter(pk__in={entry.incident_id for entry in entries}).order_by("pk")
    list(incidents.select_for_update(of=("self",), no_key=True).values_list("pk"))
    last = TimelineEntry.objects.filter(incident=OuterRef("pk")).order_by("-sequence")
    # A statement of its own: what was written before the lock was had is seen by the next one only.
    ends = incidents.values_list("pk", Subquery(last.values("sequence")[:1]), Subquery(last.values("hash")[:1]))
    end = {pk: (sequence or 0, said or "") for pk, sequence, said in ends}
    for entry in entries:
        sequence, entry.previous_hash = end[entry.incident_id]
        entry.sequence = sequence + 1
        entry.hash = entry_hash(entry)
        end[entry.incident_id] = entry.sequence, entry.hash
    TimelineEntry.objects.bulk_create(entries)


def verify(incident: Incident) -> list[str]:
    """What is wrong with the timeline of an incident, as sentences; the first broken entry is named. Empty: nothing."""
    previous, expected = "", 1
    for entry in incident.timeline.order_by("sequence").iterator(chunk_size=2000):
        where = f"{incident.number}, entry {entry.sequence}"
        if entry.sequence != expected:
            return [f"{incident.number}: entry {expected} is missing before entry {entry.sequence}."]
        if entry.previous_hash != previous:
            return [f"{where} does not follow the entry before it."]
        if entry.hash != entry_hash(entry):
            return [f"{where} is not what was written: its hash is another."]
        previous, expected = entry.hash, expected + 1
    return []
