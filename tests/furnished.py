"""A portal with something on every page of backups and operations, and the addresses of these pages."""

from __future__ import annotations

from datetime import timedelta

from django.apps import apps
from django.utils import timezone

from backups.models import Archive, Plan
from core.roles import PORTAL_APPS
from operations.models import Operation, Slot
from tests.deployments import factories as releases
from tests.factories import (
    ArchiveFactory,
    OperationFactory,
    PlanFactory,
    RestoreFactory,
    ScheduleFactory,
    WorkerNodeFactory,
)

HOUR = timedelta(hours=1)
RED = {"name": "Health", "good": False, "sentence": "It does not answer.", "decides": True}


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


def deployment_pages() -> dict[str, str]:
    """Every page of deployments, with something on it. The environments are to be deployed to by a driver on paper."""
    archive = ArchiveFactory()
    live = releases.LiveFactory(deployment__archive=archive, deployment__rollback_of=None)
    place, release = live.environment, live.release
    operation = OperationFactory(state=Operation.State.RUNNING, procedure="deployments.deploy")
    busy = releases.LiveFactory()
    running = releases.DeploymentFactory(environment=busy.environment, state="running", operation=operation)
    asked = {"environment": place, "release": release, "state": "waiting"}
    kept = releases.DeploymentFactory(**asked, frozen={**live.deployment.frozen, "approvals": 1})
    gate = releases.GateFactory(deployment=kept)
    ready = releases.DeploymentFactory(**asked)
    suspect = releases.LiveFactory(deployment__state="suspect", deployment__checks=[RED])
    emergency = releases.DeploymentFactory(environment=place, release=release, emergency=True, review_needed=True)
    unseen = releases.ProfileFactory()
    schema = releases.ReleaseFactory(service=place.service, changes_schema=True)
    releases.ScanFactory(release=schema)
    change = releases.ChangeFactory(environment=place, operation=OperationFactory())
    freeze, rules = releases.FreezeFactory(), releases.ReleaseRulesFactory(service=place.service)
    board, rows, of = "/deployments/livestate/", "/deployments/deployment/", "/deployments/release/"
    return {
        "board": board,
        "environment": f"{board}{live.pk}/",
        "environment live": f"{board}{busy.pk}/live/",
        "environment suspect": f"{board}{suspect.pk}/",
        "deployments": rows,
        "deployment": f"{rows}{emergency.pk}/",
        "deployment kept": f"{rows}{kept.pk}/",
        "deployment running": f"{rows}{running.pk}/",
        "deployment live": f"{rows}{running.pk}/live/",
        "deployment suspect": f"{rows}{suspect.deployment.pk}/",
        "releases": of,
        "release": f"{of}{schema.pk}/",
        "changes": "/deployments/configurationchange/",
        "change": f"/deployments/configurationchange/{change.pk}/",
        "profiles": "/deployments/deploymentprofile/",
        "profile": f"/deployments/deploymentprofile/{unseen.pk}/",
        "checklists": "/deployments/checklisttemplate/",
        "checklist": f"/deployments/checklisttemplate/{unseen.checklist.pk}/",
        "freezes": "/deployments/freezewindow/",
        "freeze": f"/deployments/freezewindow/{freeze.pk}/",
        "rules": f"/deployments/releaserules/{rules.pk}/",
        "calendar": "/deployments/calendar/",
        "deploy": f"{board}{live.pk}/do/deploy/",
        "roll_back": f"{board}{live.pk}/do/roll_back/",
        "restart": f"{board}{live.pk}/do/restart/",
        "scale": f"{board}{live.pk}/do/scale/",
        "set": f"{board}{live.pk}/do/set/",
        "clean_up": f"{board}{live.pk}/do/clean_up/",
        "start": f"{rows}{ready.pk}/do/start/",
        "withdraw": f"{rows}{ready.pk}/do/withdraw/",
        "approve": f"{rows}{kept.pk}/do/approve/",
        "refuse": f"{rows}{kept.pk}/do/refuse/",
        "review": f"{rows}{emergency.pk}/do/review/",
        "confirm": f"{rows}{kept.pk}/do/confirm-{gate.pk}/",
        "fail": f"{rows}{kept.pk}/do/fail-{gate.pk}/",
        "attach_scan": f"{of}{schema.pk}/do/attach_scan/",
        "migration_tested": f"{of}{schema.pk}/do/migration_tested/",
        "withdraw release": f"{of}{schema.pk}/do/withdraw/",
    }


def fingerprint() -> dict[str, list[tuple[object, ...]]]:
    """Every row of the portal's own tables, so that "nothing changed" means nothing."""
    models = [model for label in PORTAL_APPS if label != "core" for model in apps.get_app_config(label).get_models()]
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
