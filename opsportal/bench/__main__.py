"""Measure and print. `make bench` gives it throwaway servers."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from opsportal.bench.report import Figure

PARTS = ("backup", "restore", "clicks", "lists", "incidents", "throughput", "switching")
LONG = {"switching"}
"""Half an hour and more: measured only by name."""
TINY_MB = 3.0


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m opsportal.bench", description=__doc__)
    parser.add_argument("--size-mb", type=float, default=640, help="size of the database (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each backup and restore (%(default)s)")
    parser.add_argument("--clicks", type=int, default=100, help="clicks and empty operations (%(default)s)")
    parser.add_argument("--operations", type=int, default=100_000, help="length of the lists (%(default)s)")
    parser.add_argument("--incidents", type=int, default=200_000, help="how many incidents (%(default)s)")
    parser.add_argument("--entries", type=int, default=10_000, help="length of one timeline (%(default)s)")
    parser.add_argument("--switches", type=int, default=500, help="switches behind each proxy (%(default)s)")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this; may be repeated")
    parser.add_argument("--json", type=Path, help="where to write every sample (DATA_DIR/bench.json)")
    wishes = parser.parse_args(argv)
    counts = (wishes.rounds, wishes.clicks, wishes.operations, wishes.incidents, wishes.entries, wishes.switches)
    if wishes.size_mb <= 0 or min(counts) < 1:
        parser.error("sizes and counts must be above zero")
    return wishes


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def run(wishes: argparse.Namespace) -> tuple[dict[str, Any], list[Figure]]:
    """Everything that was asked for: the circumstances and the figures."""
    from opsportal.bench import backup, bare, clicks, going_back, incidents, lists, portal, restore, switching
    from opsportal.bench import throughput as empty
    from opsportal.bench.server import Server

    parts = set(wishes.only or set(PARTS) - LONG)
    server = Server.from_environment()
    compress, compressor = bare.compressor(install=True)
    folder = Path(os.environ["DATA_DIR"]) / "bench-reference"
    facts: dict[str, Any] = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    facts |= {"cores": len(os.sched_getaffinity(0)), "compressor": compressor, "rounds": wishes.rounds}
    figures: list[Figure] = []
    database = f"bench_{os.getpid()}"
    size_mb = wishes.size_mb if parts - LONG else TINY_MB
    try:
        if "switching" in parts:
            say(f"Behind each proxy {wishes.switches} switches ...")
            for proxy in switching.proxies(say):
                figures += switching.figures(switching.measure(proxy, wishes.switches, say))
        say(f"Making a database of about {size_mb:g} MB ...")
        facts["database_bytes"] = server.fill(database, size_mb)
        with portal.Portal(server) as ours:
            place = portal.catalog(server, database)
            reference = bare.Bare(server, folder, compress)
            if parts & {"backup", "restore"}:
                say("Backups ...")
                backups = backup.measure(ours, place, reference, wishes.rounds if "backup" in parts else 1, say)
                facts |= {"archive_bytes": backups.archive.size_bytes if backups.archive else 0}
                facts |= {"reference_bytes": backups.bare_bytes, "backup_parts": backups.parts}
                figures += backup.figures(backups) if "backup" in parts else []
            if "restore" in parts:
                say("Restores ...")
                assert backups.archive is not None
                restores = restore.measure(ours, place, backups.archive, reference, wishes.rounds, say)
                facts |= {"restore_parts": restores.parts}
                figures += restore.figures(restores)
            if "clicks" in parts:
                say("Clicks ...")
                figures += clicks.figures(*clicks.measure(ours, place, wishes.clicks))
            if "lists" in parts:
                say(f"Lists of {wishes.operations:,} operations ...")
                figures += lists.figures(lists.measure(ours, place, wishes.operations, min(wishes.clicks, 30)))
            if "incidents" in parts:
                say(f"Pages of {wishes.incidents:,} incidents ...")
                rounds = min(wishes.clicks, 30)
                figures += incidents.figures(incidents.measure(ours, place, wishes.incidents, wishes.entries, rounds))
            if "throughput" in parts:
                say("Empty operations ...")
                figures += empty.figures(*empty.measure(wishes.clicks * 3))
            if "switching" in parts:
                say("Rollbacks by click ...")
                figures += going_back.figures(going_back.measure(ours, place, wishes.clicks))
    finally:
        portal.close()
        for name in server.databases_like(f"{database}%"):
            server.drop(name)
    return facts, figures


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 when everything was measured, whatever the verdicts: a busy machine is no failure."""
    wishes = parse(argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opsportal.settings")
    django.setup()

    from core.exceptions import PortalError
    from opsportal.bench import report

    try:
        facts, figures = run(wishes)
    except PortalError as error:
        print(error.message, file=sys.stderr)
        return 1
    path = wishes.json or Path(os.environ["DATA_DIR"]) / "bench.json"
    report.write(path, facts, figures)
    print(f"\nDatabase of {facts['database_bytes'] / 1e6:.0f} MB, {facts['cores']} cores, {facts['compressor']}")
    print(report.table(figures))
    say(f"Every sample: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
