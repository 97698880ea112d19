"""Backup: the portal's operation against `pg_dump -Fc -Z0 | zstd -1`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backups import actions
from backups.models import Archive
from opsportal.bench.bare import Bare
from opsportal.bench.cpu import Meter, postmaster
from opsportal.bench.memory import PoolMemory, children
from opsportal.bench.portal import Place, Portal, click_to_end, finished, step_seconds, wait_for_step
from opsportal.bench.report import Figure, ratio

GOAL = 1.25
MEMORY_GOAL_MB = 64.0
MB = 1e6


@dataclass
class Backups:
    """What the rounds gave, in seconds and bytes."""

    archive: Archive | None = None
    bare: list[float] = field(default_factory=list)
    bare_bytes: int = 0
    portal: list[float] = field(default_factory=list)
    verify: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    bare_cpu: list[float] = field(default_factory=list)
    portal_cpu: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    memory_kind: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)


def measure(portal: Portal, place: Place, bare: Bare, rounds: int, say: Callable[[str], None]) -> Backups:
    """Interleaved rounds, each kind first in turn, after one of the bare programs that only warms the caches."""
    found = Backups()
    database = place.plan.target.database
    memory = PoolMemory(portal.operations_worker)
    memory.remember_idle()
    bare.backup(database)
    bare_cpu, portal_cpu = meters(portal, bare)

    def reference() -> None:
        bare.server.settle()
        bare_cpu.start()
        seconds, found.bare_bytes = bare.backup(database)
        found.bare.append(seconds)
        found.bare_cpu.append(bare_cpu.stop())

    def ours() -> None:
        bare.server.settle()
        portal_cpu.start()
        with memory:
            operation = actions.request_backup(place.plan, by=place.by, reason="Measurement")
            wait_for_step(operation, "publish")
            found.portal_cpu.append(portal_cpu.stop())
            operation = finished(operation)
        steps = step_seconds(operation)
        found.portal.append(steps["check"] + steps["dump"] + steps["publish"])
        found.verify.append(steps["verify"])
        found.whole.append(click_to_end(operation))
        found.memory.append(memory.above_idle())
        found.archive = Archive.objects.get(operation=operation)
        found.parts.append({**steps, "dump_parts": (found.archive.manifest or {}).get("seconds")})

    for number in range(rounds):
        for run in (ours, reference) if number % 2 == 0 else (reference, ours):
            run()
        say(f"  backup {number + 1}: portal {found.portal[-1]:.2f} s, bare {found.bare[-1]:.2f} s")
    found.memory_kind = memory.kind
    return found


def meters(portal: Portal, bare: Bare) -> tuple[Meter, Meter]:
    """Processor time of the bare programs, and of the operations worker; both with the target server's sessions."""
    server = postmaster(bare.server)
    return Meter(lambda: [os.getpid(), server]), Meter(lambda: [*children(portal.operations_worker), server])


def figures(found: Backups) -> list[Figure]:
    """For the report."""
    return [
        ratio("Backup / pg_dump | zstd -1", found.portal, found.bare, GOAL),
        Figure("  portal: check, dump, publish", "s", found.portal),
        Figure("  bare: pg_dump -Fc -Z0 | zstd -1, fsync", "s", found.bare),
        ratio("  processor time, portal / bare", found.portal_cpu, found.bare_cpu),
        Figure("  portal: verify", "s", found.verify),
        Figure("  portal: click to verified", "s", found.whole),
        Figure(
            f"  worker above idle ({found.memory_kind})", "MB", [n / MB for n in found.memory], MEMORY_GOAL_MB, "max"
        ),
    ]
