"""What incidents hear of others: their escalations climb and are answered, what was started from them ends.

Each receiver writes rows of its own in the transaction of the news.
"""

from __future__ import annotations

from contacts import news as escalation_news
from contacts import subjects
from contacts.models import Escalation
from core.models import User
from incidents import access
from incidents.actions import joined, work
from incidents.actions.writing import note_that
from incidents.models import Incident, IncidentOperation
from incidents.timeline import Kind, Source
from operations import events
from operations.models import Event

TOLD = (
    escalation_news.ESCALATION_STARTED,
    escalation_news.ESCALATION_STEP,
    escalation_news.ESCALATION_STOPPED,
    escalation_news.ESCALATION_EXHAUSTED,
)
SUBJECT = Incident._meta.label_lower


@events.receiver
def hear_escalation(event: Event) -> None:
    """Each step of its escalation stands on the timeline; an answer to it answers the incident."""
    if event.name not in (*TOLD, escalation_news.ESCALATION_ACKNOWLEDGED):
        return
    if event.data.get("subject_type") != SUBJECT:
        return
    incident = Incident.objects.filter(pk=event.data.get("subject_id")).first()
    if incident is None:
        return
    said, actor = str(event.data.get("sentence") or event.sentence), str(event.data.get("actor") or "")
    if event.name == escalation_news.ESCALATION_ACKNOWLEDGED:
        _answered(incident, event, actor)
        return
    source = Source.PERSON if actor else Source.PORTAL
    note_that(incident, said, by=None, kind=Kind.ESCALATION, source=source, actor=actor, url=event.url)


def _answered(incident: Incident, event: Event, actor: str) -> None:
    """Acknowledging the incident acknowledges its escalation, and the other way round; whichever came first has
    changed the state, and the second finds nothing to do."""
    row = (
        Escalation.objects.select_related("acknowledged_by", "acknowledged_by_user")
        .filter(pk=event.data.get("escalation"))
        .first()
    )
    by, contact = (row.acknowledged_by_user, row.acknowledged_by) if row is not None else (None, None)
    if work.acknowledged_elsewhere(incident, by=by, contact=contact, actor=actor) or row is None:
        return
    answered = Incident.objects.values_list("acknowledged_at", flat=True).get(pk=incident.pk)
    if answered is not None and answered < row.started_at:  # it had become graver since
        text = f"The escalation was acknowledged by {actor}."
        note_that(incident, text, by=by, kind=Kind.ESCALATION, source=Source.PERSON, actor=actor)


@events.receiver
def hear_operation(event: Event) -> None:
    """The end of what was started from an incident."""
    operation = event.operation if event.name == events.OPERATION_ENDED else None
    if operation is not None and IncidentOperation.objects.filter(operation=operation, noted=False).exists():
        joined.note_ended(operation)


def _may_act(user: User, pk: int) -> bool:
    """A confidential incident does not exist for those who may not see it: nor do they act on its escalation."""
    incident = Incident.objects.filter(pk=pk).first()
    return incident is None or not incident.confidential or access.may_see(user, incident)


def _said(by: User | None, pk: int, reason: str) -> str:
    """Of a confidential incident the reason stands on its timeline alone: messages and news are read by others."""
    incident = Incident.objects.filter(pk=pk).first()
    if incident is None or not incident.confidential:
        return reason
    note_that(incident, f"Given to somebody, because: {reason}", by=by, kind=Kind.ESCALATION)
    return ""


subjects.register(SUBJECT, subjects.Owner(may_act=_may_act, said=_said))
