"""How it went is written down: what was taken is sent, what was not is due again after a pause, or given up."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from contacts import notifying
from contacts.claims import Parcel
from contacts.models import Attempt, Notification
from contacts.news import NOTIFICATION_FAILED
from operations import events

State = Notification.State
# After every way of a reader has failed, in seconds; after the last it is given up: some nine hours in all.
PAUSES = (10, 60, 300, 1800, 7200, 21600)
JITTER = 0.1


@dataclass
class Result:
    """What became of a parcel. `hopeless`: no way exists, and waiting would not make one."""

    parcel: Parcel
    attempts: list[Attempt] = field(default_factory=list)
    hopeless: str = ""

    @property
    def taken(self) -> bool:
        return bool(self.attempts) and self.attempts[-1].taken

    @property
    def sentence(self) -> str:
        """How it went last; of several ways that failed, what each said."""
        if self.hopeless or self.taken or len(self.attempts) == 1:
            return self.hopeless or self.attempts[-1].message
        return " ".join(f"{attempt.through}: {attempt.message}" for attempt in self.attempts)


@transaction.atomic
def write_down(results: Sequence[Result]) -> None:
    """All of these at once."""
    now = timezone.now()
    Attempt.objects.bulk_create([attempt for result in results for attempt in result.attempts])
    _sent([result for result in results if result.taken], now)
    for result in results:
        if not result.taken:
            _not_sent(result, now)


def _sent(results: Sequence[Result], now: datetime) -> None:
    """Whoever has withdrawn it meanwhile, or claimed it: it has gone out."""
    said: dict[str, list[int]] = defaultdict(list)
    for result in results:
        said[result.sentence].append(result.parcel.lead.pk)
    for sentence, ids in said.items():
        _mark_sent(ids, sentence, now)
    for result in results:
        if others := result.parcel.ids[1:]:
            _mark_sent(others, "Said in the same message as others.", now, sent_with=result.parcel.lead)


def _mark_sent(ids: list[int], sentence: str, now: datetime, sent_with: Notification | None = None) -> None:
    Notification.objects.filter(pk__in=ids, state__in=(State.PENDING, State.CANCELLED)).update(
        state=State.SENT, due_at=None, claimed_until=None, sent_at=now, sent_with=sent_with, message=sentence
    )


def _not_sent(result: Result, now: datetime) -> None:
    """Only where nobody else has written down a try since."""
    for row in result.parcel.rows:
        theirs = Notification.objects.filter(pk=row.pk, state=State.PENDING, tries=row.tries)
        tries = row.tries + (0 if result.hopeless else 1)
        values = {"tries": tries, "claimed_until": None, "message": result.sentence}
        if result.hopeless or tries > len(PAUSES):
            if theirs.update(state=State.FAILED, due_at=None, **values):
                _tell_of(row, result.sentence)
        else:
            pause_s = PAUSES[tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  no secret
            theirs.update(due_at=now + timedelta(seconds=pause_s), **values)


def _tell_of(row: Notification, why: str) -> None:
    """That a message was given up is news, and the administrators' business when it was a page. They are told by news,
    so that what fails on the way to them calls nobody again."""
    reader = str(row.contact or row.channel)
    data = {
        "notification": row.pk,
        "contact": row.contact_id,
        "channel": row.channel_id,
        "urgency": row.urgency,
        "escalation": row.escalation_id,
    }
    events.publish(NOTIFICATION_FAILED, f"A message to {reader} was given up. {why}", subject=row, data=data)
    if row.urgency == Notification.Urgency.PAGE:
        notifying.notify_administrators(
            key=f"notification-failed:{row.pk}:{row.attempts.count()}",
            subject=f"{reader} was not reached",
            body=f"A page to {reader} was given up: {row.subject}\n\n{why}",
            url=row.get_absolute_url(),
        )
