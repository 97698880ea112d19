"""The procedures under test. Adding a line to `SUBJECTS` tests another one at every point of every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backups import actions, manifest
from backups.models import Restore
from operations import actions as operations
from operations.models import Operation
from tests.chaos import procedures as _registered  # noqa: F401
from tests.chaos.cases import Case
from tests.chaos.world import LIVE, World

State = Operation.State


@dataclass(frozen=True)
class Subject:
    """A procedure: how it is asked for, from which state of the database, and what must hold when it has ended."""

    name: str
    begins_in: str  # "a" or "b"
    ask: Callable[[World], Operation]
    judge: Callable[[World, Operation], list[str]]
    ends: frozenset[str] = frozenset({State.SUCCEEDED})
    """States an operation may end in whose worker was killed or frozen on the way."""


# -- backup -----------------------------------------------------------------------------------------------------------


def ask_backup(world: World) -> Operation:
    return actions.request_backup(world.plan, by=world.person)


def judge_backup(world: World, operation: Operation) -> list[str]:
    made = [folder for folder in archives(world) if manifest.read(folder).operation_id == operation.pk]
    archive = operation.archive
    expected = 1 if archive.state == "available" else 0
    wrong = []
    if len(made) != expected:
        wrong.append(f"completed twice: {len(made)} folders instead of {expected}")
    if operation.state == State.SUCCEEDED and not archive.is_restore_point:
        wrong.append(f"succeeded, but the archive is {archive.state}, {archive.verification}")
    if archive.state == "creating":
        wrong.append("the archive is being created for ever")
    if made and archive.name != made[0].name:
        wrong.append(f"the record names {archive.name}, the folder is {made[0].name}")
    return wrong


def archives(world: World) -> list[Path]:
    folder = Path(world.plan.storage.root) / world.plan.folder
    return [path for path in folder.glob("*") if not path.name.startswith(".")] if folder.exists() else []


# -- restore and its undo ---------------------------------------------------------------------------------------------


def ask_restore(world: World) -> Operation:
    return actions.request_restore(
        world.restore_point(), by=world.person, reason_kind=Restore.Reason.DELETION, typed_name=LIVE
    )


def judge_restore(world: World, operation: Operation) -> list[str]:
    restore = Restore.objects.get(operation=operation)
    if operation.state == State.SUCCEEDED:
        copy = f"{LIVE}_before_{operation.pk}"
        return state_is(world, "a", {LIVE, copy}) + record_is(restore, "kept", copy)
    return state_is(world, "b", {LIVE}) + record_is(restore, "none", "")


def ask_undo(world: World) -> Operation:
    """First an undisturbed restore, then its undo."""
    from tests.chaos.run import wait_for

    restored = ask_restore(world)
    wait_for(world, [restored.pk], within_s=40)
    return actions.request_undo(Restore.objects.get(operation=restored), by=world.person)


def judge_undo(world: World, operation: Operation) -> list[str]:
    restore = Restore.objects.get(undo_operation=operation)
    if operation.state == State.SUCCEEDED:
        aside = f"{LIVE}_undone_{operation.pk}"
        return state_is(world, "b", {LIVE, aside}) + record_is(restore, "put_back", aside)
    copy = f"{LIVE}_before_{restore.operation_id}"
    return state_is(world, "a", {LIVE, copy}) + record_is(restore, "kept", copy)


def state_is(world: World, letter: str, databases: set[str]) -> list[str]:
    wrong = []
    if world._state(LIVE) != world.states[letter]:
        wrong.append(f"the live database is not in state {letter}: {world._state(LIVE)}")
    if set(world.databases()) != databases:
        wrong.append(f"databases: {sorted(world.databases())} instead of {sorted(databases)}")
    return wrong


def record_is(restore: Restore, copy: str, database: str) -> list[str]:
    if (restore.safety_copy, restore.safety_database) == (copy, database):
        return []
    return [f"the record says {restore.safety_copy} “{restore.safety_database}” instead of {copy} “{database}”"]


# -- the harness's own ------------------------------------------------------------------------------------------------


def ask_counting(procedure: str, seconds: float = 0.3) -> Callable[[World], Operation]:
    def ask(world: World) -> Operation:
        params = {"folder": str(world.marks), "seconds": seconds}
        return operations.request(procedure, title=procedure, params=params, by=world.person)

    return ask


def judge_counting(world: World, operation: Operation) -> list[str]:
    path = world.marks / f"op{operation.pk}"
    marks = len(path.read_text().splitlines()) if path.exists() else 0
    return [f"completed twice: {marks} marks instead of 1"] if marks != 1 else []


UNDONE = frozenset({State.FAILED})
SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("backups.backup", "a", ask_backup, judge_backup),
        Subject("backups.restore", "b", ask_restore, judge_restore, UNDONE),
        Subject("backups.undo_restore", "b", ask_undo, judge_undo, UNDONE),
        Subject("chaos.counting", "a", ask_counting("chaos.counting"), judge_counting),
    )
}
# Many small ones; see `cases.FLUSH`.
LOAD = Subject("chaos.counting", "a", ask_counting("chaos.counting", 0.1), judge_counting)
# What must be caught; see `cases.CONTROLS`.
CAUGHT = {name: Subject(name, "a", ask_counting(name), judge_counting) for name in ("chaos.careless", "chaos.leaky")}


def subject_of(case: Case) -> Subject:
    if case.operations > 1:
        return LOAD
    return SUBJECTS.get(case.subject) or CAUGHT[case.subject]
