"""What is live where, and the changes that are no deployment."""

from __future__ import annotations

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.models import Environment
from core.environments import EnvironmentBand
from core.links import detail_url
from deployments import querysets
from deployments.models.deployments import Deployment
from deployments.models.releases import Release
from operations.models import Operation


class LiveState(models.Model):
    """What runs in an environment: by the record, and as it was last seen. They differ when somebody went round it."""

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, related_name="live")
    release = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="live_in")
    previous = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    deployment = models.ForeignKey(Deployment, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    since = models.DateTimeField(null=True, blank=True)
    settings = models.JSONField(default=dict, blank=True, help_text="What was set by recorded changes.")
    seen = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder, help_text="As the driver saw it.")
    seen_at = models.DateTimeField(null=True, blank=True)
    drift = models.TextField(blank=True, help_text="How record and reality differ; empty: they do not.")

    objects = querysets.LiveStateQuerySet.as_manager()

    class Meta:
        ordering = ("environment__service__name", "environment__name")
        verbose_name = "live environment"
        permissions = [("look_livestate", "Can look at what runs now")]

    def __str__(self) -> str:
        return f"{self.environment}: {self.release.version if self.release else 'nothing deployed'}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about this environment says."""
        return self.environment.environment_band

    @property
    def status(self) -> str:
        if self.drift:
            return "bad"
        return "ok" if self.release is not None else "neutral"

    @property
    def state_word(self) -> str:
        if self.drift:
            return "Differs from the record"
        return "Live" if self.release is not None else "Nothing deployed"


class ConfigurationChange(models.Model):
    """A restart, another number of instances, another setting: what it was, what it is, who, when and why."""

    class Kind(models.TextChoices):
        RESTART = "restart", "Restart"
        SCALE = "scale", "Scale"
        SETTING = "setting", "Setting"
        CLEANUP = "cleanup", "Clean-up"
        PORT = "port", "Free a port"

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="configuration_changes")
    kind = models.CharField(max_length=8, choices=Kind)
    name = models.CharField(max_length=80, blank=True, help_text="Of the setting.")
    old = models.TextField(blank=True)
    new = models.TextField(blank=True)
    reason = models.TextField()
    operation = models.OneToOneField(
        Operation, null=True, blank=True, on_delete=models.PROTECT, related_name="configuration_change"
    )
    at = models.DateTimeField(default=timezone.now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    takes_back = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="taken_back_by",
        help_text="Its old value.",
    )
    or_rolls_back = models.BooleanField(
        default=False, help_text="A restart after which nothing is ready goes back to the release before."
    )

    objects = querysets.ConfigurationChangeQuerySet.as_manager()

    class Meta:
        ordering = ("-at", "-pk")
        indexes = [models.Index(fields=["environment", "-at"], name="configchange_newest")]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["restart", "scale", "setting", "cleanup", "port"]),
                name="configurationchange_kind_known",
            ),
            models.CheckConstraint(
                condition=~Q(reason=""),
                name="configurationchange_has_reason",
                violation_error_message="Say why.",
            ),
            models.CheckConstraint(
                condition=Q(or_rolls_back=False) | Q(kind="restart"), name="configurationchange_restart_rolls_back"
            ),
            models.CheckConstraint(
                condition=Q(takes_back__isnull=True) | Q(kind__in=["scale", "setting"]),
                name="configurationchange_takes_back_value",
            ),
        ]

    def __str__(self) -> str:
        what = f"{self.name}: {self.old or 'not set'} → {self.new or 'not set'}" if self.name else self.new
        return f"{self.get_kind_display()} {what}".strip()

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about this change says."""
        return self.environment.environment_band

    @property
    def status(self) -> str:
        return self.operation.status if self.operation is not None else "ok"

    @property
    def state_word(self) -> str:
        return self.operation.state_word if self.operation is not None else "Recorded"
