"""What must hold after every case, whatever was killed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from backups import manifest
from backups.exceptions import BackupError
from operations.models import Operation, OperationLock, OperationStep
from tests.chaos.subjects import archives

if TYPE_CHECKING:
    from tests.chaos.run import CaseRun

NOTICED_WITHIN_S = 5.0


def check(run: CaseRun) -> None:
    """Fill the outcome of a case: its counts and the sentences about what is wrong."""
    operations = list(Operation.objects.filter(pk__in=run.ids).order_by("pk"))
    run.outcome.states = [operation.state for operation in operations]
    for part in (_ended, _once, _files, _processes, _client, _rows):
        run.outcome.violations += part(run, operations)
    if len(run.strikes) != len(run.case.blows):
        run.outcome.violations.append(f"only {len(run.strikes)} of {len(run.case.blows)} faults struck")


def _ended(run: CaseRun, operations: list[Operation]) -> list[str]:
    """Nothing is lost, and everything ends as it should."""
    allowed = run.case.ends or (run.subject.ends if run.case.blows else frozenset({"succeeded"}))
    wrong = []
    for operation in operations:
        if not operation.is_final:
            run.outcome.lost += 1
            wrong.append(f"lost: {operation} is {operation.state}, attempt {operation.attempt}")
            continue
        if operation.state not in allowed:
            wrong.append(f"ended {operation.state}: {operation.message} {operation.traceback[-600:]}")
        wrong += run.subject.judge(run.world, operation)
    lost = len(run.ids) - len(operations)
    run.outcome.lost += lost
    return wrong + ["lost: no row any more"] * lost


def _once(run: CaseRun, operations: list[Operation]) -> list[str]:
    """Nothing is completed twice."""
    wrong = completed_twice(run, operations)
    run.outcome.twice += len(wrong) + sum("completed twice" in text for text in run.outcome.violations)
    return wrong


def completed_twice(run: CaseRun, operations: list[Operation]) -> list[str]:
    """By the journal that the database keeps by itself."""
    query = """
        SELECT what, id, count(*) FROM chaos_journal WHERE at > %(since)s AND
            (what = 'operations_operation' AND id = ANY (%(ids)s) AND state = ANY (%(terminal)s)
             OR what = 'backups_archive')
        GROUP BY what, id HAVING count(*) > 1"""
    since = min(operation.requested_at for operation in operations)
    with run.world.portal() as session:
        values = {"since": since, "ids": run.ids, "terminal": [str(state) for state in Operation.TERMINAL]}
        rows = session.execute(query, values).fetchall()
    return [f"completed twice: {what} {pk} ended {count} times" for what, pk, count in rows]


def _files(run: CaseRun, operations: list[Operation]) -> list[str]:
    """No partial file of an ended operation, and every folder one can see is whole."""
    wrong = []
    ended = {operation.pk for operation in operations if operation.is_final}
    place = Path(run.world.plan.storage.root) / run.world.plan.folder
    for path in place.glob(".*") if place.exists() else ():
        found = re.match(r"\.(?:partial|trash)-.*?(\d+)", path.name)
        if found is None or int(found[1]) in ended or path.name.startswith(".trash"):
            wrong.append(f"partial: {path.name}")
    for folder in archives(run.world):
        try:
            manifest.check_files(folder, manifest.read(folder))
        except (BackupError, OSError) as error:
            wrong.append(f"partial: {folder.name}: {error}")
    for pk in ended:
        wrong += [f"partial: work folder {path.name}" for path in (settings.DATA_DIR / "work").glob(f"op{pk}-*")]
    run.outcome.partial += len(wrong)
    return wrong


def _processes(run: CaseRun, operations: list[Operation]) -> list[str]:
    """Nothing that a worker has started lives on, at the target neither; the service runs once."""
    left = run.world.machine.commands()
    run.outcome.survivors += len(left)
    wrong = [f"left behind: {pid} {argv[:100]}" for pid, argv in left.items()]
    query = "SELECT application_name, datname, state FROM pg_stat_activity WHERE application_name LIKE 'opsportal/%'"
    with run.world.target() as session:
        wrong += [f"a session is left at the target: {row}" for row in session.execute(query).fetchall()]
    if run.world.service("status") != 0:
        wrong.append("the service was running before and is not running now")
    if (count := _serving(run.world.service_folder)) != 1:
        wrong.append(f"the service runs {count} times")
    return wrong


def _serving(folder: Path) -> int:
    wanted = ["serve", str(folder)]
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            argv = Path(f"/proc/{name}/cmdline").read_text().split("\0")
        except OSError:
            continue
        count += argv[-3:-1] == wanted
    return count


def _client(run: CaseRun, operations: list[Operation]) -> list[str]:
    """The live database was the old or the restored one all the time, and nobody was locked out of it."""
    from tests.chaos.run import longest_wait_s

    run.outcome.gap_s = run.seen.longest_gap_s
    wrong = [f"the client saw a mix: {state}" for state in run.seen.states - set(run.world.states.values())]
    if not run.seen.answers:
        wrong.append("the client saw nothing at all")
    if run.seen.longest_gap_s > longest_wait_s():
        wrong.append(f"the client was locked out for {run.seen.longest_gap_s:.1f} s")
    if run.subject.name == "backups.backup" and set(run.world.databases()) != {"shop"}:
        wrong.append(f"databases: {run.world.databases()}")
    return wrong


def _rows(run: CaseRun, operations: list[Operation]) -> list[str]:
    """No lock, no open step; no row was `running` for long without a lease."""
    wrong = [f"a lock is left: {lock.key} of {lock.operation}" for lock in OperationLock.objects.all()]
    open_steps = OperationStep.objects.filter(operation__in=operations, state__in=("running", "undoing"))
    wrong += [f"step {step.name} is still {step.state}" for step in open_steps]
    run.outcome.past_lease_s = run.world.watcher.worst_s
    if run.outcome.past_lease_s > NOTICED_WITHIN_S:
        wrong.append(f"running {run.outcome.past_lease_s:.1f} s past its lease")
    return wrong
