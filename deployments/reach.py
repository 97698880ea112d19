"""From rows to drivers: how an environment is deployed to. Secrets are read when this is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from catalog.models import Environment, Host
from catalog.reach import connector_for
from catalog.secrets import SecretReference
from deployments.drivers import DRIVERS
from deployments.drivers.base import Artefact, Driver, Run, Surroundings, Token
from deployments.exceptions import DeploymentError
from deployments.models import DeploymentProfile, LiveState, Release
from operations.commands import Command, Result, run_checked

if TYPE_CHECKING:
    from operations.context import StepContext

NOBODY = Token(0, 0)
"""For whoever only looks."""


def profile_of(environment: Environment) -> DeploymentProfile:
    """How this environment is deployed to. Raises DeploymentError when nobody has said so."""
    found = DeploymentProfile.objects.select_related("host", "checklist", "promotes_from", "backup_plan").filter(
        environment=environment
    )
    profile = found.first()
    if profile is None:
        raise DeploymentError(
            f"Nobody has said how {environment} is deployed to. An administrator adds it under Deployment profiles."
        )
    return profile


def frozen(profile: DeploymentProfile) -> dict[str, Any]:
    """What a deployment keeps of the profile: later edits change none that is under way."""
    return {
        "driver": profile.driver,
        "host": profile.host_id,
        "settings": profile.settings,
        "secrets": profile.secrets,
        "approvals": profile.approvals,
        "approval_lasts_s": seconds(profile.approval_lasts),
        "freezes_on_rank": profile.freezes_on_rank,
        "promotes_from": profile.promotes_from_id,
        "migrate": profile.migrate,
        "smoke": profile.smoke,
        "command_timeout_s": profile.command_timeout_s,
        "ready_within_s": profile.ready_within_s,
        "drain_within_s": profile.drain_within_s,
        "watch_for_s": seconds(profile.watch_for),
        "most_errors_percent": profile.most_errors_percent,
        "answers_within_ms": profile.answers_within_ms,
        "most_log_errors": profile.most_log_errors,
        "auto_rollback": profile.auto_rollback,
        "rollback_target_s": seconds(profile.rollback_target),
        "backup_plan": profile.backup_plan_id,
        "backup_fresh_for_s": seconds(profile.backup_fresh_for),
    }


def seconds(value: timedelta | None) -> float | None:
    return value.total_seconds() if value is not None else None


def artefact_of(release: Release) -> Artefact:
    return Artefact(release.version, release.source_kind, release.source, release.checksum)


def driver_class(kind: str) -> type[Driver]:
    """Raises DeploymentError for a driver that this version of the portal does not know."""
    try:
        return DRIVERS[kind]
    except KeyError:
        raise DeploymentError(f"No driver of the kind “{kind}” exists in this version of the portal.") from None


def driver_of(
    environment: Environment,
    settings: Mapping[str, Any],
    *,
    run: Run,
    token: Token = NOBODY,
    log: Callable[[str], None] = lambda text: None,
    check: Callable[[], None] = lambda: None,
) -> Driver:
    """The driver of an environment by frozen settings. Raises DeploymentError or CatalogError with a sentence."""
    host = Host.objects.select_related("via__via").get(pk=settings["host"]) if settings["host"] else None
    secrets = {name: SecretReference.parse(reference).resolve() for name, reference in settings["secrets"].items()}
    around = Surroundings(
        connector=connector_for(host),
        run=run,
        token=token,
        log=log,
        check=check,
        environment=plain_settings(environment),
        secrets=secrets,
        timeout_s=settings["command_timeout_s"],
    )
    return driver_class(settings["driver"])(settings["settings"], around)


def queue_of(settings: Mapping[str, Any]) -> str:
    """The queue whose worker reaches the host."""
    host = Host.objects.filter(pk=settings["host"]).first() if settings["host"] else None
    return host.queue if host is not None else "operations"


def plain_settings(environment: Environment) -> dict[str, str]:
    """What recorded changes have set for the application."""
    live = LiveState.objects.filter(environment=environment).first()
    return dict(live.settings) if live is not None else {}


def looking_driver(profile: DeploymentProfile) -> Driver:
    """For looking from a page or a duty: outside any operation, and it may change nothing."""
    return driver_of(profile.environment, frozen(profile), run=run_unheard)


def for_driver(run: Callable[[Command], Result]) -> Run:
    """A runner of the service control port, which takes no standard input, as drivers use it: past it."""

    def forward(command: Command, *, stdin: BinaryIO | None = None) -> Result:
        return run_checked(command, stdin=stdin) if stdin is not None else run(command)

    return forward


def run_unheard(command: Command, *, stdin: BinaryIO | None = None) -> Result:
    """Outside an operation; the whole answer is kept, however long."""
    answer = bytearray()
    result = run_checked(command, stdin=stdin, on_stdout=answer.extend)
    return replace(result, stdout=bytes(answer))


def runner(ctx: StepContext) -> Run:
    """Runs a driver's command inside a step: shown and logged, but for what it answers, which is for the driver."""

    def run(command: Command, *, stdin: BinaryIO | None = None) -> Result:
        answer = bytearray()
        result = ctx.run(command, stdin=stdin, on_stdout=answer.extend)
        return replace(result, stdout=bytes(answer))

    return run
