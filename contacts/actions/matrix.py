"""The write path into an escalation matrix: every save is a new version, and nothing before it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.utils import timezone

from catalog.forms import written
from catalog.models import Severity
from catalog.validators import validate_printable
from contacts.exceptions import ContactsError
from contacts.matrix import Cell, Names, Row, rows_of, target_of, ways_in_words
from contacts.models import EscalationPolicy, PolicyVersion, Rule, Step, Way
from core.models import User
from core.words import counted

EDIT = "contacts.edit_matrix"
MOST_ROWS, MOST_STEPS, MOST_TARGETS, MOST_REPEATS = 100, 20, 20, 100
SITUATION_LENGTH, REASON_LENGTH = 80, 500
MOST_TIME = timedelta(days=365)


class MatrixChanged(ContactsError):
    """Somebody has saved the matrix meanwhile. `version` is theirs."""

    def __init__(self, version: PolicyVersion) -> None:
        who = version.saved_by or "Somebody"
        super().__init__(
            f"{who} has saved version {version.number} meanwhile. Nothing of yours was saved: compare with theirs, "
            "then save again."
        )
        self.version = version


@dataclass(frozen=True)
class Change:
    """One difference between two versions, in words. `kind`: added, removed or changed."""

    row: str
    kind: str
    what: str


def current(policy: EscalationPolicy) -> PolicyVersion | None:
    """The version in force."""
    return policy.versions.select_related("saved_by").first()


@transaction.atomic
def save_version(
    policy: EscalationPolicy, rows: Sequence[Row], *, reason: str, by: User | None, based_on: int
) -> PolicyVersion:
    """Put these rows in force. `based_on` is the number of the version that was edited, 0 for none.

    Raises MatrixChanged if another version came between, ContactsError for rows that cannot be.
    """
    if by is not None and not by.has_perm(EDIT):
        raise PermissionDenied("Your role does not allow you to edit the escalation matrix.")
    EscalationPolicy.objects.select_for_update(of=("self",), no_key=True).get(pk=policy.pk)
    last = current(policy)
    number = last.number if last is not None else 0
    if last is not None and number != based_on:
        raise MatrixChanged(last)
    rows = with_words(policy, rows)
    if found := trouble(policy, rows):
        raise ContactsError(" ".join(found))
    if last is not None and not diff(rows_of(last), rows):
        raise ContactsError("Nothing is different from the version in force. Nothing was saved.")
    if len(reason) > REASON_LENGTH:
        raise ContactsError(f"Give a reason of at most {REASON_LENGTH} characters.")
    version = PolicyVersion.objects.create(
        policy=policy, number=number + 1, saved_at=timezone.now(), saved_by=by, reason=reason
    )
    for order, row in enumerate(rows):
        _save_row(version, order, row)
    return version


def put_back(policy: EscalationPolicy, number: int, *, reason: str, by: User | None, based_on: int) -> PolicyVersion:
    """Put an older version in force again, as a new one."""
    old = policy.versions.filter(number=number).first()
    if old is None:
        raise ContactsError(f"There is no version {number} of this matrix.")
    rows = rows_of(old)
    if gone := [row.name for row in rows if row.severity is None and row.words]:
        raise ContactsError(
            f"The severity of these rows is gone: {', '.join(gone)}. Edit the matrix by hand and leave them out."
        )
    return save_version(policy, rows, reason=reason, by=by, based_on=based_on)


def _save_row(version: PolicyVersion, order: int, row: Row) -> None:
    rule = Rule.objects.create(
        version=version,
        order=order,
        severity_id=row.severity,
        severity_words=row.words,
        situation=row.situation,
        response_time=row.response_time,
        in_business_hours=row.in_business_hours,
        repeats=row.repeats,
        repeat_after=row.repeat_after,
    )
    for position, cell in enumerate(row.cells):
        step = Step.objects.create(rule=rule, order=position, after=cell.after, channels=list(cell.channels))
        for code in cell.targets:
            target = target_of(code)
            target.step = step
            target.save(force_insert=True)


def with_words(policy: EscalationPolicy, rows: Iterable[Row]) -> list[Row]:
    """The rows with their severities called as they are called now, and their texts tidied."""
    names = {severity.pk: str(severity) for severity in Severity.objects.filter(service=policy.service_id)}
    return [
        replace(
            row,
            words=names.get(row.severity, row.words) if row.severity is not None else row.words,
            situation=" ".join(row.situation.split()),
        )
        for row in rows
    ]


# --- what cannot be --------------------------------------------------------------------------------------------------


def trouble(policy: EscalationPolicy, rows: Sequence[Row]) -> list[str]:
    """Why these rows cannot be saved, in sentences; empty if they can."""
    names = Names()
    known = set(Severity.objects.filter(service=policy.service_id).values_list("pk", flat=True))
    found = [f"There are more than {MOST_ROWS} rows."] if len(rows) > MOST_ROWS else []
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, start=1):
        problems = [*_row_trouble(row, known), *_ladder_trouble(row, names)]
        if row.key in seen:
            problems.append("there is such a row already. Give it another severity or situation.")
        seen.add(row.key)
        found += [f"Row {number} ({row.name}): {problem}" for problem in problems]
    return found


def _row_trouble(row: Row, known: set[int]) -> list[str]:
    found = []
    if row.severity is not None and row.severity not in known:
        found.append("its severity is not one of this service.")
    if row.severity is None and row.words:
        found.append("its severity is gone. Choose another or remove the row.")
    if len(row.situation) > SITUATION_LENGTH:
        found.append(f"a situation has at most {SITUATION_LENGTH} characters.")
    try:
        validate_printable(row.situation)
    except ValidationError as error:
        found.append(" ".join(error.messages))
    if row.response_time is not None and not timedelta(0) < row.response_time <= MOST_TIME:
        found.append("the response time must be longer than zero and at most a year; empty is the severity's.")
    if not 0 <= row.repeats <= MOST_REPEATS:
        found.append(f"a ladder repeats at most {MOST_REPEATS} times.")
    if row.repeats and not row.repeat_after:
        found.append("a ladder that repeats needs a pause longer than zero.")
    if row.repeat_after is not None and not timedelta(0) <= row.repeat_after <= MOST_TIME:
        found.append("the pause must be at most a year.")
    return found


def _ladder_trouble(row: Row, names: Names) -> list[str]:
    if not row.cells:
        return ["it has no step. Say whom to tell, or remove the row."]
    found = [f"it has more than {MOST_STEPS} steps."] if len(row.cells) > MOST_STEPS else []
    for number, cell in enumerate(row.cells, start=1):
        found += [f"step {number} {problem}" for problem in _cell_trouble(cell, names)]
    times = [cell.after for cell in row.cells]
    timed = [after for after in times if after is not None]
    if times[: len(timed)] != timed:
        found.append("steps without a time come after those with one.")
    elif any(later <= earlier for earlier, later in pairwise(timed)):
        found.append("each step must come later than the one before. Put those told at the same time into one cell.")
    return found


def _cell_trouble(cell: Cell, names: Names) -> list[str]:
    found = []
    if not cell.targets:
        found.append("tells nobody. Choose whom, or remove the step.")
    if len(cell.targets) > MOST_TARGETS:
        found.append(f"names more than {MOST_TARGETS} targets.")
    if len(set(cell.targets)) < len(cell.targets):
        found.append("names the same target twice.")
    if any(not names.exists(code) for code in cell.targets):
        found.append("names somebody who is gone. Choose another.")
    if not set(cell.channels) <= set(Way.Kind.values):
        found.append("names a way that there is not.")
    if cell.after is not None and not timedelta(0) <= cell.after <= MOST_TIME:
        found.append("has a time below zero or above a year.")
    return found


# --- the difference --------------------------------------------------------------------------------------------------


def diff(old: Sequence[Row], new: Sequence[Row], names: Names | None = None) -> list[Change]:
    """What is different, in words, in the order of the new rows."""
    named = (names or Names()).of
    before = {row.key: row for row in old}
    after = {row.key: row for row in new}
    changes = []
    for key, row in after.items():
        if key in before:
            changes += _changed(before[key], row, named)
        else:
            steps = "; ".join(_cell_words(cell, named) for cell in row.cells)
            changes.append(Change(row.name, "added", f"The row is new: {steps or 'no step'}."))
    changes += [
        Change(row.name, "removed", f"The row is gone, with {counted(len(row.cells), 'step')}.")
        for key, row in before.items()
        if key not in after
    ]
    if not changes and [row.key for row in old] != [row.key for row in new]:
        changes.append(Change("All rows", "changed", "The rows stand in another order."))
    return changes


def _changed(old: Row, new: Row, named: Callable[[str], str]) -> list[Change]:
    found = []
    for label, one, other in (
        ("Situation", old.situation, new.situation),
        ("Response time", _time(old.response_time), _time(new.response_time)),
        ("Times count", _hours(old), _hours(new)),
        ("Repeats", _repeats(old), _repeats(new)),
    ):
        if one != other:
            found.append(Change(new.name, "changed", f"{label}: {one} becomes {other}."))
    for number in range(max(len(old.cells), len(new.cells))):
        if number >= len(old.cells):
            found.append(Change(new.name, "added", f"Step {number + 1}: {_cell_words(new.cells[number], named)}."))
        elif number >= len(new.cells):
            found.append(Change(new.name, "removed", f"Step {number + 1}: {_cell_words(old.cells[number], named)}."))
        else:
            found += _changed_cell(new.name, number + 1, old.cells[number], new.cells[number], named)
    return found


def _changed_cell(row: str, number: int, old: Cell, new: Cell, named: Callable[[str], str]) -> list[Change]:
    step, found = f"Step {number}", []
    if old.after != new.after:
        found.append(Change(row, "changed", f"{step}: {when(old.after)} becomes {when(new.after)}."))
    for code in new.targets:
        if code not in old.targets:
            found.append(Change(row, "added", f"{step}: {named(code)} is told too."))
    for code in old.targets:
        if code not in new.targets:
            found.append(Change(row, "removed", f"{step}: {named(code)} is not told any more."))
    if set(old.channels) != set(new.channels):
        before, after = (ways_in_words(cell.channels) or "whichever way works" for cell in (old, new))
        found.append(Change(row, "changed", f"{step}: {before} becomes {after}."))
    return found


def _cell_words(cell: Cell, named: Callable[[str], str]) -> str:
    who = ", ".join(named(code) for code in cell.targets) or "nobody"
    return " ".join(part for part in (f"{when(cell.after)}, {who}", ways_in_words(cell.channels)) if part)


def when(after: timedelta | None) -> str:
    """`at once`, `after 15 min`, `by hand`."""
    if after is None:
        return "by hand"
    return f"after {written(after)}" if after else "at once"


def _time(value: timedelta | None) -> str:
    return written(value) if value is not None else "not set"


def _hours(row: Row) -> str:
    return "in business hours only" if row.in_business_hours else "at any time"


def _repeats(row: Row) -> str:
    if not row.repeats:
        return "never"
    return f"{counted(row.repeats, 'time')} after {written(row.repeat_after)}" if row.repeat_after else "never"
