"""A portal with something on every page of backups and operations, and the addresses of these pages."""

from __future__ import annotations

from datetime import timedelta

from django.apps import apps
from django.utils import timezone

from backups.models import Archive, Plan
from operations.models import Operation, Slot
from tests.factories import (
    ArchiveFactory,
    OperationFactory,
    PlanFactory,
    RestoreFactory,
    ScheduleFactory,
    WorkerNodeFactory,
)

HOUR = timedelta(hours=1)


def pages(plan: Plan) -> dict[str, str]:
    """Every page of these two apps, with something on it."""
    archive = ArchiveFactory(plan=plan)
    ArchiveFactory(plan=plan, failed=True)
    running = OperationFactory(state=Operation.State.RUNNING)
    ArchiveFactory(plan=plan, failed=True, state=Archive.State.CREATING, operation=running)
    restore = RestoreFactory(archive=archive)
    failed = OperationFactory(state=Operation.State.FAILED, procedure="backups.prune", params={"plan": plan.pk})
    paused = OperationFactory(state=Operation.State.PAUSED, procedure="backups.verify", params={"archive": archive.pk})
    at = timezone.now() - HOUR
    slot = Slot.objects.create(
        schedule=plan.schedule, at=at, decision="started", decided_at=at, operation=archive.operation
    )
    worker = WorkerNodeFactory()
    return {
        "home": "/",
        "plans": "/backups/plan/",
        "plan": f"/backups/plan/{plan.pk}/",
        "plan history": f"/backups/plan/{plan.pk}/history/",
        "archives": "/backups/archive/",
        "archive": f"/backups/archive/{archive.pk}/",
        "archive live": f"/backups/archive/{archive.pk}/live/",
        "archive history": f"/backups/archive/{archive.pk}/history/",
        "restores": "/backups/restore/",
        "restore": f"/backups/restore/{restore.pk}/",
        "restore live": f"/backups/restore/{restore.pk}/live/",
        "storages": "/backups/storage/",
        "storage": f"/backups/storage/{plan.storage.pk}/",
        "operations": "/operations/operation/",
        "operation": f"/operations/operation/{failed.pk}/",
        "operation running": f"/operations/operation/{running.pk}/",
        "operation paused": f"/operations/operation/{paused.pk}/",
        "operation live": f"/operations/operation/{running.pk}/live/",
        "schedules": "/operations/schedule/",
        "schedule": f"/operations/schedule/{plan.schedule.pk}/",
        "slots": "/operations/slot/",
        "slot": f"/operations/slot/{slot.pk}/",
        "workers": "/operations/workernode/",
        "worker": f"/operations/workernode/{worker.pk}/",
    }


def confirm_pages(plan: Plan) -> dict[str, str]:
    """The confirm page of every button of these two apps, with an object for which it is offered."""
    archive, kept = ArchiveFactory(plan=plan), ArchiveFactory(plan=plan, keep=True)
    restore = RestoreFactory(archive=archive)
    fields = {"procedure": "backups.prune", "params": {"plan": plan.pk}}
    failed, paused, queued = (OperationFactory(state=state, **fields) for state in ("failed", "paused", "queued"))
    return {
        "back_up": f"/backups/plan/{plan.pk}/do/back_up/",
        "prune": f"/backups/plan/{plan.pk}/do/prune/",
        "restore": f"/backups/archive/{archive.pk}/do/restore/",
        "verify": f"/backups/archive/{archive.pk}/do/verify/",
        "keep": f"/backups/archive/{archive.pk}/do/keep/",
        "let_go": f"/backups/archive/{kept.pk}/do/let_go/",
        "undo": f"/backups/restore/{restore.pk}/do/undo/",
        "drop": f"/backups/restore/{restore.pk}/do/drop/",
        "retry": f"/operations/operation/{failed.pk}/do/retry/",
        "continue": f"/operations/operation/{paused.pk}/do/continue/",
        "mark_done": f"/operations/operation/{paused.pk}/do/mark_done/",
        "take_over": f"/operations/operation/{queued.pk}/do/take_over/",
        "cancel": f"/operations/operation/{queued.pk}/do/cancel/",
    }


def fingerprint() -> dict[str, list[tuple[object, ...]]]:
    """Every row of the portal's own tables, so that "nothing changed" means nothing."""
    models = [
        model
        for label in ("backups", "operations", "catalog", "contacts", "webhooks", "survival", "incidents")
        for model in apps.get_app_config(label).get_models()
    ]
    return {model._meta.label: sorted(model.objects.values_list(), key=repr) for model in models}


def crowd() -> dict[str, str]:
    """Sixty rows of everything, and the pages that show them."""
    now = timezone.now()
    for number in range(60):
        schedule = ScheduleFactory()
        plan = PlanFactory(schedule=schedule, keep_last=3)
        archive = ArchiveFactory(plan=plan, age=number * HOUR)
        restore = RestoreFactory(archive=archive)
        WorkerNodeFactory()
        at = now - number * HOUR
        Slot.objects.create(schedule=schedule, at=at, decision="started", decided_at=at, operation=archive.operation)
    for number in range(60):
        archive = ArchiveFactory(plan=plan, age=number * HOUR)
        at = now - (number + 0.5) * HOUR
        slot = Slot.objects.create(
            schedule=schedule, at=at, decision="started", decided_at=at, operation=archive.operation
        )
    operation = OperationFactory(procedure="backups.verify", params={"archive": archive.pk})
    for _ in range(5):
        OperationFactory(state=Operation.State.RUNNING, parent=operation)
        OperationFactory(state=Operation.State.FAILED)
    return {
        "home": "/",
        "plans": "/backups/plan/",
        "archives": "/backups/archive/",
        "restores": "/backups/restore/",
        "storages": "/backups/storage/",
        "operations": "/operations/operation/",
        "schedules": "/operations/schedule/",
        "slots": "/operations/slot/",
        "workers": "/operations/workernode/",
        "wizard": "/backups/archive/restore/",
        "wizard with a database": f"/backups/archive/restore/?target={plan.target.pk}",
        "plan": f"/backups/plan/{plan.pk}/",
        "archive": f"/backups/archive/{restore.archive.pk}/",
        "archive live": f"/backups/archive/{restore.archive.pk}/live/",
        "restore": f"/backups/restore/{restore.pk}/",
        "restore live": f"/backups/restore/{restore.pk}/live/",
        "storage": f"/backups/storage/{plan.storage.pk}/",
        "operation": f"/operations/operation/{operation.pk}/",
        "operation live": f"/operations/operation/{operation.pk}/live/",
        "schedule": f"/operations/schedule/{schedule.pk}/",
        "slot": f"/operations/slot/{slot.pk}/",
        "worker": "/operations/workernode/1/".replace("1", str(WorkerNodeFactory().pk)),
        "plan form": f"/backups/plan/{plan.pk}/change/",
        "clean up": f"/backups/plan/{plan.pk}/do/prune/",
        "csv of archives": "/backups/archive/export/",
    }
