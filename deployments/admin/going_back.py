"""The button that rolls back, on the page of an environment and on that of a deployment, with the preview of a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils import timezone

from backups import loss
from backups.models import Archive
from core.buttons import Button, signed_in
from core.templatetags.portal import human_duration
from deployments import board, shown
from deployments.actions import rollback
from deployments.exceptions import DeploymentError
from deployments.forms import RollbackForm
from deployments.models import Deployment, LiveState, Release

RESTORE = "backups.restore_archive"


def live_row(of: Any) -> LiveState | None:
    """The board's line of what a page is about, read once a page."""
    if isinstance(of, LiveState):
        return of
    if "_live_row" not in of.__dict__:
        of.__dict__["_live_row"] = board.states().filter(environment=of.environment_id).first()
    found: LiveState | None = of.__dict__["_live_row"]
    return found


def running_in(live: LiveState) -> Deployment | None:
    """What is being deployed there now, read once a page."""
    if "_running" not in live.__dict__:
        live.__dict__["_running"] = (
            Deployment.objects.active().to(live.environment_id).select_related("release", "operation").first()
        )
    found: Deployment | None = live.__dict__["_running"]
    return found


def pinned(live: LiveState) -> Archive | None:
    """The backup that was taken before what is live, while it can be read."""
    archive = live.deployment.archive if live.deployment is not None else None
    return archive if archive is not None and archive.state == Archive.State.AVAILABLE else None


def wants_restore(request: HttpRequest, live: LiveState) -> bool:
    """Whether the page is the one that also puts the pinned backup back: it says so in its address."""
    if request.GET.get("restore") != "1" or pinned(live) is None or running_in(live) is not None:
        return False
    if not request.user.has_perm(RESTORE):
        raise PermissionDenied("Your role does not allow restoring. Roll back the code only, or ask an operator.")
    return True


def may_go_back(live: LiveState | None) -> bool:
    """Whether there is anything to go back from, and somewhere to go."""
    if live is None:
        return False
    running = running_in(live)
    if running is not None:
        return not running.is_rollback
    return live.release_id is not None and shown.earlier_releases(live).exists()


def roll_back_button(visible: Callable[[HttpRequest, Any], bool]) -> Button:
    """*Roll back …*: what runs is stopped; else traffic goes to an earlier release."""

    def form_kwargs(request: HttpRequest, obj: Any) -> dict[str, Any]:
        live = _live(obj)
        archive = pinned(live) if wants_restore(request, live) else None
        database = archive.target.database if archive is not None else ""
        return {"live": live, "choose": running_in(live) is None, "database": database}

    def run(request: HttpRequest, obj: Any, data: dict[str, Any], key: str) -> Deployment:
        live = _live(obj)
        chosen = Release.objects.filter(pk=data["to"]).first() if "to" in data else None
        return rollback.request_rollback(
            live.environment,
            by=signed_in(request),
            reason=data["reason"],
            to=chosen,
            restores=wants_restore(request, live),
            key=key,
        )

    def context(request: HttpRequest, obj: Any) -> dict[str, Any]:
        live = _live(obj)
        archive, running = pinned(live), running_in(live)
        restores = wants_restore(request, live)
        return {
            "live": live,
            "running": running,
            "ways": shown.ways_back(live, timezone.now()) if running is None else [],
            "archive": archive,
            "restores": restores,
            "may_restore": request.user.has_perm(RESTORE),
            "loss": loss.preview(archive) if restores and archive is not None else {},
        }

    return Button(
        "roll_back",
        "Roll back …",
        "deployments.rollback_deployment",
        run=run,
        form=RollbackForm,
        form_kwargs=form_kwargs,
        consequence=lambda obj: _consequence(_live(obj)),
        context=context,
        template="deployments/rollback_confirm.html",
        visible=visible,
        danger=True,
        icon="undo",
    )


def _live(obj: Any) -> LiveState:
    found = live_row(obj)
    if found is None:
        raise DeploymentError("Nothing was deployed there by the portal, so there is nothing to go back from.")
    return found


def _consequence(live: LiveState) -> str:
    running = running_in(live)
    if running is not None:
        return (
            f"{running.release.version} is being deployed to {live.environment}. That is stopped and taken back: "
            "traffic goes to what was live before."
        )
    version = live.release.version if live.release is not None else "nothing"
    since = f", for {human_duration(timezone.now() - live.since)}" if live.since is not None else ""
    return (
        f"{version} is live in {live.environment}{since}. Traffic goes to the release chosen below as soon as it is "
        "ready. No approval is waited for."
    )
