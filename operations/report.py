"""What an operation came to, for programs: the five values that commands and API give."""

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
