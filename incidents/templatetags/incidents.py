"""Tags of incidents: the line of a running maintenance, chips of severities, clocks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.utils.html import format_html
from django.utils.safestring import SafeString

from catalog.models import Severity
from contacts.ways import compact
from core import icons
from incidents import banner, shown
from incidents.admin.changelist import dates_of
from incidents.models import Incident

register = template.Library()


@register.inclusion_tag("incidents/partials/maintenance.html", takes_context=True)
def maintenance_banner(context: dict[str, Any]) -> dict[str, Any]:
    """What is being maintained now, on every page."""
    return {"windows": banner.running(), "perms": context.get("perms")}


@register.simple_tag
def severity_chip(incident: Incident) -> SafeString:
    """The severity as a chip that carries its word, coloured by rank."""
    return shown.severity_chip(incident.severity)


@register.simple_tag
def chip_of(severity: Severity | None) -> SafeString:
    """The same for a severity without an incident."""
    return shown.severity_chip(severity)


@register.simple_tag
def response_clock(incident: Incident) -> SafeString:
    """Whether somebody answered in time, or how long there is left."""
    return shown.response_clock(incident).html


@register.simple_tag
def kind_icon(kind: str) -> SafeString:
    """The icon of a kind of timeline entry."""
    return icons.svg(shown.KIND_ICONS.get(kind, "circle"))


@register.simple_tag
def tel(number: str, name: str) -> SafeString:
    """A number that calls when it is clicked."""
    return format_html(
        '<a class="button tel" href="tel:{}">{}{}<span class="sr-only"> ({})</span></a>',
        compact(number),
        icons.svg("phone"),
        number,
        name,
    )


@register.filter
def before(at: datetime, start: datetime) -> str:
    """How long before the start something was: `−2 h 5 min`."""
    span = start - at
    return f"−{shown.brief(span)}" if span > timedelta(0) else f"+{shown.brief(-span)}"


@register.inclusion_tag("admin/date_hierarchy.html")
def incident_dates(cl: ChangeList) -> dict[str, Any]:
    """The dates of the list, without a look at its rows."""
    return dates_of(cl)
