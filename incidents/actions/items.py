"""Action items: what is to be done so that it does not happen again. Their story stands on the incident's timeline."""

from __future__ import annotations

from datetime import date

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from contacts.models import Contact
from core.models import User
from incidents import access, timeline
from incidents.actions.writing import check_fields, demand_text, note_that
from incidents.models import ActionItem, Incident

MAY_ADD, MAY_CHANGE = "incidents.add_actionitem", "incidents.change_actionitem"
MAY_DELETE = "incidents.delete_actionitem"


def _check(by: User | None, permission: str, incident: Incident) -> None:
    """They outlive the incident, so a closed one is no obstacle."""
    if by is None or not by.has_perm(permission) or not access.may_see(by, incident):
        raise PermissionDenied("Your role does not allow changing the action items of this incident.")


@transaction.atomic
def add(
    incident: Incident, *, text: str, owner: Contact | None = None, due_on: date | None = None, by: User | None
) -> ActionItem:
    """A new item. Raises PermissionDenied, or IncidentError with a sentence."""
    _check(by, MAY_ADD, incident)
    item = ActionItem(incident=incident, text=" ".join(text.split()), owner=owner, due_on=due_on)
    _save(item)
    _note(item, f"Action item added: {_words(item)}", by)
    return item


@transaction.atomic
def edit(item: ActionItem, *, text: str, owner: Contact | None, due_on: date | None, by: User | None) -> ActionItem:
    """Change an item; a new due date is reminded of anew."""
    item = _locked(item)
    _check(by, MAY_CHANGE, item.incident)
    before = _words(item)
    if item.due_on != due_on:
        item.reminded_on = None
    item.text, item.owner, item.due_on = " ".join(text.split()), owner, due_on
    _save(item)
    if before != _words(item):
        _note(item, f"Action item changed: {_words(item)} (was: {before})", by)
    return item


@transaction.atomic
def done(item: ActionItem, *, by: User | None) -> ActionItem:
    """Tick it off. A second time changes nothing."""
    item = _locked(item)
    _check(by, MAY_CHANGE, item.incident)
    if item.done_at is None:
        item.done_at, item.done_by = timezone.now(), by
        item.save(update_fields=["done_at", "done_by"])
        _note(item, f"Action item done: {item.text}", by)
    return item


@transaction.atomic
def reopen(item: ActionItem, *, by: User | None) -> ActionItem:
    """It is not done after all. A second time changes nothing."""
    item = _locked(item)
    _check(by, MAY_CHANGE, item.incident)
    if item.done_at is not None:
        item.done_at, item.done_by, item.reminded_on = None, None, None
        item.save(update_fields=["done_at", "done_by", "reminded_on"])
        _note(item, f"Action item opened again: {item.text}", by)
    return item


@transaction.atomic
def remove(item: ActionItem, *, by: User | None) -> None:
    """Take it away for good; the timeline keeps that it was there."""
    item = _locked(item)
    _check(by, MAY_DELETE, item.incident)
    _note(item, f"Action item removed: {_words(item)}", by)
    item.delete()


def _locked(item: ActionItem) -> ActionItem:
    rows = ActionItem.objects.select_for_update(of=("self",)).select_related("incident", "owner")
    return rows.get(pk=item.pk)


def _save(item: ActionItem) -> None:
    demand_text(item.text, "Write what is to be done.")
    check_fields(item, {"text"})
    item.save()


def _words(item: ActionItem) -> str:
    more = [f"owner {item.owner.name}" if item.owner else "", f"due {item.due_on}" if item.due_on else ""]
    told = ", ".join(part for part in more if part)
    return item.text + (f" ({told})" if told else "")


def _note(item: ActionItem, text: str, by: User | None) -> None:
    note_that(item.incident, text, by=by, kind=timeline.Kind.NOTE, data={"action_item": item.pk})
