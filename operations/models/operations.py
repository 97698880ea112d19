"""What was asked, how far it is, who holds what."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from operations.querysets import OperationQuerySet, OperationStepQuerySet


class Operation(models.Model):
    """One thing the portal was asked to do, from the click to its result.

    ::

        QUEUED --claim--> RUNNING --> SUCCEEDED | FAILED | ERRORED | CANCELLED
           ^                 |
           |<-lease ran out--|      (interrupted is set; the procedure decides what happens next)
           |<-child ended-- WAITING <-- a step started a child operation
           |<-continued---- PAUSED  <-- a person takes over before a step
        QUEUED --cancel--> CANCELLED

    Once `outcome` is set while RUNNING, the steps are being undone and the operation will end with that outcome.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        WAITING = "waiting", "Waiting for another operation"
        PAUSED = "paused", "Paused for a person"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        ERRORED = "errored", "Errored"
        CANCELLED = "cancelled", "Cancelled"

    class Trigger(models.TextChoices):
        CLICK = "click", "Click"
        SCHEDULE = "schedule", "Schedule"
        API = "api", "API"
        COMMAND = "command", "Command line"
        INCIDENT = "incident", "Incident"
        OPERATION = "operation", "Another operation"

    TERMINAL = (State.SUCCEEDED, State.FAILED, State.ERRORED, State.CANCELLED)

    procedure = models.CharField(max_length=80)
    title = models.CharField(max_length=200)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    params = models.JSONField(default=dict, encoder=DjangoJSONEncoder, help_text="Inputs, frozen at the request.")
    data = models.JSONField(default=dict, encoder=DjangoJSONEncoder, help_text="What steps hand on to later steps.")
    result = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    message = models.TextField(blank=True, help_text="The result, in a sentence.")
    traceback = models.TextField(blank=True)
    outcome = models.CharField(max_length=10, choices=State, blank=True)

    trigger = models.CharField(max_length=10, choices=Trigger)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    reason = models.TextField(blank=True)
    requested_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    queue = models.CharField(max_length=80, default="operations")
    dispatched_at = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    interrupted = models.BooleanField(default=False)
    interruptions = models.PositiveSmallIntegerField(default=0, help_text="How many workers died at it.")

    lock_keys = models.JSONField(default=list)
    idempotency_key = models.CharField(max_length=200, null=True, blank=True, unique=True)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    retry_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="retries")

    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    pause_requested = models.BooleanField(default=False)

    environment_label = models.CharField(max_length=200, blank=True)
    environment_kind = models.CharField(max_length=20, blank=True)

    objects = OperationQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        permissions = (
            ("control_operation", "Can cancel, retry and take over operations"),
            ("housekeep", "Can remove old records"),
        )
        indexes = (
            models.Index(fields=("state", "queue", "id"), name="operation_state_queue"),
            models.Index(fields=("procedure", "-id"), name="operation_procedure"),
            models.Index(fields=("-requested_at",), name="operation_requested"),
        )
        constraints = (
            models.CheckConstraint(
                name="operation_running_has_lease",
                condition=~Q(state="running") | Q(lease_until__isnull=False, attempt__gt=0),
                violation_error_message="A running operation has a lease and an attempt.",
            ),
            models.CheckConstraint(
                name="operation_ended_has_time",
                condition=Q(state__in=("succeeded", "failed", "errored", "cancelled"), ended_at__isnull=False)
                | Q(state__in=("queued", "running", "waiting", "paused"), ended_at__isnull=True),
                violation_error_message="Exactly the ended operations have an end time.",
            ),
        )

    def __str__(self) -> str:
        return f"#{self.pk} {self.title}"

    def get_absolute_url(self) -> str:
        return reverse("admin:operations_operation_detail", args=[self.pk])

    @property
    def is_final(self) -> bool:
        return self.state in self.TERMINAL

    @property
    def is_undoing(self) -> bool:
        return self.state == self.State.RUNNING and bool(self.outcome)

    @property
    def state_word(self) -> str:
        if self.is_undoing:
            return "Undoing"
        if self.state == self.State.QUEUED and self.interrupted:
            return "Queued again"
        if self.cancel_requested_at and not self.is_final:
            return "Cancelling"
        return self.State(self.state).label

    @property
    def status(self) -> str:
        """One of the four status colours, or `running`."""
        return {
            self.State.QUEUED: "neutral",
            self.State.RUNNING: "running",
            self.State.WAITING: "running",
            self.State.PAUSED: "warn",
            self.State.SUCCEEDED: "ok",
            self.State.FAILED: "bad",
            self.State.ERRORED: "bad",
            self.State.CANCELLED: "neutral",
        }[self.State(self.state)]

    @property
    def duration(self) -> timedelta | None:
        """From the first step to the end, or to now."""
        if self.started_at is None:
            return None
        return (self.ended_at or timezone.now()) - self.started_at


