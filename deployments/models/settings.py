"""How the environments of a service are deployed to: by which driver, behind which gates, watched for how long."""

from __future__ import annotations

from datetime import timedelta

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from backups.models import Plan
from catalog.constraints import not_empty
from catalog.models import Environment, Host, Service
from catalog.secrets import validate_secret_reference
from catalog.validators import validate_argument_vector, validate_printable
from core.environments import EnvironmentBand
from core.links import detail_url
from deployments import querysets
from deployments.validators import validate_pattern, validate_references

ZERO = timedelta(0)
DEFAULT_PATTERN = r"v\d+\.\d+\.\d+"


class ReleaseRules(models.Model):
    """What the releases of a service look like, and with which secret its CI signs what it reports."""

    service = models.OneToOneField(Service, on_delete=models.CASCADE, related_name="release_rules")
    version_pattern = models.CharField(
        max_length=200,
        default=DEFAULT_PATTERN,
        validators=[validate_pattern],
        help_text=r"Regular expression that a whole version must match, for example v\d+\.\d+\.\d+ for v1.4.0.",
    )
    ci_secret_ref = models.CharField(
        "CI secret reference",
        max_length=500,
        blank=True,
        validators=[validate_secret_reference],
        help_text="Where the secret is with which CI signs its webhook: env:OPS_SECRET_NAME or file:/run/secrets/name. "
        "Empty: no webhook is taken.",
    )

    class Meta:
        ordering = ("service__name",)
        verbose_name = verbose_name_plural = "release rules"
        constraints = [not_empty("releaserules", "version_pattern")]

    def __str__(self) -> str:
        return f"Releases of {self.service}"

    def get_absolute_url(self) -> str:
        return detail_url(self)


