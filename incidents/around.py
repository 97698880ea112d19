"""What else happened when an incident began: operations of the service, and what people changed in the portal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from auditlog.models import LogEntry
from django.db.models import Q
from django.urls import NoReverseMatch, reverse

from incidents.models import Incident
from operations.models import Operation

BEFORE, AFTER = timedelta(hours=24), timedelta(hours=1)
MOST = 50
# They look at things, or make copies; everything else changes something.
HARMLESS = ("backups.backup", "backups.verify", "backups.adopt")
# The suspects above them name these, with their reasons.
SUSPECTED = ("deployments.deploy", "deployments.rollback", "deployments.control", "deployments.cleanup")
# Edits of these rooms may be the cause of trouble with a service.
EDITED = ("catalog", "backups")
ACTIONS = {LogEntry.Action.CREATE: "added", LogEntry.Action.UPDATE: "changed", LogEntry.Action.DELETE: "deleted"}


@dataclass(frozen=True)
class Happened:
    """One thing near the beginning. `kind` is backup, restore, operation or edit; `offset` is negative before it."""

    at: datetime
    offset: timedelta
    kind: str
    title: str
    who: str
    status: str
    state_word: str
    url: str
    changes: bool


@dataclass(frozen=True)
class Around:
    """Oldest first, from a day before the beginning to an hour after it. `cut` says that there was more."""

    since: datetime
    until: datetime
    happened: list[Happened]
    cut: bool

    @property
    def changed(self) -> list[Happened]:
        """What changed something in the 24 hours before it began."""
        return [each for each in self.happened if each.changes and each.offset <= timedelta(0)]

    @property
    def operations(self) -> list[Happened]:
        return [each for each in self.happened if each.kind != "edit"]


def around(incident: Incident) -> Around:
    """Two queries. Without a service: of every service."""
    since, until = incident.started_at - BEFORE, incident.started_at + AFTER
    operations = _operations(incident, since, until)
    edits = _edits(incident, since, until)
    found = [_operation(each, incident) for each in operations[:MOST]] + [
        _edit(each, incident) for each in edits[:MOST]
    ]
    found.sort(key=lambda each: each.at)
    return Around(since, until, found, cut=len(operations) > MOST or len(edits) > MOST)


def _operations(incident: Incident, since: datetime, until: datetime) -> list[Operation]:
    rows = Operation.objects.filter(requested_at__range=(since, until)).select_related("requested_by")
    if incident.service is not None:
        rows = rows.filter(environment_label__startswith=f"{incident.service.name} · ")
    # Those nearest to the beginning matter most; the newest before it come first.
    return list(rows.defer("params", "data", "result", "traceback").order_by("-requested_at")[: MOST + 1])


def _operation(row: Operation, incident: Incident) -> Happened:
    kinds = {"backups.backup": "backup", "backups.restore": "restore", "backups.undo_restore": "restore"}
    return Happened(
        at=row.requested_at,
        offset=row.requested_at - incident.started_at,
        kind=kinds.get(row.procedure, "operation"),
        title=row.title,
        who=row.requested_by.display_name if row.requested_by else row.get_trigger_display(),
        status=row.status,
        state_word=row.state_word,
        url=row.get_absolute_url(),
        changes=row.procedure not in (*HARMLESS, *SUSPECTED),
    )


def _edits(incident: Incident, since: datetime, until: datetime) -> list[LogEntry]:
    """What people edited in the catalog and in plans. The trail does not know services: those of all are shown."""
    rows = LogEntry.objects.filter(
        Q(timestamp__range=(since, until)), content_type__app_label__in=EDITED, actor__isnull=False
    )
    return list(rows.select_related("actor", "content_type").order_by("-timestamp")[: MOST + 1])


def _edit(row: LogEntry, incident: Incident) -> Happened:
    verb = ACTIONS.get(row.action, "looked at")
    return Happened(
        at=row.timestamp,
        offset=row.timestamp - incident.started_at,
        kind="edit",
        title=f"{row.content_type.name.capitalize()} {row.object_repr} {verb}",
        who=getattr(row.actor, "display_name", str(row.actor)),
        status="neutral",
        state_word=verb.capitalize(),
        url=_entry_url(row),
        changes=row.action in ACTIONS,
    )


def _entry_url(row: LogEntry) -> str:
    try:
        return reverse("admin:auditlog_logentry_detail", args=[row.pk])
    except NoReverseMatch:
        return ""
