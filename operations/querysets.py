"""Questions about operations, schedules and workers, in plain words."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import models
from django.db.models.functions import Coalesce, Now

if TYPE_CHECKING:
    from operations.models import Operation, OperationStep, Slot, WorkerNode  # noqa: F401  named in the strings below

# A worker that has not reported for this long is treated as gone.
WORKER_STALE_AFTER = timedelta(seconds=15)


class OperationQuerySet(models.QuerySet["Operation"]):
    def active(self) -> OperationQuerySet:
        """Asked for and not ended yet."""
        return self.exclude(state__in=self.model.TERMINAL)

    def ended(self) -> OperationQuerySet:
        return self.filter(state__in=self.model.TERMINAL)

    def went_wrong(self, within: timedelta | None = None) -> OperationQuerySet:
        """Failed or errored, at any time or within so long before now."""
        wrong = self.filter(state__in=(self.model.State.FAILED, self.model.State.ERRORED))
        return wrong if within is None else wrong.filter(ended_at__gt=Now() - within)

    def running_without_lease(self) -> OperationQuerySet:
        """Running by record, but the worker has let its lease run out."""
        return self.filter(state=self.model.State.RUNNING, lease_until__lt=Now())

    def waiting_for_nothing(self) -> OperationQuerySet:
        """Waiting by record, but every child has ended."""
        active = self.model.objects.active().filter(parent_id=models.OuterRef("pk"))
        return self.filter(state=self.model.State.WAITING).exclude(models.Exists(active))

    def held_by(self, operation: Operation, attempt: int) -> OperationQuerySet:
        """The row, only while this attempt still holds a valid lease: the fence of every write a worker makes."""
        return self.filter(pk=operation.pk, attempt=attempt, state=self.model.State.RUNNING, lease_until__gt=Now())


class OperationStepQuerySet(models.QuerySet["OperationStep"]):
    def in_order(self) -> OperationStepQuerySet:
        return self.order_by("index")

    def unfinished(self) -> OperationStepQuerySet:
        """Those still to be done, in order; the first may have begun and been interrupted."""
        return self.exclude(state__in=self.model.FINISHED).order_by("index")


class SlotQuerySet(models.QuerySet["Slot"]):
    def latest_first(self) -> SlotQuerySet:
        return self.order_by("-at", "-pk")


class WorkerNodeQuerySet(models.QuerySet["WorkerNode"]):
    def live(self) -> WorkerNodeQuerySet:
        return self.filter(heartbeat_at__gt=Now() - WORKER_STALE_AFTER, stopping=False)

    def with_work(self) -> WorkerNodeQuerySet:
        """With what each does now: `running` (how many), `work_id` and `work_title` (the oldest of them)."""
        from operations.models import Operation

        work = Operation.objects.filter(state=Operation.State.RUNNING, worker=models.OuterRef("name")).order_by("pk")
        count = work.order_by().values("worker").annotate(count=models.Count("pk")).values("count")
        return self.annotate(
            running=Coalesce(models.Subquery(count), 0),
            work_id=models.Subquery(work.values("pk")[:1]),
            work_title=models.Subquery(work.values("title")[:1]),
        )

    def serving(self, queue: str) -> WorkerNodeQuerySet:
        return self.live().filter(queues__contains=[queue])
