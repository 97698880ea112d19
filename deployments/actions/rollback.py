"""Going back. It never waits for an approval, and is a deployment of its own with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.db.models import Q

from catalog.models import Environment
from deployments import reach
from deployments.actions.requesting import begin
from deployments.exceptions import DeploymentError
from deployments.models import Deployment, LiveState, Release
from operations import lifecycle
from operations.models import Operation

if TYPE_CHECKING:
    from core.models import User

Trigger = Operation.Trigger


def request_rollback(
    environment: Environment,
    *,
    by: User | None,
    reason: str,
    to: Release | None = None,
    restores: bool = False,
    incident: str = "",
    trigger: str = Trigger.CLICK,
    key: str | None = None,
) -> Deployment:
    """Go back to the release before, or to `to`. What is being deployed right now is stopped, which also goes back.

    `restores` also puts the backup back that was pinned to the deployment that is live. A repeated `key` gives the
    first one. Whether somebody may is asked at each door, as for restores. Raises DeploymentError with a sentence.
    """
    if key and (known := Deployment.objects.filter(Q(request_key=key) | Q(stop_key=key)).first()) is not None:
        return known
    if not reason.strip():
        raise DeploymentError("Say why you roll back; it stands on the timeline.")
    running = Deployment.objects.active().to(environment).select_related("operation").first()
    if running is not None and not running.is_rollback:
        if restores or (to is not None and to.pk != running.from_release_id):
            raise DeploymentError(
                f"{running} is under way; rolling back now stops it, which leads to the release before and no other, "
                "and restores nothing. Do that first."
            )
        return _stop(running, by=by, reason=reason, key=key)
    if running is not None:
        raise DeploymentError(f"{running} is under way already. Wait for it to end.")
    return _ask(
        environment, by=by, reason=reason, to=to, restores=restores, incident=incident, trigger=trigger, key=key
    )


def _stop(running: Deployment, *, by: User | None, reason: str, key: str | None) -> Deployment:
    """A deployment under way is cancelled: its undo sends traffic back, faster than a rollback that waited for it.

    The key is kept with it: the same request sent again would else go back once more, to the version just left.
    """
    if by is None or running.operation is None:
        raise DeploymentError(f"{running} is under way. Cancel it.")
    with transaction.atomic():
        Deployment.objects.filter(pk=running.pk).update(stop_reason=reason.strip())
        Deployment.objects.filter(pk=running.pk, stop_key=None).update(stop_key=key or None)
        lifecycle.ask_to_cancel(running.operation, by, f"{by} rolls back. {reason.strip()}")
    return running


def _ask(
    environment: Environment,
    *,
    by: User | None,
    reason: str,
    to: Release | None,
    restores: bool,
    incident: str,
    trigger: str,
    key: str | None,
) -> Deployment:
    profile = reach.profile_of(environment)
    live = (
        LiveState.objects.select_related("release", "previous", "deployment__archive")
        .filter(environment=environment)
        .first()
    )
    if live is None or live.release is None:
        raise DeploymentError(
            f"Nothing was deployed to {environment} by the portal, so there is nothing to go back from."
        )
    release = to or live.previous
    if release is None:
        raise DeploymentError(f"{live.release.version} is the first release in {environment}: there is none before it.")
    if release.service_id != environment.service_id:
        raise DeploymentError(f"{release} is not a release of {environment.service}.")
    if release.pk == live.release_id:
        raise DeploymentError(f"{release.version} is live already. Choose another release.")
    if to is not None and not Deployment.objects.went_live().to(environment).filter(release=to).exists():
        raise DeploymentError(f"{to.version} was never live in {environment}, so this is not going back: deploy it.")
    archive = live.deployment.archive if restores and live.deployment is not None else None
    if restores and archive is None:
        raise DeploymentError(
            "No backup is pinned to the deployment that is live. Go back without it, or restore by hand."
        )
    row = Deployment(
        environment=environment,
        release=release,
        from_release=live.release,
        kind=Deployment.Kind.ROLLBACK,
        rollback_of=live.deployment,
        frozen=reach.frozen(profile),
        fingerprint=release.fingerprint,
        request_key=key or None,
        requested_by=by,
        trigger=trigger,
        reason=reason.strip(),
        incident=incident,
        archive=archive,
        restores=restores,
    )
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            return begin(row, by=by, trigger=trigger)
    except IntegrityError:
        known = Deployment.objects.filter(request_key=key).first() if key else None
        if known is None:
            raise
        return known
