"""The cases: what happens to whom at which point of which procedure. No Django in here, so that tests can name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.faults import AFTER, BEFORE, INSIDE, POINTS, UNDO, UNSAVED

STEPS: Mapping[str, Sequence[str]] = {
    "backups.backup": ("check", "dump", "publish", "verify"),
    "backups.restore": ("check", "load", "compare", "stop_service", "swap", "start_service", "smoke_test"),
    "backups.undo_restore": ("check", "stop_service", "swap", "start_service", "smoke_test"),
    "chaos.counting": ("work", "mark"),
}
"""Checked against the registry when the harness starts."""

# Steps whose methods write domain rows.
WRITING = (
    ("backups.backup", "publish"),
    ("backups.backup", "verify"),
    ("backups.restore", "swap"),
    ("backups.restore", "smoke_test"),
    ("backups.undo_restore", "swap"),
)
# What is killed instead of a worker; every one is started again at once.
SERVERS = {
    "target": "postgres-demo",
    "portal": "postgres-portal",
    "redis": "redis",
    "beat": "beat",
    "control": "control",
}


@dataclass(frozen=True)
class Blow:
    """One fault of a case. `what` is "kill worker", "kill child" (its pool process), "stop worker" (SIGTERM), "freeze
    worker", "freeze all" (its commands too), "cancel" (a person does), or one of SERVERS, which is killed.
    """

    what: str
    step: str
    point: str = INSIDE
    depth: float = 0.5
    """How far into the step, as a part of the time it usually takes."""


@dataclass(frozen=True)
class Case:
    name: str
    subject: str
    blows: tuple[Blow, ...] = ()
    ends: frozenset[str] = frozenset()
    """Allowed end states; empty: what the subject says for an operation that lost its worker."""
    operations: int = 1
    flushes: int = 0
    weaken: bool = False
    tags: frozenset[str] = field(default=frozenset(), compare=False)


def _case(subject: str, *blows: Blow, **values: object) -> Case:
    doing = " and ".join(f"{blow.what} {blow.point} {blow.step}" for blow in blows)
    return Case(name=f"{subject}: {doing}", subject=subject, blows=blows, **values)  # type: ignore[arg-type]


ANY = frozenset({"succeeded", "failed"})
WHOLE = frozenset({"succeeded"})


def deaths() -> list[Case]:
    """The worker dies before, inside and after every step of every procedure."""
    cases = []
    for subject, steps in STEPS.items():
        for step in steps:
            for point in POINTS:
                # Where nothing had begun or nothing was left to do, there is nothing to undo.
                edge = (step, point) in ((steps[0], BEFORE), (steps[-1], AFTER))
                cases.append(_case(subject, Blow("kill worker", step, point), ends=WHOLE if edge else frozenset()))
    # Done outside, not yet in the books.
    return cases + [_case(subject, Blow("kill worker", step, UNSAVED)) for subject, step in WRITING]


def freezes() -> list[Case]:
    """The worker stands still for longer than its lease, and goes on when its successor has finished."""
    cases = [_case(subject, Blow("freeze worker", step)) for subject, steps in STEPS.items() for step in steps]
    cases += [_case(subject, Blow("freeze worker", step, UNSAVED)) for subject, step in WRITING]
    # As when a whole machine stands still: its commands too.
    cases += [
        _case(subject, Blow("freeze all", STEPS[subject][1])) for subject in ("backups.backup", "backups.restore")
    ]
    return cases


def outages() -> list[Case]:
    """A server dies inside a step."""
    cases = []
    for subject, steps in STEPS.items():
        for step in steps:
            cases += [_case(subject, Blow(what, step), ends=ANY) for what in ("target", "portal")]
        for what in ("redis", "beat", "control"):
            cases.append(_case(subject, Blow(what, steps[1]), ends=WHOLE))
    return cases


def orders() -> list[Case]:
    """A worker is stopped in good order; a person cancels."""
    cases = [
        _case(subject, Blow("cancel", step), ends=frozenset({"cancelled", "succeeded"}))
        for subject, steps in STEPS.items()
        for step in steps
    ]
    return cases + [_case(subject, Blow("stop worker", steps[1])) for subject, steps in STEPS.items()]


def doubles() -> list[Case]:
    """A second death, while what the first one left is being taken back or done again."""
    cases = [
        _case("backups.restore", Blow("kill worker", step), Blow("kill worker", step, UNDO))
        for step in ("load", "stop_service", "swap", "start_service")
    ]
    cases += [
        _case("backups.undo_restore", Blow("kill worker", step), Blow("kill worker", step, UNDO))
        for step in ("stop_service", "swap", "start_service")
    ]
    cases += [
        _case("backups.backup", Blow("kill worker", step), Blow("kill worker", step)) for step in ("dump", "verify")
    ]
    cases += [
        _case("backups.restore", Blow("kill worker", "swap"), Blow("target", "swap", UNDO), ends=frozenset({"failed"})),
        _case("backups.backup", Blow("kill child", "dump")),
        _case("backups.restore", Blow("kill child", "load")),
    ]
    return cases


FLUSH = Case(name="chaos.counting: Redis flushed under load", subject="chaos.counting", operations=30, flushes=3)
# Proofs that the harness can fail: each must be reported as a violation.
CONTROLS = (
    Case(
        name="control: a procedure that does not look what was done",
        subject="chaos.careless",
        blows=(Blow("kill worker", "mark"),),
    ),
    Case(
        name="control: a program that its worker does not end",
        subject="chaos.leaky",
        blows=(Blow("kill worker", "work"),),
    ),
    Case(
        name="control: a worker without a fence",
        subject="chaos.counting",
        blows=(Blow("freeze worker", "mark"),),
        weaken=True,
    ),
)


def every() -> list[Case]:
    return [*deaths(), *outages(), *freezes(), *orders(), *doubles(), FLUSH, *CONTROLS]


def short() -> list[Case]:
    """A selection for the suite: about a minute."""
    names = (
        "backups.backup: kill worker inside dump",
        "backups.backup: kill worker unsaved publish",
        "backups.backup: portal inside dump",
        "backups.backup: control inside dump",
        "backups.restore: kill worker inside load",
        "backups.restore: kill worker inside swap and kill worker undo swap",
        "backups.restore: kill worker unsaved swap",
        "backups.restore: freeze worker inside load",
        "backups.restore: target inside load",
        "backups.undo_restore: kill worker inside swap",
        FLUSH.name,
        *(control.name for control in CONTROLS),
    )
    by_name = {case.name: case for case in every()}
    return [by_name[name] for name in names]
