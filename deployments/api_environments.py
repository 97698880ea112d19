"""What is live over the API: looking, going back, and the changes that bring no other version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja import Query, Router, Status

from core.api import BearerToken, Id, Sliced, caller, demand_scope, one_of, page_of
from core.scopes import DEPLOY, RESTORE
from deployments import reach
from deployments.actions import changing, rollback
from deployments.api import answering, environment_of
from deployments.api_rows import change_row, live_row, one_deployment, whole_deployment
from deployments.api_shapes import (
    ChangeFilters,
    ChangeIn,
    ChangeOut,
    ChangePage,
    DeploymentWithGates,
    LeftoversOut,
    LiveOut,
    RestartIn,
    RollbackIn,
    ScaleIn,
    SettingIn,
)
from deployments.models import ConfigurationChange
from deployments.places import release_called
from deployments.procedures.control import kept_versions
from operations.api import OperationOut, shown
from operations.models import Operation

router = Router(tags=["Environments"])
API = Operation.Trigger.API


@router.get(
    "/environments/{id}/live",
    response=LiveOut,
    auth=BearerToken("deployments.view_livestate"),
    summary="What is live, whether that is what runs, and the way back",
)
def get_live(request: HttpRequest, id: Id) -> Any:
    return live_row(environment_of(id))


@router.post(
    "/environments/{id}/rollback",
    response={201: DeploymentWithGates},
    auth=BearerToken("deployments.rollback_deployment", DEPLOY),
    summary="Go back to an earlier release",
)
def roll_back(request: HttpRequest, id: Id, data: RollbackIn) -> Any:
    if data.restores:
        demand_scope(request, RESTORE)
        if not caller(request).has_perm("backups.restore_archive"):
            raise PermissionDenied(f"{caller(request)} may not restore backups. Roll back without it.")
    with answering(request) as key:
        environment = environment_of(id)
        row = rollback.request_rollback(
            environment,
            to=release_called(environment.service, data.to) if data.to is not None else None,
            reason=data.reason,
            restores=data.restores,
            incident=data.incident,
            by=caller(request),
            trigger=API,
            key=key,
        )
        return Status(201, whole_deployment(one_deployment(row.pk)))


MAY_CHANGE = BearerToken("deployments.control_service", DEPLOY)


@contextmanager
def _changing(request: HttpRequest, data: ChangeIn) -> Iterator[Callable[..., Any]]:
    """Gives a function that asks for a change, once for each key: one that was made is not refused for being so."""
    with answering(request) as key:
        known = Operation.objects.filter(idempotency_key=key).first() if key else None

        def ask(action: Callable[..., Operation], *args: Any, **more: Any) -> Any:
            given = {"by": caller(request), "reason": data.reason, "trigger": API, "key": key, **more}
            return Status(202, shown(known or action(*args, **given)))

        yield ask


@router.post("/environments/{id}/restart", response={202: OperationOut}, auth=MAY_CHANGE, summary="Restart it")
def restart(request: HttpRequest, id: Id, data: RestartIn) -> Any:
    with _changing(request, data) as ask:
        return ask(changing.request_restart, environment_of(id), or_roll_back=data.or_roll_back)


@router.post("/environments/{id}/scale", response={202: OperationOut}, auth=MAY_CHANGE, summary="Run so many copies")
def scale(request: HttpRequest, id: Id, data: ScaleIn) -> Any:
    with _changing(request, data) as ask:
        return ask(changing.request_scale, environment_of(id), data.count)


@router.post(
    "/environments/{id}/settings", response={202: OperationOut}, auth=MAY_CHANGE, summary="Change a setting of it"
)
def change_setting(request: HttpRequest, id: Id, data: SettingIn) -> Any:
    with _changing(request, data) as ask:
        return ask(changing.request_setting, environment_of(id), data.name, data.value)


@router.post("/environments/{id}/cleanup", response={202: OperationOut}, auth=MAY_CHANGE, summary="Remove old versions")
def clean_up(request: HttpRequest, id: Id, data: ChangeIn) -> Any:
    with _changing(request, data) as ask:
        return ask(changing.request_cleanup, environment_of(id))


@router.get(
    "/environments/{id}/cleanup",
    response=LeftoversOut,
    auth=BearerToken("deployments.look_livestate"),
    summary="What a clean-up would remove",
)
def preview_cleanup(request: HttpRequest, id: Id) -> Any:
    """Asks the host. It is decided again when the clean-up runs."""
    environment = environment_of(id)
    driver = reach.looking_driver(reach.profile_of(environment))
    return {"would_remove": driver.leftovers(kept_versions(environment.pk))}


# -- changes that are no deployment ------------------------------------------------------------------------------------

SEE_CHANGE = BearerToken("deployments.view_configurationchange")


def _change(pk: int) -> ConfigurationChange:
    return one_of(ConfigurationChange.objects.with_place(), pk, "change")


@router.get("/changes", response=ChangePage, auth=SEE_CHANGE, summary="Restarts, scaling, settings, clean-ups")
def list_changes(request: HttpRequest, part: Sliced, filters: Query[ChangeFilters]) -> Any:
    rows = ConfigurationChange.objects.with_place()
    if filters.environment is not None:
        rows = rows.to(filters.environment)
    if filters.kind is not None:
        rows = rows.filter(kind=filters.kind)
    return page_of(rows, part, change_row)


@router.get("/changes/{id}", response=ChangeOut, auth=SEE_CHANGE, summary="One change: what it was, what it is")
def get_change(request: HttpRequest, id: Id) -> Any:
    return change_row(_change(id))


@router.post(
    "/changes/{id}/take-back", response={202: OperationOut}, auth=MAY_CHANGE, summary="Set what it was before again"
)
def take_back(request: HttpRequest, id: Id, data: ChangeIn) -> Any:
    with _changing(request, data) as ask:
        return ask(changing.request_take_back, _change(id))
