"""How a service handles incidents: names, stages, roles, templates, gates, and what opens an incident by itself."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from catalog.constraints import not_empty
from catalog.models import Component, Service
from catalog.validators import validate_printable
from contacts.models import Contact, Role
from core.links import detail_url
from incidents.patterns import validate_number_pattern

ZERO = timedelta(0)


class CoreState(models.TextChoices):
    """What every workflow has in common."""

    OPEN = "open", "Open"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    MITIGATED = "mitigated", "Mitigated"
    RESOLVED = "resolved", "Resolved"
    CLOSED = "closed", "Closed"


class IncidentRole(models.TextChoices):
    """What people do in an incident, whatever their job is called."""

    COMMANDER = "commander", "Incident commander"
    TECHNICAL = "technical", "Technical response"
    COMMUNICATIONS = "communications", "Communications lead"
    SUPPORT = "support", "Support and documentation"


class Audience(models.TextChoices):
    INTERNAL = "internal", "Internal"
    PUBLIC = "public", "Public"


class PublicStatus(models.TextChoices):
    INVESTIGATING = "investigating", "Investigating"
    IDENTIFIED = "identified", "Identified"
    MONITORING = "monitoring", "Monitoring"
    RESOLVED = "resolved", "Resolved"


class Workflow(models.Model):
    """The stages an incident goes through, each with a time box where the team has set one."""

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable])

    class Meta:
        ordering = ("name",)
        constraints = (not_empty("workflow", "name"),)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class Stage(models.Model):
    """One stage: what it is called, which core state it means, how long it may take, what is to be done in it."""

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="stages")
    order = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=80, validators=[validate_printable])
    core_state = models.CharField(max_length=12, choices=CoreState, default=CoreState.OPEN)
    limit = models.DurationField(null=True, blank=True, help_text="How long it may take. Empty means not set.")
    checklist = models.TextField(blank=True, help_text="What is to be done, one thing a line.")

    class Meta:
        ordering = ("order",)
        constraints = (
            models.UniqueConstraint(
                fields=("workflow", "order"),
                name="stage_order_once",
                violation_error_message="This workflow has a stage with this number already.",
            ),
            models.CheckConstraint(
                condition=Q(core_state__in=["open", "acknowledged", "mitigated", "resolved", "closed"]),
                name="stage_core_state_known",
            ),
            models.CheckConstraint(
                condition=Q(limit__isnull=True) | Q(limit__gt=ZERO),
                name="stage_limit_positive",
                violation_error_message="The time box must be longer than zero. Leave it empty if it is not set.",
            ),
            not_empty("stage", "name"),
        )

    def __str__(self) -> str:
        return self.name


def default_impacts() -> list[str]:
    return [
        "System down completely",
        "Features degraded",
        "Performance issues",
        "Data integrity concerns",
        "Security implications",
    ]


class IncidentProfile(models.Model):
    """How incidents of a service are handled; the one without a service is for every service that has none."""

    service = models.OneToOneField(
        Service, null=True, blank=True, on_delete=models.CASCADE, related_name="incident_profile"
    )
    number_pattern = models.CharField(
        max_length=80,
        default="INC-{date}-{n:03}",
        validators=[validate_number_pattern],
        help_text="{date} is the day of the declaration as 2026-01-31, {yyyymmdd} as 20260131, {service} the slug; "
        "{n:03} counts from 1 for everything else that is the same, with at least three digits.",
    )
    channel_pattern = models.CharField(
        max_length=120,
        blank=True,
        help_text="Name of the chat room, such as #incident-{service}-{yyyymmdd}-{severity}. Empty: none.",
    )
    export_pattern = models.CharField(
        max_length=120, default="{date}-{number}.md", help_text="File name of an exported review."
    )
    review_title_pattern = models.CharField(max_length=120, default="Post-Incident Review - {number}")
    workflow = models.ForeignKey(
        Workflow,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="profiles",
        help_text="Empty: no stages.",
    )
    impacts = ArrayField(
        models.CharField(max_length=80), default=default_impacts, blank=True, help_text="Boxes to tick, one a line."
    )
    gates = ArrayField(
        models.CharField(max_length=200),
        default=list,
        blank=True,
        help_text="What must be done before an incident is closed, one a line.",
    )
    review_from_rank = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Severities up to this rank need a review before they are closed. Empty: none does.",
    )

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("service",), name="profile_one_default", condition=Q(service__isnull=True), nulls_distinct=False
            ),
            not_empty("incidentprofile", "number_pattern"),
        )

    def __str__(self) -> str:
        return f"Incidents of {self.service}" if self.service else "Incidents of all other services"

    def get_absolute_url(self) -> str:
        return detail_url(self)


class ProfileRole(models.Model):
    """Who takes an incident role by default: a role of the organisation or a person, and a backup."""

    profile = models.ForeignKey(IncidentProfile, on_delete=models.CASCADE, related_name="roles")
    role = models.CharField(max_length=16, choices=IncidentRole)
    primary_role = models.ForeignKey(Role, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    primary = models.ForeignKey(Contact, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    backup_role = models.ForeignKey(Role, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    backup = models.ForeignKey(Contact, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    duties = models.TextField(blank=True, help_text="What this role does, one thing a line.")

    class Meta:
        ordering = ("pk",)
        constraints = (models.UniqueConstraint(fields=("profile", "role"), name="profilerole_once"),)

    def __str__(self) -> str:
        return self.get_role_display()


class MessageTemplate(models.Model):
    """A text for updates. Placeholders are filled from the incident; the guide lists them."""

    name = models.CharField(max_length=80, validators=[validate_printable])
    service = models.ForeignKey(
        Service, null=True, blank=True, on_delete=models.CASCADE, related_name="message_templates"
    )
    audience = models.CharField(max_length=8, choices=Audience, default=Audience.INTERNAL)
    public_status = models.CharField(max_length=14, choices=PublicStatus, blank=True)
    body = models.TextField()

    class Meta:
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(
                fields=("service", "name"),
                name="messagetemplate_name_once",
                nulls_distinct=False,
                violation_error_message="There is a template with this name already.",
            ),
            not_empty("messagetemplate", "name"),
            not_empty("messagetemplate", "body"),
        )

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class PublicComponent(models.Model):
    """A component as the status page names it."""

    component = models.OneToOneField(Component, on_delete=models.CASCADE, related_name="public")
    name = models.CharField(max_length=80, validators=[validate_printable])
    order = models.PositiveSmallIntegerField(default=1)

    class Meta:
        ordering = ("order", "name")
        constraints = (not_empty("publiccomponent", "name"),)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class Maintenance(models.Model):
    """A planned window, shown on every page of the portal and, if public, on the status page."""

    title = models.CharField(max_length=120, validators=[validate_printable])
    text = models.TextField(blank=True)
    service = models.ForeignKey(
        Service, null=True, blank=True, on_delete=models.CASCADE, related_name="maintenances", help_text="Empty: all."
    )
    components = models.ManyToManyField(Component, blank=True, related_name="maintenances")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    public = models.BooleanField(default=False)

    class Meta:
        ordering = ("-starts_at",)
        constraints = (
            not_empty("maintenance", "title"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=models.F("starts_at")),
                name="maintenance_ends_after_start",
                violation_error_message="A window ends after it starts.",
            ),
        )

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return detail_url(self)


class CauseRule(models.Model):
    """What opens an incident by itself, how grave it is, and when it is quiet again."""

    class Cause(models.TextChoices):
        BACKUP_FAILED = "backup-failed", "A backup failed"
        SLOTS_MISSED = "slots-missed", "Due times of a schedule were missed"
        RPO_BREACHED = "rpo-breached", "A restore point is older than the RPO"
        RESTORE_FAILED = "restore-failed", "A restore failed"
        ARCHIVE_DAMAGED = "archive-damaged", "An archive is damaged or missing"
        DEPLOYMENT_FAILED = "deployment-failed", "A deployment to production failed"
        OPERATION_ERRORED = "operation-errored", "An operation broke off for an unknown reason"

    cause = models.CharField(max_length=20, choices=Cause)
    service = models.ForeignKey(
        Service, null=True, blank=True, on_delete=models.CASCADE, related_name="cause_rules", help_text="Empty: others."
    )
    enabled = models.BooleanField(default=True)
    rank = models.PositiveSmallIntegerField(
        default=2,
        validators=[MinValueValidator(1)],
        help_text="The severity of the service with this rank, or the next milder one. 1 is the worst.",
    )
    after = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="How often it must happen in a row before it opens one."
    )
    escalate = models.BooleanField(default=True, help_text="Off: the incident is opened and nobody is paged.")
    resolve = models.BooleanField(default=True, help_text="Resolve it by itself once the cause is gone.")
    quiet_for = models.DurationField(
        default=timedelta(hours=6),
        help_text="After it has resolved, the same cause reopens this incident instead of opening another, and pages "
        "nobody again, for so long.",
    )

    class Meta:
        ordering = ("cause", "service__name")
        constraints = (
            models.UniqueConstraint(
                fields=("cause", "service"),
                name="causerule_once",
                nulls_distinct=False,
                violation_error_message="There is a rule for this cause and service already.",
            ),
            models.CheckConstraint(condition=Q(quiet_for__gte=ZERO), name="causerule_quiet_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.get_cause_display()} · {self.service or 'other services'}"

    def get_absolute_url(self) -> str:
        return detail_url(self)
