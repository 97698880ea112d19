"""Releases, what gates them, where they run, and every change that was made there."""

from deployments.models.settings import (  # isort: skip  others refer to these
    ChecklistItem,
    ChecklistTemplate,
    DeploymentProfile,
    FreezeWindow,
    ReleaseRules,
)
from deployments.models.deployments import Approval, Deployment, Gate
from deployments.models.live import ConfigurationChange, LiveState
from deployments.models.releases import Release, Scan

__all__ = [
    "Approval",
    "ChecklistItem",
    "ChecklistTemplate",
    "ConfigurationChange",
    "Deployment",
    "DeploymentProfile",
    "FreezeWindow",
    "Gate",
    "LiveState",
    "Release",
    "ReleaseRules",
    "Scan",
]
