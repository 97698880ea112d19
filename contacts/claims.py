"""What is due is taken out of the outbox in parcels: everything for one reader by one way is one message.

A claim lasts a few seconds and is renewed while its process lives, so that what a dead process had taken is free soon.
Control workers take in turns, so that what each of them counts holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Min, Q
from django.db.models.functions import Now
from django.utils import timezone

from contacts.models import Notification
from contacts.routes import Routes, providers, routes_of

CLAIM = timedelta(seconds=8)
WINDOW = timedelta(minutes=10)
MOST_READERS = 400  # in one round
MOST_AT_ONCE = 10_000
# Any number that no other advisory lock of the portal uses.
ADVISORY_LOCK = 7_264_001
URGENT = Notification.Urgency.PAGE

Reader = tuple[str, int]
"""Whom a message is for: `("contact", 4)` or `("channel", 2)`."""


@dataclass
class Parcel:
    """What goes out as one message, the most urgent and oldest first."""

    rows: list[Notification]
    routes: Routes

    @property
    def lead(self) -> Notification:
        return self.rows[0]

    @property
    def urgent(self) -> bool:
        return any(row.urgency == URGENT for row in self.rows)

    @property
    def gravest(self) -> int | None:
        """The rank of the worst severity that its pages are about; 1 is the worst of all, None says there is none."""
        pages = [row.escalation for row in self.rows if row.urgency == URGENT and row.escalation is not None]
        return min((page.severity_rank for page in pages if page.severity_rank is not None), default=None)

    @property
    def ids(self) -> list[int]:
        return [row.pk for row in self.rows]


def take(most: int = MOST_READERS, *, most_messages: int = MOST_AT_ONCE) -> list[Parcel]:
    """Claim what is due for at most so many readers, and at most so many messages.

    Whoever has had enough for now waits, and gets all of it as one message later.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [ADVISORY_LOCK])
            if not cursor.fetchone()[0]:
                return []
        rows = _due(most, min(most_messages, MOST_AT_ONCE))
        if not rows:
            return []
        parcels = _parcels(rows)
        going = _allowed(parcels)
        ids = [pk for parcel in going for pk in parcel.ids]
        Notification.objects.filter(pk__in=ids).update(claimed_until=Now() + CLAIM)
    return going


def renew(ids: Iterable[int]) -> None:
    """Whoever holds them is alive."""
    Notification.objects.filter(pk__in=list(ids), state=Notification.State.PENDING).update(claimed_until=Now() + CLAIM)


def reader_of(row: Notification) -> Reader:
    return ("contact", row.contact_id) if row.contact_id else ("channel", row.channel_id or 0)


def _due(most: int, most_messages: int) -> list[Notification]:
    """Everything due for those whose turn it is, so that one message says it all."""
    first = Notification.objects.due().values_list("contact_id", "channel_id")[: most * 2]
    readers = list(dict.fromkeys(first))[:most]
    if not readers:
        return []
    theirs = Q(contact_id__in=[one for one, _ in readers if one]) | Q(channel_id__in=[one for _, one in readers if one])
    rows = Notification.objects.due().filter(theirs).select_for_update(skip_locked=True, no_key=True, of=("self",))
    ids = list(rows.values_list("pk", flat=True)[:most_messages])
    found = Notification.objects.filter(pk__in=ids).select_related("contact", "channel", "escalation")
    return list(found.prefetch_related("contact__ways").order_by("-urgency", "due_at", "pk"))


def _key(row: Notification, routes: Routes) -> tuple[Reader, str, int | None]:
    return reader_of(row), routes.first, row.only_way_id


def _parcels(rows: Sequence[Notification]) -> list[Parcel]:
    """One for each reader and way, but none where the message before is still on its way."""
    known = providers()
    found: dict[tuple[Reader, str, int | None], Parcel] = {}
    for row in rows:
        routes = routes_of(row, known)
        found.setdefault(_key(row, routes), Parcel([], routes)).rows.append(row)
    busy = _on_the_way({reader_of(row) for row in rows}).keys()
    return [parcel for key, parcel in found.items() if key not in busy]


