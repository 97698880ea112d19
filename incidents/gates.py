"""What must be done before an incident is closed."""

from __future__ import annotations

from incidents import access
from incidents.models import Incident, IncidentProfile, Review

# The gate of what somebody worked on alone, where there is somebody else.
LOOKED_AT = "Somebody else has looked at what was done alone"


def profile_of(incident: Incident) -> IncidentProfile | None:
    """How its service handles incidents; without a profile of its own, the one for all services."""
    own = IncidentProfile.objects.filter(service=incident.service_id) if incident.service_id else None
    return (own.first() if own is not None else None) or IncidentProfile.objects.filter(service=None).first()


def missing_gates(incident: Incident) -> list[str]:
    """What is still to be done, in the order of the profile; the review last. Empty: it may be closed.

    An incident that was merged into another is looked at there.
    """
    if incident.merged_into_id:
        return []
    profile = profile_of(incident)
    ticked = set(incident.ticks.filter(gate=True).values_list("text", flat=True))
    missing = [text for text in asked(incident, profile) if text not in ticked]
    if profile is not None and needs_review(incident, profile) and not _is_published(incident):
        missing.append("The review is published")
    return missing


def asked(incident: Incident, profile: IncidentProfile | None) -> list[str]:
    """What people confirm, in the order of the profile; last that another has looked at what was done alone."""
    own = list(profile.gates) if profile is not None else []
    return [*own, LOOKED_AT] if incident.solo_review and _is_another_there(incident) else own


def _is_another_there(incident: Incident) -> bool:
    return any(pk != incident.declared_by_id for pk in access.who_may_work().values_list("pk", flat=True)[:2])


def needs_review(incident: Incident, profile: IncidentProfile) -> bool:
    """Whether its severity is one that the team always looks back on."""
    limit = profile.review_from_rank
    return limit is not None and incident.rank is not None and incident.rank <= limit


def _is_published(incident: Incident) -> bool:
    return Review.objects.filter(incident=incident, state=Review.State.PUBLISHED).exists()
