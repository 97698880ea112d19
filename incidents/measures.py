"""What an incident came to in figures. None where something has not happened or was not set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from backups.models import Restore
from incidents.models import Incident
from operations.models import Operation

ZERO = timedelta(0)


def time_to_acknowledge(incident: Incident) -> timedelta | None:
    """From the declaration to the first answer."""
    return _since(incident.declared_at, incident.acknowledged_at)


def time_to_mitigate(incident: Incident) -> timedelta | None:
    """From the beginning to the harm being contained."""
    return _since(incident.started_at, incident.mitigated_at)


def time_to_resolve(incident: Incident) -> timedelta | None:
    """From the declaration to its end."""
    return _since(incident.declared_at, incident.resolved_at)


def downtime(incident: Incident) -> timedelta | None:
    """From the beginning to the end; None while it goes on."""
    return _since(incident.started_at, incident.resolved_at)


def answered_at(incident: Incident) -> datetime | None:
    """When it was answered: acknowledged, or over by itself."""
    return incident.acknowledged_at or incident.mitigated_at or incident.resolved_at


def response_met(incident: Incident, now: datetime | None = None) -> bool | None:
    """Whether somebody answered in time; None while there is time left, and where no time is set."""
    due = incident.response_due_at
    if due is None:
        return None
    answered = answered_at(incident)
    if answered is not None:
        return answered <= due
    return False if (now or timezone.now()) > due else None


def _since(start: datetime, end: datetime | None) -> timedelta | None:
    return max(end - start, ZERO) if end is not None else None


# -- restores ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeasuredRestore:
    """A restore that was started from an incident. `loss` is how old its data is, seen from the beginning."""

    restore: Restore
    measured: timedelta | None
    rto: timedelta | None
    loss: timedelta | None
    rpo: timedelta | None

    @property
    def rto_met(self) -> bool | None:
        return self.restore.rto_met

    @property
    def rpo_met(self) -> bool | None:
        if self.loss is None or self.rpo is None:
            return None
        return self.loss <= self.rpo


def restores_of(incident: Incident) -> list[MeasuredRestore]:
    """The restores linked to it, oldest first. One query."""
    rows = (
        Restore.objects.filter(operation__incidents__incident=incident)
        .select_related("archive", "target__component", "operation", "undo_operation")
        .defer("archive__manifest")
        .order_by("pk")
    )
    return [_measured(row, incident) for row in rows]


def restore_of(operation: Operation, incident: Incident) -> MeasuredRestore | None:
    """The restore that an operation is, seen from an incident; None for any other operation."""
    row = (
        Restore.objects.filter(operation=operation)
        .select_related("archive", "target__component", "operation", "undo_operation")
        .defer("archive__manifest")
        .first()
    )
    return _measured(row, incident) if row is not None else None


def _measured(row: Restore, incident: Incident) -> MeasuredRestore:
    snapshot = row.archive.snapshot_at
    loss = max(incident.started_at - snapshot, ZERO) if snapshot is not None else None
    rpo = row.target.component.rpo
    return MeasuredRestore(row, row.measured, row.rto, loss if row.in_place else None, rpo)
