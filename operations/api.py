"""Operations over the API, and what every request that asks for one shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from auditlog.context import set_actor
from django.db import transaction
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status

from core.api import BearerToken, Id, Input, Page, Sliced, Text, caller, demand_scope, one_of, page_of
from core.scopes import CONTROL
from operations import actions, procedures
from operations.idempotency import key_for
from operations.models import Operation, OperationStep
from operations.report import described

router = Router(tags=["Operations"])


@contextmanager
def acting(request: HttpRequest) -> Iterator[str | None]:
    """Around a request that asks for an operation: the audit trail names the token's owner. Gives the one-time key.

    A repeated `Idempotency-Key` gives the operation that the first request made, and is refused for another request.
    """
    with transaction.atomic(), set_actor(caller(request)):
        yield _key(request)


def _key(request: HttpRequest) -> str | None:
    word = request.headers.get("Idempotency-Key")
    if word is None:
        return None
    return key_for(f"api:{caller(request).pk}", word, request.path.encode() + b"\0" + request.body)


# -- what comes back ---------------------------------------------------------------------------------------------------


class OperationOut(Schema):
    """An operation. It is over when `ended_at` is set; then `state` is succeeded, failed, errored or cancelled."""

    id: int
    state: str = Field(description=", ".join(Operation.State.values))
    seconds: float | None = Field(description="From its start to its end, or to now; null before it starts.")
    bytes: int | None = Field(description="What it wrote, where that is known.")
    message: str = Field(description="The result, or what to do, in a sentence.")
    procedure: str
    title: str
    trigger: str
    requested_by: str | None
    reason: str
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    environment: str
    result: dict[str, Any]


class StepOut(Schema):
    name: str
    title: str
    state: str
    seconds: float | None
    progress_done: int
    progress_total: int | None
    progress_unit: str
    message: str
    commands: list[Any] = Field(description="What was run, secrets masked.")


class OperationWithSteps(OperationOut):
    steps: list[StepOut]


class OperationPage(Page):
    items: list[OperationOut]


class LogLineOut(Schema):
    id: int
    at: datetime
    step: str | None
    stream: str
    text: str


class LogPage(Schema):
    """Oldest first; what came later is asked for with `after` = `last` of this page."""

    items: list[LogLineOut]
    last: int


class Why(Input):
    reason: Text = Field("", max_length=500, description="Kept with the operation and shown to everybody.")


class Again(Why):
    typed_name: Text = Field(
        "", max_length=200, description="The name of the database, where the operation replaces or removes one."
    )


class Filters(Schema):
    state: Operation.State | None = None
    procedure: Text | None = Field(None, max_length=80, description="For example backups.restore.")
    active: bool | None = Field(None, description="True: not ended yet.")


def shown(operation: Operation) -> dict[str, Any]:
    """An operation as the API gives it."""
    names = ("reason", "requested_at", "started_at", "ended_at")
    return {**described(operation), **{name: getattr(operation, name) for name in names}}


def _step(step: OperationStep) -> dict[str, Any]:
    names = ("name", "title", "state", "progress_done", "progress_total", "progress_unit", "message", "commands")
    return {**{name: getattr(step, name) for name in names}, "seconds": step.seconds}


# -- routes ------------------------------------------------------------------------------------------------------------

SEE = "operations.view_operation"


@router.get("", response=OperationPage, auth=BearerToken(SEE), summary="List operations")
def list_operations(request: HttpRequest, part: Sliced, filters: Query[Filters]) -> Any:
    rows = Operation.objects.select_related("requested_by")
    if filters.state is not None:
        rows = rows.filter(state=filters.state)
    if filters.procedure is not None:
        rows = rows.filter(procedure=filters.procedure)
    if filters.active is not None:
        rows = rows.active() if filters.active else rows.ended()
    return page_of(rows, part, shown)


def _one(pk: int) -> Operation:
    return one_of(Operation.objects.select_related("requested_by"), pk, "operation")


@router.get("/{id}", response=OperationWithSteps, auth=BearerToken(SEE), summary="One operation with its steps")
def get_operation(request: HttpRequest, id: Id) -> Any:
    operation = _one(id)
    return {**shown(operation), "steps": [_step(step) for step in operation.steps.in_order()]}


@router.get("/{id}/log", response=LogPage, auth=BearerToken(SEE), summary="Its log, secrets masked")
def get_log(
    request: HttpRequest,
    id: Id,
    after: int = Query(0, ge=0, le=2**63 - 1),
    limit: int = Query(200, ge=1, le=1000),
) -> Any:
    lines = list(_one(id).log.filter(pk__gt=after).select_related("step").order_by("pk")[:limit])
    items = [
        {"id": line.pk, "at": line.at, "step": line.step.name if line.step else None, "stream": line.stream}
        | {"text": line.text}
        for line in lines
    ]
    return {"items": items, "last": lines[-1].pk if lines else after}


MAY_CONTROL = BearerToken("operations.control_operation", CONTROL)


@router.post("/{id}/cancel", response={202: OperationOut}, auth=MAY_CONTROL, summary="Ask it to stop")
def cancel_operation(request: HttpRequest, id: Id, data: Why) -> Any:
    with set_actor(caller(request)):
        return Status(202, shown(actions.cancel(_one(id), by=caller(request), reason=data.reason)))


@router.post("/{id}/retry", response={202: OperationOut}, auth=MAY_CONTROL, summary="Ask for the same thing again")
def retry_operation(request: HttpRequest, id: Id, data: Again) -> Any:
    with acting(request) as key:
        before = _one(id)
        demand_scope(request, procedures.get(before.procedure).scope)
        again = actions.retry(
            before,
            by=caller(request),
            reason=data.reason,
            key=key or "",
            typed_name=data.typed_name,
            trigger=Operation.Trigger.API,
        )
        return Status(202, shown(again))
