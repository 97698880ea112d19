"""What an operation is and came to, for programs: commands, API and events."""

from __future__ import annotations

from typing import Any

from operations.models import Operation


def report(operation: Operation) -> dict[str, Any]:
    """id, state, seconds (None before it starts), bytes (None where nothing was written) and message."""
    duration = operation.duration
    return {
        "id": operation.pk,
        "state": operation.state,
        "seconds": round(duration.total_seconds(), 3) if duration is not None else None,
        "bytes": operation.result.get("bytes"),
        "message": operation.message,
    }


def described(operation: Operation) -> dict[str, Any]:
    """The report, with what the operation is."""
    by = operation.requested_by
    return {
        **report(operation),
        "procedure": operation.procedure,
        "title": operation.title,
        "trigger": operation.trigger,
        "requested_by": by.get_username() if by is not None else None,
        "environment": operation.environment_label,
        "result": operation.result,
    }
