"""Plans, archives and restores over the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status

from backups import actions, loss
from backups.models import Archive, Plan, Restore
from core.api import BearerToken, Id, Input, Page, Sliced, Text, caller, one_of, page_of
from core.scopes import BACK_UP, RESTORE
from operations.api import OperationOut, Why, acting, shown
from operations.models import Operation

router = Router(tags=["Backups"])
API = Operation.Trigger.API


class PlanOut(Schema):
    id: int
    name: str
    database: str
    storage: str
    schedule: str | None = Field(description="The five fields of cron and the zone; null: on demand.")
    keep_days: int | None
    keep_last: int | None
    newest_restore_point_at: datetime | None


class PlanPage(Page):
    items: list[PlanOut]


class ArchiveOut(Schema):
    """A restore point is an archive that is available and verified."""

    id: int
    name: str
    plan: str
    database: str
    state: str = Field(description=", ".join(Archive.State.values))
    verification: str = Field(description=", ".join(Archive.Verification.values))
    verification_message: str
    is_restore_point: bool
    purpose: str
    snapshot_at: datetime | None = Field(description="The moment whose data it holds.")
    size_bytes: int | None
    row_count: int | None
    sha256: str = Field(description="Of its manifest, which holds those of all files.")
    operation: int


class ArchivePage(Page):
    items: list[ArchiveOut]


class LossOut(Schema):
    """Rows per table now and in the archive. `lost_rows` null: the live database could not be read, `why` says so."""

    readable: bool
    why: str = ""
    lost_rows: int | None = None
    tables: list[dict[str, Any]] = []


class RestoreOut(Schema):
    id: int
    archive: int
    into_database: str
    reason_kind: str
    reason: str
    requested_at: datetime
    measured_s: float | None = Field(description="From the request to ready and tested.")
    rto_s: float | None
    rto_met: bool | None
    safety_copy: str = Field(description=", ".join(Restore.SafetyCopy.values))
    operation: OperationOut


class RestorePage(Page):
    items: list[RestoreOut]


class BackUpIn(Why):
    purpose: Literal["manual", "emergency", "pre_change"] = "manual"


class RestoreIn(Input):
    """`into` is the confirmation: it names the database that is replaced, or a new one beside it."""

    into: Text = Field(min_length=1, max_length=63)
    reason: Text = Field(min_length=1, max_length=500)
    reason_kind: Restore.Reason = Restore.Reason.OTHER
    override_reason: Text = Field("", max_length=500, description="Why an archive is restored that is not verified.")


class ArchiveFilters(Schema):
    plan: Id | None = None
    database: Id | None = None
    restore_points: bool = Field(False, description="Only what is available and verified.")


def _plan(plan: Plan) -> dict[str, Any]:
    schedule = plan.schedule
    crontab = schedule.crontab if schedule is not None and schedule.enabled else None
    parts = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")
    return {
        **{name: getattr(plan, name) for name in ("id", "name", "keep_days", "keep_last")},
        "database": str(plan.target),
        "storage": plan.storage.name,
        "schedule": " ".join(str(getattr(crontab, name)) for name in parts) if crontab is not None else None,
        "newest_restore_point_at": getattr(plan, "newest_at", None),  # annotated by the queryset
    }


def _archive(archive: Archive) -> dict[str, Any]:
    what = ("id", "name", "state", "verification", "verification_message", "is_restore_point", "purpose")
    size = ("snapshot_at", "size_bytes", "row_count", "sha256")
    return {
        **{name: getattr(archive, name) for name in (*what, *size)},
        "plan": archive.plan.name,
        "database": str(archive.target),
        "operation": archive.operation_id,
    }


def _restore(restore: Restore) -> dict[str, Any]:
    names = ("id", "into_database", "reason_kind", "reason", "requested_at", "rto_met", "safety_copy")
    return {
        **{name: getattr(restore, name) for name in names},
        "archive": restore.archive_id,
        "measured_s": restore.measured.total_seconds() if restore.measured is not None else None,
        "rto_s": restore.rto.total_seconds() if restore.rto is not None else None,
        "operation": shown(restore.operation),
    }


# -- plans -------------------------------------------------------------------------------------------------------------


@router.get("/plans", response=PlanPage, auth=BearerToken("backups.view_plan"), summary="Backup plans")
def list_plans(request: HttpRequest, part: Sliced) -> Any:
    return page_of(Plan.objects.with_place().with_newest(), part, _plan)


@router.post(
    "/plans/{id}/backups",
    response={202: OperationOut},
    auth=BearerToken("backups.run_plan", BACK_UP),
    summary="Back up now",
)
def back_up(request: HttpRequest, id: Id, data: BackUpIn) -> Any:
    with acting(request) as key:
        plan = one_of(Plan.objects.with_place(), id, "plan")
        operation = actions.request_backup(
            plan, by=caller(request), purpose=data.purpose, reason=data.reason, trigger=API, key=key
        )
        return Status(202, shown(operation))


# -- archives ----------------------------------------------------------------------------------------------------------

SEE = BearerToken("backups.view_archive")


@router.get("/archives", response=ArchivePage, auth=SEE, summary="Archives")
def list_archives(request: HttpRequest, part: Sliced, filters: Query[ArchiveFilters]) -> Any:
    rows = Archive.objects.with_place()
    if filters.plan is not None:
        rows = rows.filter(plan_id=filters.plan)
    if filters.database is not None:
        rows = rows.filter(target_id=filters.database)
    return page_of(rows.restore_points() if filters.restore_points else rows, part, _archive)


@router.get("/archives/{id}", response=ArchiveOut, auth=SEE, summary="One archive")
def get_archive(request: HttpRequest, id: Id) -> Any:
    return _archive(one_of(Archive.objects.with_place(), id, "archive"))


@router.get(
    "/archives/{id}/loss",
    response=LossOut,
    auth=BearerToken("backups.restore_archive"),
    summary="What a restore in place would lose",
)
def get_loss(request: HttpRequest, id: Id) -> Any:
    archive = one_of(Archive.objects.with_place().defer(None), id, "archive")
    if not archive.manifest:
        return {"readable": False, "why": f"{archive} is {archive.state_word.lower()}; it has nothing to compare with."}
    return loss.preview(archive)


@router.post(
    "/archives/{id}/verify",
    response={202: OperationOut},
    auth=BearerToken("backups.verify_archive", BACK_UP),
    summary="Read it back completely",
)
def verify(request: HttpRequest, id: Id, data: Why) -> Any:
    with acting(request) as key:
        archive = one_of(Archive.objects.with_place(), id, "archive")
        return Status(
            202, shown(actions.request_verify(archive, by=caller(request), reason=data.reason, trigger=API, key=key))
        )


@router.post(
    "/archives/{id}/restore",
    response={202: OperationOut},
    auth=BearerToken("backups.restore_archive", RESTORE),
    summary="Restore it",
)
def restore(request: HttpRequest, id: Id, data: RestoreIn) -> Any:
    with acting(request) as key:
        archive = one_of(Archive.objects.with_place(), id, "archive")
        operation = actions.request_restore(
            archive,
            by=caller(request),
            reason_kind=data.reason_kind,
            reason=data.reason,
            into=data.into,
            typed_name=data.into,
            override_reason=data.override_reason,
            trigger=API,
            key=key,
        )
        return Status(202, shown(operation))


# -- restores ----------------------------------------------------------------------------------------------------------


def _restores() -> Any:
    return Restore.objects.select_related("operation__requested_by")


@router.get("/restores", response=RestorePage, auth=BearerToken("backups.view_restore"), summary="Restores")
def list_restores(request: HttpRequest, part: Sliced) -> Any:
    return page_of(_restores(), part, _restore)


@router.get("/restores/{id}", response=RestoreOut, auth=BearerToken("backups.view_restore"), summary="One restore")
def get_restore(request: HttpRequest, id: Id) -> Any:
    return _restore(one_of(_restores(), id, "restore"))


@router.post(
    "/restores/{id}/undo",
    response={202: OperationOut},
    auth=BearerToken("backups.undo_restore", RESTORE),
    summary="Put the database back that it replaced",
)
def undo(request: HttpRequest, id: Id, data: Why) -> Any:
    with acting(request) as key:
        row = one_of(Restore.objects.with_place(), id, "restore")
        return Status(
            202, shown(actions.request_undo(row, by=caller(request), reason=data.reason, trigger=API, key=key))
        )
