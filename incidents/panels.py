"""Tiles of the situation room: what is wrong, what nobody has answered, what is due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import OuterRef, Subquery
from django.http import HttpRequest
from django.utils import timezone

from contacts.models import Escalation
from core.buttons import signed_in
from core.links import list_url
from core.panels import panel
from incidents.models import ActionItem, Assignment, Incident, IncidentRole

SHOWN = 8
SHOWN_SMALL = 5
DUE_WITHIN = timedelta(days=7)


@panel(
    "incidents-open",
    title="Open incidents",
    order=1,
    permission="incidents.view_incident",
    template="incidents/panels/open.html",
    size="full",
    icon="alert",
)
def open_incidents(request: HttpRequest) -> dict[str, Any]:
    """The gravest first; one query, since it knows where to stop."""
    commander = Assignment.objects.filter(incident=OuterRef("pk"), role=IncidentRole.COMMANDER)
    rows = (
        Incident.objects.visible_to(signed_in(request))
        .open()
        .select_related("service", "severity")
        .defer("search", "description", "root_cause", "resolution")
        .annotate(commander_name=Subquery(commander.values("primary__name")[:1]))
        .order_by("rank", "-pk")
    )
    found = list(rows[:100])  # more are not open at once; the list counts them
    more = len(found) - SHOWN
    return {
        "incidents": found[:SHOWN],
        "count": f"{len(found)}{'+' if len(found) == 100 else ''}",
        "more": more if more > 0 else 0,
        "url": list_url(Incident),
    }


@panel(
    "escalations-unanswered",
    title="Escalations unanswered",
    order=2,
    permission="contacts.view_escalation",
    template="incidents/panels/unanswered.html",
    icon="bell",
)
def unanswered(request: HttpRequest) -> dict[str, Any]:
    found = list(Escalation.objects.open().order_by("severity_rank", "started_at")[:50])
    return {"escalations": found[:SHOWN_SMALL], "count": len(found), "url": list_url(Escalation)}


@panel(
    "actions-due",
    title="Action items due",
    order=35,
    permission="incidents.view_actionitem",
    template="incidents/panels/actions.html",
    icon="check-circle",
)
def actions_due(request: HttpRequest) -> dict[str, Any]:
    today = timezone.localdate()
    visible = Incident.objects.visible_to(signed_in(request)).values("pk")
    due = ActionItem.objects.filter(done_at=None, due_on__lte=today + DUE_WITHIN, incident__in=visible)
    found = list(due.select_related("owner", "incident").order_by("due_on")[:50])
    items = [
        {
            "text": item.text,
            "url": item.get_absolute_url(),
            "due_on": item.due_on,
            "owner": item.owner,
            "late": item.due_on is not None and item.due_on < today,
        }
        for item in found[:SHOWN_SMALL]
    ]
    return {"items": items, "count": len(found), "url": list_url(ActionItem)}
