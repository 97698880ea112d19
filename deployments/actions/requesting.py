"""Asking for deployments, settling what they wait for, starting them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.models import Environment
from deployments import gates, news, reach
from deployments.exceptions import DeploymentError
from deployments.models import Approval, ChecklistItem, Deployment, Gate, LiveState, Release
from operations import actions as operations
from operations import events
from operations.exceptions import Refused
from operations.models import Operation

if TYPE_CHECKING:
    from core.models import User

Trigger = Operation.Trigger
State = Deployment.State
DEPLOY, ROLLBACK = "deployments.deploy", "deployments.rollback"


def lock_of(environment: Environment) -> str:
    """The lock key of whoever changes what runs in an environment."""
    return f"environment:{environment.pk}"


def request_deployment(
    environment: Environment,
    release: Release,
    *,
    by: User | None,
    reason: str = "",
    emergency: bool = False,
    solo: bool = False,
    starts_itself: bool = False,
    incident: str = "",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    trigger: str = Trigger.CLICK,
    key: str | None = None,
) -> Deployment:
    """Ask for a release in an environment. Its checklist and its rules are frozen; it starts when `start` is called, or
    by itself as soon as nothing keeps it. A repeated `key` gives the first one. Raises DeploymentError."""
    if key and (known := Deployment.objects.filter(request_key=key).first()) is not None:
        return known
    profile = reach.profile_of(environment)
    _check_request(environment, release, by, reason, emergency, not_before, not_after)
    if solo and not profile.solo:
        raise DeploymentError(f"Solo mode is not allowed for {environment}. Ask somebody to approve.")
    live = LiveState.objects.filter(environment=environment).first()
    row = Deployment(
        environment=environment,
        release=release,
        from_release=live.release if live is not None else None,
        frozen=reach.frozen(profile),
        fingerprint=release.fingerprint,
        request_key=key or None,
        requested_by=by,
        trigger=trigger,
        reason=reason.strip(),
        incident=incident,
        emergency=emergency,
        solo=solo,
        review_needed=emergency or solo,
        starts_itself=starts_itself or not_before is not None,
        not_before=not_before,
        not_after=not_after,
    )
    items = ChecklistItem.objects.filter(template=profile.checklist) if profile.checklist_id else ()
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            Gate.objects.bulk_create(
                Gate(deployment=row, position=position, text=item.text, kind=item.kind, optional=item.optional)
                for position, item in enumerate(items)
            )
            gates.keep(row, timezone.now())
    except IntegrityError:
        known = Deployment.objects.filter(request_key=key).first() if key else None
        if known is None:
            raise
        return known
    return row


def _check_request(
    environment: Environment,
    release: Release,
    by: User | None,
    reason: str,
    emergency: bool,
    not_before: datetime | None,
    not_after: datetime | None,
) -> None:
    """Raise DeploymentError with the sentence why this may not be asked for."""
    if release.service_id != environment.service_id:
        raise DeploymentError(f"{release} is not a release of {environment.service}.")
    if release.withdrawn_at is not None:
        raise DeploymentError(f"{release} was withdrawn: {release.withdrawn_reason} Choose another release.")
    if emergency and not reason.strip():
        raise DeploymentError("Say why this cannot wait for gates and approvals. It is flagged for review.")
    if emergency and by is not None and not by.has_perm("deployments.emergency_deployment"):
        raise PermissionDenied
    if not_after is not None and not_after <= max(not_before or timezone.now(), timezone.now()):
        raise DeploymentError("The window closes before it opens, or has closed already.")


# -- what it waits for -------------------------------------------------------------------------------------------------


def _waiting(deployment: Deployment) -> Deployment:
    """The row, locked, of a deployment that still waits. Call inside a transaction."""
    row = (
        Deployment.objects.select_for_update(of=("self",))
        .select_related("environment__service", "release")
        .get(pk=deployment.pk)
    )
    if row.state != State.WAITING:
        raise DeploymentError(f"This deployment does not wait any more: {row.state_word.lower()}.")
    return row


def confirm_gate(gate: Gate, *, passed: bool, evidence: str, by: User) -> Gate:
    """A person says that an item of the checklist is settled, or is not, and what shows it."""
    with transaction.atomic():
        _waiting(gate.deployment)
        row = Gate.objects.select_for_update().get(pk=gate.pk)
        if not row.is_manual:
            raise DeploymentError("The portal looks at this item itself. Settle what it reports.")
        if not evidence.strip():
            raise DeploymentError("Say what shows it: a link, an output, who looked.")
        row.state = Gate.State.PASSED if passed else Gate.State.FAILED
        row.evidence, row.by, row.looked_at = evidence.strip(), by, timezone.now()
        row.save()
    return row


def decide(deployment: Deployment, *, granted: bool, note: str = "", by: User) -> Approval:
    """Approve, or refuse with a note. Never by whoever asked. An approval that has expired is given again."""
    if not by.has_perm("deployments.approve_deployment"):
        raise PermissionDenied
    with transaction.atomic():
        row = _waiting(deployment)
        if row.requested_by_id == by.pk:
            raise DeploymentError("Whoever asks for a deployment does not approve it. Ask somebody else.")
        if not granted and not note.strip():
            raise DeploymentError("Say why you refuse.")
        now = timezone.now()
        lasts_s = row.frozen.get("approval_lasts_s")
        approval, _ = Approval.objects.update_or_create(
            deployment=row,
            by=by,
            defaults={
                "fingerprint": row.fingerprint,
                "granted": granted,
                "note": note.strip(),
                "at": now,
                "expires_at": now + timedelta(seconds=lasts_s) if lasts_s else None,
            },
        )
    return approval


def cancel(deployment: Deployment, *, reason: str = "", by: User | None) -> Deployment:
    """Withdraw what waits; what runs is stopped and taken back."""
    with transaction.atomic():
        row = Deployment.objects.select_for_update().get(pk=deployment.pk)
        if row.state == State.WAITING:
            who = f" by {by}" if by is not None else ""
            row.state, row.message, row.ended_at = State.CANCELLED, f"Withdrawn{who}. {reason}".strip(), timezone.now()
            row.save(update_fields=["state", "message", "ended_at"])
            return row
    if row.operation is None or row.is_final or by is None:
        raise DeploymentError(f"This deployment has ended: {row.state_word.lower()}.")
    operations.cancel(row.operation, by=by, reason=reason)
    return row


def review(deployment: Deployment, *, note: str, by: User) -> Deployment:
    """Somebody other than the requester has looked at an emergency afterwards."""
    if not note.strip():
        raise DeploymentError("Say what you found.")
    with transaction.atomic():
        row = Deployment.objects.select_for_update().get(pk=deployment.pk)
        if not row.review_needed or row.reviewed_at is not None:
            raise DeploymentError("There is nothing to review, or it was reviewed already.")
        if row.requested_by_id == by.pk:
            raise DeploymentError("Whoever asked for it does not review it. Ask somebody else.")
        row.reviewed_at, row.reviewed_by, row.review_note = timezone.now(), by, note.strip()
        row.save(update_fields=["reviewed_at", "reviewed_by", "review_note"])
    return row


# -- start -------------------------------------------------------------------------------------------------------------


def start(deployment: Deployment, *, by: User | None, trigger: str = Trigger.CLICK) -> Deployment:
    """Start a deployment that nothing keeps. A second click gives the one that runs. Raises DeploymentError."""
    with transaction.atomic():
        row = (
            Deployment.objects.select_for_update(of=("self",))
            .select_related("environment__service", "release")
            .get(pk=deployment.pk)
        )
        if row.state in Deployment.ACTIVE:
            return row
        if row.state != State.WAITING:
            raise DeploymentError(f"This deployment does not wait any more: {row.state_word.lower()}.")
        now = timezone.now()
        if row.not_before is not None and now < row.not_before:
            raise DeploymentError(f"It is to start at {row.not_before:%Y-%m-%d %H:%M} UTC, not before.")
        gates.keep(row, now)
        kept = gates.obstacles(row, now)
        if not kept:
            return begin(row, by=by, trigger=trigger)
    raise DeploymentError("This cannot be deployed yet. " + " ".join(kept))


def begin(row: Deployment, *, by: User | None, trigger: str) -> Deployment:
    """Ask for its operation. Call inside a transaction that holds the row. Raises DeploymentError when another runs."""
    rollback = row.is_rollback
    verb = "Roll back" if rollback else "Deploy"
    host = reach.queue_of(row.frozen)
    live = LiveState.objects.filter(environment=row.environment).first()
    try:
        operation = operations.request(
            ROLLBACK if rollback else DEPLOY,
            title=f"{verb} {row.environment.service} {row.environment.name} to {row.release.version}",
            params={"deployment": row.pk},
            by=by,
            trigger=trigger,
            reason=row.reason,
            lock_keys=[lock_of(row.environment)],
            environment=row.environment_band,
            queue=host,
        )
    except Refused as error:
        raise DeploymentError(error.message) from error
    row.operation, row.state, row.started_at = operation, State.RUNNING, timezone.now()
    row.from_release = live.release if live is not None else None
    row.save(update_fields=["operation", "state", "started_at", "from_release"])
    events.publish(news.STARTED, f"{operation.title}.", subject=row, operation=operation, data=news.described(row))
    return row
