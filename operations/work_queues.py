"""Who serves each queue, and what waits there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min

from operations.models import Operation, WorkerNode


@dataclass(frozen=True)
class Queue:
    """`waiting` operations are queued in it, the longest since `since`; `workers` live workers serve it."""

    name: str
    workers: int
    waiting: int
    since: datetime | None

    @property
    def status(self) -> tuple[str, str]:
        """Status colour and word."""
        if self.workers:
            return "ok", "Served"
        return "bad", "Not served"


def overview() -> list[Queue]:
    """Every queue that a live worker serves or an operation waits in, those without a worker first. Two queries."""
    served: dict[str, int] = {}
    for queues in WorkerNode.objects.live().values_list("queues", flat=True):
        for name in queues:
            served[name] = served.get(name, 0) + 1
    rows = (
        Operation.objects.filter(state=Operation.State.QUEUED)
        .values("queue")
        .annotate(count=Count("pk"), since=Min("requested_at"))
    )
    waiting = {row["queue"]: (row["count"], row["since"]) for row in rows}
    found = [Queue(name, served.get(name, 0), *waiting.get(name, (0, None))) for name in {*served, *waiting}]
    return sorted(found, key=lambda queue: (bool(queue.workers), queue.name))


def unserved() -> list[Queue]:
    """The queues in which operations wait for a worker that is not there."""
    return [queue for queue in overview() if queue.waiting and not queue.workers]
