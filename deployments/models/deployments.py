"""Deployments and rollbacks: what was asked, what had to be settled before, what came of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from backups.models import Archive
from catalog.constraints import not_empty
from catalog.models import Environment
from core.environments import EnvironmentBand
from core.links import detail_url
from deployments import querysets
from deployments.models.releases import Release
from deployments.models.settings import GATE_KINDS, GateKind
from operations.models import Operation


class Deployment(models.Model):
    """One release into one environment, or back to an earlier one. A rollback is a deployment of its own.

    ::

        WAITING --> RUNNING --> VERIFYING --> LIVE            all is well
           |           |            +-------> SUSPECT         it is live, and its checks failed; going back is offered
           |           |            +-------> ROLLED_BACK     its checks failed and traffic is on the old version again
           |           +--> FAILED | CANCELLED                the old version never stopped serving
           +--> CANCELLED | MISSED                            withdrawn, or its window passed

    WAITING is for gates, approvals and its time. A rollback never waits. `frozen` holds what its environment's profile
    said when it was asked.
    """

    class Kind(models.TextChoices):
        DEPLOY = "deploy", "Deployment"
        ROLLBACK = "rollback", "Rollback"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Running"
        VERIFYING = "verifying", "Being verified"
        LIVE = "live", "Succeeded"
        SUSPECT = "suspect", "Live, checks failed"
        ROLLED_BACK = "rolled_back", "Rolled back"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        MISSED = "missed", "Missed its time"

    ACTIVE = (State.RUNNING, State.VERIFYING)
    TERMINAL = (State.LIVE, State.SUSPECT, State.ROLLED_BACK, State.FAILED, State.CANCELLED, State.MISSED)

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="deployments")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="deployments")
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.DEPLOY)
    state = models.CharField(max_length=12, choices=State, default=State.WAITING)
    message = models.TextField(blank=True)
    from_release = models.ForeignKey(
        Release, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="What was live before."
    )
    rollback_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="rollbacks")
    operation = models.ForeignKey(
        Operation, null=True, blank=True, on_delete=models.PROTECT, related_name="deployments"
    )
    frozen = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    fingerprint = models.CharField(max_length=500, help_text="Of the artefact when it was asked for.")
    request_key = models.CharField(max_length=200, null=True, blank=True, unique=True, editable=False)

    requested_at = models.DateTimeField(default=timezone.now)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    trigger = models.CharField(max_length=12, choices=Operation.Trigger, default=Operation.Trigger.CLICK)
    reason = models.TextField(blank=True)
    incident = models.CharField(
        max_length=60, blank=True, help_text="Number of the incident that it fixes, or from which it was started."
    )
    automatic = models.BooleanField(default=False, help_text="The portal rolled back by itself.")
    emergency = models.BooleanField(default=False, help_text="Past gates and approvals, with a reason.")
    solo = models.BooleanField(default=False)
    review_needed = models.BooleanField(default=False)
    reviewed_at = models.DateTimeField(null=True, blank=True)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    review_note = models.TextField(blank=True)

    starts_itself = models.BooleanField(default=False, help_text="As soon as nothing keeps it.")
    stop_reason = models.TextField(blank=True, help_text="Why somebody went back while it was under way.")
    stop_key = models.CharField(max_length=200, null=True, blank=True, unique=True, editable=False)
    not_before = models.DateTimeField(null=True, blank=True, help_text="Empty: as soon as it may.")
    not_after = models.DateTimeField(null=True, blank=True, help_text="When its window closes. Empty: never.")

    archive = models.ForeignKey(
        Archive, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="Taken before it."
    )
    pinned = models.BooleanField(default=False, help_text="It keeps that backup from clean-up; nobody did before.")
    restores = models.BooleanField(default=False, help_text="This rollback also puts the pinned backup back.")
    started_at = models.DateTimeField(null=True, blank=True)
    switched_at = models.DateTimeField(null=True, blank=True, help_text="When traffic went to the new version.")
    ended_at = models.DateTimeField(null=True, blank=True)
    checks = models.JSONField(default=list, encoder=DjangoJSONEncoder, help_text="What the verification found.")

    objects = querysets.DeploymentQuerySet.as_manager()

    class Meta:
        ordering = ("-requested_at", "-pk")
        permissions = [
            ("request_deployment", "Can ask for deployments"),
            ("run_deployment", "Can start deployments"),
            ("approve_deployment", "Can approve deployments"),
            ("rollback_deployment", "Can roll back"),
            ("emergency_deployment", "Can deploy past gates and approvals"),
            ("review_deployment", "Can review emergency deployments"),
        ]
        indexes = [
            models.Index(fields=["environment", "-requested_at"], name="deployment_newest"),
            models.Index(fields=["state"], name="deployment_state"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["deploy", "rollback"]), name="deployment_kind_known"),
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "waiting",
                        "running",
                        "verifying",
                        "live",
                        "suspect",
                        "rolled_back",
                        "failed",
                        "cancelled",
                        "missed",
                    ]
                ),
                name="deployment_state_known",
            ),
            models.UniqueConstraint(
                fields=["environment"],
                condition=Q(state__in=["running", "verifying"]),
                name="deployment_one_at_a_time",
                violation_error_message="Something is being deployed to this environment already.",
            ),
            models.CheckConstraint(
                condition=~Q(kind="rollback") | ~Q(reason=""),
                name="deployment_rollback_has_reason",
                violation_error_message="Say why it is rolled back.",
            ),
            models.CheckConstraint(
                condition=Q(emergency=False) | (~Q(reason="") & Q(review_needed=True)),
                name="deployment_emergency_has_reason",
                violation_error_message="Say why this cannot wait for gates and approvals.",
            ),
            models.CheckConstraint(
                condition=Q(not_after__isnull=True) | Q(not_before__isnull=True) | Q(not_after__gt=F("not_before")),
                name="deployment_window_ends_after_start",
                violation_error_message="A window closes after it opens.",
            ),
            models.CheckConstraint(
                condition=Q(state="waiting") | Q(started_at__isnull=False) | Q(state__in=["cancelled", "missed"]),
                name="deployment_running_has_start",
            ),
            not_empty("deployment", "fingerprint"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.release} to {self.environment.name}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about this deployment says."""
        return self.environment.environment_band

    @property
    def is_final(self) -> bool:
        return self.state in self.TERMINAL

    @property
    def is_rollback(self) -> bool:
        return self.kind == self.Kind.ROLLBACK

    @property
    def status(self) -> str:
        """One of the status colours."""
        state = self.State(self.state)
        if state in self.ACTIVE:
            return "running"
        if state == self.State.LIVE:
            return "ok"
        if state in (self.State.SUSPECT, self.State.FAILED):
            return "bad"
        return "warn" if state in (self.State.ROLLED_BACK, self.State.MISSED) else "neutral"

    @property
    def state_word(self) -> str:
        return self.State(self.state).label

    @property
    def took(self) -> timedelta | None:
        """From the request until traffic was on the new version: what a rollback's target is compared with."""
        begun = self.requested_at if self.is_rollback else self.started_at
        return self.switched_at - begun if self.switched_at is not None and begun is not None else None

    @property
    def target(self) -> timedelta | None:
        """How long a rollback may take, as the profile said; None: not set, or no rollback."""
        seconds = self.frozen.get("rollback_target_s") if self.is_rollback else None
        return timedelta(seconds=seconds) if seconds is not None else None

    @property
    def target_met(self) -> bool | None:
        took, target = self.took, self.target
        return took <= target if took is not None and target is not None else None

    @property
    def approvals_needed(self) -> int:
        if self.is_rollback or self.emergency or self.solo:
            return 0
        return int(self.frozen.get("approvals") or 0)


