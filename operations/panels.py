"""Tiles of the situation room: what runs, what went wrong, who works."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from core.links import list_url
from core.panels import panel
from operations.models import Operation, Schedule, Slot, WorkerNode


@panel(
    "operations-running",
    title="Running now",
    order=5,
    permission="operations.view_operation",
    template="operations/panels/running.html",
    icon="zap",
)
def running(request: HttpRequest) -> dict[str, Any]:
    active = Operation.objects.active().select_related("requested_by").prefetch_related("steps")
    count = active.count()
    return {"operations": active.order_by("pk")[:6], "count": count, "url": list_url(Operation)}


@panel(
    "operations-wrong",
    title="Went wrong in the last 7 days",
    order=8,
    permission="operations.view_operation",
    template="operations/panels/wrong.html",
    icon="alert",
)
def went_wrong(request: HttpRequest) -> dict[str, Any]:
    wrong = Operation.objects.went_wrong(within=timedelta(days=7))
    return {
        "operations": wrong.order_by("-ended_at")[:5],
        "count": wrong.count(),
        "url": list_url(Operation, "went_wrong=7"),
    }


@panel(
    "schedules-next",
    title="Due next",
    order=40,
    permission="operations.view_schedule",
    template="operations/panels/due.html",
    icon="calendar",
)
def due_next(request: HttpRequest) -> dict[str, Any]:
    schedules = Schedule.objects.filter(enabled=True).select_related("crontab")
    upcoming = sorted(
        ((schedule.next_slot, schedule) for schedule in schedules if schedule.next_slot is not None),
        key=lambda pair: pair[0],
    )
    missed = Slot.objects.filter(
        decision__in=(Slot.Decision.TOO_LATE, Slot.Decision.REFUSED), at__gt=timezone.now() - timedelta(days=7)
    ).count()
    return {
        "upcoming": [{"at": at, "schedule": schedule} for at, schedule in upcoming[:5]],
        "missed": missed,
        "missed_url": list_url(Slot),
        "url": list_url(Schedule),
    }


@panel(
    "workers",
    title="Workers",
    order=50,
    permission="operations.view_workernode",
    template="operations/panels/workers.html",
    icon="cpu",
)
def workers(request: HttpRequest) -> dict[str, Any]:
    nodes = list(WorkerNode.objects.all())
    served = {queue for node in nodes if node.is_live for queue in node.queues}
    wanted = set(Operation.objects.filter(state=Operation.State.QUEUED).values_list("queue", flat=True))
    return {
        "nodes": nodes,
        "count": sum(node.is_live for node in nodes),
        "unserved": sorted(wanted - served),
        "url": list_url(WorkerNode),
    }
