"""`python -m tests.chaos.deployments`: every case, or some of them, and the counts at the end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import django

from opsportal.stack.servers import DATABASE
from tests.chaos.deployments import cases as table
from tests.chaos.servers import Machine

if TYPE_CHECKING:
    from tests.chaos.deployments.run import Outcome


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    with Machine() as machine, ExitStack() as stack:
        env = machine.environment()
        for name in env:
            os.environ.pop(f"{name}_FILE", None)  # would win over what follows
        assert machine.servers.portal
        # Whoever looks on may take its time in a transaction; only workers may not.
        os.environ.update(env, DATABASE_URL=machine.servers.portal.url(DATABASE))
        django.setup()
        outcomes = _run(machine, env, options, stack)
    _report(outcomes)
    if options.json:
        Path(options.json).write_text(json.dumps([_plain(outcome) for outcome in outcomes]))
    return 0 if outcomes and all(outcome.good for outcome in outcomes) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.deployments", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the selection that the suite runs")
    parser.add_argument("--only", default="", help="cases whose name contains this; several between commas")
    parser.add_argument("--json", help="write what came of each case into this file")
    return parser.parse_args()


def _run(machine: Machine, env: dict[str, str], options: argparse.Namespace, stack: ExitStack) -> list[Outcome]:
    # Models are there only now.
    from django.urls import get_resolver

    from tests.chaos.deployments.run import CaseRun, Site, check_table
    from tests.chaos.world import World

    began = time.monotonic()
    check_table()
    _ = get_resolver().url_patterns  # news name pages: loading them all inside a transaction would take too long
    wanted = _cases(options)
    world = World(machine)
    world.create()
    machine.start_workers(env)
    world.watcher.start()
    outcomes = []
    try:
        site = Site(world, stack, sorted({case.proxy for case in wanted}))
        site.measure(short=options.short)
        print(f"ready after {time.monotonic() - began:.1f} s", flush=True)
        for case in wanted:
            outcome = CaseRun(site, case).run()
            outcomes.append(outcome)
            _say(outcome)
    finally:
        world.watcher.stop()
        world.service("stop")
    return outcomes


def _cases(options: argparse.Namespace) -> list[table.Case]:
    words = options.only.split(",")
    return [case for case in (table.short() if options.short else table.every()) if any(w in case.name for w in words)]


def _say(outcome: Outcome) -> None:
    word = ("caught" if outcome.case.is_control else "ok") if outcome.good else "WRONG"
    after = f", {outcome.settled_s:.1f} s after the fault" if outcome.strikes else ""
    print(f"{word:6} {outcome.seconds:5.1f} s  {outcome.case.name}  -> {outcome.state}{after}", flush=True)
    for text in outcome.violations:
        print(f"         {text}", flush=True)


def _report(outcomes: list[Outcome]) -> None:
    real = [outcome for outcome in outcomes if not outcome.case.is_control]
    controls = [outcome for outcome in outcomes if outcome.case.is_control]
    lines = {
        "cases of deployments": len(real),
        "kills, freezes and cancels": sum(outcome.strikes for outcome in real),
        "requests of users": f"{sum(outcome.requests for outcome in real):,}",
        "failed without being struck": sum(outcome.failed for outcome in real),
        "longest until one whole state": f"{max((outcome.settled_s for outcome in real), default=0):.1f} s",
        "longest running past its lease": f"{max((outcome.past_lease_s for outcome in real), default=0):.1f} s",
        "cases with a violation": sum(not outcome.good for outcome in real),
        "control caught": f"{sum(outcome.good for outcome in controls)} of {len(controls)}",
    }
    print()
    for what, value in lines.items():
        print(f"{what:32}{value:>8}")


def _plain(outcome: Outcome) -> dict[str, object]:
    return {**asdict(outcome), "case": outcome.case.name, "good": outcome.good}


if __name__ == "__main__":
    sys.exit(main())
