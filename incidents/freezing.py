"""What incidents say to deployments: an open one of the gravest kind stops all but its own fix, and rollbacks."""

from __future__ import annotations

from core import gates
from core.gates import Answer, Question
from incidents.models import Incident


def no_grave_incident(question: Question) -> Answer | None:
    """No, while an incident of the service is open whose rank is at least as grave as the limit.

    A deployment that names the incident is its fix. Of a confidential one the number alone is said.
    """
    rows = Incident.objects.open().filter(service=question.service, rank__lte=question.limit or 1)
    found = rows.exclude(number=question.incident).order_by("rank", "pk").first()
    if found is None:
        return Answer(True, "No grave incident of this service is open.")
    what = "" if found.confidential else f" “{found.title}”"
    return Answer(
        False,
        f"{found.number}{what} is open, so nothing is deployed but its fix. Name it as the incident of this deployment "
        "if this is the fix, or resolve it first.",
        found.get_absolute_url(),
    )


gates.register("incidents", no_grave_incident)
