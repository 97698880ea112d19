"""An environment with something live, a way back and a deployment that waits: what is behind every route."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from catalog.models import Environment
from core.models import User
from deployments import reach
from deployments.models import ConfigurationChange, Deployment, DeploymentProfile, Gate, LiveState, Release
from tests.factories import EnvironmentFactory, OperationFactory

CHECKSUM = f"sha256:{'a' * 64}"
WHY = {"reason": "a test"}


def release_of(environment: Environment, version: str, **values: Any) -> Release:
    given = {"source_kind": "folder", "source": f"/srv/{version}", "checksum": CHECKSUM, **values}
    return Release.objects.create(service=environment.service, version=version, **given)


def live_environment(by: User | None = None) -> Environment:
    """v1.1.0 is live and came after v1.0.0."""
    environment = EnvironmentFactory()
    nowhere = {"file": "/nonexistent/place.json"}
    rolling = DeploymentProfile.Driver.ROLLING
    profile = DeploymentProfile.objects.create(environment=environment, driver=rolling, settings=nowhere)
    before, now = release_of(environment, "v1.0.0"), release_of(environment, "v1.1.0")
    at = timezone.now()
    for release in (before, now):
        row = Deployment.objects.create(
            environment=environment,
            release=release,
            state=Deployment.State.LIVE,
            fingerprint=release.fingerprint,
            frozen=reach.frozen(profile),
            requested_by=by,
            started_at=at,
            switched_at=at,
            ended_at=at,
        )
    LiveState.objects.create(environment=environment, release=now, previous=before, deployment=row, since=at)
    return environment


def furnish_deployments(by: User | None = None) -> dict[str, int]:
    """One row behind every route of deployments; ids by the name of the list."""
    environment = live_environment(by)
    release = release_of(environment, "v1.2.0")
    frozen = reach.frozen(environment.deployment_profile)
    waiting = Deployment.objects.create(
        environment=environment, release=release, fingerprint=release.fingerprint, frozen=frozen
    )
    gate = Gate.objects.create(deployment=waiting, position=0, text="Read the notes", kind="manual", optional=True)
    change = ConfigurationChange.objects.create(
        environment=environment,
        kind=ConfigurationChange.Kind.SETTING,
        name="GREETING",
        old="Hello",
        new="Good day",
        operation=OperationFactory(procedure="deployments.control", state="succeeded"),
        **WHY,
    )
    LiveState.objects.filter(environment=environment).update(settings={"GREETING": "Good day"})
    return {
        "changes": change.pk,
        "releases": release.pk,
        "deployments": waiting.pk,
        "environments": environment.pk,
        "gates": gate.pk,
    }


def body_for(path: str, ids: dict[str, int]) -> dict[str, Any]:
    """What a route is asked with."""
    release = Release.objects.select_related("service").get(pk=ids["releases"])
    artefact = {"source_kind": "folder", "source": "/srv/new", "checksum": CHECKSUM}
    bodies: dict[str, dict[str, Any]] = {
        "/releases": {"service": release.service.slug, "version": "v9.0.0", **artefact},
        "/releases/{id}/scans": {"kind": "security", "tool": "scanner"},
        "/releases/{id}/ci": {"ci": "passed"},
        "/deployments": {"environment": ids["environments"], "release": release.pk},
        "/deployments/{id}/start": {},
        "/deployments/{id}/approve": {},
        "/deployments/{id}/refuse": {"note": "a test"},
        "/deployments/{id}/review": {"note": "a test"},
        "/deployments/{id}/gates/{gate}": {"evidence": "a test"},
        "/environments/{id}/scale": {"count": 2, **WHY},
        "/environments/{id}/settings": {"name": "LOG_LEVEL", "value": "debug", **WHY},
    }
    return bodies.get(path, WHY)
