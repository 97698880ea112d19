"""The news that this room publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from operations.events import declare

if TYPE_CHECKING:
    from deployments.models import Deployment

STARTED = declare("deployment.started", "A deployment or a rollback has begun")
LIVE = declare("deployment.live", "A release is live and verified")
FAILED = declare("deployment.failed", "A deployment failed, or its checks did after it went live")
ROLLED_BACK = declare("deployment.rolled_back", "Traffic is on an earlier release again")
MISSED = declare(
    "deployment.missed",
    "A deployment that was to start by itself missed its window, or a newer release went live before it",
)
REPORTED = declare("release.reported", "CI has told of a release by its signed webhook")
DRIFTED = declare("environment.drifted", "What runs in an environment is not what the record says")
TOLD = (STARTED, LIVE, FAILED, ROLLED_BACK, MISSED)


def described(deployment: Deployment) -> dict[str, Any]:
    """What every piece of news about a deployment carries."""
    return {
        "kind": deployment.kind,
        "state": deployment.state,
        "version": deployment.release.version,
        "from_version": deployment.from_release.version if deployment.from_release else None,
        "environment": str(deployment.environment),
        "environment_kind": deployment.environment.kind,
        "incident": deployment.incident or None,
    }
