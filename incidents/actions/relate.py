"""Incidents that have to do with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection, transaction
from django.utils import timezone

from contacts.models import Escalation
from incidents import access, news, status_page
from incidents.actions import escalating, triage
from incidents.actions.writing import changing, demand, demand_text, not_closed, not_ended, not_merged, note_that
from incidents.exceptions import IncidentError
from incidents.models import Audience, Cause, CoreState, Incident, PublicStatus, Update
from incidents.timeline import Kind

if TYPE_CHECKING:
    from core.models import User

PARENTS = "incidents.parents"


def merge(incident: Incident, into: Incident, *, reason: str, by: User) -> Incident:
    """The same thing was declared twice: this one is closed and goes on in the other. Its escalation is withdrawn.

    What the public was told goes over too: the trouble lasts, so it stays on the status page.
    """
    demand(access.may_command(by, incident) and access.may_work(by, into))
    reason = demand_text(reason, "Say why they are the same.")
    if incident.pk == into.pk:
        raise IncidentError("An incident cannot be merged into itself. Choose another.")
    # In the order of their numbers, whichever goes into which: two merges wait for each other in one order.
    first, second = sorted((incident, into), key=lambda each: each.pk)
    with changing(first) as one, changing(second) as other:
        row, goal = (one, other) if one.pk == incident.pk else (other, one)
        not_closed(row)
        not_merged(goal)
        not_ended(goal)
        was_answered = row.acknowledged_at is not None
        now = timezone.now()
        row.state, row.merged_into = CoreState.CLOSED, goal
        row.resolved_at, row.closed_at = row.resolved_at or now, now
        row.update_due_at = row.stage_due_at = None
        _hand_over_public(row, goal, by=by)
        row.save()
        Cause.objects.filter(incident=row).update(incident=goal)
        note_that(row, f"Merged into {goal.number}: {reason}", by=by, url=goal.get_absolute_url())
        why = "" if row.confidential and not goal.confidential else f": {reason}"  # what was confidential stays so
        note_that(goal, f"{row.number} was merged into this one{why}", by=by, url=row.get_absolute_url())
        news.tell(news.MERGED, row, f"merged into {goal.number}", by=by, into=goal.number)
        escalating.stop(row, ending=Escalation.Ending.WITHDRAWN, by=by)
        if not was_answered:
            _take_over_severity(row, goal, by=by)
        return row


def _take_over_severity(row: Incident, goal: Incident, *, by: User) -> None:
    """What nobody has answered keeps its gravity: the goal becomes as grave, and those of that row are told."""
    if row.severity is None or row.service_id != goal.service_id:
        return
    if goal.severity is None or row.severity.is_worse_than(goal.severity):
        triage.change_severity(goal, row.severity, reason=f"{row.number} was merged into it", by=by)


def _hand_over_public(row: Incident, goal: Incident, *, by: User) -> None:
    """Put `goal` on the status page in the place of `row`, with what was said and the components. `row` is not saved.

    A goal that the public already reads about keeps its own words, unless they say that it is over. Raises
    IncidentError when the goal is confidential: nothing of it may be published, and what is public would vanish.
    """
    if not row.public:
        return
    if goal.confidential:
        raise IncidentError(
            f"{row.number} is on the status page, and {goal.number} is confidential. Send a last public update and "
            f"take {row.number} off the status page first."
        )
    if not goal.public or goal.public_status == PublicStatus.RESOLVED:
        goal.public, goal.public_title, goal.public_status = True, row.public_title, row.public_status
        goal.save(update_fields=["public", "public_title", "public_status"])
    Update.objects.filter(incident=row, audience=Audience.PUBLIC).update(incident=goal)
    if goal.service_id == row.service_id:
        goal.components.add(*row.components.filter(public__isnull=False))
    row.public = False
    note_that(goal, f"On the status page, with what the public was told of {row.number}.", by=by, kind=Kind.UPDATE)
    transaction.on_commit(status_page.lately.forget)


def set_parent(incident: Incident, parent: Incident | None, *, by: User) -> Incident:
    """It is a part of another one; None makes it stand alone."""
    demand(access.may_work(by, incident) and (parent is None or access.may_work(by, parent)))
    with transaction.atomic(), connection.cursor() as cursor:
        # One at a time, whichever incidents they are about: else two of them could close a circle.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [PARENTS])
        return _set_parent(incident, parent, by=by)


def _set_parent(incident: Incident, parent: Incident | None, *, by: User) -> Incident:
    if parent is not None:
        parent = Incident.objects.get(pk=parent.pk)
        _no_circle(incident, parent)
    with changing(incident) as row:
        not_merged(row)
        if row.parent == parent:
            return row
        before, row.parent = row.parent, parent
        row.save()
        text = (
            f"Part of {parent.number}." if parent else f"Not part of {before.number if before else 'another'} any more."
        )
        note_that(row, text, by=by, url=parent.get_absolute_url() if parent else "")
        if parent is not None:
            note_that(parent, f"{row.number} is part of this one.", by=by, url=row.get_absolute_url())
        return row


def _no_circle(incident: Incident, parent: Incident) -> None:
    seen: set[int] = set()
    above: Incident | None = parent
    while above is not None and above.pk not in seen:
        if above.pk == incident.pk:
            raise IncidentError(f"{parent.number} is a part of {incident.number} already. Choose another.")
        seen.add(above.pk)
        above = above.parent


def relate(incident: Incident, other: Incident, *, by: User | None) -> None:
    """They have to do with each other."""
    demand(by is None or (access.may_work(by, incident) and access.may_work(by, other)))
    if incident.pk == other.pk:
        raise IncidentError("An incident is related to itself anyway. Choose another.")
    first, second = sorted((incident, other), key=lambda each: each.pk)
    with changing(first) as one, changing(second) as two:
        if not one.related.filter(pk=two.pk).exists():
            one.related.add(two)
            note_that(one, f"Related: {two.number}.", by=by, url=two.get_absolute_url())
            note_that(two, f"Related: {one.number}.", by=by, url=one.get_absolute_url())


def unrelate(incident: Incident, other: Incident, *, by: User) -> None:
    """They turned out to have nothing to do with each other."""
    demand(access.may_work(by, incident) and access.may_work(by, other))
    first, second = sorted((incident, other), key=lambda each: each.pk)
    with changing(first) as one, changing(second) as two:
        if one.related.filter(pk=two.pk).exists():
            one.related.remove(two)
            note_that(one, f"Not related: {two.number}.", by=by, url=two.get_absolute_url())
            note_that(two, f"Not related: {one.number}.", by=by, url=one.get_absolute_url())
