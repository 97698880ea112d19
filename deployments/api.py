"""Releases, deployments and what is live, over the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from ninja import Query, Router, Status

from catalog.models import Environment
from core.api import BearerToken, Id, Sliced, caller, one_of, page_of
from core.scopes import DEPLOY
from deployments.actions import releases, requesting
from deployments.api_rows import (
    deployment_row,
    one_deployment,
    release_row,
    scan_row,
    whole_deployment,
    whole_release,
)
from deployments.api_shapes import (
    ApproveIn,
    CiResultIn,
    DeploymentFilters,
    DeploymentIn,
    DeploymentPage,
    DeploymentWithGates,
    GateIn,
    Nothing,
    RefuseIn,
    ReleaseFilters,
    ReleaseIn,
    ReleasePage,
    ReleaseWithScans,
    ReviewIn,
    ScanIn,
    ScanOut,
    WithdrawIn,
)
from deployments.doors import demand_new
from deployments.exceptions import DeploymentError
from deployments.models import Deployment, Release
from deployments.places import Missing, environment_called, release_called, service_called
from operations.api import Why, acting
from operations.exceptions import Refused
from operations.models import Operation

router = Router(tags=["Deployments"])
API = Operation.Trigger.API
SEE_RELEASE = BearerToken("deployments.view_release")
SEE = BearerToken("deployments.view_deployment")


@contextmanager
def answering(request: HttpRequest) -> Iterator[str | None]:
    """As `acting`, for keys that stand for deployments too. What is named and missing is a 404, what another operation
    holds a 409, as on the other routes."""
    try:
        with acting(request) as key:
            demand_new(key)
            yield key
    except Missing as error:
        raise Http404(error.message) from error
    except DeploymentError as error:
        if isinstance(error.__cause__, Refused):
            raise Refused(error.message) from error
        raise


# -- releases ----------------------------------------------------------------------------------------------------------


def _releases() -> Any:
    return Release.objects.select_related("service", "created_by", "withdrawn_by")


def _release(pk: int) -> Release:
    return one_of(_releases(), pk, "release")


@router.get("/releases", response=ReleasePage, auth=SEE_RELEASE, summary="Releases")
def list_releases(request: HttpRequest, part: Sliced, filters: Query[ReleaseFilters]) -> Any:
    rows = _releases()
    if filters.service is not None:
        rows = rows.filter(service__slug=filters.service)
    if filters.version is not None:
        rows = rows.filter(version=filters.version)
    if filters.usable is not None:
        rows = rows.usable() if filters.usable else rows.exclude(withdrawn_at=None)
    return page_of(rows, part, release_row)


@router.get("/releases/{id}", response=ReleaseWithScans, auth=SEE_RELEASE, summary="One release with its scans")
def get_release(request: HttpRequest, id: Id) -> Any:
    return whole_release(_release(id))


@router.post(
    "/releases",
    response={201: ReleaseWithScans},
    auth=BearerToken("deployments.add_release", DEPLOY),
    summary="Create a release",
)
def create_release(request: HttpRequest, data: ReleaseIn) -> Any:
    with answering(request):
        given = data.model_dump(exclude={"service", "version"})
        release = releases.create_release(service_called(data.service), data.version, **given, by=caller(request))
        return Status(201, whole_release(_release(release.pk)))


MAY_REPORT = BearerToken("deployments.promote_release", DEPLOY)


@router.post("/releases/{id}/scans", response={201: ScanOut}, auth=MAY_REPORT, summary="Attach what a scan found")
def attach_scan(request: HttpRequest, id: Id, data: ScanIn) -> Any:
    with answering(request):
        scan = releases.attach_scan(_release(id), **data.model_dump(), by=caller(request))
        return Status(201, scan_row(scan))


@router.post("/releases/{id}/ci", response=ReleaseWithScans, auth=MAY_REPORT, summary="Say what CI says of it")
def report_ci(request: HttpRequest, id: Id, data: CiResultIn) -> Any:
    with answering(request):
        return whole_release(releases.report_ci(_release(id), ci=data.ci, url=data.url, by=caller(request)))


@router.post(
    "/releases/{id}/withdraw",
    response=ReleaseWithScans,
    auth=BearerToken("deployments.add_release", DEPLOY),
    summary="Withdraw it: nothing deploys it any more",
)
def withdraw(request: HttpRequest, id: Id, data: WithdrawIn) -> Any:
    with answering(request):
        releases.withdraw_release(_release(id), reason=data.reason, by=caller(request))
        return whole_release(_release(id))


# -- deployments -------------------------------------------------------------------------------------------------------


def _deployment(pk: int) -> Deployment:
    return one_of(Deployment.objects.with_place(), pk, "deployment")


def _whole(pk: int) -> dict[str, Any]:
    """As it is now, after what was done to it."""
    return whole_deployment(one_deployment(pk))


@router.get("/deployments", response=DeploymentPage, auth=SEE, summary="Deployments and rollbacks")
def list_deployments(request: HttpRequest, part: Sliced, filters: Query[DeploymentFilters]) -> Any:
    rows = Deployment.objects.with_place()
    if filters.environment is not None:
        rows = rows.to(filters.environment)
    if filters.state is not None:
        rows = rows.filter(state=filters.state)
    return page_of(rows, part, deployment_row)


@router.get("/deployments/{id}", response=DeploymentWithGates, auth=SEE, summary="One deployment, and why it waits")
def get_deployment(request: HttpRequest, id: Id) -> Any:
    return whole_deployment(_deployment(id))


@router.post(
    "/deployments",
    response={201: DeploymentWithGates},
    auth=BearerToken("deployments.request_deployment", DEPLOY),
    summary="Ask for a deployment",
)
def request_deployment(request: HttpRequest, data: DeploymentIn) -> Any:
    with answering(request) as key:
        by = caller(request)
        if data.starts_itself and not by.has_perm("deployments.run_deployment"):
            raise PermissionDenied(f"{by} may ask for deployments and not start them: send starts_itself as false.")
        environment = _place(data)
        same = ("reason", "emergency", "solo", "starts_itself", "incident", "not_before", "not_after")
        row = requesting.request_deployment(
            environment,
            _artefact(data, environment),
            **{name: getattr(data, name) for name in same},
            by=by,
            trigger=API,
            key=key,
        )
        return Status(201, _whole(row.pk))


def environment_of(pk: int) -> Environment:
    return one_of(Environment.objects.select_related("service"), pk, "environment")


def _place(data: DeploymentIn) -> Environment:
    """The environment that is meant. Raises Missing or Http404."""
    if isinstance(data.environment, int):
        found = environment_of(data.environment)
        if data.service not in (None, found.service.slug):
            raise DeploymentError(f"{found} is not an environment of “{data.service}”.")
        return found
    if data.service is None:
        raise DeploymentError("An environment that is named by its slug wants the slug of its service too.")
    return environment_called(service_called(data.service), data.environment)


def _artefact(data: DeploymentIn, environment: Environment) -> Release:
    if (data.release is None) == (data.version is None):
        raise DeploymentError("Name either the number of a release or a version.")
    if data.release is not None:
        return _release(data.release)
    assert data.version is not None
    return release_called(environment.service, data.version)


MAY_START = BearerToken("deployments.run_deployment", DEPLOY)
MAY_DECIDE = BearerToken("deployments.approve_deployment", DEPLOY)
MAY_ASK = BearerToken("deployments.request_deployment", DEPLOY)


@router.post("/deployments/{id}/start", response={202: DeploymentWithGates}, auth=MAY_START, summary="Start it")
def start(request: HttpRequest, id: Id, data: Nothing) -> Any:
    with answering(request) as key:
        row = _deployment(id)
        if key is None or row.operation_id is None:  # with a key, what was started is what came of the first time
            requesting.start(row, by=caller(request), trigger=API)
        return Status(202, _whole(id))


@router.post("/deployments/{id}/approve", response=DeploymentWithGates, auth=MAY_DECIDE, summary="Approve it")
def approve(request: HttpRequest, id: Id, data: ApproveIn) -> Any:
    with answering(request):
        requesting.decide(_deployment(id), granted=True, note=data.note, by=caller(request))
        return _whole(id)


@router.post("/deployments/{id}/refuse", response=DeploymentWithGates, auth=MAY_DECIDE, summary="Refuse it")
def refuse(request: HttpRequest, id: Id, data: RefuseIn) -> Any:
    with answering(request):
        requesting.decide(_deployment(id), granted=False, note=data.note, by=caller(request))
        return _whole(id)


@router.post(
    "/deployments/{id}/cancel", response=DeploymentWithGates, auth=MAY_START, summary="Withdraw it, or stop it"
)
def cancel(request: HttpRequest, id: Id, data: Why) -> Any:
    with answering(request):
        requesting.cancel(_deployment(id), reason=data.reason, by=caller(request))
        return _whole(id)


@router.post(
    "/deployments/{id}/gates/{gate}",
    response=DeploymentWithGates,
    auth=MAY_ASK,
    summary="Settle an item of its checklist",
)
def confirm_gate(request: HttpRequest, id: Id, gate: Id, data: GateIn) -> Any:
    with answering(request):
        item = one_of(_deployment(id).gates.all(), gate, "item of its checklist")
        requesting.confirm_gate(item, passed=data.passed, evidence=data.evidence, by=caller(request))
        return _whole(id)


@router.post(
    "/deployments/{id}/review",
    response=DeploymentWithGates,
    auth=BearerToken("deployments.review_deployment", DEPLOY),
    summary="Say what a look at an emergency found afterwards",
)
def review(request: HttpRequest, id: Id, data: ReviewIn) -> Any:
    with answering(request):
        requesting.review(_deployment(id), note=data.note, by=caller(request))
        return _whole(id)
