"""The news of incidents. Of a confidential one they say its number and nothing else, to whoever listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from operations import events

if TYPE_CHECKING:
    from core.models import User
    from incidents.models import Incident
    from operations.models import Event

DECLARED = events.declare("incident.declared", "An incident was declared, by a person, a program or a rule")
ACKNOWLEDGED = events.declare("incident.acknowledged", "Somebody works on an incident")
MITIGATED = events.declare("incident.mitigated", "The harm of an incident is contained")
RESOLVED = events.declare("incident.resolved", "An incident is over")
CLOSED = events.declare("incident.closed", "An incident is closed: what was to be done about it is done")
REOPENED = events.declare("incident.reopened", "An incident that was over is not")
SEVERITY = events.declare("incident.severity", "The severity or the situation of an incident is another")
MERGED = events.declare("incident.merged", "An incident was merged into another")


def harmless(incident: Incident) -> str:
    """What anybody may read of it: number and title, or of a confidential one the number."""
    if incident.confidential:
        return f"Confidential incident {incident.number}"
    return f"{incident.number} {incident.title}"


def tell(name: str, incident: Incident, what: str, *, by: User | None = None, actor: str = "", **more: Any) -> Event:
    """Publish in the transaction of the change. `what` follows the title: “was resolved by Ann”."""
    if incident.confidential:
        sentence = harmless(incident)
        data: dict[str, Any] = {"incident": incident.pk, "number": incident.number, "sentence": sentence}
        return events.publish(name, sentence, subject=incident, data=data)
    severity = incident.severity
    data = {
        "incident": incident.pk,
        "number": incident.number,
        "title": incident.title,
        "state": incident.state,
        "service": incident.service.slug if incident.service else None,
        "severity": severity.code if severity else None,
        "rank": incident.rank,
        "actor": actor or (by.get_username() if by else ""),
        **more,
    }
    return events.publish(name, f"{harmless(incident)}: {what}", subject=incident, data=data)
