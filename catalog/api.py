"""The inventory and its probes over the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status

from catalog import actions
from catalog.models import Component, DatabaseTarget, Environment, Probe, Service
from core.api import BearerToken, Id, Page, Sliced, caller, one_of, page_of
from core.scopes import CHECK
from operations.api import OperationOut, acting, shown
from operations.models import Operation

router = Router(tags=["Catalog"])


class ComponentOut(Schema):
    """RTO and RPO in seconds; null where the team has set none."""

    id: int
    name: str
    kind: str
    rto_s: float | None
    rpo_s: float | None


class EnvironmentOut(Schema):
    id: int
    name: str
    slug: str
    kind: str
    components: list[ComponentOut]


class ServiceOut(Schema):
    id: int
    name: str
    slug: str
    owner_team: str
    time_zone: str
    environments: list[EnvironmentOut]


class ServicePage(Page):
    items: list[ServiceOut]


class DatabaseOut(Schema):
    id: int
    name: str
    service: str
    environment: str
    engine: str
    address: str
    server_version: str


class DatabasePage(Page):
    items: list[DatabaseOut]


class ProbeOut(Schema):
    id: int
    name: str
    environment: str
    kind: str
    state: str = Field(description="ok, warn, bad or unknown")
    sentence: str
    latency_s: float | None
    asked_at: datetime | None


class ProbePage(Page):
    items: list[ProbeOut]


def _component(component: Component) -> dict[str, Any]:
    targets = {"rto_s": component.rto, "rpo_s": component.rpo}
    return {
        **{name: getattr(component, name) for name in ("id", "name", "kind")},
        **{name: value.total_seconds() if value is not None else None for name, value in targets.items()},
    }


def _environment(environment: Environment) -> dict[str, Any]:
    values = {name: getattr(environment, name) for name in ("id", "name", "slug", "kind")}
    return {**values, "components": [_component(component) for component in environment.components.all()]}


def _service(service: Service) -> dict[str, Any]:
    values = {name: getattr(service, name) for name in ("id", "name", "slug", "owner_team", "time_zone")}
    return {**values, "environments": [_environment(environment) for environment in service.environments.all()]}


def _database(target: DatabaseTarget) -> dict[str, Any]:
    environment = target.component.environment
    values = {name: getattr(target, name) for name in ("id", "name", "engine", "address", "server_version")}
    return {**values, "service": environment.service.name, "environment": environment.name}


def _probe(probe: Probe) -> dict[str, Any]:
    names = ("id", "name", "kind", "state", "sentence", "latency_s", "asked_at")
    return {**{name: getattr(probe, name) for name in names}, "environment": str(probe.environment)}


@router.get(
    "/services", response=ServicePage, auth=BearerToken("catalog.view_service"), summary="Services and their parts"
)
def list_services(request: HttpRequest, part: Sliced) -> Any:
    return page_of(Service.objects.prefetch_related("environments__components"), part, _service)


@router.get("/databases", response=DatabasePage, auth=BearerToken("catalog.view_databasetarget"), summary="Databases")
def list_databases(request: HttpRequest, part: Sliced) -> Any:
    rows = DatabaseTarget.objects.select_related("component__environment__service", "via__via")
    return page_of(rows, part, _database)


@router.get("/probes", response=ProbePage, auth=BearerToken("catalog.view_probe"), summary="Probes and their answers")
def list_probes(request: HttpRequest, part: Sliced) -> Any:
    return page_of(Probe.objects.with_place(), part, _probe)


@router.post(
    "/probes/{id}/check",
    response={202: OperationOut},
    auth=BearerToken("catalog.run_probe", CHECK),
    summary="Ask a probe now",
)
def check_probe(request: HttpRequest, id: Id) -> Any:
    with acting(request) as key:
        probe = one_of(Probe.objects.with_place(), id, "probe")
        return Status(
            202, shown(actions.request_check([probe], by=caller(request), trigger=Operation.Trigger.API, key=key))
        )
