"""Taking a step: find who is behind its targets, and put a message for each of them into the outbox."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from contacts import notifying, reach
from contacts.ladder import Ladder, Outcome
from contacts.models import Contact, Escalation, Notification, QueueEntry, Step, StepRun, Target
from operations.events import News, publish_all

PAGE, NEWS = Notification.Urgency.PAGE, Notification.Urgency.NEWS
SUBJECT_LENGTH = 140


@dataclass
class Book:
    """One pass: what it has found out already, and what it has to write. A context manager: all is written at its end.

    with Book(now) as book:
        climb(row, ladder, book)
    """

    at: datetime
    reached: dict[int, reach.Reached] = field(default_factory=dict)
    runs: dict[int, list[StepRun]] = field(default_factory=dict)
    taken: list[StepRun] = field(default_factory=list)
    queued: list[QueueEntry] = field(default_factory=list)
    news: list[News] = field(default_factory=list)
    _together: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Book:
        self._together.enter_context(notifying.together())
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self._together.__exit__(kind, *rest)
            return
        self._together.close()
        StepRun.objects.bulk_create(self.taken)
        QueueEntry.objects.bulk_create(self.queued, ignore_conflicts=True)
        publish_all(self.news)

    def behind(self, target: Target) -> reach.Reached:
        if target.pk not in self.reached:
            self.reached[target.pk] = reach.resolve(target, self.at, self.sendable)
        return self.reached[target.pk]

    @cached_property
    def sendable(self) -> frozenset[str]:
        return reach.sendable_kinds()

    def runs_of(self, row: Escalation) -> list[StepRun]:
        if row.pk not in self.runs:
            self.runs[row.pk] = list(row.runs.all())
        return self.runs[row.pk]

    def read_runs(self, rows: Iterable[Escalation]) -> None:
        """Those of many at once."""
        self.runs |= {row.pk: [] for row in rows}
        for run in StepRun.objects.filter(escalation__in=list(self.runs)):
            self.runs[run.escalation_id].append(run)


@dataclass
class Told:
    """Who was told in a pass: whoever is named again is not told again."""

    contacts: set[int] = field(default_factory=set)
    channels: set[int] = field(default_factory=set)


def tell(row: Escalation, ladder: Ladder, book: Book, told: Told) -> tuple[str, str]:
    """Tell everybody behind the step at the escalation's position. Returns the outcome and whom, in words."""
    step = ladder.steps[row.position]
    key = f"escalation:{row.pk}:{row.round}:{row.position}"
    words, people, queued = [], 0, 0
    for target in step.targets.all():
        found = book.behind(target)
        words.append(found.words)
        for contact in found.contacts:
            people += 1
            if contact.pk not in told.contacts:
                told.contacts.add(contact.pk)
                _page(row, ladder, step, contact, book, key)
        for channel in found.channels:
            people += 1
            if channel.pk not in told.channels:
                told.channels.add(channel.pk)
                notifying.notify_channel(
                    channel,
                    key=f"{key}:channel:{channel.pk}",
                    subject=subject_of(row),
                    body=body_of(row, ladder, book),
                    url=url_of(row),
                    urgency=PAGE,
                    escalation=row,
                )
        for queue in found.queues:
            queued += 1
            book.queued.append(QueueEntry(queue=queue, escalation=row, at=book.at))
    outcome = Outcome.TOLD if people else Outcome.QUEUED if queued else Outcome.NOBODY
    return outcome, "; ".join(words) or "The step names nobody"


def _page(row: Escalation, ladder: Ladder, step: Step, contact: Contact, book: Book, key: str) -> None:
    notifying.notify_contact(
        contact,
        key=f"{key}:contact:{contact.pk}",
        subject=subject_of(row),
        body=body_of(row, ladder, book, contact.time_zone),
        url=url_of(row),
        urgency=PAGE,
        ways=tuple(step.channels),
        escalation=row,
    )


def tell_fallback(
    row: Escalation, book: Book, *, key: str, reason: str, urgency: str = PAGE, administrators: bool = False
) -> None:
    """Tell whom the matrix named for what reaches nobody; every administrator where it named nobody who is there, or
    where they are to hear of it as well."""
    message = {
        "subject": subject_of(row),
        "body": f"{reason}\n\n{body_of(row, None, book)}",
        "url": url_of(row),
        "urgency": urgency,
    }
    key = f"escalation:{row.pk}:{key}"
    there = row.fallback is not None and row.fallback.active
    if row.fallback is not None and there:
        notifying.notify_contact(row.fallback, key=key, escalation=row, **message)
    if administrators or not there:
        notifying.notify_administrators(key=key, escalation=row, **message)


def page_given(row: Escalation, contact: Contact, book: Book, *, reason: str) -> None:
    """Page whom an escalation was given to by name."""
    notifying.notify_contact(
        contact,
        key=f"escalation:{row.pk}:given:contact:{contact.pk}",
        subject=subject_of(row),
        body=f"{reason}\n\n{body_of(row, None, book, contact.time_zone)}",
        url=url_of(row),
        urgency=PAGE,
        escalation=row,
    )


# --- what messages say --------------------------------------------------------------------------------------------


def subject_of(row: Escalation) -> str:
    """Short enough for a phone: `P0 Critical: The shop does not answer`."""
    text = f"{row.severity_words}: {row.title}" if row.severity_words else row.title
    return text if len(text) <= SUBJECT_LENGTH else f"{text[: SUBJECT_LENGTH - 1]}…"


def url_of(row: Escalation) -> str:
    return row.url or row.get_absolute_url()


def body_of(row: Escalation, ladder: Ladder | None, book: Book, time_zone: str = "UTC") -> str:
    """What is wrong, how bad, since when, and who was told before, in the zone of whoever reads it."""
    zone = ZoneInfo(time_zone)
    lines = [row.title]
    if row.severity_words:
        lines.append(f"Severity: {row.severity_words}")
    if row.situation:
        lines.append(f"Situation: {row.situation}")
    lines.append(f"Since: {_clock(row.started_at, zone)}")
    runs = book.runs_of(row)
    if ladder is not None and len(ladder.steps) > 1:
        lines.append(f"This is step {row.position + 1} of {len(ladder.steps)}.")
    if runs:
        lines.append("Told before, without an answer so far:")
        lines += [f"- {_clock(run.at, zone)}: {run.sentence}" for run in runs]
    return "\n".join(lines)


def _clock(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
