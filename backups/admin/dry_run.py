"""The planned steps of an operation, for the confirm pages."""

from __future__ import annotations

from typing import Any

from core.exceptions import PortalError
from operations import actions as operations


def dry_run(procedure: str, title: str, params: dict[str, Any]) -> dict[str, Any]:
    """The planned steps for a confirm page, or the sentence why they cannot be told."""
    try:
        return {"planned": operations.dry_run(procedure, title=title, params=params)}
    except PortalError as error:
        return {"planned_error": error.message}
