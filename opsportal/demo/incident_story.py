"""The incidents of thirty days, as what people did and said: pure values, no records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.roles import Role
from incidents.models import PublicStatus, TimelineEntry
from opsportal.demo.history import Teller
from opsportal.demo.timeline import FAILED, at

Kind = TimelineEntry.Kind
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Past:
    """An incident that is over, or nearly: minutes count from its declaration."""

    rank: int
    declared: datetime
    title: str
    began: int = 0  # minutes before the declaration
    acknowledged: float | None = None
    mitigated: float | None = None
    resolved: float | None = None
    closed: float | None = None
    by: Role | None = None  # None: a rule
    worked: Role = Role.OPERATOR
    impacts: Sequence[str] = ()
    components: Sequence[str] = ()
    users: int | None = None
    loss: str = ""
    cause: str = ""
    fix: str = ""
    notes: Sequence[tuple[float, str, str]] = ()  # minute, kind, text
    operations: Sequence[str] = ()
    updates: Sequence[tuple[float, str, str]] = ()  # minute, public status, text
    actions: Sequence[tuple[str, Role, int, bool]] = field(default_factory=tuple)  # text, owner, due in days, done


def tell(teller: Teller, now: datetime) -> list[Past]:
    """All of them, the oldest first; the last one is open now."""
    nights, moments = teller.story.nights, teller.story.moments
    told = [
        _orders_missing(moments["restored"] - 22 * MINUTE),
        _backup_failed(nights[FAILED - 1] + MINUTE),
        _report_slow(at(nights[15], 9, 40)),
        _archive_damaged(moments["damage found"] + 2 * MINUTE),
        _invoices_slow(now - 38 * MINUTE),
    ]
    return sorted(told, key=lambda past: past.declared)


def _orders_missing(declared: datetime) -> Past:
    return Past(
        1,
        declared,
        "Paid orders of the last quarter are missing",
        began=18,
        acknowledged=2,
        mitigated=23,
        resolved=41,
        closed=41 + 3 * 24 * 60,
        by=Role.RESPONDER,
        impacts=("Data integrity concerns", "Features degraded"),
        components=("Database", "Web shop"),
        users=340,
        loss="some",
        cause="A clean-up script of the shop took the archive flag of an order for “deleted”.",
        fix="The database was restored from the night's archive; the orders of the morning were typed in again.",
        notes=(
            (6, Kind.NOTE, "Bookkeeping: nothing of July to September can be opened. Orders of today are there."),
            (12, Kind.ROOT_CAUSE, "The log of the clean-up script names 3.1 % of the orders, at 10:41."),
            (16, Kind.DECISION, "Go: restore the night's archive. Orders since 02:00 are printed first."),
            (38, Kind.FIX, "Counts agree with bookkeeping's report of yesterday. The script is switched off."),
        ),
        operations=("restore",),
        updates=(
            (5, PublicStatus.INVESTIGATING, "Some orders cannot be found at the moment. We are investigating."),
            (24, PublicStatus.MONITORING, "All orders are back. We are watching."),
            (41, PublicStatus.RESOLVED, "The shop works as usual again."),
        ),
        actions=(
            ("Run the clean-up script with an account that may not delete orders", Role.RESPONDER, -9, True),
            ("Warn when more than 100 orders vanish within an hour", Role.OPERATOR, 6, False),
        ),
    )


def _backup_failed(declared: datetime) -> Past:
    return Past(
        2,
        declared,
        "The backup of erp failed",
        acknowledged=14,
        mitigated=280,
        resolved=294,
        closed=1500,
        impacts=("Data integrity concerns",),
        components=("Database",),
        cause="The archive disk was full: exports of the test team lay on it.",
        fix="The exports were moved; the backup was made again at 06:52.",
        notes=((20, Kind.NOTE, "Nobody needs this disk before the morning. Going back to bed."),),
        operations=(f"night-{FAILED}", "retry"),
        actions=(("Give the exports of the test team a disk of their own", Role.ADMINISTRATOR, -2, False),),
    )


def _report_slow(declared: datetime) -> Past:
    return Past(
        3,
        declared,
        "The stock report takes more than a minute",
        began=30,
        acknowledged=35,
        mitigated=120,
        resolved=165,
        closed=1300,
        by=Role.OPERATOR,
        worked=Role.RESPONDER,
        impacts=("Performance issues",),
        components=("API",),
        users=12,
        cause="Statistics of the stock table were three weeks old.",
        fix="ANALYZE, and autovacuum looks at this table more often now.",
    )


def _archive_damaged(declared: datetime) -> Past:
    return Past(
        2,
        declared,
        "An archive of erp is damaged",
        acknowledged=4,
        mitigated=30,
        resolved=55,
        by=None,
        impacts=("Data integrity concerns",),
        components=("Database",),
        cause="Bits on the archive disk had changed; the disk's own log shows two read errors that night.",
        fix="The archive is marked, and the nights before and after it were verified again.",
        operations=("damage",),
        actions=(("Replace the archive disk", Role.OPERATOR, 10, False),),
    )


def _invoices_slow(declared: datetime) -> Past:
    return Past(
        3,
        declared,
        "Invoices are printed slowly",
        began=25,
        acknowledged=9,
        by=Role.OPERATOR,
        worked=Role.RESPONDER,
        impacts=("Performance issues", "Features degraded"),
        components=("Invoice worker",),
        users=7,
        notes=((15, Kind.NOTE, "The worker prints one page in 40 s. Its queue has 210 invoices and grows."),),
        updates=((17, PublicStatus.IDENTIFIED, "Invoices arrive late at the moment. Orders are not affected."),),
    )
