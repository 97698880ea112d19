"""What incidents hear of others: their escalations climb and are answered, what was started from them ends.

Each receiver writes rows of its own in the transaction of the news.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q
from django.utils import timezone

from contacts import news as escalation_news
from contacts import subjects
from contacts.models import Escalation
from core.models import User
from deployments import news as deployment_news
from deployments.models import Deployment
from incidents import access, chain, timeline
from incidents.actions import joined, work
from incidents.actions.writing import note_that
from incidents.models import Incident, IncidentOperation, TimelineEntry
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


@events.receiver(*TOLD, escalation_news.ESCALATION_ACKNOWLEDGED)
def hear_escalation(event: Event) -> None:
    """Each step of its escalation stands on the timeline; an answer to it answers the incident."""
    if event.name != escalation_news.ESCALATION_ACKNOWLEDGED:
        hear_escalations([event])
    elif event.data.get("subject_type") == SUBJECT:
        incident = Incident.objects.filter(pk=event.data.get("subject_id")).first()
        if incident is not None:
            _answered(incident, event, str(event.data.get("actor") or ""))


@events.takes_many(hear_escalation)
def hear_escalations(news: Sequence[Event]) -> None:
    """As the engine tells of them: many steps at once, each of another escalation."""
    for event in news:
        if event.name == escalation_news.ESCALATION_ACKNOWLEDGED:
            hear_escalation(event)
    told = [event for event in news if event.name in TOLD and event.data.get("subject_type") == SUBJECT]
    subjects_of = {event.data.get("subject_id") for event in told}
    there = set(Incident.objects.filter(pk__in=subjects_of).values_list("pk", flat=True)) if told else set()
    if entries := [_entry(event) for event in told if event.data.get("subject_id") in there]:
        chain.append(entries)


def _entry(event: Event) -> TimelineEntry:
    actor, now = str(event.data.get("actor") or ""), timezone.now()
    return TimelineEntry(
        incident_id=event.data["subject_id"],
        at=now,
        recorded_at=now,
        kind=Kind.ESCALATION,
        source=Source.PERSON if actor else Source.PORTAL,
        actor=(actor or timeline.PORTAL)[: timeline.LONGEST_ACTOR],
        text=str(event.data.get("sentence") or event.sentence),
        url=event.url[: timeline.LONGEST_URL],
    )


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


@events.receiver(events.OPERATION_ENDED)
def hear_operation(event: Event) -> None:
    """The end of what was started from an incident."""
    operation = event.operation
    if operation is not None and IncidentOperation.objects.filter(operation=operation, noted=False).exists():
        joined.note_ended(operation)


@events.receiver(*deployment_news.TOLD)
def hear_deployment(event: Event) -> None:
    """Deployments to the place of an open incident, and those that name one, stand on its timeline; what was started
    from it stands there already."""
    row = Deployment.objects.with_place().filter(pk=event.subject_id).first() if event.subject_id else None
    if row is None:
        return
    environment = row.environment
    here = Q(service=environment.service_id) & (Q(environment=None) | Q(environment=environment))
    for incident in Incident.objects.open().filter(here | Q(number=row.incident or None)).order_by("pk"):
        if not IncidentOperation.objects.filter(incident=incident, operation=event.operation).exists():
            note_that(incident, event.sentence, by=None, kind=Kind.OPERATION, source=Source.PORTAL, url=event.url)


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
