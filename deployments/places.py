"""Services, environments and releases by the words that programs have for them."""

from __future__ import annotations

from catalog.models import Environment, Service
from deployments.exceptions import DeploymentError
from deployments.models import Release

SHOWN = 20


class Missing(DeploymentError):
    """There is nothing of that name."""


def service_called(slug: str) -> Service:
    """Raises Missing with the services that there are."""
    found = Service.objects.filter(slug=slug).first()
    if found is None:
        there = ", ".join(Service.objects.order_by("slug").values_list("slug", flat=True)[:SHOWN])
        raise Missing(f"There is no service “{slug}”. Services: {there or 'none yet'}.")
    return found


def environment_called(service: Service, slug: str) -> Environment:
    """Raises Missing with the environments that the service has."""
    environments = Environment.objects.select_related("service").filter(service=service)
    found = environments.filter(slug=slug).first()
    if found is None:
        there = ", ".join(environments.order_by("slug").values_list("slug", flat=True)[:SHOWN])
        raise Missing(f"{service} has no environment “{slug}”. It has: {there or 'none yet'}.")
    return found


def release_called(service: Service, version: str) -> Release:
    """Raises Missing with the newest versions that there are."""
    releases = Release.objects.select_related("service").for_service(service)
    found = releases.filter(version=version).first()
    if found is None:
        there = ", ".join(releases.usable().values_list("version", flat=True)[:SHOWN])
        raise Missing(f"{service} has no release “{version}”. It has: {there or 'none yet'}.")
    return found
