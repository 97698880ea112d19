"""Services, where they run, what they consist of, and the machines under them."""

from datetime import timedelta

from django.db import models
from django.db.models import Q

from catalog import querysets, validators
from catalog.constraints import not_empty
from core.environments import EnvironmentBand
from core.links import detail_url
from core.models import validate_time_zone

ZERO = timedelta(0)


class Service(models.Model):
    """Something the organisation runs for people, with one team that answers for it."""

    name = models.CharField(max_length=80, unique=True, validators=[validators.validate_printable])
    slug = models.SlugField(max_length=80, unique=True, help_text="Short name in addresses and folders.")
    description = models.TextField(blank=True)
    owner_team = models.CharField(max_length=80, blank=True, validators=[validators.validate_printable])
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Schedules of this service are read in this zone, for example Europe/Berlin.",
    )
    business_hours = models.ForeignKey(
        "catalog.BusinessHours",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="services",
        help_text="For response times that count business hours or days only. Empty means not set.",
    )

    objects = querysets.ServiceQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = [
            not_empty("service", "name"),
            not_empty("service", "slug"),
            not_empty("service", "time_zone"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class Environment(models.Model):
    """One place where a service runs: production, staging or development."""

    class Kind(models.TextChoices):
        PRODUCTION = "production", "Production"
        STAGING = "staging", "Staging"
        DEVELOPMENT = "development", "Development"

    service = models.ForeignKey(Service, on_delete=models.PROTECT, related_name="environments")
    name = models.CharField(max_length=80, validators=[validators.validate_printable])
    slug = models.SlugField(max_length=80)
    kind = models.CharField(
        max_length=16,
        choices=Kind,
        help_text="Decides the colour of the band on every page that touches this environment.",
    )
    allowed_networks = models.TextField(
        blank=True,
        validators=[validators.validate_networks],
        help_text="Internal networks that probes may ask, one a line, for example 10.1.0.0/16. Public addresses always "
        "may; cloud metadata and the portal itself never.",
    )

    objects = querysets.EnvironmentQuerySet.as_manager()

    class Meta:
        ordering = ("service__name", "name")
        constraints = [
            models.UniqueConstraint(
                fields=["service", "slug"],
                name="environment_slug_unique",
                violation_error_message="This service has an environment with this slug already. Choose another.",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["production", "staging", "development"]), name="environment_kind_known"
            ),
            not_empty("environment", "name"),
            not_empty("environment", "slug"),
        ]

    def __str__(self) -> str:
        return f"{self.service.name} · {self.name}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about this environment says."""
        return EnvironmentBand(label=str(self), kind=self.kind)


class Component(models.Model):
    """A part of a service in one environment, with its recovery targets.

    RTO: how long it may be away. RPO: how much of its data may be lost; 0 means nothing at all.
    NULL means that the team has not set a target.
    """

    class Kind(models.TextChoices):
        API = "api", "API"
        DATABASE = "database", "Database"
        FRONTEND = "frontend", "Frontend"
        CACHE = "cache", "Cache"
        WORKER = "worker", "Worker"
        OTHER = "other", "Other"

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="components")
    name = models.CharField(max_length=80, validators=[validators.validate_printable])
    kind = models.CharField(max_length=16, choices=Kind)
    rto = models.DurationField(
        "RTO", null=True, blank=True, help_text="Longest outage, for example 30 min. Empty means not set."
    )
    rpo = models.DurationField(
        "RPO",
        null=True,
        blank=True,
        help_text="Most recent work that may be lost, for example 1 min; 0 means none. Empty means not set.",
    )

    objects = querysets.ComponentQuerySet.as_manager()

    class Meta:
        ordering = ("environment__service__name", "environment__name", "name")
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "name"],
                name="component_name_unique",
                violation_error_message="This environment has a component with this name already. Choose another.",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["api", "database", "frontend", "cache", "worker", "other"]),
                name="component_kind_known",
            ),
            models.CheckConstraint(
                condition=Q(rto__isnull=True) | Q(rto__gt=ZERO),
                name="component_rto_positive",
                violation_error_message="The RTO must be longer than zero. Leave it empty if it is not set.",
            ),
            models.CheckConstraint(
                condition=Q(rpo__isnull=True) | Q(rpo__gte=ZERO),
                name="component_rpo_not_negative",
                violation_error_message="The RPO must not be negative. Leave it empty if it is not set.",
            ),
            not_empty("component", "name"),
        ]

    def __str__(self) -> str:
        return f"{self.environment} · {self.name}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about this component says."""
        return self.environment.environment_band
