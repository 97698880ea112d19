"""What can be done to an incident from its page: each act with its right, its place, its form and its consequence."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from contacts import policy
from contacts.actions import escalation as escalations
from contacts.models import Escalation
from core.buttons import signed_in
from incidents import gates
from incidents.actions import people, relate, triage, work
from incidents.buttons import HEADLINE, MENU, SEE, Act, commands, escalates, goes_solo, takes_command
from incidents.forms import (
    AssignForm,
    EscalateForm,
    MergeForm,
    OtherIncidentForm,
    ParentForm,
    ReassignForm,
    ResolveForm,
    SeverityForm,
    SituationForm,
    StageForm,
    UnrelateForm,
    WhyForm,
    severities_for,
)
from incidents.forms_facts import FactsForm
from incidents.models import CoreState, Incident
from incidents.models.settings import default_impacts

RUNNING = (CoreState.OPEN, CoreState.ACKNOWLEDGED, CoreState.MITIGATED)


def in_states(*states: str) -> Any:
    return lambda incident: incident.state in states


def _is_open(incident: Incident) -> bool:
    return incident.state in RUNNING


def _is_not_closed(incident: Incident) -> bool:
    return incident.state != CoreState.CLOSED


def _of(request: HttpRequest, incident: Incident) -> dict[str, Any]:
    return {"incident": incident}


def _others(request: HttpRequest, incident: Incident) -> dict[str, Any]:
    return {"incident": incident, "visible": Incident.objects.visible_to(signed_in(request))}


def _is_related(incident: Incident) -> bool:
    """To any other; no query on its page, which has loaded them."""
    loaded: list[Any] | None = incident.__dict__.get("page_related")
    return bool(loaded) if loaded is not None else incident.related.exists()


def _facts(request: HttpRequest, incident: Incident) -> dict[str, Any]:
    profile = gates.profile_of(incident)
    return {"instance": incident, "offered": profile.impacts if profile else default_impacts()}


def _severity_context(request: HttpRequest, incident: Incident) -> dict[str, Any]:
    return {"severities": severities_for(incident), "chosen": incident.severity_id}


def _close_context(request: HttpRequest, incident: Incident) -> dict[str, Any]:
    """Every gate, with who ticked it; and what else is missing."""
    ticks = {tick.text: tick for tick in incident.ticks.filter(gate=True).select_related("by")}
    asked = [] if incident.merged_into_id else gates.asked(incident, gates.profile_of(incident))
    missing = gates.missing_gates(incident)
    return {
        "gates": [{"text": text, "tick": ticks.get(text)} for text in asked],
        "missing": [text for text in missing if text not in asked],
        "may_close": not missing,
        "incident": incident,
    }


def _open_escalation(incident: Incident) -> Escalation | None:
    """Read once for a page: `page_escalation` is what incidents.page has found."""
    if "page_escalation" in incident.__dict__:
        return incident.__dict__["page_escalation"]
    return escalations.current(incident)


def _is_escalated(incident: Incident) -> bool:
    found = _open_escalation(incident)
    return found is not None and found.state != Escalation.State.STOPPED and _is_open(incident)


def _waits_for_an_answer(incident: Incident) -> bool:
    """Nobody has answered it; or somebody has, and it has become graver since, so that others are being told."""
    if incident.state == CoreState.OPEN:
        return True
    found = _open_escalation(incident) if _is_open(incident) else None
    return found is not None and found.is_open


def _confidential_words(incident: Incident) -> str:
    return (
        "From now on only people named in it and administrators see this incident. It leaves the status page, and "
        "messages about it give nothing away."
    )


ACTS: list[Act] = [
    Act(
        "acknowledge",
        "Acknowledge",
        SEE,
        run=lambda request, incident, data, key: work.acknowledge(incident, by=signed_in(request)),
        possible=_waits_for_an_answer,
        place=HEADLINE,
        confirm=False,
        primary=True,
        icon="hand",
        done="Acknowledged. Nobody else is paged for it.",
    ),
    Act(
        "mitigate",
        "Mitigated",
        SEE,
        run=lambda request, incident, data, key: work.mitigate(incident, by=signed_in(request)),
        possible=in_states(CoreState.OPEN, CoreState.ACKNOWLEDGED),
        place=HEADLINE,
        confirm=False,
        primary=True,
        icon="shield",
        done="Marked as mitigated: people are no longer affected, the cause is still there.",
    ),
    Act(
        "resolve",
        "Resolve …",
        SEE,
        run=lambda request, incident, data, key: work.resolve(
            incident, by=signed_in(request), text=data["text"], at=data["at"]
        ),
        form=ResolveForm,
        consequence="The clocks stop, nobody is paged any more, and a draft of the review is written.",
        possible=_is_open,
        place=HEADLINE,
        primary=True,
        icon="check",
    ),
    Act(
        "close",
        "Close …",
        SEE,
        run=lambda request, incident, data, key: work.close(incident, by=signed_in(request)),
        consequence="It leaves the list of what is to be done. It can be reopened.",
        may=commands,
        possible=in_states(CoreState.RESOLVED),
        template="incidents/close_confirm.html",
        context=_close_context,
        place=HEADLINE,
        primary=True,
        icon="archive",
    ),
    Act(
        "reopen",
        "Reopen …",
        SEE,
        run=lambda request, incident, data, key: work.reopen(incident, by=signed_in(request), reason=data["reason"]),
        form=WhyForm,
        consequence="It is open again with the same number; what was escalated begins anew.",
        possible=lambda incident: incident.is_ended and not incident.merged_into_id,
        place=HEADLINE,
        icon="undo",
    ),
    Act(
        "stage",
        "Change the stage …",
        SEE,
        run=lambda request, incident, data, key: work.move_to_stage(
            incident, data["stage"], by=signed_in(request), seen=data["seen"]
        ),
        form=StageForm,
        form_kwargs=_of,
        consequence="The time box of the new stage begins now.",
        possible=lambda incident: incident.stage_id is not None and _is_not_closed(incident),
        icon="arrow-right",
    ),
    Act(
        "severity",
        "Change the severity …",
        SEE,
        run=lambda request, incident, data, key: triage.change_severity(
            incident, data["severity"], reason=data["reason"], by=signed_in(request)
        ),
        form=SeverityForm,
        form_kwargs=_of,
        template="incidents/severity_confirm.html",
        context=_severity_context,
        consequence="Response clock and cadence of updates follow the new severity, and so does whom the matrix tells.",
        may=commands,
        possible=_is_open,
        place=MENU,
        icon="alert",
    ),
    Act(
        "situation",
        "Change the situation …",
        SEE,
        run=lambda request, incident, data, key: triage.change_situation(
            incident, data["situation"], by=signed_in(request)
        ),
        form=SituationForm,
        form_kwargs=_of,
        template="incidents/situation_confirm.html",
        context=lambda request, incident: {"situations": policy.situations_of(incident.service)},
        consequence="The escalation matrix may tell others in another situation.",
        may=commands,
        possible=_is_open,
        place=MENU,
        icon="filter",
    ),
    Act(
        "edit",
        "Edit what is known …",
        SEE,
        run=lambda request, incident, data, key: triage.edit(incident, by=signed_in(request), **data),
        form=FactsForm,  # type: ignore[arg-type]  # a model form is as good: it is filled in and read
        form_kwargs=_facts,
        possible=lambda incident: not incident.merged_into_id,
        icon="edit",
    ),
    Act(
        "take_command",
        "Take command",
        SEE,
        run=lambda request, incident, data, key: _stay(people.take_command(incident, by=signed_in(request))),
        may=takes_command,
        possible=_is_open,
        confirm=False,
        icon="flag",
    ),
    Act(
        "assign",
        "Assign …",
        SEE,
        run=lambda request, incident, data, key: _stay(
            people.assign(incident, data["role"], primary=data["primary"], backup=data["backup"], by=signed_in(request))
        ),
        form=AssignForm,
        form_kwargs=lambda request, incident: {"incident": incident, "role": request.GET.get("role", "")},
        possible=_is_not_closed,
        icon="users",
    ),
    Act(
        "escalate",
        "Escalate now …",
        SEE,
        run=lambda request, incident, data, key: _escalate(request, incident, data),
        form=EscalateForm,
        form_kwargs=lambda request, incident: {"escalation": escalations.current(incident)},
        consequence="That level of the matrix is told at once, whatever its time. The levels after keep theirs.",
        may=escalates,
        possible=_is_escalated,
        icon="bell",
    ),
    Act(
        "reassign",
        "Give to somebody …",
        SEE,
        run=lambda request, incident, data, key: _reassign(request, incident, data),
        form=ReassignForm,
        consequence="The ladder stops, and the person you choose is paged at once.",
        may=escalates,
        possible=_is_escalated,
        icon="user",
    ),
    Act(
        "solo",
        "Work in solo mode",
        SEE,
        run=lambda request, incident, data, key: people.set_solo(incident, True, by=signed_in(request)),
        consequence="Whoever declared it commands, and may restore and roll back without the roles for it. It is "
        "flagged to be looked at afterwards.",
        may=goes_solo,
        possible=lambda incident: _is_open(incident) and not incident.solo and incident.declared_by_id is not None,
        place=MENU,
        icon="user",
    ),
    Act(
        "not_solo",
        "End solo mode",
        SEE,
        run=lambda request, incident, data, key: people.set_solo(incident, False, by=signed_in(request)),
        consequence="Command, restoring and rolling back are for those with the roles again.",
        may=goes_solo,
        possible=lambda incident: incident.solo and _is_open(incident),
        place=MENU,
        icon="users",
    ),
    Act(
        "confidential",
        "Make it confidential …",
        SEE,
        run=lambda request, incident, data, key: triage.set_confidential(
            incident, True, by=signed_in(request), reason=data["reason"]
        ),
        form=WhyForm,
        consequence=_confidential_words,
        may=commands,
        possible=lambda incident: not incident.confidential,
        place=MENU,
        icon="lock",
    ),
    Act(
        "not_confidential",
        "Lift confidentiality …",
        SEE,
        run=lambda request, incident, data, key: triage.set_confidential(
            incident, False, by=signed_in(request), reason=data["reason"]
        ),
        form=WhyForm,
        consequence="Everybody who may see incidents sees this one from now on, its whole timeline included.",
        may=commands,
        possible=lambda incident: incident.confidential,
        danger=True,
        place=MENU,
        icon="eye",
    ),
    Act(
        "relate",
        "Relate to another …",
        SEE,
        run=lambda request, incident, data, key: relate.relate(incident, data["other"], by=signed_in(request)),
        form=OtherIncidentForm,
        form_kwargs=_others,
        possible=_is_not_closed,
        icon="layers",
    ),
    Act(
        "unrelate",
        "Not related …",
        SEE,
        run=lambda request, incident, data, key: relate.unrelate(incident, data["other"], by=signed_in(request)),
        form=UnrelateForm,
        form_kwargs=_others,
        possible=lambda incident: _is_not_closed(incident) and _is_related(incident),
        place=MENU,
        icon="layers",
    ),
    Act(
        "parent",
        "Set the parent …",
        SEE,
        run=lambda request, incident, data, key: relate.set_parent(incident, data["other"], by=signed_in(request)),
        form=ParentForm,
        form_kwargs=_others,
        consequence="It belongs to the other incident from now on, and keeps its own clocks and timeline.",
        possible=_is_not_closed,
        place=MENU,
        icon="layers",
    ),
    Act(
        "merge",
        "Merge into another …",
        SEE,
        run=lambda request, incident, data, key: relate.merge(
            incident, data["other"], reason=data["reason"], by=signed_in(request)
        ),
        form=MergeForm,
        form_kwargs=_others,
        consequence="This incident is closed and leads to the other one. Its timeline stays as it is.",
        may=commands,
        possible=_is_not_closed,
        danger=True,
        place=MENU,
        icon="layers",
    ),
]


def _stay(done: object) -> None:
    """Lead back to the page, whatever the action has made."""


def _escalate(request: HttpRequest, incident: Incident, data: dict[str, Any]) -> None:
    if (found := escalations.current(incident)) is not None:
        escalations.escalate_now(found, by=signed_in(request), to_position=data["level"])


def _reassign(request: HttpRequest, incident: Incident, data: dict[str, Any]) -> None:
    if (found := escalations.current(incident)) is not None:
        escalations.reassign(found, data["contact"], by=signed_in(request), reason=data["reason"])
