"""The write path into escalations: begin, answer, climb by hand, give away, stop.

Each locks what the escalation is about first and its own row then; see contacts.engine for why.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import Value
from django.db.models.functions import Left, Replace
from django.utils import timezone

from catalog.models import Service, Severity
from contacts import engine, notifying, paging, policy, reach, subjects
from contacts.exceptions import ContactsError
from contacts.ladder import ANSWER_WITHIN, Ladder, Outcome, State, begin_round, ladder_of
from contacts.models import Contact, Escalation, Notification, StepRun
from contacts.news import ESCALATION_ACKNOWLEDGED, ESCALATION_STARTED, ESCALATION_STOPPED
from contacts.paging import Book, Told
from core.models import User
from operations import events

ANSWER = "contacts.answer_escalation"
TITLE_LENGTH = 300


@transaction.atomic
def start(
    subject: models.Model,
    *,
    title: str,
    service: Service | None,
    severity: Severity | None = None,
    situation: str = "",
    url: str | None = None,
    discreet: bool = False,
    by: User | None = None,
    now: datetime | None = None,
) -> Escalation:
    """Begin to tell people of `subject`, by the matrix as it is now. What ran for it before is replaced.

    `discreet`: severity and situation choose the row of the matrix, and nobody reads them.

    The first step is taken by the engine, within a second. Where no row fits, the fallback is told at once.
    """
    now = now or timezone.now()
    if (running := current(subject)) is not None:
        stop(running, ending=Escalation.Ending.REPLACED, by=by, now=now)
    version = policy.version_for(service)
    rule = policy.rule_of(version, severity, situation) if version is not None else None
    ladder = ladder_of(rule, service)
    row = Escalation(
        subject_type=subject._meta.label_lower,
        subject_id=subject.pk,
        title=title[:TITLE_LENGTH],
        url=url if url is not None else _page_of(subject),
        service=service,
        severity_words="" if discreet else str(severity or ""),
        severity_rank=severity.rank if severity is not None else None,
        situation="" if discreet else situation,
        version=version,
        rule=rule,
        fallback=version.policy.fallback if version is not None else None,
        started_at=now,
    )
    begin_round(row, ladder, now)
    row.save()
    first = "The first step is due at once." if row.due_at == now else f"The first step is due {row.due_at:%H:%M} UTC."
    sentence = f"An escalation began. {first}" if ladder.steps else "An escalation began."
    _publish(ESCALATION_STARTED, row, sentence, by)
    if not ladder.steps:
        with Book(now) as book:
            engine.climb(row, ladder, book)
        row.save(update_fields=engine.FIELDS)
    return row


def _page_of(subject: models.Model) -> str:
    return str(subject.get_absolute_url()) if hasattr(subject, "get_absolute_url") else ""


def current(subject: models.Model) -> Escalation | None:
    """The escalation of a subject that was not stopped."""
    return Escalation.objects.of(subject).exclude(state=State.STOPPED).first()


@transaction.atomic
def acknowledge(
    escalation: Escalation, *, by: User | None = None, contact: Contact | None = None, now: datetime | None = None
) -> Escalation:
    """Somebody has answered: nothing more goes out. Whoever answers second changes nothing.

    A contact answers by the link in a message, which is permission enough.
    """
    _check(by, escalation)
    row = _locked(escalation)
    if not row.is_open:
        return row
    row.state, row.due_at, row.acknowledged_at = State.ACKNOWLEDGED, None, now or timezone.now()
    row.acknowledged_by, row.acknowledged_by_user = contact, by
    row.save(update_fields=["state", "due_at", "acknowledged_at", "acknowledged_by", "acknowledged_by_user"])
    notifying.withdraw(row)
    who = str(contact or by or "the portal")
    data = {"contact": contact.pk if contact is not None else None}
    _publish(ESCALATION_ACKNOWLEDGED, row, f"Acknowledged by {who}.", by, actor=who, **data)
    return row


@transaction.atomic
def escalate_now(
    escalation: Escalation, *, by: User | None, to_position: int | None = None, now: datetime | None = None
) -> StepRun:
    """Take the next step at once, or a later one, whether it has a time or not. All others keep their times.

    Those between the next one and a later one too: whoever calls the director early has not called off the colleague.

    Also possible when somebody has answered and wants more people; the escalation stays acknowledged then.
    """
    _check(by, escalation)
    now = now or timezone.now()
    row = _locked(escalation)
    if row.state == State.STOPPED:
        raise ContactsError("This escalation is over. Nobody more is told.")
    ladder = ladder_of(row.rule, row.service)
    position = row.position if to_position is None else to_position
    if not ladder.has(position):
        raise ContactsError("There is no further level. Give it to somebody by name instead.")
    if row.runs.filter(round=row.round, position=position).exists():
        raise ContactsError("This level was told already. Choose one that was not.")
    answered, stays = row.state == State.ACKNOWLEDGED, _stays(row, position)
    before = (row.state, row.position, row.due_at)
    row.position = position
    with Book(now) as book:
        outcome = engine.take_step(row, ladder, book, Told(), by=by)
        if answered:
            row.state, row.due_at = State.ACKNOWLEDGED, None
        elif stays:
            row.state, row.position, row.due_at = before
            if outcome == Outcome.NOBODY and row.position < position and row.due_at is not None:
                row.due_at = min(row.due_at, now)
        if outcome == Outcome.NOBODY and row.is_open and not (row.due_at is not None and row.due_at <= now):
            engine.tell_of_nobody(row, book, f"{row.round}:{position}")  # unless the next step comes at once
    row.save(update_fields=engine.FIELDS)
    return row.runs.get(round=row.round, position=position)


def _stays(row: Escalation, position: int) -> bool:
    """Whether what was to come still comes when `position` is taken by hand.

    So it is after a level that was left out before, and before a later one while the next has a time. Levels without
    a time come by hand only: whoever passes them over means it.
    """
    return position < row.position or (position > row.position and row.state == State.ACTIVE)


@transaction.atomic
def reassign(
    escalation: Escalation, contact: Contact, *, by: User | None, reason: str = "", now: datetime | None = None
) -> Escalation:
    """Give it to somebody by name: the ladder ends, that contact is paged.

    Returns the escalation that stands for the page: it waits for this contact's answer, and ends as any other when
    none comes.
    """
    _check(by, escalation)
    if not contact.active:
        raise ContactsError(f"{contact} is switched off. Choose somebody who can be told.")
    if why := reach.why_no_way(contact, reach.sendable_kinds()):
        raise ContactsError(f"{contact} {why}, so no page would arrive. Choose somebody who can be told, or mend that.")
    now = now or timezone.now()
    old = _locked(escalation)
    if old.state == State.STOPPED:
        raise ContactsError("This escalation is over. There is nothing to give away.")
    reason = subjects.said(by, old, reason)
    words = f"Given to {contact} by {by or 'the portal'}." + (f" {reason}" if reason else "")
    _stop(old, Escalation.Ending.REASSIGNED, by, now, words)
    ladder = ladder_of(old.rule, old.service)
    row = Escalation.objects.get(pk=old.pk)
    row.pk, row.state, row.ended_at, row.ending = None, State.ACTIVE, None, ""
    row.acknowledged_at = row.acknowledged_by = row.acknowledged_by_user = None
    row._state.adding = True
    row.given_to = contact
    row.round_at, row.round, row.position, row.due_at = now, ladder.repeats, len(ladder.steps), now + ANSWER_WITHIN
    row.save(force_insert=True)
    paging.page_given(row, contact, Book(now), reason=words)
    _publish(ESCALATION_STARTED, row, words, by, contact=contact.pk)
    return row


@transaction.atomic
def stop(escalation: Escalation, *, ending: str, by: User | None = None, now: datetime | None = None) -> Escalation:
    """It is over: resolved, replaced or withdrawn. Called by the rooms that know; they have asked for permission."""
    row = _locked(escalation)
    if row.state != State.STOPPED:
        _stop(row, ending, by, now or timezone.now())
    return row


def _stop(row: Escalation, ending: str, by: User | None, now: datetime, words: str = "") -> None:
    row.state, row.due_at, row.ended_at, row.ending = State.STOPPED, None, now, Escalation.Ending(ending)
    row.save(update_fields=["state", "due_at", "ended_at", "ending"])
    notifying.withdraw(row)
    _publish(ESCALATION_STOPPED, row, words or f"The escalation is over: {row.get_ending_display().lower()}.", by)


@transaction.atomic
def rename(subject: models.Model, title: str) -> None:
    """What is wrong is called otherwise: so say all messages from now on, those that wait to be sent too."""
    running = current(subject)
    if running is None:
        return
    row, title = _locked(running), title[:TITLE_LENGTH]
    waiting = row.notifications.filter(state=Notification.State.PENDING)
    before, after = Value(row.title), Value(title)
    waiting.update(subject=Left(Replace("subject", before, after), TITLE_LENGTH), body=Replace("body", before, after))
    row.title = title
    row.save(update_fields=["title"])


def levels_left(row: Escalation, ladder: Ladder | None = None) -> list[tuple[int, Any]]:
    """The steps that were not taken in this round, with their positions: what can be escalated to."""
    ladder = ladder or ladder_of(row.rule, row.service)
    taken = {run.position for run in row.runs.all() if run.round == row.round}
    return [(position, step) for position, step in enumerate(ladder.steps) if position not in taken]


def _check(by: User | None, escalation: Escalation) -> None:
    """A person needs the permission, and to be one whom the subject concerns; rules and links bring no person."""
    if by is not None and not by.has_perm(ANSWER):
        raise PermissionDenied("Your role does not allow you to answer escalations. Ask an administrator for one.")
    if by is not None and not subjects.may_act(by, escalation):
        raise PermissionDenied("This escalation is about something that only people named in it may see.")


def _locked(escalation: Escalation) -> Escalation:
    """The row as it is now, locked after its subject."""
    try:
        model = apps.get_model(escalation.subject_type)
    except (LookupError, ValueError):
        pass
    else:
        model._base_manager.select_for_update(no_key=True, of=("self",)).filter(pk=escalation.subject_id).first()
    rows = Escalation.objects.select_for_update(of=("self",), no_key=True)
    return rows.select_related("service__business_hours", "fallback", "rule").get(pk=escalation.pk)


def _publish(name: str, row: Escalation, sentence: str, by: User | None, actor: str = "", **more: Any) -> None:
    data = engine.news_of(row, sentence, actor=actor or str(by or ""), **more)
    events.publish(name, f"{row.title}. {sentence}", subject=row, data=data)
