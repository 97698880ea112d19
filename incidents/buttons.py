"""Buttons of an incident. Whether somebody may press one depends on the incident, not on their role alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from core.buttons import Button, signed_in
from core.models import User
from incidents import access
from incidents.models import Incident, IncidentRole

# The page itself may be opened by whoever sees incidents; everything else is asked of `may`.
SEE = "incidents.view_incident"
HEADLINE, MENU, CARD = "headline", "menu", "card"


@dataclass(frozen=True)
class Rights:
    """What one person may do with one incident."""

    work: bool
    command: bool
    take_command: bool
    solo: bool
    restore: bool
    backup: bool
    undo: bool
    escalate: bool
    publish: bool


def rights_of(user: User, incident: Incident) -> Rights:
    """Asked once for a page: every button wants to know."""
    known: dict[int, Rights] = incident.__dict__.setdefault("_rights", {})
    if user.pk not in known:
        known[user.pk] = _rights(user, incident)
    return known[user.pk]


def _rights(user: User, incident: Incident) -> Rights:
    sees, work, command = (may(user, incident) for may in (access.may_see, access.may_work, access.may_command))
    return Rights(
        work=work,
        command=command,
        take_command=(command or (work and not access.commanders_of(incident))) and not is_commander(user, incident),
        solo=command or (sees and access.is_declarer(user, incident)),
        restore=access.may_restore_from(user, incident),
        backup=access.may_back_up_from(user, incident),
        undo=access.may_undo_from(user, incident),
        escalate=sees and user.has_perm("contacts.answer_escalation"),
        publish=access.may_publish(user, incident),
    )


@dataclass(frozen=True)
class Act(Button):
    """A button of an incident.

    may        which right it needs
    possible   whether it makes sense now, for anybody
    place      where it is offered: beside the title, in the menu, or on the card that is about it
    """

    may: Callable[[Rights], bool] = lambda rights: rights.work
    possible: Callable[[Incident], bool] = lambda incident: True
    place: str = CARD

    def is_visible(self, request: HttpRequest, obj: Any) -> bool:
        return self.may(rights_of(signed_in(request), obj)) and self.possible(obj)

    def demand(self, request: HttpRequest, incident: Incident) -> None:
        """Raises PermissionDenied for whoever may not press it here, whatever the state."""
        if not self.may(rights_of(signed_in(request), incident)):
            raise PermissionDenied(
                f"You may not press “{self.label.removesuffix(' …')}” on this incident. Ask its commander or an "
                "administrator."
            )


def is_commander(user: User, incident: Incident) -> bool:
    """Whether this person commands already, as the primary."""
    held = [each for each in access.assignments_of(incident) if each.role == IncidentRole.COMMANDER]
    return any(each.primary is not None and each.primary.user_id == user.pk for each in held)


def commands(rights: Rights) -> bool:
    return rights.command


def takes_command(rights: Rights) -> bool:
    return rights.take_command


def goes_solo(rights: Rights) -> bool:
    return rights.solo


def escalates(rights: Rights) -> bool:
    return rights.escalate
