"""Escalations climb here, from the control worker: whatever is due is taken, each step once.

Due times are rows, so no crash and no broker loses one. Any number of workers may climb at once: a batch is claimed
with SKIP LOCKED, and what is written of a step — its record, its messages, its news, the next due time — is one
transaction. Nothing here waits for a lock: what somebody else holds has its turn in the next round.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db import DatabaseError, connection, transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from contacts import paging
from contacts.ladder import Ladder, Outcome, State, begin_round, ladders_of, lateness_from, move_on
from contacts.models import Escalation, StepRun
from contacts.news import ESCALATION_EXHAUSTED, ESCALATION_STEP
from contacts.paging import Book, Told
from core.templatetags.portal import human_duration
from operations import duties
from operations.events import News

logger = logging.getLogger(__name__)

EVERY_S = 0.5
AT_ONCE = 100
"""So many are claimed in one transaction: few enough that nobody waits long for one of them."""
AGAIN_AFTER = timedelta(seconds=15)
"""When one that could not be climbed has its next turn."""

REACHED_NOBODY = "A step of this escalation reached nobody. Mend the escalation matrix or the on-call schedule."
SAVE = """
    UPDATE contacts_escalation AS row
    SET state = new.state, round = new.round, round_at = new.round_at, position = new.position, due_at = new.due_at,
        again_at = new.again_at
    FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::timestamptz[], %s::int[], %s::timestamptz[], %s::timestamptz[])
        AS new (id, state, round, round_at, position, due_at, again_at)
    WHERE row.id = new.id
"""
FIELDS = ("state", "round", "round_at", "position", "due_at", "again_at")


def climb_due(limit: int = 200, *, now: datetime | None = None) -> int:
    """Take every step that is due, of at most `limit` escalations. Returns how many escalations were climbed."""
    climbed = 0
    while climbed < limit and not duties.stopping.is_set():
        most = min(AT_ONCE, limit - climbed)
        count = _climb_batch(most, now)
        climbed += count
        if count < most:
            break  # what has become due meanwhile is taken with more of its kind in the next round
    return climbed


def _climb_batch(limit: int, at: datetime | None) -> int:
    with transaction.atomic():
        now = at or timezone.now()
        rows = _claim(limit, now)
        if not rows:
            return 0
        try:
            with transaction.atomic():
                _climb_all(rows, now)
        except Exception as error:
            _raise_if_gone(error)
            logger.warning("A batch of escalations could not be climbed at once, so one by one: %s", error)
            _climb_each([row.pk for row in rows], now)
    return len(rows)


def _claim(limit: int, now: datetime) -> list[Escalation]:
    """Lock what is due and what it is about; what others hold is left out.

    Whoever works on a subject locks it first and its escalation then. Not waiting here for the subject keeps the two
    orders from ever meeting.
    """
    due = Escalation.objects.filter(state=State.ACTIVE, due_at__lte=now).order_by("due_at", "pk")
    rows = list(due.select_for_update(skip_locked=True, no_key=True)[:limit])
    held = _held(rows)
    return [row for row in rows if (row.subject_type, row.subject_id) not in held]


def _held(rows: Sequence[Escalation]) -> set[tuple[str, int]]:
    """The subjects that somebody else works on right now."""
    wanted: dict[str, set[int]] = {}
    for row in rows:
        wanted.setdefault(row.subject_type, set()).add(row.subject_id)
    held = set()
    for label, ids in wanted.items():
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError):
            continue  # a kind of thing that this portal does not have any more
        known = model._base_manager.filter(pk__in=ids)
        locked = set(
            known.order_by("pk")
            .select_for_update(skip_locked=True, no_key=True, of=("self",))
            .values_list("pk", flat=True)
        )
        if len(locked) < len(ids):
            there = set(known.values_list("pk", flat=True))
            held |= {(label, pk) for pk in there - locked}
    return held


def _climb_all(rows: Sequence[Escalation], now: datetime) -> None:
    ladders = ladders_of(rows)
    coming = [target for row in rows for target in ladders[row.pk].targets(row.position)]
    prefetch_related_objects(list({target.pk: target for target in coming}.values()), "contact__ways")
    with Book(now) as book:
        book.read_runs(rows)
        for row in rows:
            climb(row, ladders[row.pk], book)
    _save(rows)


def _save(rows: Sequence[Escalation]) -> None:
    """In one statement whatever their number; Django's own bulk_update takes as long as all the rest."""
    columns = [[getattr(row, name) for row in rows] for name in ("pk", *FIELDS)]
    with connection.cursor() as cursor:
        cursor.execute(SAVE, columns)


def _climb_each(pks: Sequence[int], now: datetime) -> None:
    """Whichever fails is put off a little and holds up no other."""
    for pk in pks:
        row = Escalation.objects.get(pk=pk)
        try:
            with transaction.atomic():
                _climb_all([row], now)
                connection.check_constraints()
        except Exception as error:
            _raise_if_gone(error)
            logger.exception("Escalation %s could not be climbed; it is tried again in a little while", pk)
            Escalation.objects.filter(pk=pk).update(due_at=now + AGAIN_AFTER)


def _raise_if_gone(error: Exception) -> None:
    """Without a connection nothing of this transaction can be saved any more."""
    if isinstance(error, DatabaseError) and (connection.connection is None or connection.connection.closed):
        raise error


