"""The escalation matrix: severity, or severity and situation, down; time across; whom to tell in each cell.

One service has one policy; the policy without a service serves all the others. A policy is edited as a whole: every
save is a new version, the versions before stay as they were, and whatever runs keeps the one it began with.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.models import Service, Severity
from catalog.validators import validate_printable
from contacts.models.notifications import Channel
from contacts.models.oncall import Level, OnCallSchedule
from contacts.models.people import Contact, Queue, Role, Team, Way
from core.links import detail_url

ZERO = timedelta(0)


class EscalationPolicy(models.Model):
    """The matrix of a service, or of every service that has none of its own."""

    service = models.OneToOneField(
        Service, null=True, blank=True, on_delete=models.CASCADE, related_name="escalation_policy"
    )
    fallback = models.ForeignKey(
        Contact,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Who is told when a ladder ends unanswered or a step reaches nobody. Empty: every administrator.",
    )

    class Meta:
        verbose_name = "escalation matrix"
        verbose_name_plural = "escalation matrices"
        permissions = (("edit_matrix", "Can edit the escalation matrix"),)
        constraints = (
            models.UniqueConstraint(
                fields=("service",),
                name="policy_one_default",
                condition=Q(service__isnull=True),
                nulls_distinct=False,
                violation_error_message="There is a matrix for all other services already.",
            ),
        )

    def __str__(self) -> str:
        return str(self.service) if self.service else "All other services"

    def get_absolute_url(self) -> str:
        return detail_url(self)


class PolicyVersion(models.Model):
    """A policy as it was saved once. Never changed; the highest number is the one in force."""

    policy = models.ForeignKey(EscalationPolicy, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    saved_at = models.DateTimeField(default=timezone.now)
    saved_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("-number",)
        constraints = (models.UniqueConstraint(fields=("policy", "number"), name="policyversion_number_once"),)

    def __str__(self) -> str:
        return f"{self.policy}, version {self.number}"


class Rule(models.Model):
    """A row of the matrix. Of several that fit, the one with severity and situation counts before severity alone,
    before situation alone, before neither."""

    version = models.ForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="rules")
    order = models.PositiveSmallIntegerField()
    severity = models.ForeignKey(
        Severity, null=True, blank=True, on_delete=models.SET_NULL, related_name="rules", help_text="Empty: any."
    )
    severity_words = models.CharField(max_length=120, blank=True, help_text="The severity as it was called then.")
    situation = models.CharField(
        max_length=80, blank=True, validators=[validate_printable], help_text="Such as: data at risk. Empty: any."
    )
    response_time = models.DurationField(
        null=True, blank=True, help_text="In place of the severity's own. Empty: the severity's."
    )
    in_business_hours = models.BooleanField(
        default=False, help_text="The times of this row count business hours of the service only."
    )
    repeats = models.PositiveSmallIntegerField(default=0, help_text="How often the ladder begins again, unanswered.")
    repeat_after = models.DurationField(null=True, blank=True, help_text="Pause before it begins again.")

    class Meta:
        ordering = ("order",)
        constraints = (
            models.UniqueConstraint(fields=("version", "order"), name="rule_order_once"),
            models.CheckConstraint(
                condition=Q(repeats=0) | Q(repeat_after__gt=ZERO),
                name="rule_repeats_after_a_pause",
                violation_error_message="A ladder that repeats needs a pause longer than zero.",
            ),
            models.CheckConstraint(
                condition=Q(response_time__isnull=True) | Q(response_time__gt=ZERO), name="rule_response_positive"
            ),
        )

    def __str__(self) -> str:
        parts = [part for part in (self.severity_words, self.situation) if part]
        return " · ".join(parts) or "Everything"


class Step(models.Model):
    """A column of one row: a time, and whom to tell then. Without a time it waits for somebody to press Escalate."""

    rule = models.ForeignKey(Rule, on_delete=models.CASCADE, related_name="steps")
    order = models.PositiveSmallIntegerField()
    after = models.DurationField(null=True, blank=True, help_text="Since the start. Empty: by hand only.")
    channels = ArrayField(
        models.CharField(max_length=10, choices=Way.Kind),
        default=list,
        blank=True,
        help_text="Every way named here is used at once. None: the first way of each person that works.",
    )

    class Meta:
        ordering = ("order",)
        constraints = (
            models.UniqueConstraint(fields=("rule", "order"), name="step_order_once"),
            models.CheckConstraint(
                condition=Q(after__isnull=True) | Q(after__gte=ZERO), name="step_after_not_negative"
            ),
        )

    def __str__(self) -> str:
        return f"Step {self.order} of {self.rule}"


class Target(models.Model):
    """Whom a step tells: exactly one of person, team, role, on-call, queue or channel."""

    class Kind(models.TextChoices):
        CONTACT = "contact", "Person"
        TEAM = "team", "Team"
        ROLE = "role", "Role"
        ONCALL = "oncall", "On call"
        QUEUE = "queue", "Queue"
        CHANNEL = "channel", "Channel"

    class Part(models.TextChoices):
        ALL = "all", "everybody"
        PRIMARY = "primary", "primary"
        BACKUP = "backup", "backup"

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="targets")
    kind = models.CharField(max_length=10, choices=Kind)
    contact = models.ForeignKey(Contact, null=True, on_delete=models.PROTECT, related_name="targets")
    team = models.ForeignKey(Team, null=True, on_delete=models.PROTECT, related_name="targets")
    role = models.ForeignKey(Role, null=True, on_delete=models.PROTECT, related_name="targets")
    oncall = models.ForeignKey(OnCallSchedule, null=True, on_delete=models.PROTECT, related_name="targets")
    queue = models.ForeignKey(Queue, null=True, on_delete=models.PROTECT, related_name="targets")
    channel = models.ForeignKey(Channel, null=True, on_delete=models.PROTECT, related_name="targets")
    part = models.CharField(max_length=8, choices=Part, default=Part.ALL, help_text="Of a team or a role.")
    level = models.PositiveSmallIntegerField(choices=Level, default=Level.PRIMARY, help_text="Of an on-call schedule.")

    class Meta:
        ordering = ("pk",)
        constraints = (
            models.CheckConstraint(
                name="target_is_one_thing",
                condition=Q(
                    kind="contact", contact__isnull=False, team=None, role=None, oncall=None, queue=None, channel=None
                )
                | Q(kind="team", team__isnull=False, contact=None, role=None, oncall=None, queue=None, channel=None)
                | Q(kind="role", role__isnull=False, contact=None, team=None, oncall=None, queue=None, channel=None)
                | Q(kind="oncall", oncall__isnull=False, contact=None, team=None, role=None, queue=None, channel=None)
                | Q(kind="queue", queue__isnull=False, contact=None, team=None, role=None, oncall=None, channel=None)
                | Q(kind="channel", channel__isnull=False, contact=None, team=None, role=None, oncall=None, queue=None),
            ),
        )

    def __str__(self) -> str:
        thing = self.contact or self.team or self.role or self.oncall or self.queue or self.channel
        if self.kind == self.Kind.ONCALL:
            return f"{thing} ({Level(self.level).label.lower()} on call)"
        if self.kind in (self.Kind.TEAM, self.Kind.ROLE) and self.part != self.Part.ALL:
            return f"{thing} ({self.get_part_display()})"
        return str(thing)
