"""When things recur, and what became of every due moment."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule

from operations.models.operations import Operation
from operations.querysets import SlotQuerySet


class Schedule(models.Model):
    """When something recurs. It owns its crontab row; slots up to `decided_until` have a recorded decision."""

    class Misfire(models.TextChoices):
        LATEST = "latest", "Run the latest missed slot"
        ALL = "all", "Run every missed slot"
        SKIP = "skip", "Skip missed slots"

    handler = models.CharField(max_length=80)
    name = models.CharField(max_length=200)
    crontab = models.OneToOneField(CrontabSchedule, on_delete=models.PROTECT, related_name="+")
    enabled = models.BooleanField(default=True)
    misfire = models.CharField(max_length=10, choices=Misfire, default=Misfire.LATEST)
    max_lateness = models.DurationField(
        default=timedelta(hours=12), help_text="A slot found later than this is recorded as too late, not run."
    )
    decided_until = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                name="schedule_lateness_positive",
                condition=Q(max_lateness__gt=timedelta(0)),
                violation_error_message="The maximum lateness is longer than nothing.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:operations_schedule_detail", args=[self.pk])

    @property
    def next_slot(self) -> datetime | None:
        from operations.slots import next_slot

        return next_slot(self.crontab, after=timezone.now()) if self.enabled else None


class Slot(models.Model):
    """The one decision about one moment of one schedule. `at` is a UTC instant."""

    class Decision(models.TextChoices):
        STARTED = "started", "Started"
        MERGED = "merged", "Covered by a later slot"
        TOO_LATE = "too_late", "Found too late"
        REFUSED = "refused", "Refused"

    MISSED = (Decision.TOO_LATE, Decision.REFUSED)

    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="slots")
    at = models.DateTimeField()
    decision = models.CharField(max_length=10, choices=Decision)
    decided_at = models.DateTimeField()
    message = models.TextField(blank=True)
    operation = models.ForeignKey(Operation, null=True, on_delete=models.PROTECT, related_name="slots")

    objects = SlotQuerySet.as_manager()

    class Meta:
        ordering = ("-at",)
        indexes = (models.Index(fields=("-at",), name="slot_at"),)
        constraints = (
            models.UniqueConstraint(fields=("schedule", "at"), name="slot_once"),
            models.CheckConstraint(
                name="slot_started_has_operation",
                condition=Q(decision="started", operation__isnull=False)
                | (~Q(decision="started") & Q(operation__isnull=True)),
                violation_error_message="Exactly the started slots have an operation.",
            ),
            models.CheckConstraint(
                name="slot_decided_after_due",
                condition=Q(decided_at__gte=F("at")),
                violation_error_message="A slot is decided when it is due, never before.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.schedule} at {self.at:%Y-%m-%d %H:%M} UTC"

    @property
    def lateness(self) -> timedelta:
        return self.decided_at - self.at
