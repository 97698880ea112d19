"""Who is on call, and escalations, over the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from contacts import rota
from contacts.actions import escalation as escalations
from contacts.models import Escalation
from core.api import BearerToken, Id, Input, Page, Sliced, Text, caller, one_of, page_of
from core.scopes import RESPOND
from operations.api import acting

router = Router(tags=["On call"])


class WayOut(Schema):
    kind: str
    address: str


class OnCallOut(Schema):
    """A place of an on-call schedule. Without a contact nobody answers."""

    schedule: str
    service: str | None = Field(description="Its slug.")
    level: str
    contact: str | None
    ways: list[WayOut] = Field(description="How to reach the contact, what is tried first first.")
    until: datetime | None
    next: str | None


class OnCallNow(Schema):
    items: list[OnCallOut]


class EscalationOut(Schema):
    id: int
    title: str
    state: str = Field(description=", ".join(Escalation.State.values))
    service: str | None = Field(description="Its slug.")
    severity: str
    rank: int | None
    started_at: datetime
    due_at: datetime | None = Field(description="When the next step is due.")
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    ended_at: datetime | None
    ending: str
    url: str = Field(description="The page of what it is about.")


class EscalationPage(Page):
    items: list[EscalationOut]


class Nothing(Input):
    pass


class Filters(Schema):
    open: bool | None = Field(None, description="True: nobody has answered yet.")
    service: Text | None = Field(None, max_length=80, description="The slug.")


def _on_call(place: rota.OnCall) -> dict[str, Any]:
    contact = place.contact
    ways = [way for way in contact.ways.all() if not way.is_missing] if contact is not None else []
    return {
        "schedule": place.schedule.name,
        "service": place.schedule.service.slug if place.schedule.service else None,
        "level": place.level.label.lower(),
        "contact": contact.name if contact is not None else None,
        "ways": [{"kind": way.kind, "address": way.address} for way in ways],
        "until": place.until,
        "next": place.next.name if place.next is not None else None,
    }


def _escalation(row: Escalation) -> dict[str, Any]:
    names = ("id", "title", "state", "started_at", "due_at", "acknowledged_at", "ended_at", "ending", "url")
    by = row.acknowledged_by or row.acknowledged_by_user
    return {
        **{name: getattr(row, name) for name in names},
        "service": row.service.slug if row.service else None,
        "severity": row.severity_words,
        "rank": row.severity_rank if row.severity_words else None,  # of a discreet one nobody reads either
        "acknowledged_by": str(by) if by is not None else None,
    }


@router.get("/on-call", response=OnCallNow, auth=BearerToken("contacts.view_oncallschedule"), summary="On call now")
def on_call_now(request: HttpRequest) -> Any:
    return {"items": [_on_call(place) for place in rota.on_call_now()]}


def _rows() -> Any:
    return Escalation.objects.select_related("service", "acknowledged_by", "acknowledged_by_user")


@router.get(
    "/escalations", response=EscalationPage, auth=BearerToken("contacts.view_escalation"), summary="List escalations"
)
def list_escalations(request: HttpRequest, part: Sliced, filters: Query[Filters]) -> Any:
    rows = _rows()
    if filters.open is not None:
        rows = rows.open() if filters.open else rows.exclude(state__in=Escalation.OPEN)
    if filters.service is not None:
        rows = rows.filter(service__slug=filters.service)
    return page_of(rows, part, _escalation)


@router.post(
    "/escalations/{id}/acknowledge",
    response=EscalationOut,
    auth=BearerToken("contacts.answer_escalation", RESPOND),
    summary="Acknowledge it, and what it is about",
)
def acknowledge(request: HttpRequest, id: Id, data: Nothing) -> Any:
    with acting(request):
        escalations.acknowledge(one_of(_rows(), id, "escalation"), by=caller(request))
        return _escalation(one_of(_rows(), id, "escalation"))
