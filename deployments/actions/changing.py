"""Restarts, numbers of copies, settings, clean-ups: recorded with what was and what is, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import transaction

from catalog.models import Environment
from deployments import reach, recording
from deployments.actions.requesting import lock_of
from deployments.drivers.base import PortHolder, Reality
from deployments.exceptions import DeploymentError
from deployments.models import ConfigurationChange, LiveState
from deployments.validators import VARIABLE
from operations import actions as operations
from operations.exceptions import Refused
from operations.models import Operation

if TYPE_CHECKING:
    from core.models import User

Kind = ConfigurationChange.Kind
Trigger = Operation.Trigger
MOST_COPIES = 1000
LONGEST_VALUE = 2000


def request_restart(
    environment: Environment,
    *,
    by: User | None,
    reason: str,
    or_roll_back: bool = False,
    trigger: str = Trigger.CLICK,
    key: str | None = None,
) -> Operation:
    """Start what is live again. With `or_roll_back`, a restart that fails goes back to the release before by itself."""
    if or_roll_back and by is not None and not by.has_perm("deployments.rollback_deployment"):
        raise PermissionDenied(f"{by} may not roll back. Restart without it.")
    asked: dict[str, Any] = {"by": by, "reason": reason, "trigger": trigger, "key": key}
    return _request(environment, Kind.RESTART, or_rolls_back=or_roll_back, **asked)


def request_scale(
    environment: Environment,
    count: int,
    *,
    by: User | None,
    reason: str,
    takes_back: ConfigurationChange | None = None,
    trigger: str = Trigger.CLICK,
    key: str | None = None,
) -> Operation:
    """Run so many copies. Raises DeploymentError where the driver runs a fixed number."""
    if not 0 < count <= MOST_COPIES:
        raise DeploymentError(f"Run from 1 to {MOST_COPIES} copies.")
    profile = reach.profile_of(environment)
    if not reach.driver_class(profile.driver).can_scale:
        raise DeploymentError(f"“{profile.get_driver_display()}” runs a fixed number of copies.")
    asked: dict[str, Any] = {"by": by, "reason": reason, "trigger": trigger, "key": key}
    return _request(environment, Kind.SCALE, new=str(count), takes_back=takes_back, **asked)


def request_setting(
    environment: Environment,
    name: str,
    value: str,
    *,
    by: User | None,
    reason: str,
    takes_back: ConfigurationChange | None = None,
    trigger: str = Trigger.CLICK,
    key: str | None = None,
) -> Operation:
    """Give the application another value of an environment variable; empty takes it away. No secrets: they are
    references, which an administrator edits."""
    if not VARIABLE.fullmatch(name):
        raise DeploymentError("A setting is named like an environment variable: letters, digits and “_”.")
    if len(value) > LONGEST_VALUE or re.search(r"[\x00-\x1f\x7f]", value):
        raise DeploymentError(f"A value has at most {LONGEST_VALUE} characters on one line.")
    profile = reach.profile_of(environment)
    if name in profile.secrets:
        raise DeploymentError(f"{name} is a secret of this environment. An administrator edits its reference.")
    old = reach.plain_settings(environment).get(name, "")
    if old == value:
        raise DeploymentError(f"{name} has this value already.")
    asked: dict[str, Any] = {"by": by, "reason": reason, "trigger": trigger, "key": key}
    return _request(environment, Kind.SETTING, name=name, old=old, new=value, takes_back=takes_back, **asked)


def why_not_taken_back(change: ConfigurationChange) -> str:
    """Why the old value cannot be set again; empty: it can."""
    if change.kind not in (Kind.SCALE, Kind.SETTING) or (change.kind == Kind.SCALE and not change.old):
        return f"“{change}” has no old value that could be set again."
    if change.operation is None or change.operation.state != Operation.State.SUCCEEDED:
        return "This change was not made, or not yet, so there is nothing to take back."
    later = ConfigurationChange.objects.of_the_same_thing(change).filter(pk__gt=change.pk).first()
    if later is not None:
        return f"It was changed again since: {later}. Take that one back, or set a value."
    return ""


def request_take_back(
    change: ConfigurationChange, *, by: User | None, reason: str, trigger: str = Trigger.CLICK, key: str | None = None
) -> Operation:
    """The number of copies, or the value of a setting, as it was before this change: a rollback of configuration.

    Only the latest change of the same thing is taken back, so nobody's later one is lost unseen.
    """
    if trouble := why_not_taken_back(change):
        raise DeploymentError(trouble)
    again: dict[str, Any] = {"by": by, "reason": reason, "trigger": trigger, "key": key, "takes_back": change}
    if change.kind == Kind.SCALE:
        return request_scale(change.environment, int(change.old), **again)
    return request_setting(change.environment, change.name, change.old, **again)


def request_free_port(
    environment: Environment,
    holder: PortHolder,
    *,
    by: User | None,
    reason: str,
    trigger: str = Trigger.CLICK,
    key: str | None = None,
) -> Operation:
    """End a program of somebody else that listens where a slot is to listen: that process, and no other."""
    asked: dict[str, Any] = {"by": by, "reason": reason, "trigger": trigger, "key": key}
    return _request(environment, Kind.PORT, new=str(holder), params={"holder": asdict(holder)}, **asked)


def request_cleanup(
    environment: Environment, *, by: User | None, reason: str, trigger: str = Trigger.CLICK, key: str | None = None
) -> Operation:
    """Remove old versions; what goes is decided again when it runs."""
    return _request(environment, Kind.CLEANUP, by=by, reason=reason, trigger=trigger, key=key)


def _request(
    environment: Environment,
    kind: ConfigurationChange.Kind,
    *,
    by: User | None,
    reason: str,
    trigger: str,
    key: str | None,
    params: Mapping[str, Any] | None = None,
    **said: Any,
) -> Operation:
    """`said` are the other fields of the recorded change, `params` more for the procedure."""
    if by is not None and not by.has_perm("deployments.control_service"):
        raise PermissionDenied
    if not reason.strip():
        raise DeploymentError("Say why; it stands beside the change.")
    profile = reach.profile_of(environment)

    def create() -> Operation:
        change = ConfigurationChange.objects.create(
            environment=environment, kind=kind, reason=reason.strip(), by=by, **said
        )
        change.operation = operations.request(
            "deployments.cleanup" if kind == Kind.CLEANUP else "deployments.control",
            title=f"{change} in {environment}",
            params={"change": change.pk, **(params or {})},
            by=by,
            trigger=trigger,
            reason=reason.strip(),
            lock_keys=[lock_of(environment)],
            key=key,
            environment=environment.environment_band,
            queue=reach.queue_of(reach.frozen(profile)),
        )
        change.save(update_fields=["operation"])
        return change.operation

    try:
        return operations.request_once(key, create)
    except Refused as error:
        raise DeploymentError(error.message) from error


def look_now(environment: Environment) -> Reality:
    """Ask the driver what runs there now, and keep it. Raises PortalError when it cannot be reached."""
    driver = reach.looking_driver(reach.profile_of(environment))
    with transaction.atomic():
        LiveState.objects.get_or_create(environment=environment)
    return recording.look_at(environment, driver)
