"""Who does what in an incident."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contacts.models import Contact
from incidents import access
from incidents.access import contact_of
from incidents.actions.writing import changing, demand, not_ended, not_merged, note_that
from incidents.exceptions import IncidentError
from incidents.models import Assignment, Incident, IncidentRole
from incidents.timeline import Kind

if TYPE_CHECKING:
    from core.models import User

COMMANDER = IncidentRole.COMMANDER


def assign(
    incident: Incident, role: str, *, primary: Contact | None, backup: Contact | None = None, by: User
) -> Assignment | None:
    """Give a role to somebody, with somebody who stands in; nobody takes it away.

    Command is handed over by who has it; an incident without a commander is given one by whoever works on it.
    """
    if role not in IncidentRole.values:
        raise IncidentError("Choose one of the roles of an incident.")
    if primary is None:
        primary, backup = backup, None
    if primary == backup:
        backup = None
    for contact in (primary, backup):
        if contact is not None and not contact.active:
            raise IncidentError(f"{contact} is switched off. Choose somebody who can be reached.")
        if contact is not None and not access.may_have_role(contact):
            raise IncidentError(
                f"{contact} may not work on incidents. Choose somebody who may, or have an administrator give them the "
                "role Responder first."
            )
    with changing(incident) as row:
        demand(_may_assign(by, row, role))  # as it is now: another may have taken command meanwhile
        not_merged(row)
        return _set(row, role, primary, backup, by=by)


def _may_assign(by: User, incident: Incident, role: str) -> bool:
    if role == COMMANDER and access.commanders_of(incident):
        return access.may_command(by, incident)
    return access.may_work(by, incident)


def _set(row: Incident, role: str, primary: Contact | None, backup: Contact | None, *, by: User) -> Assignment | None:
    before = row.assignments.select_related("primary", "backup").filter(role=role).first()
    if (before.primary, before.backup) == (primary, backup) if before else primary is None:
        return before
    label = IncidentRole(role).label
    if primary is None:
        row.assignments.filter(role=role).delete()
        note_that(row, f"{label}: nobody any more.", by=by, kind=Kind.ROLE)
        return None
    found, _ = Assignment.objects.update_or_create(
        incident=row, role=role, defaults={"primary": primary, "backup": backup}
    )
    note_that(row, f"{label}: {primary}{f', backup {backup}' if backup else ''}.", by=by, kind=Kind.ROLE)
    return found


def take_command(incident: Incident, *, by: User) -> Assignment | None:
    """Become the commander: where there is none, or as the one who stands in. The one before stands in from now on."""
    with changing(incident) as row:
        commanders = access.commanders_of(row)
        demand(access.may_command(by, row) or (not commanders and access.may_work(by, row)))
        me = contact_of(by)
        if me is None:
            raise IncidentError(
                "Your account belongs to no contact, so nobody could reach you. Add yourself to the contacts and "
                "choose your account there, or ask an administrator."
            )
        not_ended(row)
        others = [contact for contact in commanders if contact != me]
        return _set(row, COMMANDER, me, others[0] if others else None, by=by)


def set_solo(incident: Incident, solo: bool, *, by: User) -> Incident:
    """Whoever declared it works alone: commands, and may restore and roll back. It is looked at afterwards.

    What a commander has ended, only who commands begins again.
    """
    with changing(incident) as row:
        demand(access.may_see(by, row) and (access.is_declarer(by, row) or access.may_command(by, row)))
        not_ended(row)
        if row.declared_by is None and solo:
            raise IncidentError("A rule declared it, so nobody works alone on it. Take command instead.")
        if row.solo == solo:
            return row
        if solo and _was_ended_by_others(row) and not access.may_command(by, row):
            raise IncidentError("The commander has ended solo mode. Ask whoever commands to switch it on again.")
        row.solo, row.solo_review = solo, row.solo_review or solo
        row.save()
        text = f"Solo mode: {row.declared_by} works alone and commands." if solo else "Solo mode is over."
        note_that(row, text, by=by, kind=Kind.DECISION, data={"solo": solo})
        return row


def _was_ended_by_others(row: Incident) -> bool:
    """Solo mode was ended last by somebody else than who declared it."""
    last = row.timeline.filter(kind=Kind.DECISION, data__has_key="solo").order_by("-sequence").first()
    return last is not None and last.data["solo"] is False and last.user_id != row.declared_by_id
