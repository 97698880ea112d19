"""What is live, in the portal's books: written with each switch, and compared with reality afterwards."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from backups import actions as backups
from backups.models import Archive
from catalog.models import Environment
from deployments import news
from deployments.drivers.base import Driver, Reality
from deployments.models import Deployment, LiveState, Release
from operations import events
from operations.models import Operation

State = Deployment.State


def switched(deployment: Deployment, operation: Operation, at: datetime) -> None:
    """Traffic is on the deployment's release. Call inside the attempt's fence; a second time changes nothing."""
    row = Deployment.objects.select_for_update().get(pk=deployment.pk)
    if row.switched_at is not None:
        return
    row.state, row.switched_at = State.VERIFYING, at
    row.save(update_fields=["state", "switched_at"])
    previous = _before(row, row.release_id) if row.is_rollback else row.from_release_id
    _set_live(row, row.release_id, previous, row, at)


def switched_back(deployment: Deployment, operation: Operation, version: str, at: datetime) -> None:
    """Traffic is on what was live before. A rollback of its own tells of it, once. Call inside the attempt's fence."""
    row = Deployment.objects.select_for_update(of=("self",)).select_related("from_release").get(pk=deployment.pk)
    back = Release.objects.filter(service=row.release.service_id, version=version).first() if version else None
    if row.is_rollback or back is None:
        _set_live(
            row, back.pk if back is not None else None, _before(row, back.pk) if back is not None else None, None, at
        )
        return
    rollback, made = Deployment.objects.get_or_create(
        rollback_of=row,
        operation=operation,
        kind=Deployment.Kind.ROLLBACK,
        defaults={
            "environment_id": row.environment_id,
            "release": back,
            "from_release_id": row.release_id,
            "state": State.LIVE,
            "frozen": row.frozen,
            "fingerprint": back.fingerprint,
            "requested_at": _decided_at(operation) or at,
            "requested_by": operation.cancel_requested_by,
            "trigger": Operation.Trigger.OPERATION,
            "reason": row.stop_reason or operation.message or "Its checks failed.",
            "incident": row.incident,
            "automatic": operation.cancel_requested_by is None,
            "started_at": at,
            "switched_at": at,
            "ended_at": at,
        },
    )
    if made:
        _set_live(row, back.pk, _before(row, back.pk), rollback, at)


def _decided_at(operation: Operation) -> datetime | None:
    """When a person cancelled it, or its checks had failed."""
    decided = operation.data.get("decided_at")
    return operation.cancel_requested_at or (datetime.fromisoformat(decided) if decided else None)


def _before(row: Deployment, release: int) -> int | None:
    """What was live before this release came the last time: after going back, one goes further back and not forth."""
    rows = Deployment.objects.to(row.environment_id).filter(release=release, kind=Deployment.Kind.DEPLOY)
    last = rows.went_live().exclude(pk=row.pk).order_by("-switched_at").first()
    return last.from_release_id if last is not None else None


def _set_live(
    row: Deployment, release: int | None, previous: int | None, deployment: Deployment | None, at: datetime
) -> None:
    LiveState.objects.update_or_create(
        environment_id=row.environment_id,
        defaults={"release_id": release, "previous_id": previous, "deployment": deployment, "since": at, "drift": ""},
    )


def pin(deployment: Deployment, archive: Archive) -> None:
    """The backup taken before a deployment is not cleaned up while it is the way back. Call inside the fence."""
    mine = not archive.keep
    if mine:
        backups.set_keep(archive, keep=True)
    Deployment.objects.filter(pk=deployment.pk).update(archive=archive, pinned=mine)


def let_old_backups_go(environment: int) -> None:
    """Backups pinned to deployments of releases that are neither live nor the one before: retention counts again."""
    live = LiveState.objects.get(environment=environment)
    rows = Deployment.objects.to(environment).filter(pinned=True, ended_at__isnull=False)
    for row in rows.exclude(release__in=[live.release_id, live.previous_id]).select_related("archive"):
        if row.archive is not None:
            backups.set_keep(row.archive, keep=False)
        Deployment.objects.filter(pk=row.pk).update(pinned=False)


def look_at(environment: Environment, driver: Driver) -> Reality:
    """Ask the driver what is true, keep it, and say where the record differs."""
    return keep(environment, driver.look())


def keep(environment: Environment, reality: Reality) -> Reality:
    """What was seen stands on the board. A difference that was not there before is told once."""
    with transaction.atomic():
        LiveState.objects.get_or_create(environment=environment)
        row = LiveState.objects.select_for_update(of=("self",)).select_related("release").get(environment=environment)
        busy = Deployment.objects.active().to(environment).exists()
        before = row.drift
        row.seen, row.seen_at = asdict(reality), timezone.now()
        if not busy:
            row.drift = drift_between(row, reality)
        row.save(update_fields=["seen", "seen_at", "drift"])
        if row.drift and not before:
            data = {"environment": str(environment), "live": reality.live}
            events.publish(news.DRIFTED, f"{environment}: {row.drift}", subject=row, data=data)
    return reality


def drift_between(row: LiveState, reality: Reality) -> str:
    """How record and reality differ, in a sentence; empty: they do not."""
    recorded = row.release.version if row.release is not None else ""
    if recorded == reality.live:
        if reality.unsettled:
            return reality.unsettled
        live = reality.instance_of(recorded) if recorded else None
        if live is not None and not live.ready:
            return f"{recorded} gets the traffic and does not answer its health check."
        return ""
    if not recorded:
        return f"{reality.live} runs there, and the portal has deployed nothing."
    if not reality.live:
        return f"{recorded} should run there, and nothing gets the traffic. {reality.sentence}".strip()
    return f"{recorded} should run there, and {reality.live} does: somebody changed it without the portal."
