"""The escalation of an incident: started, replaced, answered, stopped. Nothing here fails an incident."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import DatabaseError, connection, transaction
from django.db.models import Exists, OuterRef

from contacts import notifying
from contacts.actions import escalation as escalations
from contacts.models import Contact, Escalation, Notification
from incidents import news
from incidents.access import contact_of
from incidents.actions.writing import note_that
from incidents.models import Incident, TimelineEntry
from incidents.querysets import IncidentQuerySet
from incidents.timeline import Kind

if TYPE_CHECKING:
    from core.models import User

logger = logging.getLogger(__name__)
# Marks the entry of the timeline that says so.
NOT_STARTED = "not_started"


def start(incident: Incident, *, by: User | None) -> Escalation | None:
    """Tell those of the matrix. What ran before is replaced, and goes on when the new one cannot begin.

    An incident stands also when that goes wrong: then the timeline says so, the administrators are told, and it is
    tried again (incidents.rules).
    """
    try:
        with transaction.atomic():
            return escalations.start(
                incident,
                title=news.harmless(incident),
                service=incident.service,
                severity=incident.severity,
                situation=incident.situation,
                url=incident.get_absolute_url(),
                discreet=incident.confidential,
                by=by,
            )
    except DatabaseError:
        if connection.connection is None or connection.connection.closed:
            raise  # nothing of this transaction can be saved any more
        logger.exception("the escalation of %s could not be started", incident.number)
    except Exception:
        logger.exception("the escalation of %s could not be started", incident.number)
    _tell_of_failure(incident)
    return None


def _tell_of_failure(incident: Incident) -> None:
    """Once, however often it is tried again."""
    if failed_to_start(Incident.objects.filter(pk=incident.pk)).exists():
        return
    text = "The escalation could not be started; the log of the portal says why. Tell people by hand."
    note_that(incident, text, by=None, kind=Kind.ESCALATION, data={NOT_STARTED: True})
    notifying.notify_administrators(
        key=f"escalation-not-started:{incident.pk}:{Escalation.objects.of(incident).count()}",
        subject=f"{news.harmless(incident)}: nobody could be told",
        body=text,
        url=incident.get_absolute_url(),
        urgency=Notification.Urgency.PAGE,
    )


def failed_to_start(rows: IncidentQuerySet) -> IncidentQuerySet:
    """Those whose last escalation could not be started, as their timeline says."""
    of_it = Escalation.objects.filter(subject_type=Incident._meta.label_lower, subject_id=OuterRef("incident_id"))
    failures = TimelineEntry.objects.filter(incident=OuterRef("pk"), kind=Kind.ESCALATION, data__has_key=NOT_STARTED)
    later = failures.filter(~Exists(of_it.filter(started_at__gt=OuterRef("recorded_at"))))
    return rows.filter(Exists(later))


def stop(incident: Incident, *, ending: str, by: User | None) -> None:
    found = escalations.current(incident)
    if found is not None:
        escalations.stop(found, ending=ending, by=by)


def answer(incident: Incident, *, by: User | None, contact: Contact | None) -> None:
    """Acknowledge its escalation, if one waits for that. Whoever has a role in the incident may, whatever their rights
    elsewhere."""
    found = escalations.current(incident)
    if found is not None and found.is_open:
        if by is not None and not by.has_perm(escalations.ANSWER):
            contact, by = contact_of(by), None
        escalations.acknowledge(found, by=by, contact=contact)


def replace(incident: Incident, *, graver: bool, by: User | None) -> None:
    """After another severity or situation: begin anew by the row that counts now.

    One that was answered goes on resting, unless it has become graver: then those of the graver row must hear of it.
    """
    found = escalations.current(incident)
    if found is not None and not found.is_open and not graver:
        return
    if found is None and not graver:
        return
    start(incident, by=by)
