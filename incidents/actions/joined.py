"""What is started from an incident: backups, restores, undoing them. How they end stands on the timeline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction

from backups import actions as backups
from backups.models import Archive, Plan, Restore
from catalog.models import Environment
from core.templatetags.portal import human_duration
from deployments.actions import rollback as rollbacks
from incidents import access, measures, timeline
from incidents.actions.writing import changing, demand, not_ended
from incidents.models import Incident, IncidentOperation
from incidents.timeline import Kind, Source
from operations.models import Operation

if TYPE_CHECKING:
    from core.models import User

INCIDENT = Operation.Trigger.INCIDENT


# -- starting ----------------------------------------------------------------------------------------------------------


def start_restore(
    incident: Incident,
    archive: Archive,
    *,
    by: User,
    reason_kind: str = Restore.Reason.OTHER,
    reason: str = "",
    into: str = "",
    typed_name: str,
    override_reason: str = "",
    key: str | None = None,
) -> Operation:
    """Restore an archive because of this incident. Raises what a restore raises."""
    demand(access.may_restore(by, incident, archive))
    return _start(
        incident,
        by,
        lambda why: backups.request_restore(
            archive,
            by=by,
            reason_kind=reason_kind,
            reason=why,
            into=into,
            typed_name=typed_name,
            override_reason=override_reason,
            trigger=INCIDENT,
            key=key,
        ),
        reason,
    )


def undo_restore(
    incident: Incident, restore: Restore, *, by: User, reason: str = "", key: str | None = None
) -> Operation:
    """Put back the database that a restore replaced."""
    demand(access.may_undo(by, incident, restore))
    return _start(
        incident,
        by,
        lambda why: backups.request_undo(restore, by=by, reason=why, trigger=INCIDENT, key=key),
        reason,
    )


def take_backup(incident: Incident, plan: Plan, *, by: User, reason: str = "", key: str | None = None) -> Operation:
    """Back up now, before anything is changed: the state as it is, and whether backups work at all."""
    demand(access.may_back_up(by, incident, plan))
    return _start(
        incident,
        by,
        lambda why: backups.request_backup(
            plan, by=by, purpose=Archive.Purpose.EMERGENCY, reason=why, trigger=INCIDENT, key=key
        ),
        reason,
    )


def roll_back(incident: Incident, environment: Environment, *, by: User, reason: str, **wish: Any) -> Operation:
    """Go back to an earlier release because of this incident. Raises what a rollback raises."""
    demand(access.may_roll_back_from(by, incident, environment.service_id))

    def request(why: str) -> Operation:
        row = rollbacks.request_rollback(
            environment, by=by, reason=why, incident=incident.number, trigger=INCIDENT, **wish
        )
        assert row.operation is not None
        return row.operation

    return _start(incident, by, request, reason)


def _start(incident: Incident, by: User, request: Callable[[str], Operation], reason: str) -> Operation:
    """Ask for it and link it. Of a confidential incident the reason, which everybody reads, says the number alone."""
    with changing(incident) as row:
        not_ended(row)
        said = "" if row.confidential else reason.strip()
        operation = request(f"Incident {row.number}. {said}".strip())
        _link(row, operation, by=by, text=f"Started: {operation.title}. {reason.strip()}".strip())
        return operation


def _link(incident: Incident, operation: Operation, *, by: User, text: str) -> IncidentOperation:
    linked, new = IncidentOperation.objects.get_or_create(incident=incident, operation=operation)
    if new:
        timeline.write(
            incident,
            text,
            kind=Kind.OPERATION,
            source=Source.PERSON,
            user=by,
            url=operation.get_absolute_url(),
            data={"operation": operation.pk},
        )
    return linked


# -- how it ended ------------------------------------------------------------------------------------------------------


def note_ended(operation: Operation) -> int:
    """Write the end of an operation on the timelines of its incidents, once each. Returns on how many."""
    if not operation.is_final:
        return 0
    waiting = IncidentOperation.objects.select_for_update(of=("self",), skip_locked=True).filter(
        operation=operation, noted=False
    )
    with transaction.atomic():
        found = list(waiting.select_related("incident"))
        for linked in found:
            timeline.write(
                linked.incident,
                ended_words(operation, linked.incident),
                kind=Kind.OPERATION,
                source=Source.PORTAL,
                at=operation.ended_at,
                url=operation.get_absolute_url(),
                data={"operation": operation.pk, "state": operation.state, **_figures(operation, linked.incident)},
            )
        IncidentOperation.objects.filter(pk__in=[linked.pk for linked in found]).update(noted=True)
    return len(found)


def note_all_ended(limit: int = 100) -> int:
    """Those whose end nobody has written down yet."""
    waiting = Operation.objects.filter(incidents__noted=False, state__in=Operation.TERMINAL).distinct()[:limit]
    return sum(note_ended(operation) for operation in waiting)


def ended_words(operation: Operation, incident: Incident) -> str:
    """Such as: Restore shop from backup_1: succeeded. Ready after 42 s, RTO 5 min met. Data of 3 h before it began."""
    parts = [f"{operation.title}: {operation.state_word.lower()}. {operation.message}".strip()]
    figures = measures.restore_of(operation, incident)
    if figures is not None and figures.measured is not None:
        parts.append(f"Ready after {human_duration(figures.measured)}{_against(figures.rto, figures.rto_met, 'RTO')}.")
    if figures is not None and figures.measured is not None and figures.loss is not None:
        parts.append(
            f"Its data is {human_duration(figures.loss)} older than the beginning"
            f"{_against(figures.rpo, figures.rpo_met, 'RPO')}."
        )
    return " ".join(parts)


def _against(target: timedelta | None, met: bool | None, name: str) -> str:
    if target is None or met is None:
        return ""
    return f", {name} {human_duration(target)} {'met' if met else 'missed'}"


def _figures(operation: Operation, incident: Incident) -> dict[str, float | None]:
    figures = measures.restore_of(operation, incident)
    if figures is None:
        return {}
    seconds = {"measured_rto_s": figures.measured, "measured_rpo_s": figures.loss}
    return {name: value.total_seconds() if value is not None else None for name, value in seconds.items()}
