"""Tiles of the situation room: whether the portal itself would survive, and whether the glass was broken."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from core.links import list_url
from core.panels import panel
from survival import health
from survival.models import BreakGlass, SecondPlace

# What no other tile tells; the whole list is one click away.
ITEMS = ("control-loop", "portal-backup", "portal-key", "offline-card", "heartbeat")


@panel(
    "breakglass",
    title="Break-glass access",
    order=1,
    template="survival/panels/breakglass.html",
    size="full",
    icon="alert",
)
def broken_glass(request: HttpRequest) -> dict[str, Any] | None:
    """For everybody: whoever broke the glass did it in front of all."""
    rows = list(BreakGlass.objects.to_announce()[:5])
    if not rows:
        return None
    may_see = request.user.has_perm("survival.view_breakglass")
    return {"rows": rows, "url": list_url(BreakGlass) if may_see else ""}


@panel(
    "portal-survival",
    title="The portal itself",
    order=48,
    permission="survival.view_secondplace",
    template="survival/panels/survival.html",
    icon="shield",
)
def survival(request: HttpRequest) -> dict[str, Any]:
    items = [each for each in health.look(ITEMS) if each.finding.state != health.OK]
    return {
        "items": items,
        "unconfirmed": any(each.name == "portal-key" for each in items),
        "place_url": list_url(SecondPlace),
        "url": reverse("health-status"),
    }
