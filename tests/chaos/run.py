"""Runs cases, one after the other, and watches what happens meanwhile. Needs Django set up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from django.db import connection

from operations import actions, procedures
from operations.exceptions import Refused
from operations.models import Operation, OperationStep
from tests.chaos import cases as table
from tests.chaos import invariants
from tests.chaos.cases import Blow, Case
from tests.chaos.faults import Fault, Strike
from tests.chaos.servers import CONTROL, LEASE_S, TARGET, WORKERS, Running
from tests.chaos.subjects import CAUGHT, SUBJECTS, subject_of
from tests.chaos.watch import Seen
from tests.chaos.world import World

ENDS_WITHIN_S = 60.0
SETTLES_WITHIN_S = 10.0
SECOND_END_WITHIN_S = 30.0
# "0 surviving child processes a second after a worker's death".
SURVIVES_AT_MOST_S = 1.0
TERMINAL = tuple(Operation.TERMINAL)


@dataclass
class Outcome:
    """What came of a case."""

    case: Case
    seconds: float = 0.0
    states: list[str] = field(default_factory=list)
    strikes: int = 0
    lost: int = 0
    twice: int = 0
    partial: int = 0
    survivors: int = 0
    past_lease_s: float = 0.0
    gap_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    @property
    def is_control(self) -> bool:
        return self.case.name in {control.name for control in table.CONTROLS}

    @property
    def good(self) -> bool:
        """A control is good when it was caught, any other case when nothing was wrong."""
        return bool(self.violations) == self.is_control


def check_table() -> None:
    """Raise AssertionError unless the steps that cases name are those of the procedures."""
    for name, steps in table.STEPS.items():
        known = tuple(step.name for step in procedures.get(name).steps)
        assert tuple(steps) == known, f"cases.STEPS says {steps} for {name}, its steps are {known}"


def states_of(world: World, ids: Sequence[int]) -> dict[int, str]:
    """By a session of its own; empty while the server is away."""
    try:
        with world.portal() as session:
            rows = session.execute("SELECT id, state FROM operations_operation WHERE id = ANY (%s)", [list(ids)])
            return dict(rows.fetchall())
    except psycopg.Error:
        return {}


def have_ended(world: World, ids: Sequence[int]) -> bool:
    found = states_of(world, ids)
    return len(found) == len(ids) and all(state in TERMINAL for state in found.values())


def wait_for(world: World, ids: Sequence[int], within_s: float = ENDS_WITHIN_S) -> None:
    """Until all have ended; keeps the machine running meanwhile."""
    deadline = time.monotonic() + within_s
    while not have_ended(world, ids):
        assert time.monotonic() < deadline, f"not ended: {states_of(world, ids)}"
        world.machine.tend()
        time.sleep(0.05)


def calm(world: World) -> None:
    """Everything runs and the workers have reported themselves."""
    world.machine.wait_ready()
    names = (*WORKERS, CONTROL)
    deadline = time.monotonic() + ENDS_WITHIN_S
    while True:
        pids = [world.machine.running[name].pid for name in names]
        try:
            with world.portal() as session:
                query = "SELECT count(*) FROM operations_workernode WHERE pid = ANY (%s) AND NOT stopping"
                row = session.execute(query, [pids]).fetchone()
            if row and row[0] == len(pids):
                break
        except psycopg.Error:
            pass
        if time.monotonic() > deadline:
            logs = [world.machine.running[name].last_lines() for name in names]
            raise RuntimeError("the workers do not report themselves:\n" + "\n".join(logs))
        world.machine.tend()
        time.sleep(0.05)
    connection.close()


def measure(world: World, *, short: bool) -> None:
    """Run every procedure undisturbed: it must work, and tells how long its steps take.

    In short the undo of a restore is taken to be as quick as the restore.
    """
    for subject in SUBJECTS.values():
        if short and subject.name == "backups.undo_restore":
            continue
        outcome = CaseRun(world, Case(name=f"{subject.name}: undisturbed", subject=subject.name)).run()
        assert not outcome.violations, f"{outcome.case.name}: {outcome.violations}"
        for step in OperationStep.objects.filter(operation__procedure=subject.name):
            world.durations[subject.name, step.name] = step.seconds or 0.0
            world.durations.setdefault(("backups.undo_restore", step.name), step.seconds or 0.0)


class CaseRun:
    """One case, once."""

    def __init__(self, world: World, case: Case) -> None:
        self.world, self.case = world, case
        self.subject = subject_of(case)
        self.outcome = Outcome(case)
        self.ids: list[int] = []
        self.seen = Seen()
        self.strikes: dict[int, Strike] = {}
        self._to_count: list[Strike] = []
        self._flushes = case.flushes

    def run(self) -> Outcome:
        calm(self.world)
        self.world.reset(self.subject.begins_in)
        self.world.faults.arm([self._fault(blow) for blow in self.case.blows])
        started = time.monotonic()
        self.seen = self.world.client.begin()
        self.world.watcher.worst_s = 0.0
        self.ids = [self.subject.ask(self.world).pk for _ in range(self.case.operations)]
        try:
            self._follow()
        finally:
            self._thaw()
        self._settle()
        invariants.check(self)
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def _fault(self, blow: Blow) -> Fault:
        server = table.SERVERS.get(blow.what)
        # Those that must be caught are not measured; they are as quick as the one done right.
        name = "chaos.counting" if self.subject.name in CAUGHT else self.subject.name
        return Fault(
            procedure=self.subject.name,
            step=blow.step,
            point=blow.point,
            action="kill groups" if server else blow.what,
            delay_s=blow.depth * self.world.durations.get((name, blow.step), 0.2),
            groups=[self.world.machine.running[server].pid] if server else [],
            weaken=self.case.weaken,
        )

    def _follow(self) -> None:
        deadline = time.monotonic() + ENDS_WITHIN_S
        flush_at = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            self._look()
            if self._flushes and time.monotonic() > flush_at:
                self._flushes, flush_at = self._flushes - 1, time.monotonic() + 0.7
                self.world.flush_redis()
                self.outcome.strikes += 1
            if not self._to_count and have_ended(self.world, self.ids):
                return
            time.sleep(0.02)
        self.outcome.violations.append(f"not over within {ENDS_WITHIN_S:g} s: {self._diagnosis()}")

    def _diagnosis(self) -> str:
        """What the rows, the log and the target's sessions say while it is still stuck."""
        found = [str(states_of(self.world, self.ids))]
        try:
            with self.world.portal() as session:
                query = "SELECT text FROM operations_logline ORDER BY id DESC LIMIT 4"
                found += [row[0] for row in session.execute(query).fetchall()]
            with self.world.target() as session:
                query = """
                    SELECT concat_ws(' ', pid, application_name, datname, state, wait_event, left(query, 80))
                    FROM pg_stat_activity WHERE application_name LIKE 'opsportal%'"""
                found += [row[0] for row in session.execute(query).fetchall()]
        except psycopg.Error as error:
            found.append(str(error))
        found += [self.world.machine.running[name].last_lines(4) for name in WORKERS]
        return "\n           ".join(found)

    def _look(self) -> None:
        """See what has struck, count what outlives a dead worker, start again what has gone."""
        for strike in self.world.faults.strikes():
            if strike.number not in self.strikes:
                self.strikes[strike.number] = strike
                self.outcome.strikes += 1
                what = self.case.blows[strike.number].what
                if what.startswith("kill"):
                    self._to_count.append(strike)
                elif what == "cancel":
                    self._cancel(strike.operation)
        for strike in [s for s in self._to_count if time.time() >= s.at + SURVIVES_AT_MOST_S]:
            self._to_count.remove(strike)
            for pid, argv in self.world.machine.commands(strike.worker_pid).items():
                self.outcome.survivors += 1
                self.outcome.violations.append(f"outlives its worker: {pid} {argv[:100]}")
        self.world.machine.tend()
        self.world.client.excuse(not self.world.machine.running[TARGET].is_ready())

    def _cancel(self, operation: int) -> None:
        try:
            actions.cancel(Operation.objects.get(pk=operation), by=self.world.person)
        except Refused:
            pass  # it was quicker

    def _frozen(self) -> list[Running]:
        pids = {s.worker_pid for n, s in self.strikes.items() if self.case.blows[n].what.startswith("freeze")}
        return [running for running in self.world.machine.running.values() if running.pid in pids]

    def _thaw(self) -> None:
        """Let those that stood still go on: too late, everything is done."""
        for running in self._frozen():
            running.signal(signal.SIGCONT)
            for pid in self.world.machine.commands(running.pid):
                os.kill(pid, signal.SIGCONT)
            if self.case.weaken:
                self._wait_for_the_second_end()
                running.stop()
            else:
                time.sleep(2.0)

    def _wait_for_the_second_end(self) -> None:
        """What a worker without a fence does when it goes on, however slow the machine is."""
        operations = list(Operation.objects.filter(pk__in=self.ids))
        deadline = time.monotonic() + SECOND_END_WITHIN_S
        while time.monotonic() < deadline and not invariants.completed_twice(self, operations):
            time.sleep(0.1)

    def _settle(self) -> None:
        """Servers are back, and what workers have started is gone."""
        calm(self.world)
        if self.outcome.is_control:
            for pid in self.world.machine.commands():
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + SETTLES_WITHIN_S
        while self.world.machine.commands() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.world.client.excuse(False)
        self.world.machine.tend()


def longest_wait_s() -> float:
    """How long the client may have to wait: a worker stands still in the swap until its successor ends its session."""
    return LEASE_S + 5.0 + float(os.environ.get("CHAOS_SLACK_S", "1"))
