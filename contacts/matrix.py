"""The rows of an escalation matrix as plain values: what a version holds, what a form edits, what is compared.

A target is a short text: `contact:5`, `team:2:primary`, `role:3:all`, `oncall:1:2` (with the level), `queue:4`,
`channel:7`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from contacts.ladder import STEPS
from contacts.models import (
    Channel,
    Contact,
    Level,
    OnCallSchedule,
    PolicyVersion,
    Queue,
    Role,
    Rule,
    Target,
    Team,
    Way,
)

Kind, Part = Target.Kind, Target.Part
THINGS: dict[str, Any] = {
    Kind.CONTACT: Contact,
    Kind.TEAM: Team,
    Kind.ROLE: Role,
    Kind.ONCALL: OnCallSchedule,
    Kind.QUEUE: Queue,
    Kind.CHANNEL: Channel,
}


@dataclass(frozen=True)
class Cell:
    """A step: when (None: by hand), whom, by which ways (none: whichever works)."""

    after: timedelta | None = None
    targets: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of the matrix. `severity` is the number of one, `words` what it is called."""

    severity: int | None = None
    words: str = ""
    situation: str = ""
    response_time: timedelta | None = None
    in_business_hours: bool = False
    repeats: int = 0
    repeat_after: timedelta | None = None
    cells: tuple[Cell, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What tells rows apart."""
        return self.words, " ".join(self.situation.split()).casefold()

    @property
    def name(self) -> str:
        return " · ".join(part for part in (self.words, self.situation) if part) or "Everything else"


def code_of(target: Target) -> str:
    """The short text of a target."""
    pk = getattr(target, f"{target.kind}_id")
    if target.kind == Kind.ONCALL:
        return f"{target.kind}:{pk}:{target.level}"
    if target.kind in (Kind.TEAM, Kind.ROLE):
        return f"{target.kind}:{pk}:{target.part}"
    return f"{target.kind}:{pk}"


def target_of(code: str) -> Target:
    """A target, not saved, of its short text. Raises ValueError for what is none."""
    kind, pk, *rest = code.split(":")
    target = Target(kind=Kind(kind))
    setattr(target, f"{kind}_id", int(pk))
    if kind == Kind.ONCALL:
        target.level = Level(int(rest[0]) if rest else Level.PRIMARY)
    elif kind in (Kind.TEAM, Kind.ROLE):
        target.part = Part(rest[0]) if rest else Part.ALL
    return target


def rules_of(version: PolicyVersion | None) -> list[Rule]:
    """The rows of a version with all they name, in a few queries."""
    if version is None:
        return []
    return list(version.rules.select_related("severity").prefetch_related(STEPS))


def rows_of(version: PolicyVersion | None) -> tuple[Row, ...]:
    """A version as plain rows."""
    return tuple(row_of(rule) for rule in rules_of(version))


def row_of(rule: Rule) -> Row:
    return Row(
        severity=rule.severity_id,
        words=str(rule.severity) if rule.severity is not None else rule.severity_words,
        situation=rule.situation,
        response_time=rule.response_time,
        in_business_hours=rule.in_business_hours,
        repeats=rule.repeats,
        repeat_after=rule.repeat_after,
        cells=tuple(
            Cell(step.after, tuple(code_of(target) for target in step.targets.all()), tuple(step.channels))
            for step in rule.steps.all()
        ),
    )


# --- rows as JSON, to be carried from page to page -------------------------------------------------------------------


def plain(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [_seconds(asdict(row)) for row in rows]


def _seconds(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {key: _seconds(inner) for key, inner in value.items()}
    return [_seconds(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def from_plain(data: Any) -> tuple[Row, ...]:
    """Rows of what `plain` made. Raises ValueError, TypeError or KeyError for anything else."""
    return tuple(_row_from(row) for row in data)


def _row_from(row: Mapping[str, Any]) -> Row:
    return Row(
        severity=int(row["severity"]) if row["severity"] is not None else None,
        words=str(row["words"]),
        situation=str(row["situation"]),
        response_time=_time(row["response_time"]),
        in_business_hours=bool(row["in_business_hours"]),
        repeats=int(row["repeats"]),
        repeat_after=_time(row["repeat_after"]),
        cells=tuple(
            Cell(_time(cell["after"]), tuple(map(str, cell["targets"])), tuple(map(str, cell["channels"])))
            for cell in row["cells"]
        ),
    )


def _time(seconds: float | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds is not None else None


# --- in words --------------------------------------------------------------------------------------------------------


class Names:
    """What targets are called, read once for a page."""

    def __init__(self) -> None:
        self._of: dict[str, dict[int, Any]] = {kind: dict(_named(model)) for kind, model in THINGS.items()}

    def exists(self, code: str) -> bool:
        try:
            kind, pk, *_ = code.split(":")
            return int(pk) in self._of[Kind(kind)] and target_of(code) is not None
        except (ValueError, KeyError):
            return False

    def of(self, code: str) -> str:
        """`On call: Shop, primary`, `Team: Operations (backup)`, `Person: Ann Example`."""
        if not self.exists(code):
            return "Somebody who is gone"
        kind, pk, *rest = code.split(":")
        name = f"{Kind(kind).label}: {self._of[kind][int(pk)]}"
        if kind == Kind.ONCALL:
            return f"{name}, {Level(int(rest[0])).label.lower()}"
        if rest and rest[0] != Part.ALL:
            return f"{name} ({Part(rest[0]).label})"
        return name

    def choices(self, keep: Iterable[str] = ()) -> list[tuple[str, list[tuple[str, str]]]]:
        """The groups of a select. Who is switched off is offered only where it stands already."""
        off = {f"{Kind.CONTACT}:{pk}" for pk in Contact.objects.filter(active=False).values_list("pk", flat=True)}
        groups = []
        for kind, things in self._of.items():
            codes = [code for pk in things for code in _codes(kind, pk) if code not in off or code in keep]
            if codes:
                label = Kind(kind).label
                groups.append((label, [(code, self.of(code)) for code in codes]))
        return groups


def _named(model: Any) -> Iterable[tuple[int, str]]:
    return model.objects.order_by("name").values_list("pk", "name")


def _codes(kind: str, pk: int) -> list[str]:
    if kind == Kind.ONCALL:
        return [f"{kind}:{pk}:{level}" for level in Level.values]
    if kind in (Kind.TEAM, Kind.ROLE):
        return [f"{kind}:{pk}:{part}" for part in (Part.PRIMARY, Part.BACKUP, Part.ALL)]
    return [f"{kind}:{pk}"]


def ways_in_words(channels: Iterable[str]) -> str:
    """`by email and SMS`; empty where whichever way works is used."""
    words = [Way.Kind(channel).label for channel in channels]
    words = [word if word.isupper() else word.lower() for word in words]
    if not words:
        return ""
    return "by " + (words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1])
