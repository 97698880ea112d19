"""Questions to the inventory, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import Count

if TYPE_CHECKING:
    from catalog.models import Component, DatabaseTarget, Environment, Probe, Service, Severity  # noqa: F401  named in the strings below


class ServiceQuerySet(models.QuerySet["Service"]):
    def with_inventory(self) -> Self:
        """Load environments, components and databases along, for a page that shows a whole service."""
        return self.prefetch_related("environments__components__databases", "severities")

    def counted(self) -> Self:
        """Add `environment_count` and `database_count`."""
        return self.annotate(
            environment_count=Count("environments", distinct=True),
            database_count=Count("environments__components__databases", distinct=True),
        )


class EnvironmentQuerySet(models.QuerySet["Environment"]):
    def named(self) -> Self:
        """Load what the name of an environment is made of."""
        return self.select_related("service")


class ComponentQuerySet(models.QuerySet["Component"]):
    def named(self) -> Self:
        """Load what the name and the band of a component are made of."""
        return self.select_related("environment__service")


class DatabaseTargetQuerySet(models.QuerySet["DatabaseTarget"]):
    def named(self) -> Self:
        """Load what the name and the band of a database are made of."""
        return self.select_related("component__environment__service", "via")


class ProbeQuerySet(models.QuerySet["Probe"]):
    def with_place(self) -> Self:
        """Load what asking and naming a probe needs."""
        return self.select_related("environment__service", "component", "looks_from__via__via")

    def for_use(self, environment: Environment, use: str) -> Self:
        """Those that a restore in this environment waits for, or must pass."""
        return self.with_place().filter(environment=environment, use=use)

    def worrying(self) -> Self:
        """Asked, and not good."""
        return self.filter(asked_at__isnull=False, state__in=["bad", "unknown"])


class SeverityQuerySet(models.QuerySet["Severity"]):
    def named(self) -> Self:
        """Load what the name of a severity is made of."""
        return self.select_related("service")
