"""Figures, the table for a person and the JSON for a comparison."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Samples of one thing and how they are summed up. `unit` "x" marks a ratio, "" a number of things."""

    name: str
    unit: str
    samples: Sequence[float]
    goal: float | None = None  # at most
    statistic: str = "median"  # or max, p50, p95, p99

    @property
    def value(self) -> float:
        match self.statistic:
            case "max":
                return max(self.samples)
            case "p50" | "p95" | "p99":
                return percentile(self.samples, int(self.statistic[1:]) / 100)
            case _:
                return statistics.median(self.samples)

    @property
    def verdict(self) -> str:
        """met, missed, or empty without a goal."""
        if self.goal is None:
            return ""
        return "met" if self.value <= self.goal else "missed"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "samples": list(self.samples), "value": self.value, "verdict": self.verdict}


def percentile(samples: Sequence[float], share: float) -> float:
    """The lowest of the samples that so large a share does not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def ratio(name: str, portal: Sequence[float], reference: Sequence[float], goal: float | None = None) -> Figure:
    """Portal by reference, round by round: what slows the machine for a while slows both."""
    return Figure(name, "x", [mine / theirs for mine, theirs in zip(portal, reference, strict=True)], goal)


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines of text."""
    rows = [("", "", "lowest", "highest", "runs", "goal", "")]
    for figure in figures:
        rows.append(
            (
                figure.name + ("" if figure.statistic == "median" else f", {figure.statistic}"),
                _number(figure.value, figure.unit),
                _number(min(figure.samples), figure.unit),
                _number(max(figure.samples), figure.unit),
                str(len(figure.samples)),
                "" if figure.goal is None else f"≤ {_number(figure.goal, figure.unit)}",
                figure.verdict,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        padded = [f"  {cell.rjust(width)}" for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append(name.ljust(widths[0]) + "".join(padded))
    return "\n".join(line.rstrip() for line in lines)


def _number(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 or not unit else 1 if unit == "MB" else 2 if abs(value) >= 1 or unit == "x" else 3
    return f"{value:,.{digits}f} {unit}".strip()


def write(path: Path, facts: dict[str, Any], figures: Sequence[Figure]) -> None:
    """One JSON object: the circumstances and every sample."""
    path.write_text(json.dumps({"format": 1, **facts, "figures": [figure.as_json() for figure in figures]}, indent=1))
