"""The matrix while it is edited: what was typed, kept as it was typed, until it makes rows.

Names of fields: `r0-situation` is of the first row, `r0-c1-after` of its second step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from catalog.forms import HumanDurationField, written
from catalog.models import Severity
from contacts.actions.matrix import MOST_REPEATS, MOST_ROWS, MOST_STEPS, MOST_TARGETS
from contacts.matrix import Cell, Names, Row
from contacts.models import EscalationPolicy, Way
from core.forms import DateTimeLocalInput

DO = re.compile(r"(add-row|remove-row-(\d+)|add-step-(\d+)|remove-step-(\d+)-(\d+)|add-target-(\d+)-(\d+))")
WAYS = [(kind.value, kind.label) for kind in Way.Kind]


@dataclass
class DraftCell:
    """A step as it was typed."""

    after: str = ""
    targets: list[str] = field(default_factory=list)
    ways: list[str] = field(default_factory=list)
    spare: int = 0  # selects in which nothing is chosen yet
    errors: list[str] = field(default_factory=list)

    @property
    def selects(self) -> list[str]:
        return self.targets + [""] * max(self.spare, 0 if self.targets else 1)


@dataclass
class DraftRow:
    """A row as it was typed."""

    severity: str = ""
    words: str = ""
    situation: str = ""
    response: str = ""
    hours: bool = False
    repeats: str = ""
    pause: str = ""
    cells: list[DraftCell] = field(default_factory=lambda: [DraftCell("0")])
    errors: list[str] = field(default_factory=list)

    @property
    def has_more(self) -> bool:
        """Whether the folded part says anything."""
        return bool(self.response or self.hours or self.repeats or self.pause)


class Draft:
    """All rows as they were typed."""

    def __init__(self, rows: Iterable[DraftRow]) -> None:
        self.rows = list(rows)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Draft:
        return cls(_typed(row) for row in rows)

    @classmethod
    def read(cls, data: QueryDict) -> Draft:
        return cls(_read_row(data, f"r{number}") for number in range(_count(data, "rows", MOST_ROWS)))

    def change(self, do: str) -> None:
        """What a button beside a row or a step does."""
        if do == "add-row":
            self.rows.append(DraftRow())
            return
        name, numbers = do.rstrip("-0123456789"), [int(part) for part in re.findall(r"\d+", do)]
        if not numbers or numbers[0] >= len(self.rows):
            return
        cells = self.rows[numbers[0]].cells
        if name == "remove-row":
            del self.rows[numbers[0]]
        elif name == "add-step" and len(cells) < MOST_STEPS:
            cells.append(DraftCell())
        elif len(numbers) > 1 and numbers[1] < len(cells):
            if name == "remove-step":
                del cells[numbers[1]]
            elif name == "add-target":
                cells[numbers[1]].spare += 1

    def values(self, severities: Sequence[Severity]) -> tuple[Row, ...] | None:
        """The rows, the worst severity first; None when something typed cannot be read, which is marked then."""
        rank = {severity.pk: severity.rank for severity in severities}
        words = {severity.pk: str(severity) for severity in severities}
        rows = [_value(row, words) for row in self.rows]
        if any(row.errors or any(cell.errors for cell in row.cells) for row in self.rows):
            return None
        return tuple(sorted(rows, key=lambda row: (rank.get(row.severity or 0, 10_000), not row.situation)))


def _typed(row: Row) -> DraftRow:
    return DraftRow(
        severity=str(row.severity or ""),
        words=row.words,
        situation=row.situation,
        response=_written(row.response_time),
        hours=row.in_business_hours,
        repeats=str(row.repeats or ""),
        pause=_written(row.repeat_after),
        cells=[DraftCell(_written(cell.after), list(cell.targets), list(cell.channels)) for cell in row.cells],
    )


def _written(value: timedelta | None) -> str:
    return written(value) if value is not None else ""


def _count(data: QueryDict, name: str, most: int) -> int:
    text = data.get(name, "0")
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def _read_row(data: QueryDict, prefix: str) -> DraftRow:
    cells = []
    for number in range(_count(data, f"{prefix}-cells", MOST_STEPS)):
        name = f"{prefix}-c{number}"
        chosen = data.getlist(f"{name}-target")[: MOST_TARGETS + 1]
        cells.append(
            DraftCell(
                after=data.get(f"{name}-after", "").strip(),
                targets=[code for code in chosen if code],
                ways=[way for way in data.getlist(f"{name}-way") if way in Way.Kind.values],
                spare=min(chosen.count(""), MOST_TARGETS),
            )
        )
    return DraftRow(
        severity=data.get(f"{prefix}-severity", ""),
        situation=data.get(f"{prefix}-situation", "").strip(),
        response=data.get(f"{prefix}-response", "").strip(),
        hours=f"{prefix}-hours" in data,
        repeats=data.get(f"{prefix}-repeats", "").strip(),
        pause=data.get(f"{prefix}-pause", "").strip(),
        cells=cells,
    )


def _value(row: DraftRow, words: dict[int, str]) -> Row:
    severity = int(row.severity) if row.severity.isascii() and row.severity.isdigit() else None
    cells = []
    for cell in row.cells:
        after = _duration(cell.after, cell.errors, "The time")
        cells.append(Cell(after, tuple(dict.fromkeys(cell.targets)), tuple(cell.ways)))
    return Row(
        severity=severity,
        words=words.get(severity or 0, row.words),
        situation=" ".join(row.situation.split()),
        response_time=_duration(row.response, row.errors, "Response time"),
        in_business_hours=row.hours,
        repeats=_number(row.repeats, row.errors),
        repeat_after=_duration(row.pause, row.errors, "Pause"),
        cells=tuple(cells),
    )


def _number(text: str, errors: list[str]) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 5):
        errors.append(f"Repeats: write a number up to {MOST_REPEATS}, or leave it empty.")
        return 0
    return int(text or 0)


def _duration(text: str, errors: list[str], label: str) -> timedelta | None:
    try:
        return HumanDurationField(required=False).clean(text)
    except ValidationError as error:
        errors.append(f"{label}: {' '.join(error.messages)}")
        return None


class SimulationForm(forms.Form):
    """Who would hear what? The moment is read in the zone of the service."""

    moment = forms.DateTimeField(widget=DateTimeLocalInput)
    severity = forms.ModelChoiceField(Severity.objects.none(), required=False, empty_label="Without a severity")
    situation = forms.ChoiceField(required=False)

    def __init__(self, *args: Any, matrix: EscalationPolicy, situations: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zone = matrix.service.time_zone if matrix.service is not None else "UTC"
        self.fields["moment"].help_text = f"In the zone of the service, {zone}."
        severity: Any = self.fields["severity"]
        severity.queryset = Severity.objects.filter(service=matrix.service_id)
        situation: Any = self.fields["situation"]
        situation.choices = [("", "None of them"), *((name, name) for name in situations)]
        if matrix.service is None:
            del self.fields["severity"]
        if len(situation.choices) == 1:
            del self.fields["situation"]


def grouped(names: Names, draft: Draft) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the selects of a draft offer."""
    return names.choices(keep={code for row in draft.rows for cell in row.cells for code in cell.targets})
