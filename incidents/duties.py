"""What is done without anybody asking: rules, reminders, the daily digest. Each reminder is sent once.

An incident is told of by its number and title; a confidential one by its number, since the log of messages is read by
many.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from django.db import connection, models, transaction
from django.db.models import F, Q
from django.utils import timezone

from contacts import notifying
from contacts.models import Contact, Notification
from core.templatetags.portal import human_duration
from incidents import access, digests, news, rules
from incidents.actions import joined
from incidents.actions.writing import changing, note_that
from incidents.models import ActionItem, CoreState, Incident, IncidentRole
from incidents.timeline import Kind
from operations.duties import declare

logger = logging.getLogger(__name__)
RULES_EVERY_S, RPO_EVERY_S, REMIND_EVERY_S, DIGEST_EVERY_S = 1.0, 60.0, 15.0, 300.0
# People are reminded of action items when their day has begun.
MORNING = 8
SOON = timedelta(days=1)
PAGE, NEWS = Notification.Urgency.PAGE, Notification.Urgency.NEWS
Row = TypeVar("Row", bound=models.Model)


def remind(now: datetime | None = None) -> int:
    """Everything that is due now and that somebody has to be told of. Returns how many."""
    now = now or timezone.now()
    told = remind_of_updates(now) + remind_of_stages(now) + note_late_responses(now) + remind_of_items(now)
    return told + rules.page_the_uncovered(now) + joined.note_all_ended()


def _each(rows: Iterable[Row], remind_of: Callable[[Row, datetime], bool], now: datetime) -> int:
    """Of how many somebody was told. One that goes wrong is tried again the next time and holds up no other."""
    told = 0
    for row in rows:
        try:
            told += remind_of(row, now)
        except Exception:
            if connection.connection is None or connection.connection.closed:
                raise  # the database does not answer: so it would be with every other
            logger.exception("nobody could be reminded of %s %s", row._meta.label_lower, row.pk)
    return told


# -- incidents ---------------------------------------------------------------------------------------------------------


def remind_of_updates(now: datetime) -> int:
    """An update is due: the communications lead hears of it, once each time."""
    due = Incident.objects.open().filter(update_due_at__lte=now)
    due = due.filter(Q(update_told_at=None) | Q(update_told_at__lt=F("update_due_at")))
    return _each(due, _remind_of_update, now)


def _remind_of_update(incident: Incident, now: datetime) -> bool:
    with changing(incident) as row:
        at = row.update_due_at
        if at is None or at > now or (row.update_told_at is not None and row.update_told_at >= at):
            return False
        row.update_told_at = now
        row.save(update_fields=["update_told_at"])
        people = people_for(row, IncidentRole.COMMUNICATIONS)
        _tell(row, people, "an update is due", f"update:{row.pk}:{at.isoformat()}", _since(at, now))
        note_that(row, f"An update is due. Reminded: {_names(people)}.", by=None, kind=Kind.UPDATE)
    return True


def remind_of_stages(now: datetime) -> int:
    """A stage takes longer than its time box: the commander hears of it, once a stage."""
    late = Incident.objects.open().filter(stage_due_at__lte=now, stage_told=False)
    return _each(late, _remind_of_stage, now)


def _remind_of_stage(incident: Incident, now: datetime) -> bool:
    with changing(incident) as row:
        if row.stage_due_at is None or row.stage_due_at > now or row.stage_told:
            return False
        row.stage_told = True
        row.save(update_fields=["stage_told"])
        people = people_for(row, IncidentRole.COMMANDER)
        key = f"stage:{row.pk}:{row.stage_id}:{row.stage_due_at.isoformat()}"
        what = "a stage takes too long" if row.confidential else f"“{row.stage}” takes too long"
        _tell(row, people, what, key, _since(row.stage_due_at, now))
        note_that(row, f"The time box of “{row.stage}” is over. Reminded: {_names(people)}.", by=None)
    return True


def note_late_responses(now: datetime) -> int:
    """Nobody has answered in time. That stands on the timeline; telling people is the escalation's business."""
    late = Incident.objects.filter(state=CoreState.OPEN, response_due_at__lte=now, response_told=False)
    return _each(late, _note_late_response, now)


def _note_late_response(incident: Incident, now: datetime) -> bool:
    with changing(incident) as row:
        if row.state != CoreState.OPEN or row.response_told or row.response_due_at is None or row.response_due_at > now:
            return False
        row.response_told = True
        row.save(update_fields=["response_told"])
        note_that(row, "Nobody has answered within the response time.", by=None, at=row.response_due_at)
    return True


def people_for(incident: Incident, role: str) -> list[Contact]:
    """Who has the role, else who stands in, else the commander; empty: the administrators."""
    found = {assignment.role: access.people_of(assignment) for assignment in access.assignments_of(incident)}
    for wanted in dict.fromkeys((role, IncidentRole.COMMANDER)):
        for contact in found.get(wanted, ()):
            if contact is not None and contact.active:
                return [contact]
    return []


def _names(people: Iterable[Contact]) -> str:
    return ", ".join(map(str, people)) or "the administrators"


def _since(at: datetime, now: datetime) -> str:
    late = now - at
    return (
        f"Due at {at:%Y-%m-%d %H:%M} UTC, {human_duration(late)} ago." if late >= timedelta(minutes=1) else "Due now."
    )


def _tell(incident: Incident, people: list[Contact], what: str, key: str, body: str) -> None:
    subject, url = f"{news.harmless(incident)}: {what}", incident.get_absolute_url()
    for contact in people:
        notifying.notify_contact(contact, key=f"{key}:{contact.pk}", subject=subject, body=body, url=url)
    if not people:
        notifying.notify_administrators(key=key, subject=subject, body=body, url=url)


# -- action items ------------------------------------------------------------------------------------------------------


def remind_of_items(now: datetime) -> int:
    """Action items that are due by tomorrow, or were due: their owner hears of each once a day, in the morning."""
    latest = now.date() + 2 * SOON  # a day ahead of UTC somewhere, and the day before it is due
    rows = ActionItem.objects.filter(done_at=None, due_on__lte=latest).select_related("owner", "incident__service")
    return _each(rows, _remind_of_item, now)


def _remind_of_item(item: ActionItem, now: datetime) -> bool:
    owner = item.owner if item.owner is not None and item.owner.active else None
    local = now.astimezone(ZoneInfo(owner.time_zone if owner else "UTC"))
    today, due = local.date(), item.due_on
    if due is None or due > today + SOON or local.hour < MORNING:
        return False
    taken = ActionItem.objects.filter(Q(reminded_on=None) | Q(reminded_on__lt=today), pk=item.pk, done_at=None)
    with transaction.atomic():
        if not taken.update(reminded_on=today):
            return False
        people = [owner] if owner is not None else people_for(item.incident, IncidentRole.COMMANDER)
        when = "is due tomorrow" if due > today else "is due today" if due == today else f"was due on {due}"
        body = "" if item.incident.confidential else f"“{item.text}” {when}."
        what = f"an action item {when}"
        _tell(item.incident, people, what, f"action-item:{item.pk}:{today}", body)
    return True


declare("incident-rules", lambda: RULES_EVERY_S, rules.work_off)
declare("recovery-points", lambda: RPO_EVERY_S, rules.look_at_recovery_points)
declare("incident-reminders", lambda: REMIND_EVERY_S, remind)
declare("chain-digest", lambda: DIGEST_EVERY_S, digests.make_due)