class Gate(models.Model):
    """One item of a deployment's checklist, as the template said when it was asked for."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        PASSED = "passed", "Passed"
        FAILED = "failed", "Not passed"

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="gates")
    position = models.PositiveSmallIntegerField()
    text = models.CharField(max_length=200)
    kind = models.CharField(max_length=12, choices=GateKind)
    optional = models.BooleanField(default=False)
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    evidence = models.TextField(blank=True)
    looked_at = models.DateTimeField(null=True, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("deployment", "position", "pk")
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=GATE_KINDS), name="gate_kind_known"),
            models.CheckConstraint(condition=Q(state__in=["open", "passed", "failed"]), name="gate_state_known"),
            models.UniqueConstraint(fields=["deployment", "text"], name="gate_text_unique"),
            models.CheckConstraint(
                condition=~Q(kind="manual") | Q(state="open") | (Q(by__isnull=False) & ~Q(evidence="")),
                name="gate_manual_has_evidence",
                violation_error_message="Say what shows it: a link, an output, who looked.",
            ),
        ]

    def __str__(self) -> str:
        return self.text

    @property
    def is_manual(self) -> bool:
        return self.kind == GateKind.MANUAL

    @property
    def blocks(self) -> bool:
        return not self.optional and self.state != self.State.PASSED

    @property
    def status(self) -> str:
        bad = "warn" if self.optional else "bad"
        return {self.State.PASSED: "ok", self.State.FAILED: bad}.get(self.State(self.state), "neutral")

    @property
    def state_word(self) -> str:
        return self.State(self.state).label


class Approval(models.Model):
    """One person's word on one deployment, for exactly this artefact. A refusal stops it."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="approvals")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    fingerprint = models.CharField(max_length=500)
    granted = models.BooleanField()
    note = models.TextField(blank=True)
    at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("at", "pk")
        constraints = [
            models.UniqueConstraint(
                fields=["deployment", "by"],
                name="approval_one_a_person",
                violation_error_message="You have given your word on this deployment already.",
            ),
            models.CheckConstraint(
                condition=Q(granted=True) | ~Q(note=""),
                name="approval_refusal_has_note",
                violation_error_message="Say why you refuse.",
            ),
        ]

    def __str__(self) -> str:
        return f"{'Approved' if self.granted else 'Refused'} by {self.by}"

    def counts(self, now: datetime) -> bool:
        """Whether it lets the deployment go on now: granted, not expired, for the artefact that is to be deployed."""
        fresh = self.expires_at is None or self.expires_at > now
        return self.granted and fresh and self.fingerprint == self.deployment.fingerprint