def climb(row: Escalation, ladder: Ladder, book: Book) -> None:
    """All that is due of one escalation, in one pass: overdue steps become one message a person.

    Its row is locked, and saved by the caller.
    """
    told, unreached = Told(), ""
    while row.state == State.ACTIVE and row.due_at is not None and row.due_at <= book.at:
        if ladder.has(row.position):
            step = f"{row.round}:{row.position}"
            if take_step(row, ladder, book, told) == Outcome.NOBODY:
                unreached = unreached or step
        elif row.round < ladder.repeats and ladder.steps:
            row.round += 1
            begin_round(row, ladder, book.at)
        else:
            _exhaust(row, ladder, book)
    if unreached and row.state != State.EXHAUSTED:
        urgency = paging.NEWS if told.contacts or told.channels else paging.PAGE
        tell_of_nobody(row, book, unreached, urgency=urgency)


def tell_of_nobody(row: Escalation, book: Book, step: str, *, urgency: str = paging.PAGE) -> None:
    """The fallback hears of a step (`round:position`) that reached nobody.

    The key names step and urgency: news of an earlier step must never stand in for the page of a later one.
    """
    paging.tell_fallback(row, book, key=f"nobody:{step}:{urgency}", reason=REACHED_NOBODY, urgency=urgency)


def take_step(row: Escalation, ladder: Ladder, book: Book, told: Told, *, by: Any = None) -> str:
    """Tell whoever the next step names, write it down and stand before what comes then. Returns the outcome."""
    run = StepRun(escalation=row, round=row.round, position=row.position, due_at=book.at, at=timezone.now(), by=by)
    if row.due_at is not None and by is None:
        run.due_at = lateness_from(row, ladder)
    run.outcome, run.sentence = paging.tell(row, ladder, book, told)
    book.taken.append(run)
    book.runs_of(row).append(run)
    taken = {each.position: each.outcome for each in book.runs_of(row) if each.round == row.round}
    move_on(row, ladder, run.outcome, book.at, taken)
    which = f"Step {run.position + 1} of {len(ladder.steps)}"
    sentence = f"{which}: {run.get_outcome_display().lower()}. {run.sentence}."
    data = news_of(row, sentence, actor=str(by or ""), position=run.position, outcome=run.outcome)
    book.news.append(News(ESCALATION_STEP, f"{row.title}. {sentence}", row, data))
    return run.outcome


def _exhaust(row: Escalation, ladder: Ladder, book: Book) -> None:
    """Nobody has answered, and nobody is left to be told."""
    sentence = _why_exhausted(row, ladder, book)
    row.state, row.due_at = State.EXHAUSTED, None
    row.round_at, row.again_at = book.at, book.at + ladder.pause
    paging.tell_fallback(row, book, key=f"exhausted:{row.round}", reason=sentence)
    book.news.append(News(ESCALATION_EXHAUSTED, f"{row.title}. {sentence}", row, news_of(row, sentence)))


def tell_again(now: datetime | None = None) -> int:
    """Whom nobody has answered in spite of the fallback: the fallback and the administrators are paged again, after the
    pause of the row, and then each time it has lasted twice as long. Returns how many were told of."""
    now = now or timezone.now()
    late = Escalation.objects.filter(state=State.EXHAUSTED, again_at__lte=now).order_by("again_at")
    told = 0
    for pk in list(late.values_list("pk", flat=True)[:AT_ONCE]):
        with transaction.atomic():
            row = late.filter(pk=pk).select_for_update(skip_locked=True, no_key=True).first()
            if row is None or _held([row]):
                continue
            _tell_again(row, now)
            told += 1
    return told


def _tell_again(row: Escalation, now: datetime) -> None:
    """`round_at` is when the ladder ended."""
    assert row.again_at is not None
    lasted = now - row.round_at
    sentence = f"Still nobody has answered, {human_duration(round(lasted.total_seconds()))} after the ladder ended."
    with Book(now) as book:
        key = f"unanswered:{row.round}:{row.again_at:%Y%m%d%H%M%S}"
        paging.tell_fallback(row, book, key=key, reason=sentence, administrators=True)
        book.news.append(News(ESCALATION_EXHAUSTED, f"{row.title}. {sentence}", row, news_of(row, sentence)))
    row.again_at = now + lasted
    row.save(update_fields=["again_at"])


def _why_exhausted(row: Escalation, ladder: Ladder, book: Book) -> str:
    """One that was given to somebody has taken no step, and waited for that contact alone."""
    if book.runs_of(row):
        return "Nobody has answered, and the ladder is at its end."
    if (contact := row.given_to) is not None:
        return f"{contact} has not answered."
    if ladder.steps:
        return "Nobody has answered."
    return "No row of the escalation matrix says who is to be told."


def news_of(row: Escalation, sentence: str, *, actor: str = "", **more: Any) -> dict[str, Any]:
    """What an event about an escalation carries."""
    return {
        "escalation": row.pk,
        "subject_type": row.subject_type,
        "subject_id": row.subject_id,
        "severity": row.severity_words,
        "sentence": sentence,
        "actor": actor,
        **more,
    }


duties.declare("escalation", lambda: EVERY_S, lambda: climb_due())
duties.declare("unanswered", lambda: AGAIN_AFTER.total_seconds(), lambda: tell_again())