def _of(readers: Iterable[Reader]) -> Q:
    ids: dict[str, list[int]] = {"contact": [], "channel": []}
    for kind, pk in readers:
        ids[kind].append(pk)
    return Q(contact_id__in=ids["contact"]) | Q(channel_id__in=ids["channel"])


def _on_the_way(readers: Iterable[Reader]) -> dict[tuple[Reader, str, int | None], bool]:
    """The parcels that somebody is sending to these just now, and whether they are urgent."""
    rows = Notification.objects.on_the_way().filter(_of(readers)).select_related("contact", "channel")
    found: dict[tuple[Reader, str, int | None], bool] = {}
    known = None
    for row in rows.prefetch_related("contact__ways"):
        known = providers() if known is None else known
        key = _key(row, routes_of(row, known))
        found[key] = found.get(key, False) or row.urgency == URGENT
    return found


def _allowed(parcels: list[Parcel]) -> list[Parcel]:
    """Without what is too much for its reader. News leave half of what is allowed to pages.

    A page about something graver than all that its reader was paged for lately is never too much.
    """
    parcels.sort(key=lambda parcel: (not parcel.urgent, parcel.lead.due_at, parcel.lead.pk))
    readers = {reader_of(parcel.lead) for parcel in parcels}
    counts = _lately(readers)
    going = []
    for parcel in parcels:
        reader = reader_of(parcel.lead)
        most = limit(urgent=parcel.urgent)
        # what cannot be sent disturbs nobody
        if counts[reader] < most or not parcel.routes.tries or _graver_than_lately(parcel):
            counts[reader] += 1 if parcel.routes.tries else 0
            going.append(parcel)
        else:
            _hold_back(parcel, most)
    return going


def _graver_than_lately(parcel: Parcel) -> bool:
    """Whether it says something graver than every page that went to its reader within the window.

    A page without a severity is the least grave: it never passes, and does not hold back one that has a severity.
    """
    rank = parcel.gravest
    if rank is None:
        return False
    pages = Notification.objects.filter(_of([reader_of(parcel.lead)]), urgency=URGENT)
    sent = pages.filter(sent_at__gt=timezone.now() - WINDOW).aggregate(rank=Min("escalation__severity_rank"))["rank"]
    return sent is None or rank < sent


def limit(*, urgent: bool) -> int:
    most = max(1, settings.NOTIFY_MAX)
    return most if urgent else max(1, most - most // 2)


def _sent_to(readers: Iterable[Reader], since: datetime) -> list[tuple[int | None, int | None, datetime]]:
    """When messages went out to these: what was said along with another does not count."""
    rows = Notification.objects.filter(_of(readers), sent_at__gt=since, sent_with=None).order_by("-sent_at")
    found = rows.values_list("contact_id", "channel_id", "sent_at")
    return [(contact, channel, at) for contact, channel, at in found if at is not None]


def _lately(readers: Iterable[Reader]) -> dict[Reader, int]:
    counts: dict[Reader, int] = defaultdict(int)
    for contact, channel, _ in _sent_to(readers, timezone.now() - WINDOW):
        counts[("contact", contact) if contact else ("channel", channel or 0)] += 1
    for reader, _, _ in _on_the_way(readers):
        counts[reader] += 1
    return counts


def _hold_back(parcel: Parcel, most: int) -> None:
    """Until enough of what went out is ten minutes old."""
    now = timezone.now()
    times = [at for *_, at in _sent_to([reader_of(parcel.lead)], now - WINDOW)]
    until = times[most - 1] + WINDOW if len(times) >= most else now + timedelta(seconds=10)
    sentence = f"Held back: this reader had {most} messages within ten minutes. It goes out together with others."
    Notification.objects.filter(pk__in=parcel.ids).update(due_at=until, message=sentence)
