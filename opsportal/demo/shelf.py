"""What every archive of the history is called, holds and weighs, the removed ones included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from zoneinfo import ZoneInfo

from backups import naming
from backups.manifest import DumpFacts, FileEntry, TableEntry
from backups.models import Plan
from backups.storages.local import LocalStorage
from opsportal.demo.dumps import SNAPSHOT_AFTER, Stock
from opsportal.demo.timeline import Backup, Outcome, Story

# Share of a day's new rows in all rows, Monday to Sunday: the same rhythm as in sql/erp_trade.sql.
DAILY_GROWTH = (0.0031, 0.0033, 0.0032, 0.0032, 0.0028, 0.001, 0.0004)
LARGE_TABLE = 15_000  # rows; smaller ones hold master data, which hardly grows
MANIFEST_BYTES = 5_500


@dataclass
class Shelf:
    """Per key of a backup that succeeded: its name, what the dump found, its size in bytes."""

    names: dict[str, str] = field(default_factory=dict)
    facts: dict[str, DumpFacts] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def arrange(story: Story, stock: Stock, plans: Mapping[str, Plan]) -> Shelf:
    """Names by the plans' patterns; contents as dumped, or scaled down from the oldest dump of the plan."""
    shelf, random = Shelf(), Random(7)  # noqa: S311 - noise, not a secret
    for backup in story.backups:
        if backup.outcome is not Outcome.OK:
            continue
        plan = plans[backup.plan]
        shelf.names[backup.key] = _name(plan, backup)
        dumped = stock.dumped.get(backup.key)
        if dumped is None:
            oldest = next(one.facts for one in stock.dumped.values() if one.backup.plan == backup.plan)
            moment = backup.requested_at + SNAPSHOT_AFTER
            facts = scaled(oldest, _share(moment, oldest.snapshot_at), random.uniform(0.997, 1.003), moment)
        else:
            facts = dumped.facts
        shelf.facts[backup.key] = facts
        shelf.sizes[backup.key] = facts.archive_bytes + MANIFEST_BYTES
    return shelf


def _name(plan: Plan, backup: Backup) -> str:
    """By the plan's pattern; with a number where an archive of an earlier installation lies."""
    pattern = plan.name_pattern if backup.purpose == "scheduled" else plan.on_demand_pattern
    name = naming.archive_name(pattern, backup.named_at, ZoneInfo(plan.time_zone))
    taken = {path.name for path in LocalStorage(plan.storage.root).list(plan.folder)}
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _share(moment: datetime, later: datetime) -> float:
    """How much of the rows of `later` there was at `moment`."""
    share, day = 1.0, moment.date()
    while day < later.date():
        share *= 1 - DAILY_GROWTH[day.weekday()]
        day = day.fromordinal(day.toordinal() + 1)
    return share


def scaled(facts: DumpFacts, share: float, noise: float, snapshot_at: datetime) -> DumpFacts:
    """The facts of an earlier moment: fewer rows in the large tables, smaller files."""

    def table(entry: TableEntry) -> TableEntry:
        return replace(entry, rows=int(entry.rows * share)) if entry.rows > LARGE_TABLE else entry

    def file(entry: FileEntry) -> FileEntry:
        return replace(entry, size=int(entry.size * share * noise)) if entry.size > LARGE_TABLE else entry

    return replace(
        facts,
        snapshot_at=snapshot_at,
        database_bytes=int(facts.database_bytes * (0.4 + 0.6 * share)) // 8192 * 8192,
        tables=[table(entry) for entry in facts.tables],
        files=[file(entry) for entry in facts.files],
    )
