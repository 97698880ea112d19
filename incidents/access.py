"""Who may do what in an incident. A confidential one does not exist for those who may not see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

from contacts.models import Contact
from incidents.models import Assignment, Incident, IncidentRole

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from backups.models import Archive, Plan, Restore
    from catalog.models import DatabaseTarget
    from core.models import User

WORK = "incidents.respond_incident"
_RIGHTS = "django.contrib.auth.backends.ModelBackend"  # the one that knows who has a permission


def may_see(user: User | AnonymousUser, incident: Incident) -> bool:
    """Everybody who sees incidents; a confidential one is seen by those named in it and by administrators."""
    if not user.has_perm("incidents.view_incident"):
        return False
    if not incident.confidential or user.has_perm("incidents.see_confidential"):
        return True
    return is_declarer(user, incident) or bool(roles_of(user, incident)) or was_told(user, incident)


def may_work(user: User | AnonymousUser, incident: Incident) -> bool:
    """Acknowledge, note, move on, resolve: those whose role in the portal is to respond. A role in the incident alone
    does not let anybody act: it says who does what among them."""
    return may_see(user, incident) and user.has_perm(WORK)


def may_command(user: User | AnonymousUser, incident: Incident) -> bool:
    """Severity, roles, merging, closing: the commander and the one who stands in, whoever works alone on it, and
    administrators."""
    if not may_see(user, incident):
        return False
    if user.has_perm("incidents.command_incident"):
        return True
    if not user.has_perm(WORK):
        return False
    return IncidentRole.COMMANDER in roles_of(user, incident) or is_solo(user, incident)


def may_have_role(contact: Contact) -> bool:
    """Whoever has an account needs the right to work on incidents. One without an account is called by the others and
    starts nothing here."""
    return contact.user is None or contact.user.has_perm(WORK)


def who_may_have_roles() -> QuerySet[Contact]:
    """As `may_have_role` says, for lists to choose from."""
    return Contact.objects.active().filter(Q(user=None) | Q(user__in=who_may_work().values("pk")))


def who_may_work() -> QuerySet[User]:
    """Accounts with the right to work on incidents."""
    return get_user_model().objects.with_perm(WORK, backend=_RIGHTS)


def may_restore_from(user: User | AnonymousUser, incident: Incident) -> bool:
    """Start a restore from its page: those who may restore anyway, and whoever works alone on it while it is open."""
    return _may_start(user, incident, "backups.restore_archive")


def may_restore(user: User | AnonymousUser, incident: Incident, archive: Archive) -> bool:
    """This archive: whoever restores only because they work alone does so within the incident's service."""
    return _may_start(user, incident, "backups.restore_archive", archive.target)


def may_back_up_from(user: User | AnonymousUser, incident: Incident) -> bool:
    """Take a backup from its page: those who run plans anyway, and whoever works alone on it while it is open."""
    return _may_start(user, incident, "backups.run_plan")


def may_back_up(user: User | AnonymousUser, incident: Incident, plan: Plan) -> bool:
    """This plan, within the incident's service as for a restore."""
    return _may_start(user, incident, "backups.run_plan", plan.target)


def may_roll_back_from(user: User | AnonymousUser, incident: Incident, service: int | None = None) -> bool:
    """Roll a release back from its page: those who may anyway, and whoever works alone on it, within its service."""
    if service is not None and service != incident.service_id and not user.has_perm("deployments.rollback_deployment"):
        return False
    return _may_start(user, incident, "deployments.rollback_deployment")


def may_undo_from(user: User | AnonymousUser, incident: Incident) -> bool:
    """Undo a restore from its page: those who may anyway, and those who may restore from it."""
    return _may_start(user, incident, "backups.undo_restore") or may_restore_from(user, incident)


def may_undo(user: User | AnonymousUser, incident: Incident, restore: Restore) -> bool:
    """This restore."""
    target = restore.archive.target
    return _may_start(user, incident, "backups.undo_restore", target) or may_restore(user, incident, restore.archive)


def _may_start(
    user: User | AnonymousUser, incident: Incident, permission: str, target: DatabaseTarget | None = None
) -> bool:
    """Those with the permission; and while it is open whoever works alone on it, with databases of its service."""
    if not may_see(user, incident):
        return False
    if user.has_perm(permission):
        return True
    if not is_solo(user, incident) or incident.is_ended:
        return False
    return target is None or target.component.environment.service_id == incident.service_id


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
    return incident.solo and is_declarer(user, incident) and user.has_perm(WORK)


def roles_of(user: User | AnonymousUser, incident: Incident) -> set[str]:
    """The incident roles of this person, as primary or backup."""
    if user.pk is None:
        return set()
    return {
        assignment.role
        for assignment in assignments_of(incident)
        if any(contact is not None and contact.user_id == user.pk for contact in people_of(assignment))
    }


def commanders_of(incident: Incident) -> list[Contact]:
    """Who commands, and who stands in."""
    held = [each for each in assignments_of(incident) if each.role == IncidentRole.COMMANDER]
    return [contact for each in held for contact in people_of(each) if contact is not None]


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
