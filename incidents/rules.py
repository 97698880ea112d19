"""What opens incidents by itself: news, and a look at the recovery points, by the rules that people have set.

The receiver only keeps the piece of news, in the transaction of what it reports: nothing here can break the end of an
operation, and no crash loses a cause. A duty of the control worker looks at what was kept, one piece after the other,
one worker at a time.

A cause is one thing that goes wrong (`backup-failed:plan:7`). It has one open incident, which is updated and not opened
again; when the thing goes well, the incident resolves by itself. When the same thing goes wrong within the quiet time,
that incident is reopened and nobody is paged. Several causes of one service at the same time have an incident each, and
one page between them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from catalog.models import Service, Severity
from contacts import notifying
from contacts.actions import escalation as escalations
from contacts.models import Escalation, Notification, StepRun
from incidents import causes
from incidents.actions import escalating, relate, work
from incidents.actions.declare import declare
from incidents.actions.writing import note_that
from incidents.causes import Sighting
from incidents.models import Cause, CauseNews, CauseRule, CoreState, Incident
from incidents.timeline import Kind
from operations import duties, events
from operations.models import Event

logger = logging.getLogger(__name__)

MOST_TRIES = 5
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (10, 60, 600, 3600))
AT_ONCE = 200
# Causes of one service that show within this time share a page.
TOGETHER = timedelta(minutes=10)
LOCK = "incidents.rules"
RULE = Incident.Door.RULE


@events.receiver(*causes.HEARD)
def keep(event: Event) -> None:
    """For the duty, where a rule might want it."""
    if CauseRule.objects.filter(enabled=True).exists():
        CauseNews.objects.create(event=event)


# -- the duty ----------------------------------------------------------------------------------------------------------


def work_off(limit: int = AT_ONCE) -> int:
    """Look at the news that was kept, the oldest first. Returns how many."""
    done = 0
    while done < limit and not duties.stopping.is_set() and _next():
        done += 1
    return done


def _next() -> bool:
    """One piece of news, in a transaction of its own."""
    with _alone() as mine:
        due = CauseNews.objects.filter(due_at__lte=timezone.now()).select_related("event__operation")
        kept = due.order_by("tries", "pk").first() if mine else None
        if kept is None:
            return False
        try:
            with transaction.atomic():
                for sighting in causes.sightings_of(kept.event):
                    take(sighting)
                kept.delete()
        except (DatabaseError, InterfaceError):
            if connection.connection is None or connection.connection.closed:
                raise
            _put_back(kept)
        except Exception:
            _put_back(kept)
        return True


def _put_back(kept: CauseNews) -> None:
    """Try it again later, with growing pauses: what stands in the way may pass. In the end people are told."""
    kept.tries += 1
    logger.exception("the rules could not take %s (try %s of %s)", kept.event, kept.tries, MOST_TRIES)
    if kept.tries < MOST_TRIES:
        kept.due_at = timezone.now() + PAUSES[kept.tries - 1]
        kept.save(update_fields=["tries", "due_at"])
        return
    notifying.notify_administrators(
        key=f"cause-news:{kept.pk}",
        subject="A cause could not be looked at",
        body=f"{kept.event.sentence} The rules failed {MOST_TRIES} times; the log of the portal says why.",
        url=kept.event.url,
        urgency=Notification.Urgency.PAGE,
    )
    kept.delete()


@contextmanager
def _alone() -> Iterator[bool]:
    """In a transaction; whether no other worker applies rules right now."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [LOCK])
        (mine,) = cursor.fetchone()
        yield bool(mine)


def look_at_recovery_points(now: datetime | None = None) -> int:
    """The RPO has no news of its own: the board is looked at. Returns how many databases are beyond it."""
    if not CauseRule.objects.filter(enabled=True, cause=CauseRule.Cause.RPO_BREACHED).exists():
        return 0
    found = causes.rpo_sightings(now or timezone.now())
    known = set(Cause.objects.filter(gone_at=None, key__in=[each.key for each in found]).values_list("key", flat=True))
    for sighting in found:
        if sighting.bad or sighting.key in known:
            _take_alone(sighting)
    return sum(sighting.bad for sighting in found)


