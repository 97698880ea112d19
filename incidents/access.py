"""Who may do what in an incident. A confidential one does not exist for those who may not see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contacts.models import Contact
from incidents.models import Assignment, Incident, IncidentRole

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from backups.models import Archive
    from core.models import User


def may_see(user: User | AnonymousUser, incident: Incident) -> bool:
    """Everybody who sees incidents; a confidential one is seen by those named in it and by administrators."""
    if not user.has_perm("incidents.view_incident"):
        return False
    if not incident.confidential or user.has_perm("incidents.see_confidential"):
        return True
    return is_declarer(user, incident) or bool(roles_of(user, incident)) or was_told(user, incident)


def may_work(user: User | AnonymousUser, incident: Incident) -> bool:
    """Acknowledge, note, move on, resolve: responders, and whoever has a role in it."""
    if not may_see(user, incident):
        return False
    return user.has_perm("incidents.respond_incident") or bool(roles_of(user, incident)) or is_solo(user, incident)


def may_command(user: User | AnonymousUser, incident: Incident) -> bool:
    """Severity, roles, merging, closing: the commander and the one who stands in, whoever works alone on it, and
    administrators."""
    if not may_see(user, incident):
        return False
    if user.has_perm("incidents.command_incident"):
        return True
    return IncidentRole.COMMANDER in roles_of(user, incident) or is_solo(user, incident)


def may_restore_from(user: User | AnonymousUser, incident: Incident) -> bool:
    """Start a restore from its page: those who may restore anyway, and whoever works alone on it while it is open."""
    if not may_see(user, incident):
        return False
    return user.has_perm("backups.restore_archive") or (is_solo(user, incident) and not incident.is_ended)


def may_restore(user: User | AnonymousUser, incident: Incident, archive: Archive) -> bool:
    """This archive: whoever restores only because they work alone does so within the incident's service."""
    if not may_restore_from(user, incident):
        return False
    service = archive.target.component.environment.service_id
    return user.has_perm("backups.restore_archive") or (
        incident.service_id is not None and service == incident.service_id
    )


def is_declarer(user: User | AnonymousUser, incident: Incident) -> bool:
    return user.is_active and user.pk is not None and incident.declared_by_id == user.pk


def was_told(user: User | AnonymousUser, incident: Incident) -> bool:
    """Was paged for it, or has answered its escalation: whoever is called for help must be able to read what for."""
    return user.pk is not None and Incident.objects.filter(pk=incident.pk).told(user).exists()


def may_publish(user: User | AnonymousUser, incident: Incident) -> bool:
    """Send updates: those with the right for it among who works on it, and whoever leads its communications."""
    if not may_work(user, incident):
        return False
    return user.has_perm("incidents.publish_update") or IncidentRole.COMMUNICATIONS in roles_of(user, incident)


def is_solo(user: User | AnonymousUser, incident: Incident) -> bool:
    """Declared it and works alone on it."""
    return incident.solo and is_declarer(user, incident)


def roles_of(user: User | AnonymousUser, incident: Incident) -> set[str]:
    """The incident roles of this person, as primary or backup."""
    if user.pk is None:
        return set()
    return {
        assignment.role
        for assignment in assignments_of(incident)
        if any(contact is not None and contact.user_id == user.pk for contact in people_of(assignment))
    }


def people_of(assignment: Assignment) -> list[Contact | None]:
    return [assignment.primary, assignment.backup]


def assignments_of(incident: Incident) -> list[Assignment]:
    """Who has which role; no query where the page has loaded them (`prefetch_related("assignments__primary",
    "assignments__backup")`)."""
    loaded = getattr(incident, "_prefetched_objects_cache", {}).get("assignments")
    if loaded is not None:
        return list(loaded)
    return list(incident.assignments.select_related("primary", "backup"))


def contact_of(user: User) -> Contact | None:
    """The contact that is this person."""
    return Contact.objects.filter(user=user).first()
