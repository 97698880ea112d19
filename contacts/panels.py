"""Tiles of the situation room: who is on call now."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from contacts import rota
from contacts.models import OnCallSchedule
from core.links import list_url
from core.panels import panel


@panel(
    "on-call",
    title="On call now",
    order=4,
    permission="contacts.view_oncallschedule",
    template="contacts/panels/oncall.html",
    icon="bell",
)
def on_call(request: HttpRequest) -> dict[str, Any]:
    """Every level of every schedule, gaps first, with a number to call."""
    lines = sorted(rota.on_call_now(), key=lambda each: (each.contact is not None, each.schedule.name, each.level))
    return {"lines": lines, "url": list_url(OnCallSchedule)}
