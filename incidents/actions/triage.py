"""How grave it is, what is known about it, and who may see it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from catalog.models import Component, Service, Severity
from contacts import policy
from contacts.actions import escalation as escalations
from incidents import access, clocks, gates, news, numbers, status_page
from incidents.actions import escalating
from incidents.actions.declare import assign_roles
from incidents.actions.hushing import hush
from incidents.actions.writing import (
    changing,
    check_fields,
    demand,
    demand_text,
    index,
    not_ended,
    not_merged,
    note_that,
    quoted,
)
from incidents.exceptions import IncidentError
from incidents.models import Incident, IncidentProfile
from incidents.timeline import Kind

if TYPE_CHECKING:
    from core.models import User

EDITABLE = (
    "title",
    "description",
    "service",
    "environment",
    "components",
    "started_at",
    "impacts",
    "impact_words",
    "users_affected",
    "data_loss",
    "cost",
    "workaround",
    "root_cause",
    "resolution",
    "eta",
)
SAID_FIRST = {"root_cause": Kind.ROOT_CAUSE, "resolution": Kind.FIX}


def change_severity(incident: Incident, severity: Severity, *, reason: str, by: User) -> Incident:
    """Another severity: the response clock counts anew from the declaration, and the ladder of its row begins.

    One of another service corrects the service too: environment and components of the wrong one go.
    """
    demand(access.may_command(by, incident))
    reason = demand_text(reason, "Say why the severity is another.")
    with changing(incident) as row:
        not_ended(row)
        before = row.severity
        if before == severity:
            return row
        rule = policy.rule_for(row.service, before, row.situation)
        elsewhere = row.service_id != severity.service_id
        if elsewhere:
            _move(row, severity.service, by=by)
        row.severity, row.rank = severity, severity.rank
        if before is None:
            row.channel_name = numbers.room(_profile(row).channel_pattern, row)
        row.update_due_at = clocks.first_update(row)
        row.update_told_at = None
        graver = before is None or severity.is_worse_than(before)
        what = f"Severity {before or 'not decided'} → {severity}: {reason}"
        ranks = (before.rank if before else None, severity.rank)
        _changed(row, what, rule=rule, ranks=ranks, graver=graver, elsewhere=elsewhere, by=by)
        return row


def _move(row: Incident, service: Service, *, by: User) -> None:
    """It is about another service. Not saved; what belongs to the one before is taken away and cited."""
    gone = [str(row.environment)] if row.environment and row.environment.service_id != service.pk else []
    if gone:
        row.environment = None
    strangers = list(row.components.exclude(environment__service=service))
    row.components.remove(*strangers)
    gone += sorted(component.name for component in strangers)
    text = f"Service: {quoted(row.service)} → {quoted(service)}." + (f" Taken away: {', '.join(gone)}." if gone else "")
    row.service = service
    note_that(row, text, by=by, kind=Kind.NOTE, data={"field": "service"})


def _profile(row: Incident) -> IncidentProfile:
    return gates.profile_of(row) or IncidentProfile()


def change_situation(incident: Incident, situation: str, *, reason: str = "", by: User) -> Incident:
    """Another situation, as the escalation matrix tells them apart; empty for none."""
    demand(access.may_command(by, incident))
    with changing(incident) as row:
        not_ended(row)
        before, situation = row.situation, situation.strip()
        if policy.same(before, situation):
            return row
        rule = policy.rule_for(row.service, row.severity, before)
        row.situation = situation
        check_fields(row, {"situation"})
        what = f"Situation {quoted(before)} → {quoted(situation)}. {reason.strip()}".strip()
        _changed(row, what, rule=rule, ranks=(row.rank, row.rank), graver=True, by=by)
        return row


def _changed(
    row: Incident,
    what: str,
    *,
    rule: Any,
    ranks: tuple[int | None, int | None],
    graver: bool,
    by: User,
    elsewhere: bool = False,
) -> None:
    """`rule` is the row of the matrix before; `elsewhere`: the service is another, whose people have heard nothing."""
    row.response_due_at = clocks.response_due_after_change(row, timezone.now(), graver=graver)
    row.response_told = False
    row.save()
    note_that(row, what, by=by, kind=Kind.SEVERITY, data={"ranks": list(ranks)})
    news.tell(news.SEVERITY, row, f"severity {row.severity or 'not decided'} now", by=by)
    if elsewhere:
        assign_roles(row, _profile(row))
    new = policy.rule_for(row.service, row.severity, row.situation)
    if ranks[0] != ranks[1] or rule != new:
        escalating.replace(row, graver=graver or elsewhere, by=by)


# -- what is known -----------------------------------------------------------------------------------------------------


def edit(incident: Incident, *, by: User, source: str = "", **fields: Any) -> Incident:
    """Write down what is known. Every change stands on the timeline with what was there before."""
    demand(access.may_work(by, incident))
    unknown = fields.keys() - set(EDITABLE)
    if unknown:
        raise IncidentError(f"This cannot be edited here: {', '.join(sorted(unknown))}.")
    with changing(incident) as row:
        not_merged(row)
        rule, service = policy.rule_for(row.service, row.severity, row.situation), row.service
        components = fields.pop("components", None)
        changed = [(name, getattr(row, name), _clean(value)) for name, value in fields.items()]
        changed = [(name, before, after) for name, before, after in changed if before != after]
        for name, _, after in changed:
            setattr(row, name, after)
        check_fields(row, {name for name, _, _ in changed})
        _fits_together(row)
        row.save()
        for name, before, after in changed:
            _note_change(row, name, before, after, by=by, source=source)
            if name == "title":
                escalations.rename(row, news.harmless(row))
        if components is not None:
            _set_components(row, components, by=by, source=source)
        index(row)
        if row.service is not None and row.service != service and not row.is_ended:
            _follow_service(row, rule, by=by)
        return row


def _follow_service(row: Incident, rule: Any, *, by: User) -> None:
    """Its matrix, its response clock and its roles count from now on. `rule` is the row of the matrix before."""
    row.response_due_at = clocks.response_due_after_change(row, timezone.now(), graver=False)
    row.response_told = False
    row.save(update_fields=["response_due_at", "response_told"])
    assign_roles(row, _profile(row))
    if rule != policy.rule_for(row.service, row.severity, row.situation):
        escalating.replace(row, graver=True, by=by)


def _clean(value: Any) -> Any:
    return value.replace("\0", "").strip() if isinstance(value, str) else value


def _fits_together(row: Incident) -> None:
    service = row.service_id
    if row.severity is not None and row.severity.service_id != service:
        raise IncidentError(
            "The severity is of another service. Change the severity: one of another service brings that service."
        )
    if row.environment is not None and row.environment.service_id != service:
        raise IncidentError("The environment is of another service. Choose one of this service.")
    if row.started_at > row.declared_at:
        raise IncidentError("It cannot have begun after it was declared. Correct the time.")
    if row.resolved_at is not None and row.started_at > row.resolved_at:
        raise IncidentError("It cannot have begun after it was resolved. Correct the time.")


def _note_change(row: Incident, name: str, before: Any, after: Any, *, by: User, source: str) -> None:
    label = str(row._meta.get_field(name).verbose_name).capitalize()  # type: ignore[union-attr]
    label = "ETA" if name == "eta" else label
    kind = SAID_FIRST.get(name, Kind.NOTE) if before in ("", None) else Kind.NOTE
    text = f"{label}: {quoted(after)}" if before in ("", None, []) else f"{label}: {quoted(before)} → {quoted(after)}"
    note_that(row, text, by=by, kind=kind, source=source, data={"field": name})


def _set_components(row: Incident, components: Iterable[Component], *, by: User, source: str) -> None:
    before = set(row.components.select_related("environment__service"))
    after = set(components)
    if before == after:
        return
    if any(component.environment.service_id != row.service_id for component in after):
        raise IncidentError("A component is of another service. Choose some of this service.")
    row.components.set(after)
    named = ", ".join(sorted(component.name for component in after)) or "none"
    note_that(row, f"Components: {named}.", by=by, kind=Kind.NOTE, source=source, data={"field": "components"})


# -- who may see it ----------------------------------------------------------------------------------------------------


def set_confidential(incident: Incident, confidential: bool, *, by: User, reason: str) -> Incident:
    """Only those named in it and administrators see it, or everybody again.

    What had been said of it where others read goes too: in the news, in escalations, in the outbox.
    """
    demand(access.may_command(by, incident))
    reason = demand_text(reason, "Say why.")
    with changing(incident) as row:
        if row.confidential == confidential:
            return row
        row.confidential = confidential
        row.public = row.public and not confidential
        row.save()
        transaction.on_commit(status_page.lately.forget)
        what = "Confidential now" if confidential else "Not confidential any more"
        note_that(row, f"{what}: {reason}", by=by, kind=Kind.DECISION)
        if confidential:
            hush(row)
        return row
