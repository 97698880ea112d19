"""Runs cases, one after the other, and judges what they leave behind. Needs Django set up."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from backups import manifest
from backups.exceptions import ArchiveDamaged
from operations import procedures
from operations.models import Operation, OperationLock, OperationStep
from tests.chaos import cases as table
from tests.chaos.cases import Blow, Case
from tests.chaos.faults import Fault, Strike
from tests.chaos.servers import CONTROL, LEASE_S, PORTAL, REDIS, TARGET, WORKERS, Worker
from tests.chaos.subjects import CARELESS, SUBJECTS, Subject, archives
from tests.chaos.world import LIVE, World

ENDS_WITHIN_S = 60.0
# The promise is lease + 5 s; so much may a client wait in the worst case, a worker that stands still inside the swap.
NOTICED_WITHIN_S = 5.0
LONGEST_GAP_S = LEASE_S + NOTICED_WITHIN_S
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
    notes: list[str] = field(default_factory=list)

    @property
    def is_control(self) -> bool:
        return self.case in table.CONTROLS

    @property
    def good(self) -> bool:
        """A control is good when it was caught, any other case when nothing was wrong."""
        return bool(self.violations) == self.is_control


def check_table() -> None:
    """The steps that cases name are those of the procedures. Raises AssertionError."""
    for name, steps in table.STEPS.items():
        known = tuple(step.name for step in procedures.get(name).steps)
        assert tuple(steps) == known, f"cases.STEPS says {steps} for {name}, its steps are {known}"


def persistently[Result](ask: object) -> object: ...


def states_of(world: World, ids: Sequence[int]) -> dict[int, str]:
    """By a session of its own that breaks with the server; empty while that is away."""
    try:
        with world.portal() as session:
            rows = session.execute("SELECT id, state FROM operations_operation WHERE id = ANY (%s)", [list(ids)])
            return dict(rows.fetchall())
    except psycopg.Error:
        return {}


def wait_for(world: World, ids: Sequence[int], within_s: float = ENDS_WITHIN_S) -> bool:
    """Until all have ended; keeps the machine running meanwhile. False when they have not in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        world.machine.tend()
        found = states_of(world, ids)
        if len(found) == len(ids) and all(state in TERMINAL for state in found.values()):
            return True
        time.sleep(0.03)
    return False
