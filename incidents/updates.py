"""The words of updates: what a template may name, and how it reads for an incident.

A public text may name less than an internal one: whoever writes a template cannot let a name, a room or the timeline
out by mistake. Rendering never fails; what is not known reads as a person would say it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import copy
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from core.templatetags.portal import human_duration
from incidents.models import Audience, Incident, IncidentRole, MessageTemplate, TimelineEntry

# name -> (what it says, may stand in a public text)
PLACEHOLDERS: dict[str, tuple[str, bool]] = {
    "service": ("Name of the service", True),
    "title": ("Title; in a public text the public title", True),
    "status": ("State in words; in a public text the public status", True),
    "users": ("Number of users affected", True),
    "impact": ("Impact that was ticked; in an internal text also in words", True),
    "eta": ("When it is expected to be over", True),
    "time": ("Time of day now with its zone, as 14:05 CET", True),
    "date": ("Day now, as 2026-01-31", True),
    "since": ("Time of day when it began, as 14:05 CET; with the day if that was another", True),
    "duration": ("How long it has lasted", True),
    "number": ("Number of the incident", False),
    "severity": ("Severity, code and name", False),
    "severity_code": ("Code of the severity", False),
    "stage": ("Stage of the workflow", False),
    "environment": ("Environment", False),
    "components": ("Affected components", False),
    "workaround": ("Workaround", False),
    "commander": ("Who commands", False),
    "channel": ("Chat room of the incident", False),
    "timeline": ("Pinned and typed entries of the timeline, one a line, as “- 14:05 Root cause identified”", False),
    "next_update": ("When the next update is due", False),
    "url": ("Address of the incident in the portal", False),
}
_NAMED = re.compile(r"\{([^{}\n]*)\}")
TIMELINE_LINES = 12
Kind = TimelineEntry.Kind
# Entries that say what stage things are at, beside those that were pinned.
TELLING = (Kind.STATE, Kind.ROOT_CAUSE, Kind.FIX, Kind.DECISION)


def known(*, public: bool) -> list[str]:
    """The placeholders that a text for this audience may name."""
    return [name for name, (_, may) in PLACEHOLDERS.items() if may or not public]


def trouble_with(body: str, *, public: bool) -> str:
    """A sentence about the placeholders of a template that cannot be filled; "" when all can."""
    named = list(dict.fromkeys(_NAMED.findall(body)))
    unknown = [name for name in named if name not in PLACEHOLDERS]
    internal = [name for name in named if name in PLACEHOLDERS and public and not PLACEHOLDERS[name][1]]
    allowed = _listed(known(public=public))
    if unknown:
        return f"{_listed(unknown)} {_is(unknown)} not known. Use {allowed}."
    if internal:
        return f"{_listed(internal)} {_is(internal)} internal and cannot stand in a public text. Use {allowed}."
    return ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def render(template_body: str, incident: Incident, *, public: bool = False) -> str:
    """The text for this incident. What it cannot fill stays as it was written; it never raises."""
    if not _NAMED.search(template_body):
        return template_body
    values = placeholders(incident, public=public)
    return _NAMED.sub(lambda found: values.get(found[1], found[0]), template_body).strip()


def placeholders(incident: Incident, *, public: bool = False) -> dict[str, str]:
    """What each placeholder says now, in the time zone of the service."""
    zone = zone_of(incident)
    now = timezone.now().astimezone(zone)
    ended = incident.resolved_at or now
    values = {
        "service": incident.service.name if incident.service else "The service",
        "users": "an unknown number of" if incident.users_affected is None else f"{incident.users_affected:,}",
        "eta": incident.eta or "not known yet",
        "time": f"{now:%H:%M %Z}",
        "date": f"{now:%Y-%m-%d}",
        "since": since(incident.started_at, now, zone),
        "duration": human_duration(timedelta(seconds=max(0, round((ended - incident.started_at).total_seconds())))),
        "impact": ", ".join(incident.impacts) or "not known yet",
    }
    if public:
        return values | {
            "title": incident.public_title or "Disturbance",
            "status": incident.get_public_status_display() or "Investigating",
        }
    return values | _internal(incident, zone)


def _internal(incident: Incident, zone: ZoneInfo) -> dict[str, str]:
    due = incident.update_due_at
    impact = [", ".join(incident.impacts), incident.impact_words.strip()]
    return {
        "title": incident.title,
        "status": incident.state_word.upper() if incident.state != "open" else "INVESTIGATING",
        "impact": ". ".join(part for part in impact if part) or "not known yet",
        "number": incident.number,
        "severity": severity_words(incident),
        "severity_code": incident.severity.code if incident.severity else "not set",
        "stage": incident.stage.name if incident.stage else incident.get_state_display(),
        "environment": str(incident.environment) if incident.environment else "not set",
        "components": ", ".join(component.name for component in incident.components.all()) or "not set",
        "workaround": incident.workaround or "none yet",
        "commander": commander_of(incident) or "nobody yet",
        "channel": incident.channel_name or "none",
        "timeline": "\n".join(timeline_lines(incident)) or "- nothing yet",
        "next_update": f"{due.astimezone(zone):%H:%M %Z}" if due else "not set",
        "url": f"{settings.PORTAL_URL}{incident.get_absolute_url()}",
    }


def zone_of(incident: Incident) -> ZoneInfo:
    """The zone of the service; UTC without one."""
    try:
        return ZoneInfo(incident.service.time_zone if incident.service else "UTC")
    except (KeyError, ValueError):
        return ZoneInfo("UTC")


def since(moment: datetime, now: datetime, zone: ZoneInfo) -> str:
    """`14:05 CET`, or `2026-01-31 14:05 CET` when that was not today."""
    local = moment.astimezone(zone)
    return f"{local:%H:%M %Z}" if local.date() == now.date() else f"{local:%Y-%m-%d %H:%M %Z}"


def severity_words(incident: Incident) -> str:
    """`P1 Critical`, or `CRITICAL` where code and name are the same word."""
    severity = incident.severity
    if severity is None:
        return "not set"
    return severity.code if severity.code.lower() == severity.name.lower() else str(severity)


def commander_of(incident: Incident) -> str:
    """The name of who commands: the primary, else the backup, else "" ."""
    found = incident.assignments.filter(role=IncidentRole.COMMANDER).select_related("primary", "backup").first()
    person = found and (found.primary or found.backup)
    return person.name if person else ""


def timeline_lines(incident: Incident) -> list[str]:
    """`- 14:05 Root cause identified: …` of pinned and typed entries, the oldest first. Corrections replace what they
    correct."""
    entries = (
        incident.timeline.filter(Q(kind__in=TELLING) | Q(pin__isnull=False))
        .prefetch_related("corrections")
        .order_by("-at", "-sequence")[:TIMELINE_LINES]
    )
    zone = zone_of(incident)
    return [f"- {entry.at.astimezone(zone):%H:%M} {_line(entry)}" for entry in reversed(entries)]


def _line(entry: TimelineEntry) -> str:
    corrections = sorted(entry.corrections.all(), key=lambda each: each.sequence)
    text = (corrections[-1] if corrections else entry).text.strip().splitlines()[0]
    if entry.kind in (Kind.ROOT_CAUSE, Kind.FIX) and not text.startswith(entry.get_kind_display()):
        return f"{entry.get_kind_display()}: {text}"
    return text


def templates_for(incident: Incident) -> QuerySet[MessageTemplate]:
    """The templates of its service, then those for every service."""
    return MessageTemplate.objects.filter(Q(service=incident.service_id) | Q(service=None)).order_by(
        "-service__id", "name"
    )


def suggested_public_title(incident: Incident) -> str:
    """What the status page calls the components; "" without public names, so that a person writes a title.

    The name of the service is an internal one: it never leaves by itself.
    """
    names = [c.public.name for c in incident.components.select_related("public") if hasattr(c, "public")]
    return f"Disturbance of {', '.join(dict.fromkeys(names))}" if names else ""


def preview(template: MessageTemplate, incident: Incident) -> str:
    """How the template would read if it were sent now."""
    public = template.audience == Audience.PUBLIC
    shown = copy(incident)
    if public:
        shown.public_title = incident.public_title or suggested_public_title(incident)
        shown.public_status = template.public_status or incident.public_status
    return render(template.body, shown, public=public)


def cadence_words(incident: Incident) -> str:
    """How often an update is due, for a person."""
    severity = incident.severity
    if severity is None or (severity.update_every is None and not severity.update_words):
        return "not set"
    if severity.update_words:
        return severity.update_words
    return f"every {human_duration(severity.update_every)}" if severity.update_every else "at every change"