def _take_alone(sighting: Sighting) -> None:
    """One that goes wrong is looked at again the next time and holds up no other."""
    try:
        with _alone() as mine:
            if mine:
                take(sighting)
    except Exception:
        if connection.connection is None or connection.connection.closed:
            raise
        logger.exception("the rules could not take %s", sighting.key)


# -- one sighting ------------------------------------------------------------------------------------------------------


def rule_for(kind: str, service: Service | None) -> CauseRule | None:
    """The rule of the service, else the one for all others. One that is switched off switches off."""
    rows = CauseRule.objects.filter(cause=kind)
    own = rows.filter(service=service).first() if service is not None else None
    rule = own or rows.filter(service=None).first()
    return rule if rule is not None and rule.enabled else None


def take(sighting: Sighting) -> None:
    """Apply the rules to one look at one thing. Called by one worker at a time."""
    rule = rule_for(sighting.kind, sighting.place.service)
    if sighting.bad and rule is not None:
        _went_wrong(sighting, rule)
    elif not sighting.bad:
        _went_well(sighting, rule)


def _went_wrong(sighting: Sighting, rule: CauseRule) -> None:
    now = timezone.now()
    cause, _ = Cause.objects.get_or_create(key=sighting.key, defaults={"first_at": now})
    incident = cause.incident = _live(cause.incident)
    if cause.gone_at is not None:
        cause.first_at, cause.gone_at, cause.in_a_row = now, None, 0
    begins = cause.in_a_row == 0
    cause.rule, cause.sentence, cause.last_at = rule, sighting.sentence, now
    cause.in_a_row += 1
    cause.seen += 1
    if incident is not None and not incident.is_ended:
        if begins or not sighting.lasting:
            _note_again(incident, sighting, cause)
    elif cause.in_a_row >= rule.after:
        _open_or_reopen(cause, sighting, rule, now)
    cause.save()


def _live(incident: Incident | None) -> Incident | None:
    """Where it goes on: the one it was merged into."""
    while incident is not None and incident.merged_into is not None:
        incident = incident.merged_into
    return incident


def _note_again(incident: Incident, sighting: Sighting, cause: Cause) -> None:
    row = f" ({cause.in_a_row} in a row)" if cause.in_a_row > 1 and not sighting.lasting else ""
    note_that(incident, f"{sighting.sentence}{row}", by=None, kind=Kind.CAUSE, url=sighting.url)


def _open_or_reopen(cause: Cause, sighting: Sighting, rule: CauseRule, now: datetime) -> None:
    before = cause.incident
    if before is not None and before.resolved_at is not None and now - before.resolved_at <= rule.quiet_for:
        if sighting.lasting and cause.first_at <= before.resolved_at:
            return  # somebody has resolved it though it lasts: that counts for the quiet time
        if before.state == CoreState.RESOLVED:
            cause.first_at = now
            work.reopen(before, by=None, reason=sighting.sentence, actor=_actor(rule), page=not _was_heard_of(before))
            return
    cause.incident = _opened(cause, sighting, rule, now)


def _was_heard_of(incident: Incident) -> bool:
    """Whether anybody was told of it or answered; quiet is only for those who know."""
    if incident.acknowledged_at is not None:
        return True
    runs = StepRun.objects.filter(escalation__in=Escalation.objects.of(incident))
    return runs.exclude(outcome=StepRun.Outcome.NOBODY).exists()


def _actor(rule: CauseRule) -> str:
    return f"Rule “{rule.get_cause_display()}”"


def _opened(cause: Cause, sighting: Sighting, rule: CauseRule, now: datetime) -> Incident:
    place = sighting.place
    severity = severity_of(place.service, rule.rank)
    other = _paged_already(place.service, severity, now) if rule.escalate else None
    incident = declare(
        sighting.title[:200],
        service=place.service,
        severity=severity,
        environment=place.environment,
        description=sighting.sentence,
        components=[place.component] if place.component else [],
        started_at=cause.first_at,
        door=RULE,
        actor=_actor(rule),
        escalate=rule.escalate and other is None,
    )
    note_that(incident, sighting.sentence, by=None, kind=Kind.CAUSE, url=sighting.url)
    if other is not None:
        relate.relate(incident, other, by=None)
        text = f"Nobody is paged for this one: {other.number} of the same service is being escalated."
        note_that(incident, text, by=None, kind=Kind.ESCALATION)
    return incident


