"""Who does the work."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from operations.querysets import WorkerNodeQuerySet


class WorkerNode(models.Model):
    """A worker process as it last reported itself (every 5 s).

    `looped_at` is when its control loop last came round, empty for a worker without one.
    """

    name = models.CharField(max_length=200, unique=True)
    host = models.CharField(max_length=200, blank=True, help_text="What its machine or container calls itself.")
    version = models.CharField(max_length=80, blank=True)
    queues = models.JSONField(default=list)
    concurrency = models.PositiveSmallIntegerField(default=1)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
    looped_at = models.DateTimeField(null=True, blank=True)
    stopping = models.BooleanField(default=False)

    objects = WorkerNodeQuerySet.as_manager()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def is_live(self) -> bool:
        from operations.querysets import WORKER_STALE_AFTER

        return not self.stopping and timezone.now() - self.heartbeat_at < WORKER_STALE_AFTER
