"""What is due is taken out of the outbox in parcels: everything for one reader by one way is one message.

A claim lasts a few seconds and is renewed while its process lives, so that what a dead process had taken is free soon.
Control workers take in turns, so that what each of them counts holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Max, Min, Q
from django.db.models.functions import Now
from django.utils import timezone

from contacts.models import Notification
from contacts.querysets import NotificationQuerySet
from contacts.routes import Routes, providers, routes_of

CLAIM = timedelta(seconds=8)
WINDOW = timedelta(minutes=10)
MOST_READERS = 400  # in one round
# What messages that are asked for alike have in common; they will be the same parcel.
ASKED = ("contact_id", "channel_id", "way", "only_way_id")
MOST_AT_ONCE = 10_000
# Any number that no other advisory lock of the portal uses.
ADVISORY_LOCK = 7_264_001
URGENT = Notification.Urgency.PAGE

Reader = tuple[str, int]
"""Whom a message is for: `("contact", 4)` or `("channel", 2)`."""
Key = tuple[Reader, str, int | None]
"""What may be one message: a reader, the first way to it, and the only way where that alone is asked for."""


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
        busy = _on_the_way({reader_of(row) for row in rows})
        going = _allowed(_parcels(rows, busy), busy)
        ids = [pk for parcel in going for pk in parcel.ids]
        Notification.objects.filter(pk__in=ids).update(claimed_until=Now() + CLAIM)
    return going


def renew(ids: Iterable[int]) -> None:
    """Whoever holds them is alive."""
    Notification.objects.filter(pk__in=list(ids), state=Notification.State.PENDING).update(claimed_until=Now() + CLAIM)


def reader_of(row: Notification) -> Reader:
    return _reader(row.contact_id, row.channel_id)


def _reader(contact: int | None, channel: int | None) -> Reader:
    return ("contact", contact) if contact else ("channel", channel or 0)


def _due(most: int, most_messages: int) -> list[Notification]:
    """Everything due for those whose turn it is, so that one message says it all.

    Whoever waits for the message before is left out here already, and a reader counts once, however much is due: else
    one reader's backlog would take the turn of all others.
    """
    before = set(Notification.objects.on_the_way().values_list(*ASKED).distinct())
    turns = Notification.objects.due().order_by().values(*ASKED).annotate(gravest=Max("urgency"), since=Min("due_at"))
    asked = [each for each in turns.order_by("-gravest", "since").values_list(*ASKED) if each not in before][:most]
    if not asked:
        return []
    due = Notification.objects.due().filter(_asked(asked))
    rows = due.select_for_update(skip_locked=True, no_key=True, of=("self",))
    ids = list(rows.values_list("pk", flat=True)[:most_messages])
    found = Notification.objects.filter(pk__in=ids).prefetch_related("contact__ways", "channel")
    return list(found.order_by("-urgency", "due_at", "pk"))


def _asked(wanted: Iterable[tuple[Any, ...]]) -> Q:
    """The messages that have one of these values of `ASKED`."""
    readers: dict[tuple[str, int | None], list[Reader]] = defaultdict(list)
    for contact, channel, way, only in wanted:
        readers[way, only].append(_reader(contact, channel))
    found = Q(pk=None)
    for (way, only), each in readers.items():
        found |= _of(each) & Q(way=way, only_way=only)
    return found


def _key(row: Notification, routes: Routes) -> Key:
    return reader_of(row), routes.first, row.only_way_id


def _parcels(rows: Sequence[Notification], busy: set[Key]) -> list[Parcel]:
    """One for each reader and way, but none where the message before is still on its way."""
    known = providers()
    found: dict[Key, Parcel] = {}
    for row in rows:
        routes = routes_of(row, known)
        found.setdefault(_key(row, routes), Parcel([], routes)).rows.append(row)
    return [parcel for key, parcel in found.items() if key not in busy]


def _of(readers: Iterable[Reader]) -> Q:
    ids: dict[str, list[int]] = {"contact": [], "channel": []}
    for kind, pk in readers:
        ids[kind].append(pk)
    return Q(contact_id__in=ids["contact"]) | Q(channel_id__in=ids["channel"])


def _on_the_way(readers: Iterable[Reader]) -> set[Key]:
    """The parcels that somebody is sending to these just now. One message of each is enough to know it."""
    rows = Notification.objects.on_the_way().filter(_of(readers)).order_by(*ASKED).distinct(*ASKED)
    known = providers()
    return {_key(row, routes_of(row, known)) for row in rows.prefetch_related("contact__ways", "channel")}


def _allowed(parcels: list[Parcel], busy: set[Key]) -> list[Parcel]:
    """Without what is too much for its reader. News leave half of what is allowed to pages.

    A page about something graver than all that its reader was paged for lately is never too much.
    """
    parcels.sort(key=lambda parcel: (not parcel.urgent, parcel.lead.due_at, parcel.lead.pk))
    counts = _lately({reader_of(parcel.lead) for parcel in parcels})
    for reader, _, _ in busy:
        counts[reader] += 1
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
    pages = Notification.objects.filter(_of([reader_of(parcel.lead)]), urgency=URGENT)
    rank = _worst(pages.filter(pk__in=parcel.ids))
    if rank is None:
        return False
    sent = _worst(pages.filter(sent_at__gt=timezone.now() - WINDOW))
    return sent is None or rank < sent


def _worst(pages: NotificationQuerySet) -> int | None:
    """The rank of the worst severity that these are about; 1 is the worst of all, None says there is none."""
    rank: int | None = pages.aggregate(rank=Min("escalation__severity_rank"))["rank"]
    return rank


def limit(*, urgent: bool) -> int:
    most = max(1, settings.NOTIFY_MAX)
    return most if urgent else max(1, most - most // 2)


def _sent_to(readers: Iterable[Reader]) -> NotificationQuerySet:
    """The messages that went out to these within the window: what was said along with another does not count."""
    return Notification.objects.filter(_of(readers), sent_at__gt=timezone.now() - WINDOW, sent_with=None)


def _lately(readers: Iterable[Reader]) -> dict[Reader, int]:
    counts: dict[Reader, int] = defaultdict(int)
    found = _sent_to(readers).order_by().values_list("contact_id", "channel_id").annotate(Count("pk"))
    for contact, channel, count in found:
        counts[_reader(contact, channel)] = count
    return counts


def _hold_back(parcel: Parcel, most: int) -> None:
    """Until enough of what went out is ten minutes old."""
    sent = _sent_to([reader_of(parcel.lead)]).order_by("-sent_at").values_list("sent_at", flat=True)
    times = list(sent[most - 1 : most])
    until = times[0] + WINDOW if times and times[0] else timezone.now() + timedelta(seconds=10)
    sentence = f"Held back: this reader had {most} messages within ten minutes. It goes out together with others."
    Notification.objects.filter(pk__in=parcel.ids).update(due_at=until, message=sentence)
