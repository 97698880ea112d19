"""Questions about releases and deployments, in plain words."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q

if TYPE_CHECKING:
    from catalog.models import Environment, Service
    from deployments.models import ConfigurationChange, Deployment, FreezeWindow, LiveState, Release  # noqa: F401


class FreezeWindowQuerySet(models.QuerySet["FreezeWindow"]):
    def at(self, moment: datetime) -> FreezeWindowQuerySet:
        """Those that hold at this moment."""
        return self.filter(starts_at__lte=moment, ends_at__gt=moment)

    def for_environment(self, environment: Environment) -> FreezeWindowQuerySet:
        return self.filter(
            Q(service=None) | Q(service=environment.service_id),
            Q(environment_kind="") | Q(environment_kind=environment.kind),
        )


class ReleaseQuerySet(models.QuerySet["Release"]):
    def for_service(self, service: Service | int) -> ReleaseQuerySet:
        return self.filter(service=service)

    def usable(self) -> ReleaseQuerySet:
        """Not withdrawn."""
        return self.filter(withdrawn_at=None)

    def verified_in(self, environment: Environment | int) -> ReleaseQuerySet:
        """Deployed there and verified."""
        return self.filter(deployments__environment=environment, deployments__state="live").distinct()


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def active(self) -> DeploymentQuerySet:
        """At work now."""
        return self.filter(state__in=self.model.ACTIVE)

    def waiting(self) -> DeploymentQuerySet:
        return self.filter(state="waiting")

    def final(self) -> DeploymentQuerySet:
        return self.filter(state__in=self.model.TERMINAL)

    def went_live(self) -> DeploymentQuerySet:
        """Traffic went to it at some time, whatever came after."""
        return self.filter(switched_at__isnull=False)

    def to(self, environment: Environment | int) -> DeploymentQuerySet:
        return self.filter(environment=environment)

    def with_place(self) -> DeploymentQuerySet:
        """With everything a page about a deployment names."""
        return self.select_related(
            "environment__service",
            "release__service",
            "from_release",
            "operation",
            "requested_by",
            "reviewed_by",
            "rollback_of",
        )


class LiveStateQuerySet(models.QuerySet["LiveState"]):
    def with_place(self) -> LiveStateQuerySet:
        return self.select_related(
            "environment__service", "release__service", "previous__service", "deployment__requested_by"
        )


class ConfigurationChangeQuerySet(models.QuerySet["ConfigurationChange"]):
    def with_place(self) -> ConfigurationChangeQuerySet:
        return self.select_related("environment__service", "operation", "by", "takes_back")

    def to(self, environment: Environment | int) -> ConfigurationChangeQuerySet:
        return self.filter(environment=environment)

    def of_the_same_thing(self, change: ConfigurationChange) -> ConfigurationChangeQuerySet:
        """Of the same setting, or of the number of copies, there; those that were made or may still be."""
        rows = self.to(change.environment_id).filter(kind=change.kind, name=change.name)
        return rows.exclude(operation__state__in=("failed", "errored", "cancelled"))
