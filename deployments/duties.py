"""What is done without anybody asking: deployments that start by themselves, and a look at what runs."""

from __future__ import annotations

import logging

from django.db import connection, transaction
from django.utils import timezone

from core.exceptions import PortalError
from deployments import gates, news, reach, recording
from deployments.actions import requesting
from deployments.exceptions import DeploymentError
from deployments.models import Deployment, DeploymentProfile
from operations import duties, events, procedures
from operations.models import Operation

logger = logging.getLogger(__name__)
START_EVERY_S, SETTLE_EVERY_S, LOOK_EVERY_S = 2.0, 5.0, 60.0
State = Deployment.State


def start_due() -> int:
    """Start what was to start by itself and that nothing keeps; give up what missed its window. Returns how many."""
    now = timezone.now()
    done = 0
    # The oldest first: of two that wait for their turn, the one that was asked for later stays live.
    for row in Deployment.objects.waiting().filter(starts_itself=True).with_place().order_by("requested_at", "pk"):
        if row.not_before is not None and now < row.not_before:
            continue
        if row.not_after is not None and now > row.not_after:
            kept = " ".join(gates.obstacles(row, now)) or "Nothing kept it any more, but its time was over."
            done += _missed(row, f"Its window closed at {row.not_after:%Y-%m-%d %H:%M} UTC. {kept}")
            continue
        # Not while the newer one may still go back by itself.
        if (late := gates.overtaken(row)) and not Deployment.objects.active().to(row.environment_id).exists():
            done += _missed(row, " ".join(late))
            continue
        try:
            requesting.start(row, by=row.requested_by, trigger=Operation.Trigger.SCHEDULE)
            done += 1
        except DeploymentError as error:
            _explain(row, error.message)
        except Exception:
            if connection.connection is None or connection.connection.closed:
                raise
            logger.exception("deployment %s could not be started", row.pk)
    return done


def _explain(row: Deployment, message: str) -> None:
    """Why it still waits stands on its page."""
    if row.message != message:
        Deployment.objects.filter(pk=row.pk, state=State.WAITING).update(message=message)


def _missed(row: Deployment, why: str) -> int:
    """It is not started any more. Returns how many were given up: none where somebody was faster."""
    with transaction.atomic():
        locked = Deployment.objects.select_for_update().get(pk=row.pk)
        if locked.state != State.WAITING:
            return 0
        locked.state, locked.ended_at, locked.message = State.MISSED, timezone.now(), why
        locked.save(update_fields=["state", "ended_at", "message"])
        events.publish(news.MISSED, f"{row} was not started. {why}", subject=row, data=news.described(row))
    return 1


def settle() -> int:
    """End what is under way although its operation has ended, as when its row could not be written then: it would keep
    every deployment after it. Returns how many there were."""
    done = 0
    for row in Deployment.objects.active().filter(operation__state__in=Operation.TERMINAL).select_related("operation"):
        operation = row.operation
        assert operation is not None
        try:
            with transaction.atomic():
                procedures.get(operation.procedure)(operation).on_end()
        except Exception:
            if connection.connection is None or connection.connection.closed:
                raise
            logger.exception("deployment %s could not be ended as usual", row.pk)
            state = State.FAILED if row.switched_at is None else State.SUSPECT
            values = {"state": state, "message": operation.message, "ended_at": timezone.now()}
            Deployment.objects.active().filter(pk=row.pk).update(**values)
        done += 1
    return done


def look_at_all() -> int:
    """Look at every environment; one that cannot be reached holds up no other. Returns how many were seen."""
    seen = 0
    for profile in DeploymentProfile.objects.select_related("environment__service", "host"):
        if duties.stopping.is_set():
            break
        if Deployment.objects.active().to(profile.environment).exists():
            continue
        try:
            recording.look_at(profile.environment, reach.looking_driver(profile))
            seen += 1
        except PortalError as error:
            logger.warning("%s could not be looked at: %s", profile.environment, error.message)
        except Exception:
            if connection.connection is None or connection.connection.closed:
                raise
            logger.exception("%s could not be looked at", profile.environment)
    return seen


duties.declare("deployments-due", lambda: START_EVERY_S, start_due)
duties.declare("deployments-settle", lambda: SETTLE_EVERY_S, settle)
duties.declare("deployments-look", lambda: LOOK_EVERY_S, look_at_all)