class OperationStep(models.Model):
    """One named step of an operation.

    ::

        PENDING --> RUNNING --> DONE | FAILED | SKIPPED
        PENDING --> BY_HAND                     (a person did it and left evidence)
        RUNNING | DONE | FAILED | BY_HAND --> UNDOING --> UNDONE | UNDO_FAILED
    """

    class State(models.TextChoices):
        PENDING = "pending", "Not started"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        SKIPPED = "skipped", "Skipped"
        BY_HAND = "by_hand", "Done by hand"
        UNDOING = "undoing", "Being undone"
        UNDONE = "undone", "Undone"
        UNDO_FAILED = "undo_failed", "Undo failed"

    FINISHED = (State.DONE, State.SKIPPED, State.BY_HAND)
    TO_UNDO = (State.RUNNING, State.DONE, State.FAILED, State.BY_HAND, State.UNDOING)

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="steps")
    index = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=60)
    title = models.CharField(max_length=200)
    undo_name = models.CharField(max_length=60, blank=True)
    state = models.CharField(max_length=12, choices=State, default=State.PENDING)
    attempt = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    undo_started_at = models.DateTimeField(null=True, blank=True)
    undo_ended_at = models.DateTimeField(null=True, blank=True)
    commands = models.JSONField(default=list, help_text="What was run, secrets masked.")
    progress_done = models.BigIntegerField(default=0)
    progress_total = models.BigIntegerField(null=True, blank=True)
    progress_unit = models.CharField(max_length=20, blank=True)
    message = models.TextField(blank=True)
    pause_before = models.BooleanField(default=False)
    evidence = models.TextField(blank=True)
    done_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    objects = OperationStepQuerySet.as_manager()

    class Meta:
        ordering = ("operation", "index")
        constraints = (
            models.UniqueConstraint(fields=("operation", "index"), name="step_index_once"),
            models.UniqueConstraint(fields=("operation", "name"), name="step_name_once"),
            models.CheckConstraint(
                name="step_by_hand_has_evidence",
                condition=~Q(state="by_hand") | (~Q(evidence="") & Q(done_by__isnull=False)),
                violation_error_message="A step done by hand names who did it and what shows it.",
            ),
        )

    def __str__(self) -> str:
        return self.title

    @property
    def state_label(self) -> str:
        return self.State(self.state).label

    @property
    def status(self) -> str:
        return {
            self.State.RUNNING: "running",
            self.State.UNDOING: "running",
            self.State.DONE: "ok",
            self.State.BY_HAND: "ok",
            self.State.FAILED: "bad",
            self.State.UNDO_FAILED: "bad",
            self.State.UNDONE: "warn",
        }.get(self.State(self.state), "neutral")

    @property
    def seconds(self) -> float | None:
        if self.started_at is None:
            return None
        return ((self.ended_at or timezone.now()) - self.started_at).total_seconds()

    @property
    def undo(self) -> str:
        """How the undo stands, in words; empty when there is none to tell of."""
        if self.undo_started_at is None:
            return ""
        return self.state_label

    @property
    def progress_percent(self) -> int | None:
        if not self.progress_total:
            return None
        return max(0, min(100, round(100 * self.progress_done / self.progress_total)))

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the pace so far; None while that would be a guess."""
        if self.state != self.State.RUNNING or not self.progress_total or self.progress_done <= 0:
            return None
        left = max(0, self.progress_total - self.progress_done)
        return (self.seconds or 0) * left / self.progress_done


class LogLine(models.Model):
    """One line of an operation's log, secrets masked before it is written."""

    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="log")
    step = models.ForeignKey(OperationStep, null=True, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    stream = models.CharField(max_length=10, default="portal")
    text = models.TextField()

    class Meta:
        ordering = ("pk",)
        indexes = (models.Index(fields=("operation", "id"), name="log_operation"),)

    def __str__(self) -> str:
        return self.text[:80]


class OperationLock(models.Model):
    """A thing only one operation may work on at a time, such as `database:7`."""

    key = models.CharField(max_length=200, unique=True)
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="locks")
    acquired_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.key