class ChecklistTemplate(models.Model):
    """What must be settled before a deployment. Frozen onto each deployment: later edits change none that is asked."""

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable])

    class Meta:
        ordering = ("name",)
        constraints = [not_empty("checklisttemplate", "name")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class GateKind(models.TextChoices):
    """How an item of a checklist is decided. All but the first are looked at by the portal, again at the switch."""

    MANUAL = "manual", "A person confirms it, with evidence"
    CI = "ci", "CI passed for this release"
    SCANS = "scans", "Scans found nothing critical or high"
    SBOM = "sbom", "A bill of materials is attached"
    MIGRATIONS = "migrations", "Migrations were tested"
    VARIABLES = "variables", "Environment variables are present"
    BACKUP = "backup", "A fresh, verified backup exists"
    ROLLBACK = "rollback", "A way back exists"
    READY = "ready", "The running version answers its health check"


GATE_KINDS = [str(kind) for kind in GateKind.values]


class ChecklistItem(models.Model):
    """One line of a checklist."""

    template = models.ForeignKey(ChecklistTemplate, on_delete=models.CASCADE, related_name="items")
    position = models.PositiveSmallIntegerField(default=0)
    text = models.CharField(max_length=200, validators=[validate_printable])
    kind = models.CharField(max_length=12, choices=GateKind, default=GateKind.MANUAL)
    optional = models.BooleanField(default=False, help_text="Shown, and does not keep anybody from deploying.")

    class Meta:
        ordering = ("template__name", "position", "pk")
        constraints = [
            not_empty("checklistitem", "text"),
            models.CheckConstraint(condition=Q(kind__in=GATE_KINDS), name="checklistitem_kind_known"),
            models.UniqueConstraint(
                fields=["template", "text"],
                name="checklistitem_text_unique",
                violation_error_message="This checklist has this line already.",
            ),
        ]

    def __str__(self) -> str:
        return self.text


class DeploymentProfile(models.Model):
    """How one environment is deployed to. What a deployment needs of it is frozen onto the deployment.

    NULL means that the team has not set a value. The settings of the driver are judged by the driver's own form.
    """

    class Driver(models.TextChoices):
        BLUE_GREEN = "blue_green", "Blue-green on a host"
        ROLLING = "rolling", "Rolling, one instance after the other"
        SCRIPT = "script", "The team's own deploy script"
        COMPOSE = "compose", "Docker Compose"
        KUBERNETES = "kubernetes", "Kubernetes"

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, related_name="deployment_profile")
    driver = models.CharField(max_length=12, choices=Driver, default=Driver.BLUE_GREEN)
    host = models.ForeignKey(
        Host,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Where the driver's commands run. Empty: on the worker's own machine.",
    )
    settings = models.JSONField(default=dict, blank=True)
    secrets = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_references],
        help_text="Environment variables of the application and where their values are.",
    )

    promotes_from = models.ForeignKey(
        Environment,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="A release must have been verified there before. Empty: any release may come here.",
    )
    checklist = models.ForeignKey(
        ChecklistTemplate, null=True, blank=True, on_delete=models.PROTECT, related_name="profiles"
    )
    approvals = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(10)],
        help_text="How many people other than the requester must approve. Empty: not set, none.",
    )
    approval_lasts = models.DurationField(
        null=True, blank=True, help_text="After this an approval has to be given again. Empty: it does not expire."
    )
    solo = models.BooleanField(
        "solo mode allowed",
        default=False,
        help_text="Who works alone may go without approvals; the deployment is flagged for review.",
    )
    freezes_on_rank = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="An open incident of this rank or graver stops deployments. 1 is the gravest. Empty: 1.",
    )

    migrate = models.JSONField(
        "migrate command",
        null=True,
        blank=True,
        validators=[validate_argument_vector],
        help_text="Changes the schema before the new version starts, with the application's variables and secrets in "
        "its environment. Must do no harm when it runs twice.",
    )
    smoke = models.JSONField(
        "smoke test command",
        null=True,
        blank=True,
        validators=[validate_argument_vector],
        help_text="Signs in, creates, reads, changes and deletes, with the application's variables and secrets in its "
        "environment. Ends with 0 when all is well.",
    )
    command_timeout_s = models.PositiveIntegerField(
        "time limit of commands (seconds)", default=600, validators=[MinValueValidator(1), MaxValueValidator(86400)]
    )
    ready_within_s = models.PositiveIntegerField(
        "ready within (seconds)", default=60, validators=[MinValueValidator(1), MaxValueValidator(3600)]
    )
    drain_within_s = models.PositiveIntegerField(
        "drain within (seconds)", default=30, validators=[MaxValueValidator(3600)]
    )
    watch_for = models.DurationField(
        null=True, blank=True, help_text="How long errors are watched after the switch. Empty: not watched."
    )
    most_errors_percent = models.FloatField(
        "errors at most (percent)",
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Answers with a 5xx code, of all. More is a failed watch.",
    )
    answers_within_ms = models.PositiveIntegerField(
        "answers within (ms)", null=True, blank=True, help_text="Longest answer of a check after the switch."
    )
    most_log_errors = models.PositiveIntegerField(
        "errors in the log at most",
        null=True,
        blank=True,
        help_text="Lines of the new version's log that report an error. Empty: they are shown and decide nothing.",
    )
    auto_rollback = models.BooleanField(
        "roll back by itself",
        default=False,
        help_text="When checks or the watch fail after the switch. Off: rolling back is offered.",
    )
    rollback_target = models.DurationField(
        null=True, blank=True, help_text="How long a rollback may take, for example 2 min. Empty means not set."
    )
    backup_plan = models.ForeignKey(
        Plan,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Backed up before each deployment and pinned to it. Empty: no backup is taken.",
    )
    backup_fresh_for = models.DurationField(
        null=True, blank=True, help_text="How old a verified backup may be for the gate. Empty: 24 hours."
    )

    class Meta:
        ordering = ("environment__service__name", "environment__name")
        permissions = [("control_service", "Can restart and scale services")]
        constraints = [
            models.CheckConstraint(
                condition=Q(driver__in=["blue_green", "rolling", "script", "compose", "kubernetes"]),
                name="deploymentprofile_driver_known",
            ),
            models.CheckConstraint(
                condition=Q(promotes_from__isnull=True) | ~Q(promotes_from=F("environment")),
                name="deploymentprofile_promotes_from_another",
                violation_error_message="A release is promoted from another environment.",
            ),
            models.CheckConstraint(
                condition=Q(most_errors_percent__isnull=True) | Q(watch_for__isnull=False),
                name="deploymentprofile_watch_has_time",
                violation_error_message="Say how long errors are watched.",
            ),
            *(
                models.CheckConstraint(
                    condition=Q(**{f"{field}__isnull": True}) | Q(**{f"{field}__gt": ZERO}),
                    name=f"deploymentprofile_{field}_positive",
                    violation_error_message="A time is longer than zero. Leave it empty if it is not set.",
                )
                for field in ("approval_lasts", "watch_for", "rollback_target", "backup_fresh_for")
            ),
        ]

    def __str__(self) -> str:
        return f"Deployments of {self.environment}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about this profile says."""
        return self.environment.environment_band


class FreezeWindow(models.Model):
    """A time in which nothing is deployed but rollbacks and emergencies."""

    service = models.ForeignKey(
        Service,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="freezes",
        help_text="Empty: every service.",
    )
    environment_kind = models.CharField(
        max_length=16, choices=Environment.Kind, blank=True, help_text="Empty: every environment."
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=200, validators=[validate_printable])

    objects = querysets.FreezeWindowQuerySet.as_manager()

    class Meta:
        ordering = ("-starts_at",)
        constraints = [
            not_empty("freezewindow", "reason"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")),
                name="freezewindow_ends_after_start",
                violation_error_message="A freeze ends after it starts.",
            ),
        ]

    def __str__(self) -> str:
        return self.reason

    def get_absolute_url(self) -> str:
        return detail_url(self)
