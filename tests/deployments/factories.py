"""Rows of deployments for tests that only look at pages. Nothing here is deployed anywhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from catalog.models import Environment
from deployments import reach
from deployments.models import (
    Approval,
    ChecklistItem,
    ChecklistTemplate,
    ConfigurationChange,
    Deployment,
    DeploymentProfile,
    FreezeWindow,
    Gate,
    LiveState,
    Release,
    ReleaseRules,
    Scan,
)
from tests.factories import EnvironmentFactory, PersonFactory, ServiceFactory


class ReleaseFactory(DjangoModelFactory):
    class Meta:
        model = Release

    service = factory.SubFactory(ServiceFactory)
    version = factory.Sequence(lambda n: f"v1.{n}.0")
    source_kind = "folder"
    source = factory.LazyAttribute(lambda row: f"/srv/releases/{row.version}")
    checksum = factory.Sequence(lambda n: f"sha256:{n:064x}")
    ci = Release.Ci.PASSED


class ScanFactory(DjangoModelFactory):
    class Meta:
        model = Scan

    release = factory.SubFactory(ReleaseFactory)
    kind = Scan.Kind.SECURITY
    tool = "pip-audit"


class ReleaseRulesFactory(DjangoModelFactory):
    class Meta:
        model = ReleaseRules

    service = factory.SubFactory(ServiceFactory)


class ChecklistFactory(DjangoModelFactory):
    """A checklist with one manual item."""

    class Meta:
        model = ChecklistTemplate
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"Before production {n}")

    @factory.post_generation
    def items(self: ChecklistTemplate, create: bool, extracted: object, **kwargs: object) -> None:
        ChecklistItem.objects.create(template=self, text="Support was told")


class ProfileFactory(DjangoModelFactory):
    class Meta:
        model = DeploymentProfile

    environment = factory.SubFactory(EnvironmentFactory)
    checklist = factory.SubFactory(ChecklistFactory)
    settings = factory.LazyFunction(lambda: {"file": "/nonexistent/place.json"})


def frozen_of(environment: Environment) -> dict[str, Any]:
    profile = DeploymentProfile.objects.filter(environment=environment).first()
    return reach.frozen(profile) if profile is not None else {}


class FreezeFactory(DjangoModelFactory):
    class Meta:
        model = FreezeWindow

    reason = factory.Sequence(lambda n: f"Stocktaking {n}")
    starts_at = factory.LazyFunction(lambda: timezone.now() + timedelta(days=30))
    ends_at = factory.LazyAttribute(lambda row: row.starts_at + timedelta(days=2))


class DeploymentFactory(DjangoModelFactory):
    """One that went live well a minute ago; give `state` for another end or none."""

    class Meta:
        model = Deployment

    environment = factory.SubFactory(EnvironmentFactory)
    release = factory.SubFactory(ReleaseFactory, service=factory.SelfAttribute("..environment.service"))
    state = Deployment.State.LIVE
    fingerprint = factory.SelfAttribute("release.fingerprint")
    requested_by = factory.SubFactory(PersonFactory)
    reason = "The monthly release"
    frozen = factory.LazyAttribute(lambda row: frozen_of(row.environment))
    started_at = factory.LazyAttribute(lambda row: None if row.state == "waiting" else timezone.now())
    switched_at = factory.LazyAttribute(lambda row: row.started_at if row.state in ("live", "suspect") else None)
    ended_at = factory.LazyAttribute(lambda row: row.started_at if row.state in Deployment.TERMINAL else None)


class GateFactory(DjangoModelFactory):
    class Meta:
        model = Gate

    deployment = factory.SubFactory(DeploymentFactory, state="waiting")
    position = 0
    text = factory.Sequence(lambda n: f"Support was told {n}")
    kind = "manual"


class ApprovalFactory(DjangoModelFactory):
    class Meta:
        model = Approval

    deployment = factory.SubFactory(DeploymentFactory, state="waiting")
    by = factory.SubFactory(PersonFactory)
    fingerprint = factory.SelfAttribute("deployment.fingerprint")
    granted = True


class LiveFactory(DjangoModelFactory):
    """An environment with a profile and two slots, one of them live, the release before it warm in the other."""

    class Meta:
        model = LiveState

    class Params:
        profile = factory.SubFactory(ProfileFactory)

    environment = factory.SelfAttribute("profile.environment")
    release = factory.SubFactory(ReleaseFactory, service=factory.SelfAttribute("..environment.service"))
    previous = factory.SubFactory(ReleaseFactory, service=factory.SelfAttribute("..environment.service"))
    deployment = factory.SubFactory(
        DeploymentFactory,
        environment=factory.SelfAttribute("..environment"),
        release=factory.SelfAttribute("..release"),
    )
    since = factory.LazyFunction(lambda: timezone.now() - timedelta(hours=3))
    seen_at = factory.LazyFunction(lambda: timezone.now() - timedelta(minutes=1))
    settings = factory.LazyFunction(lambda: {"CURRENCY": "EUR"})
    seen = factory.LazyAttribute(
        lambda row: {
            "live": row.release.version,
            "sentence": f"Live is {row.release.version}.",
            "revisions": [row.release.version, row.previous.version],
            "instances": [
                {
                    "name": name,
                    "version": release.version,
                    "running": True,
                    "ready": True,
                    "live": release == row.release,
                    "address": f"127.0.0.1:{port}",
                    "since": "",
                    "answer_ms": 12.0,
                    "note": "",
                }
                for name, release, port in (("blue", row.release, 8001), ("green", row.previous, 8002))
            ],
        }
    )


class ChangeFactory(DjangoModelFactory):
    class Meta:
        model = ConfigurationChange

    environment = factory.SubFactory(EnvironmentFactory)
    kind = ConfigurationChange.Kind.SETTING
    name, old, new = "CURRENCY", "DEM", "EUR"
    reason = "The law says so"
    by = factory.SubFactory(PersonFactory)
