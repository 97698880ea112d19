"""Tiles of the situation room: what is live where, and which deployments want somebody."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from core.buttons import signed_in
from core.links import list_url
from core.panels import panel
from deployments import board
from deployments.models import Deployment, LiveState

SHOWN = 10
SHOWN_SMALL = 6
MOST = 100
State = Deployment.State


@panel(
    "live-where",
    title="What is live where",
    order=6,
    permission="deployments.view_livestate",
    template="deployments/panels/live.html",
    size="wide",
    icon="layers",
)
def live_where(request: HttpRequest) -> dict[str, Any]:
    """What needs somebody first, then production."""
    found = board.lines(board.states()[:MOST])
    found.sort(key=lambda line: (line.status != "bad", line.status != "running", not _is_production(line)))
    more = len(found) - SHOWN
    return {"lines": found[:SHOWN], "more": max(more, 0), "count": len(found), "url": list_url(LiveState)}


def _is_production(line: board.Line) -> bool:
    return line.environment.environment_band.is_production


@panel(
    "deployments",
    title="Deployments",
    order=7,
    permission="deployments.view_deployment",
    template="deployments/panels/deployments.html",
    icon="rocket",
)
def deployments(request: HttpRequest) -> dict[str, Any]:
    """At work, live with failed checks, to be approved by whoever reads, and what else waits."""
    me, now = signed_in(request), timezone.now()
    suspect = LiveState.objects.filter(deployment__state=State.SUSPECT).values("deployment")
    unfinished = Deployment.objects.filter(state__in=board.UNFINISHED) | Deployment.objects.filter(pk__in=suspect)
    found = list(
        unfinished.select_related("environment__service", "release", "requested_by")
        .prefetch_related("approvals")
        .order_by("not_before", "-requested_at")[:MOST]
    )
    approves = me.has_perm("deployments.approve_deployment")
    marked = [(row, approves and _wants_approval_of(row, me.pk, now)) for row in found]
    marked.sort(key=lambda pair: (_place(pair[0]), not pair[1]))
    rows: list[dict[str, Any]] = [{"deployment": row, "mine": mine} for row, mine in marked]
    return {
        "rows": rows[:SHOWN_SMALL],
        "more": max(len(rows) - SHOWN_SMALL, 0),
        "count": len(rows),
        "url": list_url(Deployment),
    }


def _place(row: Deployment) -> int:
    return {State.SUSPECT: 0, State.RUNNING: 1, State.VERIFYING: 1}.get(State(row.state), 2)


def _wants_approval_of(row: Deployment, person: int, now: datetime) -> bool:
    """Whether this person's word is still missing."""
    given = list(row.approvals.all())
    for each in given:
        each.deployment = row
    counting = [each for each in given if each.counts(now) and each.by_id != row.requested_by_id]
    mine = any(each.by_id == person and (each.counts(now) or not each.granted) for each in given)
    return (
        row.state == State.WAITING
        and row.requested_by_id != person
        and len(counting) < row.approvals_needed
        and not mine
    )
