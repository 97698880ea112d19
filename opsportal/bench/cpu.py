"""Processor time: on a machine that others use too it says more than the clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from opsportal.bench.server import Server

_TICKS = os.sysconf("SC_CLK_TCK")


def spent_s(pid: int) -> float:
    """Seconds a process and its ended children have worked, in user mode and in the kernel; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / _TICKS


def postmaster(server: Server) -> int:
    """Process id of the target server, whose ended children are its sessions."""
    with server.connect() as session:
        row = session.execute("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int").fetchone()
    assert row is not None
    return int(row[0])


class Meter:
    """Adds up what a changing set of processes spends."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self.pids = pids
        self._before: dict[int, float] = {}

    def start(self) -> None:
        self._before = {pid: spent_s(pid) for pid in self.pids()}

    def stop(self) -> float:
        """Seconds since `start`. Waits a moment: a session counts when the server has noticed its end."""
        time.sleep(0.05)
        return sum(spent_s(pid) - self._before.get(pid, 0.0) for pid in {*self.pids(), *self._before})