def severity_of(service: Service | None, rank: int) -> Severity | None:
    """The severity of the service with this rank, or the next milder one; the mildest where there is none."""
    if service is None:
        return None
    rows = service.severities.order_by("rank")
    return rows.filter(rank__gte=rank).first() or rows.last()


def _paged_already(service: Service | None, severity: Severity | None, now: datetime) -> Incident | None:
    """An incident of the same service, at least as grave, for which a rule has begun to page a moment ago.

    Nobody has answered yet: who has answered hears of no other cause, and nobody else is told any more.
    """
    rows = Incident.objects.open().filter(door=RULE, service=service, declared_at__gte=now - TOGETHER)
    if severity is not None:
        rows = rows.filter(rank__lte=severity.rank)
    return rows.filter(_waits_for_an_answer()).order_by("pk").first()


def _is_escalated() -> Exists:
    ladders = Escalation.objects.filter(subject_type="incidents.incident", subject_id=OuterRef("pk"))
    return Exists(ladders.exclude(state=Escalation.State.STOPPED))


def _waits_for_an_answer() -> Exists:
    ladders = Escalation.objects.filter(subject_type="incidents.incident", subject_id=OuterRef("pk"))
    return Exists(ladders.filter(state__in=Escalation.OPEN))


def _went_well(sighting: Sighting, rule: CauseRule | None) -> None:
    cause = Cause.objects.select_related("incident__merged_into").filter(key=sighting.key, gone_at=None).first()
    if cause is None:
        return
    cause.in_a_row, cause.gone_at = 0, timezone.now()
    incident = cause.incident = _live(cause.incident)
    cause.save()
    if incident is None or incident.is_ended:
        return
    text = f"The cause is gone: {sighting.sentence}"
    others = Cause.objects.filter(incident=incident, gone_at=None).exists()
    if rule is None or not rule.resolve or others:
        note_that(incident, text, by=None, kind=Kind.CAUSE, url=sighting.url)
    else:
        work.resolve(incident, by=None, text=text, actor=_actor(rule))


# -- nobody is forgotten -----------------------------------------------------------------------------------------------


def page_the_uncovered(now: datetime | None = None) -> int:
    """Page for incidents that did not, where the reason has gone. Returns for how many.

    One whose escalation could not be started, whoever declared it; one that shared the page of another which was
    answered or is over; one that was reopened quietly and outlasts the quiet time. One that was declared without an
    escalation stays silent.
    """
    now = now or timezone.now()
    silent = Incident.objects.open().filter(~_is_escalated())
    failed = escalating.failed_to_start(silent.filter(state=CoreState.OPEN))
    again = sum(_page(row, "The escalation has begun after all.") for row in failed)
    ladders = Escalation.objects.filter(subject_type="incidents.incident", subject_id=OuterRef("pk"))
    rows = (
        silent.filter(Q(door=RULE), causes__gone_at=None, causes__rule__escalate=True)
        .annotate(was_escalated=Exists(ladders))
        .distinct()
    )
    return again + sum(_page_one(row, was_escalated=row.was_escalated, now=now) for row in rows)


def _page_one(incident: Incident, *, was_escalated: bool, now: datetime) -> bool:
    if was_escalated:
        last = Escalation.objects.of(incident).first()
        outlasts = any(
            cause.rule is not None and now - cause.first_at > cause.rule.quiet_for
            for cause in incident.causes.filter(gone_at=None).select_related("rule")
        )
        if last is None or last.ending != Escalation.Ending.RESOLVED or not outlasts:
            return False
        return _page(incident, "It lasts longer than the quiet time, so people are paged again.")
    covered = incident.related.open().filter(_waits_for_an_answer()).exists()
    if incident.state != CoreState.OPEN or covered:
        return False
    return _page(incident, "The incident that it shared a page with was answered, so people are paged for this one.")


def _page(incident: Incident, text: str) -> bool:
    """Start its escalation, unless somebody was faster; and say why, once it has begun."""
    with transaction.atomic():
        row = Incident.objects.select_for_update(of=("self",), no_key=True).get(pk=incident.pk)
        if row.is_ended or escalations.current(row) is not None or escalating.start(row, by=None) is None:
            return False
        note_that(row, text, by=None, kind=Kind.ESCALATION)
    return True
