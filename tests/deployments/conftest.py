"""A service with two environments, releases, people, and a place on paper to deploy to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from catalog.models import Environment, Service
from core.models import User
from core.roles import Role
from deployments.actions import requesting
from deployments.actions.releases import create_release
from deployments.drivers import DRIVERS
from deployments.models import Deployment, DeploymentProfile, LiveState, Release
from operations import dispatch, engine
from operations.models import Operation
from tests.backups.conftest import TABLES
from tests.committed import committed_rows
from tests.deployments.paper import PaperDriver
from tests.factories import PersonFactory


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with committed_rows(django_db_blocker, TABLES):
        yield


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No messages, as if Redis were away; an undo that does not wait."""
    monkeypatch.setattr(dispatch, "_leave_alone_until", float("inf"))
    monkeypatch.setattr(engine, "UNDO_RETRY_S", (0.0,))


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> type[PaperDriver]:
    monkeypatch.setitem(DRIVERS, "blue_green", PaperDriver)
    monkeypatch.setattr(PaperDriver, "acts", {})
    monkeypatch.setattr(PaperDriver, "calls", [])
    return PaperDriver


@dataclass
class Stage:
    """What a test of deployments starts from."""

    service: Service
    production: Environment
    profile: DeploymentProfile
    olga: User
    ana: User
    folder: Path

    def release(self, version: str, **values: Any) -> Release:
        given = {"source_kind": "folder", "source": f"/srv/erp/{version}", "checksum": f"sha256:{'a' * 64}", **values}
        return create_release(self.service, version, by=self.olga, **given)

    def ask(self, version: str, **values: Any) -> Deployment:
        release = Release.objects.filter(version=version).first() or self.release(version)
        return requesting.request_deployment(self.production, release, **{"by": self.olga, **values})

    def deploy(self, version: str, **values: Any) -> Deployment:
        """Asked for, started and carried out by this process."""
        row = requesting.start(self.ask(version, **values), by=self.olga)
        return self.carry_out(row)

    def carry_out(self, row: Deployment, worker: str = "w1") -> Deployment:
        assert row.operation_id
        engine.run(row.operation_id, worker)
        return Deployment.objects.with_place().get(pk=row.pk)

    def operation(self, row: Deployment) -> Operation:
        return Operation.objects.get(pk=row.operation_id or 0)

    @property
    def live(self) -> LiveState:
        return LiveState.objects.with_place().get(environment=self.production)

    def on_paper(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "place.json").read_text()))

    def put_on_paper(self, **values: Any) -> None:
        (self.folder / "place.json").write_text(json.dumps({**self.on_paper(), **values}))

    def change(self, **values: Any) -> None:
        DeploymentProfile.objects.filter(pk=self.profile.pk).update(**values)


@pytest.fixture
def stage(transactional_db: None, paper: type[PaperDriver], tmp_path: Path) -> Stage:
    service = Service.objects.create(name="ERP", slug="erp")
    production = Environment.objects.create(
        service=service, name="production", slug="production", kind=Environment.Kind.PRODUCTION
    )
    profile = DeploymentProfile.objects.create(
        environment=production,
        settings={"file": str(tmp_path / "place.json")},
        rollback_target=timedelta(minutes=2),
    )
    olga = PersonFactory(username="olga", role=Role.OPERATOR)
    ana = PersonFactory(username="ana", role=Role.APPROVER)
    return Stage(service, production, profile, olga, ana, tmp_path)
