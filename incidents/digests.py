"""The daily digest of the timelines' hash chains. It leaves the portal, by mail and into the second place, so that a
later look has something to compare with that nobody here can have changed.

A digest names the last entry of every timeline that has grown since the one before, and covers that one's hash too.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from contacts.routes import mail_server
from contacts.senders.base import Message
from contacts.senders.smtp import Smtp
from core.exceptions import PortalError
from incidents import chain
from incidents.models import ChainDigest, Incident, TimelineEntry
from survival.place import write_whole

logger = logging.getLogger(__name__)
# An entry may be committed a little after the moment that stands in it.
OVERLAP = timedelta(hours=1)
# So long it is tried to send one that could not leave.
TRY_FOR = timedelta(days=7)


def make_due(now: datetime | None = None) -> ChainDigest | None:
    """Make the digest of today, once a day, and send what has not left yet. Returns the new one."""
    now = now or timezone.now()
    made = _make(now.astimezone(UTC).date(), now)
    for row in ChainDigest.objects.filter(made_at__gt=now - TRY_FOR).order_by("day"):
        send(row)
    return made


def _make(day: date, now: datetime) -> ChainDigest | None:
    if ChainDigest.objects.filter(day=day).exists():
        return None
    before = ChainDigest.objects.filter(day__lt=day).first()
    heads = heads_since(before.made_at - OVERLAP if before is not None else None)
    with transaction.atomic():
        row, made = ChainDigest.objects.get_or_create(
            day=day,
            defaults={
                "made_at": now,
                "sha256": digest_of(day, heads, before.sha256 if before is not None else ""),
                "entries": sum(count for count, _ in heads.values()),
                "heads": heads,
            },
        )
    return row if made else None


def heads_since(since: datetime | None) -> dict[str, list[Any]]:
    """Number of the incident -> [entries, hash of the last], of the timelines that have grown."""
    grown = TimelineEntry.objects.filter(recorded_at__gte=since) if since else TimelineEntry.objects.all()
    last = (
        TimelineEntry.objects.filter(incident__in=grown.values("incident"))
        .order_by("incident_id", "-sequence")
        .distinct("incident_id")
        .values_list("incident__number", "sequence", "hash")
    )
    return {number: [sequence, digest] for number, sequence, digest in last}


def digest_of(day: date, heads: dict[str, list[Any]], previous: str) -> str:
    said = {"day": day.isoformat(), "heads": heads, "previous": previous}
    return hashlib.sha256(chain.canonical(said)).hexdigest()


# -- leaving -----------------------------------------------------------------------------------------------------------


def as_json(row: ChainDigest) -> bytes:
    """What leaves: the digest with all that it covers."""
    before = ChainDigest.objects.filter(day__lt=row.day).first()
    said = {
        "day": row.day.isoformat(),
        "made_at": row.made_at.isoformat(timespec="seconds"),
        "sha256": row.sha256,
        "previous": before.sha256 if before is not None else "",
        "entries": row.entries,
        "heads": row.heads,
    }
    return json.dumps(said, indent=1, sort_keys=True).encode()


def file_name(day: date) -> str:
    return f"chain-digest-{day:%Y-%m-%d}.json"


def send(row: ChainDigest) -> None:
    """To the second place and by mail, each once. What does not work is tried again in the next round."""
    folder = Path(settings.PORTAL_BACKUP_DIR)
    ways: list[tuple[str, Callable[[ChainDigest, str], None]]] = []
    if folder.is_dir():
        ways.append((str(folder / file_name(row.day)), _write))
    ways += [(address, _mail) for address in settings.CHAIN_DIGEST_TO]
    for place, way in ways:
        if place in row.sent_to:
            continue
        try:
            way(row, place)
        except (OSError, PortalError) as error:
            logger.warning("the digest of %s did not leave for %s: %s", row.day, place, error)
            continue
        row.sent_to = [*row.sent_to, place]
        row.save(update_fields=["sent_to"])


def _write(row: ChainDigest, place: str) -> None:
    write_whole(Path(place), as_json(row))


def _mail(row: ChainDigest, address: str) -> None:
    count = f"{len(row.heads)} timelines that have grown, {row.entries} entries"
    text = (
        f"SHA-256 {row.sha256}\n{count}.\n\nKeep this message. Saved as a file, `manage.py incidents verify --digest "
        f"FILE` compares the portal with it.\n\n{as_json(row).decode()}\n"
    )
    subject = f"Digest of the incident timelines of {row.day}"
    mail = Smtp(mail_server())
    try:
        mail.send(Message(f"chain-digest.{row.day}", subject, text, short=subject), address)
    finally:
        mail.close()


# -- looking -----------------------------------------------------------------------------------------------------------


def verify_all() -> list[str]:
    """Every timeline, and every digest the portal has kept. Sentences of what is wrong."""
    trouble = [
        sentence for incident in Incident.objects.order_by("pk").iterator() for sentence in chain.verify(incident)
    ]
    previous = ""
    for row in ChainDigest.objects.order_by("day"):
        if row.sha256 != digest_of(row.day, row.heads, previous):
            trouble.append(f"The digest of {row.day} is not what was made: its hash is another.")
        trouble += compare(f"the digest of {row.day}", row.heads)
        previous = row.sha256
    return trouble


def verify_file(path: Path) -> list[str]:
    """A digest that had left, against the timelines as they are now; also a whole message with one in it. Raises
    OSError and ValueError."""
    text = path.read_text()
    said = json.loads(text[text.index("{") : text.rindex("}") + 1])
    heads, day = said["heads"], date.fromisoformat(said["day"])
    if said["sha256"] != digest_of(day, heads, said["previous"]):
        return [f"{path} is no digest, or was changed: its hash is another."]
    return compare(str(path), heads)


def compare(name: str, heads: dict[str, list[Any]]) -> list[str]:
    """The entries that a digest names must be there, with the hash that it names."""
    trouble: list[str] = []
    for numbers in _parts(sorted(heads), 1000):
        wanted = TimelineEntry.objects.filter(
            incident__number__in=numbers, sequence__in={heads[number][0] for number in numbers}
        )
        there = {(number, sequence): digest for number, sequence, digest in _named(wanted)}
        for number in numbers:
            sequence, digest = heads[number]
            found = there.get((number, sequence))
            if found is None:
                trouble.append(f"{number}: entry {sequence} is gone, which {name} names.")
            elif found != digest:
                trouble.append(f"{number}, entry {sequence} or one before it is not what {name} says.")
    return trouble


def _named(rows: Any) -> Iterable[tuple[str, int, str]]:
    found: Iterable[tuple[str, int, str]] = rows.values_list("incident__number", "sequence", "hash")
    return found


def _parts(numbers: list[str], size: int) -> Iterable[list[str]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
