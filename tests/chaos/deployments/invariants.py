"""What must hold after every case, by the process table, the proxy, its file, the slots and the database."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deployments.actions import changing
from deployments.models import Deployment
from operations.models import Operation, OperationLock, OperationStep
from tests.chaos.deployments.cases import BACK, LIVE, SUSPECT
from tests.chaos.invariants import NOTICED_WITHIN_S
from tests.chaos.run import wait_for
from tests.chaos.servers import LEASE_S
from tests.deployments.grounds import Seen

if TYPE_CHECKING:
    from tests.chaos.deployments.place import Place
    from tests.chaos.deployments.run import CaseRun

SLACK_S = float(os.environ.get("CHAOS_SLACK_S", "1"))
ANSWERS = 5
RESTARTS_WITHIN_S = 30.0


def check(run: CaseRun) -> None:
    """Fill the outcome of a case: its counts and what is wrong, in sentences. `run.after` is then what is live."""
    run.row = Deployment.objects.with_place().get(pk=run.row.pk)
    run.outcome.state, run.outcome.message = run.row.state, run.row.message
    run.after = run.row.release.version if run.row.state in (LIVE, SUSPECT) else run.before
    wrong = _ended(run) + _once(run) + _in_time(run) + _left(run)
    wrong += of_load(run, run.seen, {run.before, run.row.release.version}, excused=run.case.hurts_users)
    wrong += of_place(run.place, run.after) if run.place.is_served() else _not_served(run)
    if len(run.strikes) != len(run.case.blows):
        wrong.append(f"only {len(run.strikes)} of {len(run.case.blows)} faults struck")
    run.outcome.violations += wrong


def _ended(run: CaseRun) -> list[str]:
    """In a final state that is allowed, with a sentence; its steps have ended as well."""
    row, wrong = run.row, []
    operation = Operation.objects.get(pk=run.operation)
    if not row.is_final:
        return [f"{row.state} for ever; its operation is {operation.state}: {operation.message} {operation.traceback}"]
    if row.state not in run.case.ends:
        wrong.append(f"ended {row.state}: {row.message}")
    if not re.search(r"\w\.( |$)", row.message):
        wrong.append(f"no sentence: “{row.message}”")
    if operation.state == Operation.State.ERRORED:
        wrong.append(f"errored: {operation.message} {operation.traceback[-600:]}")
    if (row.switched_at is None) and row.state in (LIVE, SUSPECT, BACK):
        wrong.append(f"{row.state}, and it has never switched")
    open_steps = OperationStep.objects.filter(operation=operation, state__in=("running", "undoing"))
    return wrong + [f"step {step.name} is still {step.state}" for step in open_steps]


def _once(run: CaseRun) -> list[str]:
    """One operation, which ended once, and one rollback at most that it made by itself."""
    mine = list(Operation.objects.filter(procedure=run.case.procedure, params__deployment=run.row.pk))
    wrong = [f"{len(mine)} operations ran"] if len(mine) != 1 else []
    query = """
        SELECT count(*) FROM chaos_journal
        WHERE what = 'operations_operation' AND id = %s AND state = ANY (%s)"""
    with run.world.portal() as session:
        found = session.execute(query, [run.operation, [str(state) for state in Operation.TERMINAL]]).fetchone()
    if not found or found[0] != 1:
        wrong.append(f"the operation ended {found and found[0]} times")
    made = Deployment.objects.filter(rollback_of=run.row, operation=run.operation).count()
    if made != (run.row.state == BACK and not run.row.is_rollback):
        wrong.append(f"{made} rollbacks were written down")
    return wrong


def _in_time(run: CaseRun) -> list[str]:
    """What is taken back is over within the lease and five seconds; what goes on has its own work to do as well."""
    run.outcome.past_lease_s = run.world.watcher.worst_s
    wrong = []
    if run.outcome.past_lease_s > NOTICED_WITHIN_S:
        wrong.append(f"running {run.outcome.past_lease_s:.1f} s past its lease")
    limit_s = LEASE_S + NOTICED_WITHIN_S + SLACK_S
    if run.row.state in (LIVE, SUSPECT, BACK):
        limit_s += run.site.undisturbed_s[run.case.subject]
    if sum(blow.what == "kill worker" for blow in run.case.blows) > 1:
        limit_s += run.site.starts_s
    if run.outcome.settled_s > limit_s:
        wrong.append(f"over {run.outcome.settled_s:.1f} s after the fault instead of {limit_s:.1f} s")
    return wrong


def _left(run: CaseRun) -> list[str]:
    """No lock, and nothing that a worker has started but the programs of slots."""
    wrong = [f"a lock is left: {lock.key} of {lock.operation}" for lock in OperationLock.objects.all()]
    return wrong + [f"left behind: {pid} {argv[:100]}" for pid, argv in run.commands().items()]


def of_load(run: CaseRun, seen: Sequence[Seen], versions: set[str], *, excused: bool = False) -> list[str]:
    """Users saw whole versions only; where nothing that serves them was struck, nobody noticed anything."""
    answers, failed = sum(len(each.times) for each in seen), [line for each in seen for line in each.failed]
    run.outcome.requests += answers + len(failed)
    strange = {version for each in seen for version in each.versions} - versions
    wrong = [f"users saw {sorted(strange)}, which is none of {sorted(versions)}"] if strange else []
    if not answers:
        wrong.append("users saw nothing at all")
    if failed and not excused:
        run.outcome.failed += len(failed)
        wrong.append(f"{len(failed)} of {answers + len(failed)} requests failed: {sorted(set(failed))}")
    return wrong


def of_place(place: Place, version: str) -> list[str]:
    """The record, the file that the proxy reads, the slot's own record, its program and the answers are one."""
    slot = place.named_slot()
    known = {
        "the record": place.version,
        f"the {slot or 'no'} slot": str(place.ground.driver().look().live),
        **{f"answer {number + 1}": place.answer() for number in range(ANSWERS)},
    }
    wrong = [f"{who} says “{said}”, not {version}" for who, said in known.items() if said != version]
    drift = changing.look_now(place.environment) and place.live.drift
    return wrong + of_processes(place) + ([f"the board says: {drift}"] if drift else [])


def of_processes(place: Place) -> list[str]:
    """Every process of a release belongs to the program of a slot that says so, in a session of its own."""
    recorded = set(place.recorded().values())
    return [
        f"an orphan: process {pid} in {folder.name}"
        for pid, folder in place.running().items()
        if _session_of(pid) not in (None, *recorded)
    ]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None  # it has ended


def _not_served(run: CaseRun) -> list[str]:
    """The live program was struck: the board says so until a restart, which mends it."""
    if not any(blow.what == "kill live" for blow in run.case.blows):
        return [f"nothing runs where the proxy goes: {run.place.named_slot() or 'no slot'}"]
    changing.look_now(run.place.environment)
    drift = run.place.live.drift
    wrong = [] if run.after in drift else [f"the board does not say that {run.after} is gone: “{drift}”"]
    operation = changing.request_restart(run.place.environment, by=run.world.person, reason="It does not answer.")
    wait_for(run.world, [operation.pk], within_s=RESTARTS_WITHIN_S)
    operation.refresh_from_db()
    if operation.state != Operation.State.SUCCEEDED:
        wrong.append(f"the restart ended {operation.state}: {operation.message}")
    return wrong + of_place(run.place, run.after)
