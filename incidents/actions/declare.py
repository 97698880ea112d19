"""Declaring an incident: two fields from a person, everything else follows from the service."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.models import Component, Environment, Service, Severity
from contacts.models import Contact, Role
from incidents import access, clocks, gates, news, numbers
from incidents.access import contact_of
from incidents.actions import escalating
from incidents.actions.writing import check_fields, demand, demand_text, index, note_that
from incidents.exceptions import IncidentError
from incidents.models import Assignment, Incident, IncidentProfile, IncidentRole, ProfileRole, Stage
from incidents.timeline import Kind, Source

if TYPE_CHECKING:
    from core.models import User

logger = logging.getLogger(__name__)
Door = Incident.Door
SOURCES = {Door.CLICK: Source.PERSON, Door.API: Source.API, Door.RULE: Source.PORTAL}


def declare(
    title: str,
    *,
    service: Service | None = None,
    severity: Severity | None = None,
    environment: Environment | None = None,
    situation: str = "",
    description: str = "",
    components: Sequence[Component] = (),
    confidential: bool = False,
    solo: bool = False,
    started_at: datetime | None = None,
    by: User | None = None,
    door: str = Door.CLICK,
    actor: str = "",
    escalate: bool = True,
    key: str | None = None,
) -> Incident:
    """Declare it, give it a number, put people on it and tell those of the matrix. Only a rule declares without `by`.

    The same `key` gives the same incident again, however often and simultaneously it comes.
    """
    demand(by.has_perm("incidents.declare_incident") if by is not None else door == Door.RULE)
    if key and (earlier := Incident.objects.filter(idempotency_key=key).first()) is not None:
        return earlier
    service = _service(service, severity, environment, components)
    now = timezone.now()
    # Whole seconds: that is what people see and type.
    began = min(started_at or now, now).replace(microsecond=0)
    incident = Incident(
        number="-",
        title=demand_text(title, "Say in a few words what is wrong."),
        service=service,
        severity=severity,
        rank=severity.rank if severity else None,
        environment=environment or _only_one(components),
        situation=situation.strip(),
        description=description.strip(),
        confidential=confidential,
        solo=solo,
        solo_review=solo,
        declared_by=by,
        declared_at=now,
        started_at=began,
        door=door,
        idempotency_key=key or None,
    )
    check_fields(incident, {"title", "situation", "description"})
    try:
        with transaction.atomic():
            return _written(incident, components, actor=actor, escalate=escalate)
    except IntegrityError:
        existing = Incident.objects.filter(idempotency_key=key).first() if key else None
        if existing is None:
            raise
        return existing


def _service(
    service: Service | None,
    severity: Severity | None,
    environment: Environment | None,
    components: Iterable[Component],
) -> Service | None:
    """The one service that everything named belongs to. Raises IncidentError for more than one."""
    named = [service] if service else []
    named += [severity.service] if severity else []
    named += [environment.service] if environment else []
    named += [component.environment.service for component in components]
    if len(set(named)) > 1:
        raise IncidentError("Severity, environment and components must be of the same service. Choose again.")
    return named[0] if named else None


def _only_one(components: Iterable[Component]) -> Environment | None:
    found = {component.environment for component in components}
    return found.pop() if len(found) == 1 else None


def _written(incident: Incident, components: Sequence[Component], *, actor: str, escalate: bool) -> Incident:
    profile = gates.profile_of(incident) or IncidentProfile()
    by = incident.declared_by
    clocks.enter(incident, _first_stage(profile), incident.declared_at)
    incident.response_due_at = clocks.response_due(incident)
    incident.update_due_at = clocks.first_update(incident)
    incident.number = numbers.take(profile.number_pattern, incident.service, incident.declared_at)
    incident.channel_name = numbers.room(profile.channel_pattern, incident)
    incident.save(force_insert=True)
    incident.components.set(components)
    source = SOURCES[Door(incident.door)]
    note_that(incident, _words(incident), by=by, actor=actor, source=source)
    assign_roles(incident, profile)
    index(incident)
    who = actor or (by.display_name if by else "the portal")
    news.tell(news.DECLARED, incident, f"declared by {who}", by=by, actor=actor, door=incident.door)
    if escalate:
        escalating.start(incident, by=by)
    return incident


def _first_stage(profile: IncidentProfile) -> Stage | None:
    return profile.workflow.stages.first() if profile.workflow else None


def _words(incident: Incident) -> str:
    """The first entry of the timeline."""
    parts = [f"Declared: {incident.title}."]
    if incident.service:
        parts.append(f"Service {incident.service}.")
    parts.append(f"Severity {incident.severity}." if incident.severity else "Severity not decided yet.")
    if incident.situation:
        parts.append(f"Situation: {incident.situation}.")
    if incident.started_at < incident.declared_at.replace(microsecond=0):
        parts.append(f"It began at {incident.started_at:%Y-%m-%d %H:%M} UTC.")
    if incident.solo:
        parts.append("Solo mode: whoever declared it works alone.")
    return " ".join(parts)


# -- people ------------------------------------------------------------------------------------------------------------


def assign_roles(incident: Incident, profile: IncidentProfile) -> None:
    """The roles as the profile has them, where nobody has them yet; in solo mode whoever declared it commands."""
    held = set(incident.assignments.values_list("role", flat=True))
    rows = list(_planned(profile))
    able = set(access.who_may_have_roles().values_list("pk", flat=True)) if rows else set()
    planned = {row.role: _pair(row, able) for row in rows}
    declarer = contact_of(incident.declared_by) if incident.solo and incident.declared_by else None
    if declarer is not None:
        primary, backup = planned.get(IncidentRole.COMMANDER, (None, None))
        others = [contact for contact in (primary, backup) if contact not in (None, declarer)]
        planned[IncidentRole.COMMANDER] = declarer, others[0] if others else None
    for role, (primary, backup) in planned.items():
        if role not in held and (primary or backup):
            Assignment.objects.create(incident=incident, role=role, primary=primary, backup=backup)
            text = f"{IncidentRole(role).label}: {primary or 'nobody'}{f', backup {backup}' if backup else ''}."
            note_that(incident, text, by=None, kind=Kind.ROLE)


def _planned(profile: IncidentProfile) -> Iterable[ProfileRole]:
    if profile.pk is None:
        return ()
    return profile.roles.select_related("primary", "backup", "primary_role", "backup_role")


def _pair(row: ProfileRole, able: set[int]) -> tuple[Contact | None, Contact | None]:
    """Primary and backup: the persons named, else the first and the second who hold the role named; of all these only
    those who are `able`."""
    holders = _holders(row.primary_role, able)
    primary = _able(row.primary, able) or (holders[0] if holders else None)
    seconds = _holders(row.backup_role, able) if row.backup_role else holders
    backups = [_able(row.backup, able), *seconds]
    backup = next((contact for contact in backups if contact is not None and contact != primary), None)
    return (primary, backup) if primary is not None else (backup, None)


def _able(contact: Contact | None, able: set[int]) -> Contact | None:
    return contact if contact is not None and contact.pk in able else None


def _holders(role: Role | None, able: set[int]) -> list[Contact]:
    if role is None:
        return []
    found = role.holders.filter(contact__in=able).select_related("contact").order_by("rank", "contact__name")
    return [holder.contact for holder in found]
