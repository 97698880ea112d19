"""What can go wrong in releases and deployments, as sentences for a person."""

from __future__ import annotations

from core.exceptions import PortalError


class DeploymentError(PortalError):
    """A release or a deployment cannot go on."""


class NotReady(DeploymentError):
    """The new version did not become ready."""


class Fenced(DeploymentError):
    """A later attempt, or a later operation, has begun to act on this environment: this one has come too late."""
