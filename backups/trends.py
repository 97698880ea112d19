"""Duration and size of a plan's archives over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backups.models import Archive


@dataclass(frozen=True)
class Trend:
    """Oldest first, for charts: seconds and megabytes; None where a backup failed."""

    seconds: list[float | None]
    megabytes: list[float | None]
    growth_percent: float | None


def of(archives: Sequence[Archive]) -> Trend:
    """The trend of archives given newest first."""
    ordered = list(reversed(archives))
    seconds = [archive.duration.total_seconds() if archive.duration else None for archive in ordered]
    megabytes = [archive.size_bytes / 1e6 if archive.size_bytes else None for archive in ordered]
    known = [value for value in megabytes if value]
    growth = 100 * (known[-1] / known[0] - 1) if len(known) > 1 else None
    return Trend(seconds, megabytes, growth)
