"""Runs cases, one after the other: a deployment under load, struck, then looked at, then another one. Needs Django."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import close_old_connections

from catalog.models import Service
from deployments.actions import requesting, rollback
from deployments.models import Deployment
from operations import actions, procedures
from operations.exceptions import Refused
from operations.models import Operation, OperationStep
from opsportal.stack.process import start_time
from tests.chaos import cases as table_of_operations
from tests.chaos.cases import Blow
from tests.chaos.deployments import cases as table
from tests.chaos.deployments import invariants, strikes
from tests.chaos.deployments.cases import COLD, DEPLOY, ROLLBACK, Case
from tests.chaos.deployments.place import WATCH_FOR, Place, make, port
from tests.chaos.faults import Fault, Strike
from tests.chaos.run import ENDS_WITHIN_S, SETTLES_WITHIN_S, calm, have_ended, states_of, wait_for
from tests.chaos.servers import CONTROL, Running, Worker
from tests.chaos.world import World
from tests.deployments import grounds
from tests.deployments.grounds import Seen

SERVERS = {**table_of_operations.SERVERS, **{proxy: proxy for proxy in table.PROXIES}}
LOAD, RATE = {"keep": 2, "post": 1, "slow": 1, "fresh": 1}, 30.0
AGENT_S = 0.12
"""About how long one request to the agent takes."""
STARTS_WITHIN_S = 60.0


@dataclass
class Outcome:
    """What came of a case."""

    case: Case
    seconds: float = 0.0
    state: str = ""
    message: str = ""
    strikes: int = 0
    settled_s: float = 0.0
    """From the end of the fault until the deployment had ended."""
    requests: int = 0
    failed: int = 0
    past_lease_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """The control is good when all of it was caught, any other case when nothing was wrong."""
        if self.case.is_control:
            return all(any(word in text for text in self.violations) for word in table.CAUGHT)
        return not self.violations


class Site:
    """The places that are deployed to, and how long that takes undisturbed."""

    def __init__(self, world: World, stack: ExitStack, proxies: Sequence[str]) -> None:
        self.world = world
        self._began = time.monotonic()
        service = Service.objects.create(name="ERP", slug="erp")
        self.places = {proxy: make(world, proxy, service, stack) for proxy in proxies}
        self.durations: dict[tuple[str, str], float] = {}
        self.undisturbed_s: dict[str, float] = {}
        self.starts_s = 0.0
        """How long workers need to start; only cases that kill both have to wait for it."""

    def measure(self, *, short: bool) -> None:
        """Everything works when nobody strikes, and two versions are there. Call when the workers were just started."""
        calm(self.world)
        self.starts_s = time.monotonic() - self._began
        for place in self.places.values():
            for subject in (DEPLOY, DEPLOY) if short else (DEPLOY, DEPLOY, ROLLBACK, DEPLOY):
                self._measure(place, subject)
        self.durations["deployments.deploy", "back_up"] = 0.05  # it asks for a backup and gives the worker back
        for step in table.STEPS[ROLLBACK]:
            self.durations.setdefault(("deployments.rollback", step), 0.3)
        self.undisturbed_s.setdefault(ROLLBACK, self.undisturbed_s[DEPLOY])
        self.undisturbed_s[COLD] = self.undisturbed_s[DEPLOY]

    def _measure(self, place: Place, subject: str) -> None:
        calm(self.world)
        row = ask(place, subject)
        wait_for(self.world, [row.operation_id or 0], within_s=STARTS_WITHIN_S)
        row.refresh_from_db()
        assert row.state == Deployment.State.LIVE, f"undisturbed: {row.state} {row.message}"
        assert row.operation and row.operation.ended_at
        self.undisturbed_s[subject] = (row.operation.ended_at - row.operation.requested_at).total_seconds()
        for step in OperationStep.objects.filter(operation=row.operation):
            self.durations[f"deployments.{subject}", step.name] = step.seconds or 0.0


def check_table() -> None:
    """Raise AssertionError unless the steps that cases name are those of the procedures."""
    for name, steps in table.STEPS.items():
        known = tuple(step.name for step in procedures.get(f"deployments.{name}").steps)
        assert tuple(steps) == known, f"cases.STEPS says {steps} for {name}, its steps are {known}"


def ask(place: Place, subject: str) -> Deployment:
    person = place.world.person
    if subject == DEPLOY:
        row = requesting.request_deployment(place.environment, place.release(), by=person)
        return requesting.start(row, by=person)
    if subject == COLD:
        strikes.kill_program(place.root, live=False)
    return rollback.request_rollback(place.environment, by=person, reason="It does not work.")


class CaseRun:
    """One case, once."""

    def __init__(self, site: Site, case: Case) -> None:
        self.site, self.world, self.case = site, site.world, case
        self.place = site.places[case.proxy]
        self.outcome = Outcome(case)
        self.before = self.after = ""
        self.strikes: dict[int, Strike] = {}
        self.over_at = 0.0
        self.seen: list[Seen] = []

    def run(self) -> Outcome:
        calm(self.world)
        close_old_connections()
        self.place.change(
            backup_plan=self.world.plan if self.case.backs_up else None,
            auto_rollback=self.case.goes_back,
            watch_for=timedelta(seconds=self.case.watch_for_s),
        )
        self.before = self.place.version
        self.world.faults.arm([self._fault(blow) for blow in self.case.blows])
        started = time.monotonic()
        self.world.watcher.worst_s = 0.0
        with grounds.load(self.place.port, LOAD, RATE) as self.seen:
            self.row = ask(self.place, self.case.subject)
            self.operation = self.row.operation_id or 0
            try:
                self._follow()
            finally:
                self._thaw()
            self._settle()
        with self._spoiled() if self.case.is_control else nullcontext():
            invariants.check(self)
        if not self.case.is_control:
            self.outcome.violations += self._next()
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def _fault(self, blow: Blow) -> Fault:
        server = SERVERS.get(blow.what)
        agent = blow.what == "kill agent"
        usual = self.site.durations.get((self.case.procedure, blow.step), 0.2)
        return Fault(
            procedure=self.case.procedure,
            step=blow.step,
            point=blow.point,
            action="kill groups" if server else blow.what,
            delay_s=0.0 if agent else blow.depth * usual,
            groups=[self.world.machine.running[server].pid] if server else [],
            place=str(self.place.root),
            into_s=blow.depth * AGENT_S,
        )

    # -- while it runs -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        deadline = time.monotonic() + ENDS_WITHIN_S
        while time.monotonic() < deadline:
            self._look()
            if have_ended(self.world, [self.operation]):
                self.outcome.settled_s = max(0.0, time.time() - self.over_at) if self.over_at else 0.0
                return
            time.sleep(0.02)
        self.outcome.violations.append(f"not over within {ENDS_WITHIN_S:g} s: {self._diagnosis()}")

    def _look(self) -> None:
        """See what has struck and when it was over, and start again what has gone."""
        for strike in self.world.faults.strikes():
            if strike.number not in self.strikes:
                self.strikes[strike.number] = strike
                self.outcome.strikes += 1
                self.over_at = max(self.over_at, strike.at)
                if self.case.blows[strike.number].what == "cancel":
                    self._cancel()
        self.world.machine.tend()
        struck = [self.case.blows[number].what for number in self.strikes]
        if any(what in SERVERS and not self.world.machine.running[SERVERS[what]].is_ready() for what in struck):
            self.over_at = time.time()

    def _cancel(self) -> None:
        try:
            actions.cancel(Operation.objects.get(pk=self.operation), by=self.world.person)
        except Refused:
            pass  # it was quicker

    def _thaw(self) -> None:
        """Let those that stood still go on: too late, everything is done."""
        for running in self._frozen():
            running.signal(signal.SIGCONT)
            for pid in self.world.machine.commands(running.pid):
                os.kill(pid, signal.SIGCONT)
            time.sleep(2.0)

    def _frozen(self) -> list[Running]:
        pids = {s.worker_pid for n, s in self.strikes.items() if self.case.blows[n].what.startswith("freeze")}
        return [running for running in self.world.machine.running.values() if running.pid in pids]

    def commands(self) -> dict[int, str]:
        """What workers have started and still lives, but for the programs of slots, which are meant to, and for what
        the control worker looks at by itself."""
        machine, control = self.world.machine, self.world.machine.running[CONTROL]
        assert isinstance(control, Worker)
        found = machine.commands()
        meant = {pid for place in self.site.places.values() for pid in place.running()}
        meant |= {pid for worker in control.folder_of for pid in machine.commands(worker)}
        return {pid: argv for pid, argv in found.items() if pid not in meant and start_time(pid) is not None}

    def _settle(self) -> None:
        """Servers are back, and what workers have started is gone."""
        calm(self.world)
        deadline = time.monotonic() + SETTLES_WITHIN_S
        while self.commands() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.world.machine.tend()

    def _diagnosis(self) -> str:
        """What the rows and the log say while it is still stuck."""
        found = [str(states_of(self.world, [self.operation]))]
        with self.world.portal() as session:
            query = "SELECT text FROM operations_logline WHERE operation_id = %s ORDER BY id DESC LIMIT 6"
            found += [row[0] for row in session.execute(query, [self.operation]).fetchall()]
        return "\n           ".join(found)

    # -- afterwards ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _spoiled(self) -> Iterator[None]:
        """For the control: what must be seen in this block, and is mended at its end."""
        folder = next(iter(self.place.running().values()))
        argv, env = [sys.executable, "app.py", str(port())], {"OPS_VERSION": "v0.0.0"}
        with subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.DEVNULL) as orphan:
            self.place.turn()
            try:
                yield
            finally:
                self.place.turn()
                orphan.kill()

    def _next(self) -> list[str]:
        """Another deployment: nothing keeps it, and nobody notices it."""
        self.world.faults.arm([])
        self.place.change(backup_plan=None, auto_rollback=False, watch_for=WATCH_FOR)
        with grounds.load(self.place.port, LOAD, RATE) as seen:
            try:
                row = ask(self.place, DEPLOY)
                wait_for(self.world, [row.operation_id or 0], within_s=STARTS_WITHIN_S)
            except Exception as error:
                return [f"the next deployment: {type(error).__name__}: {error}"]
        row.refresh_from_db()
        wrong = [f"next: {text}" for text in invariants.of_load(self, seen, {self.after, row.release.version})]
        if row.state != Deployment.State.LIVE:
            wrong.append(f"the next deployment ended {row.state}: {row.message}")
        return wrong + [f"next: {text}" for text in invariants.of_place(self.place, row.release.version)]
