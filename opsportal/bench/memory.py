"""Memory of the processes that run operations."""

from __future__ import annotations

import threading
import time
from pathlib import Path


def children(pid: int) -> list[int]:
    """The processes that any thread of `pid` has started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in path.read_text().split()]
        except OSError:
            continue
    return found


def used_bytes(pid: int) -> tuple[str, int]:
    """What a process uses: ("PSS", bytes), where shared pages count by share, or ("RSS", bytes) if that is closed."""
    for kind, path in (("PSS", f"/proc/{pid}/smaps_rollup"), ("RSS", f"/proc/{pid}/status")):
        label = {"PSS": "Pss:", "RSS": "VmRSS:"}[kind]
        try:
            for line in Path(path).read_text().splitlines():
                if line.startswith(label):
                    return kind, int(line.split()[1]) * 1024
        except OSError:
            continue
    return "RSS", 0


class PoolMemory:
    """The peak of each pool child of a worker while the block runs. `kind` says what was read: PSS or RSS."""

    EVERY_S = 0.1

    def __init__(self, worker_pid: int) -> None:
        self.worker_pid = worker_pid
        self.kind = "PSS"
        self.idle: dict[int, int] = {}
        self.peak: dict[int, int] = {}
        self._stop = threading.Event()

    def read(self) -> dict[int, int]:
        """Bytes by process id, now."""
        found = {}
        for pid in children(self.worker_pid):
            self.kind, used = used_bytes(pid)
            if used:
                found[pid] = used
        return found

    def remember_idle(self, limit_s: float = 10) -> None:
        """Take the present for the idle state once it has been steady for half a second."""
        deadline, before = time.monotonic() + limit_s, self.read()
        while time.monotonic() < deadline:
            time.sleep(0.5)
            now = self.read()
            if now and now.keys() == before.keys() and all(abs(now[pid] - before[pid]) < 200_000 for pid in now):
                break
            before = now
        self.idle = before

    def __enter__(self) -> PoolMemory:
        self.peak = {}
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.EVERY_S):
            for pid, used in self.read().items():
                self.peak[pid] = max(used, self.peak.get(pid, 0))

    def above_idle(self) -> int:
        """Bytes by which the busiest child exceeded its idle state; one that came later counts from the smallest."""
        least = min(self.idle.values(), default=0)
        return max((peak - self.idle.get(pid, least) for pid, peak in self.peak.items()), default=0)
