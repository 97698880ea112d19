"""`python -m tests.chaos`: every case, or as many as fit into some minutes, and the counts at the end.

A run of everything ends with the deployments, which `python -m tests.chaos.deployments` runs alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import django

from tests.chaos import cases as table
from tests.chaos.cases import Case
from tests.chaos.servers import Machine

if TYPE_CHECKING:
    from tests.chaos.run import Outcome


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    with Machine() as machine:
        env = machine.environment()
        for name in env:
            os.environ.pop(f"{name}_FILE", None)  # would win over what follows
        os.environ.update(env)
        django.setup()
        outcomes = _run(machine, env, options)
    _report(outcomes)
    if options.json:
        Path(options.json).write_text(json.dumps([_plain(outcome) for outcome in outcomes]))
    good = all(outcome.good for outcome in outcomes)
    if not (options.short or options.minutes or options.only):
        print(flush=True)
        good = subprocess.call([sys.executable, "-m", "tests.chaos.deployments"]) == 0 and good
    return 0 if good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the selection that the suite runs")
    parser.add_argument("--minutes", type=float, help="go on, in random order, until the time is over")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--seed", type=int, default=None, help="of the order and of how deep into a step blows go")
    parser.add_argument("--json", help="write what came of each case into this file")
    return parser.parse_args()


def _run(machine: Machine, env: dict[str, str], options: argparse.Namespace) -> list[Outcome]:
    # Models are there only now.
    from tests.chaos.run import CaseRun, check_table, measure
    from tests.chaos.world import World

    began = time.monotonic()
    check_table()
    world = World(machine)
    world.create()
    machine.start_workers(env)
    for thread in (world.watcher, world.client):
        thread.start()
    outcomes = []
    try:
        measure(world, short=options.short)
        print(f"ready after {time.monotonic() - began:.1f} s", flush=True)
        for case in _cases(options):
            outcome = CaseRun(world, case).run()
            outcomes.append(outcome)
            _say(outcome)
    finally:
        for thread in (world.watcher, world.client):
            thread.stop()
        world.service("stop")
    return outcomes


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    wanted = [case for case in (table.short() if options.short else table.every()) if options.only in case.name]
    if not options.minutes:
        yield from wanted
        return
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}", flush=True)
    dice, until = random.Random(seed), time.monotonic() + options.minutes * 60
    while True:
        dice.shuffle(wanted)
        for case in wanted:
            if time.monotonic() > until:
                return
            yield replace(case, blows=tuple(replace(blow, depth=dice.uniform(0.02, 0.98)) for blow in case.blows))


def _say(outcome: Outcome) -> None:
    word = ("caught" if outcome.is_control else "ok") if outcome.good else "WRONG"
    states = ", ".join(sorted(set(outcome.states)))
    print(f"{word:6} {outcome.seconds:5.1f} s  {outcome.case.name}  -> {states}", flush=True)
    for text in outcome.violations:
        print(f"         {text}", flush=True)


def _report(outcomes: list[Outcome]) -> None:
    real = [outcome for outcome in outcomes if not outcome.is_control]
    controls = [outcome for outcome in outcomes if outcome.is_control]
    lines = {
        "cases": len(real),
        "kills, freezes and flushes": sum(outcome.strikes for outcome in real),
        "operations": sum(len(outcome.states) + outcome.lost for outcome in real),
        "operations lost": sum(outcome.lost for outcome in real),
        "completed twice": sum(outcome.twice for outcome in real),
        "partial files visible": sum(outcome.partial for outcome in real),
        "processes surviving": sum(outcome.survivors for outcome in real),
        "longest running past its lease": f"{max((outcome.past_lease_s for outcome in real), default=0):.1f} s",
        "longest wait of a client": f"{max((outcome.gap_s for outcome in real), default=0):.1f} s",
        "cases with a violation": sum(not outcome.good for outcome in real),
        "controls caught": f"{sum(outcome.good for outcome in controls)} of {len(controls)}",
    }
    print()
    for what, value in lines.items():
        print(f"{what:32}{value:>8}")


def _plain(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.case.name,
        "good": outcome.good,
        "states": outcome.states,
        "violations": outcome.violations,
        "past_lease_s": outcome.past_lease_s,
    }


if __name__ == "__main__":
    sys.exit(main())
