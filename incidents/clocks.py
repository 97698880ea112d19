"""When something about an incident is due: the first answer, the next update, the end of a stage."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from catalog import business_time
from catalog.models import Severity
from contacts import policy
from core.exceptions import PortalError
from incidents.models import Incident, Stage

logger = logging.getLogger(__name__)
ZERO = timedelta(0)


def response_due(incident: Incident, since: datetime | None = None) -> datetime | None:
    """Until when somebody should have answered, by the matrix and the severity as they are now; None: not set. It
    counts from the declaration, or from `since`.

    Business hours that never open give no time: an incident can be declared all the same.
    """
    rule = policy.rule_for(incident.service, incident.severity, incident.situation)
    try:
        return business_time.response_due(
            incident.severity,
            since or incident.declared_at,
            rule_response=rule.response_time if rule else None,
            in_business_hours=rule.in_business_hours if rule else False,
            service=incident.service,
        )
    except PortalError as error:
        logger.warning("%s has no response time: %s", incident.number, error.message)
        return None


def response_due_after_change(incident: Incident, at: datetime, *, graver: bool) -> datetime | None:
    """After another severity or situation at `at`. What was answered keeps its verdict: only one that became graver
    counts anew, from the change; and one that was answered too late stays so."""
    answered, due = incident.acknowledged_at, incident.response_due_at
    if answered is None:
        return response_due(incident)
    if not graver or (due is not None and answered > due):
        return due
    return response_due(incident, at)


def next_update(severity: Severity | None, after: datetime) -> datetime | None:
    """When the next update is due after one at `after`. None: not set, or due at every change instead."""
    if severity is None or not severity.update_every:
        return None
    return after + severity.update_every


def update_at_change(incident: Incident, at: datetime) -> datetime | None:
    """The due time after a change at `at`: at once where the severity says so, else as it was."""
    if incident.is_ended:
        return None
    if incident.severity is not None and incident.severity.update_every == ZERO:
        return at
    return incident.update_due_at


def first_update(incident: Incident) -> datetime | None:
    """After the declaration, or after the last update when the severity is another."""
    if incident.is_ended:
        return None
    last = incident.updates.order_by("-at").values_list("at", flat=True).first() if incident.pk else None
    since = last or incident.declared_at
    if incident.severity is not None and incident.severity.update_every == ZERO:
        return since
    return next_update(incident.severity, since)


def enter(incident: Incident, stage: Stage | None, at: datetime) -> None:
    """Put the incident into a stage, with its time box. Not saved."""
    incident.stage, incident.stage_since, incident.stage_told = stage, at if stage else None, False
    incident.stage_due_at = at + stage.limit if stage and stage.limit and not incident.is_ended else None
