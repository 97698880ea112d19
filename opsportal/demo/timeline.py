"""What happened in the thirty days before the first start: pure arithmetic, no records and no databases.

Nights are counted backwards from the latest slot: 1 is last night. Whether an archive is still there at the end follows
from the same retention rule the portal uses, played night by night.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

from core.roles import Role

DAYS = timedelta(days=30)
# Slots younger than this are left to the portal, so that no record of the past ends in the future.
SETTLED = timedelta(minutes=10)
ZONE = ZoneInfo("Europe/Berlin")

DAMAGED, DRILL, CANCELLED, FAILED, EMERGENCY, LATE, MERGED, RESTORED, SLOW = 4, 9, 6, 12, 13, 19, 20, 21, 25
PRE_CHANGE = 2
KEEP_DAYS, KEEP_LAST = 7, 7
KEEP_SMALL = 3


class Outcome(Enum):
    OK = "ok"
    NO_SPACE = "no space"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Backup:
    """One backup that was asked for. `plan` is nightly, staging or weekly; `seconds` its length, None = as measured."""

    key: str
    plan: str
    requested_at: datetime
    named_at: datetime
    purpose: str = "scheduled"
    by: Role | None = None
    reason: str = ""
    slot: datetime | None = None
    outcome: Outcome = Outcome.OK
    retry_of: str = ""
    seconds: float | None = None
    damaged: bool = False


@dataclass(frozen=True)
class Prune:
    """The clean-up after a backup, and the keys of what it removed."""

    after: Backup
    removed: tuple[str, ...]


@dataclass
class Story:
    """Everything the history tells. Moments are UTC instants."""

    until: datetime
    nights: list[datetime]  # newest first; night n is nights[n - 1]
    weeks: list[datetime]  # newest first
    backups: list[Backup] = field(default_factory=list)  # oldest first
    prunes: list[Prune] = field(default_factory=list)
    kept: list[Backup] = field(default_factory=list)  # on disk at the end, oldest first
    moments: dict[str, datetime] = field(default_factory=dict)

    def find(self, key: str) -> Backup:
        return next(backup for backup in self.backups if backup.key == key)


def at(night: datetime, hours: int, minutes: int, *, days: int = 0) -> datetime:
    """A time of day in Berlin on the date of a night, or some days after it."""
    day = night.astimezone(ZONE).date() + timedelta(days=days)
    return datetime.combine(day, time(hours, minutes, 11), tzinfo=ZONE).astimezone(night.tzinfo)


def tell(nights: Sequence[datetime], weeks: Sequence[datetime], now: datetime) -> Story:
    """The story up to `now`, from the slots (any order) of the nightly and the weekly plan before it."""
    until = now - SETTLED
    story = Story(
        until,
        sorted((slot for slot in nights if slot <= until), reverse=True),
        sorted((slot for slot in weeks if slot <= until), reverse=True),
    )
    night = story.nights
    story.moments = {
        "damage found": at(night[DAMAGED - 1], 10, 15, days=1),
        "drill": at(night[DRILL - 1], 14, 0),
        "drill cleaned": at(night[DRILL - 1], 16, 30, days=1),
        "restored": at(night[RESTORED - 1], 11, 20),
        "restore cleaned": at(night[RESTORED - 1], 9, 31, days=3),
        "outage over": at(night[LATE - 1], 3, 12),
    }
    story.backups = sorted(_backups(story), key=lambda backup: backup.requested_at)
    for plan, days, last in (
        ("nightly", KEEP_DAYS, KEEP_LAST),
        ("weekly", None, KEEP_SMALL),
        ("staging", None, KEEP_SMALL),
    ):
        _retain(story, plan, days, last)
    story.kept.sort(key=lambda backup: backup.requested_at)
    return story


def _backups(story: Story) -> Iterable[Backup]:
    night = story.nights
    for number, slot in enumerate(night, start=1):
        normal = Backup(f"night-{number}", "nightly", slot + timedelta(seconds=0.6), slot, slot=slot)
        if number == MERGED:
            continue
        if number == LATE:
            yield replace(normal, requested_at=story.moments["outage over"])
        elif number == FAILED:
            yield replace(normal, outcome=Outcome.NO_SPACE)
        elif number == SLOW:
            yield replace(normal, seconds=24.6)
        else:
            yield replace(normal, damaged=number == DAMAGED)
    for number, slot in enumerate(story.weeks, start=1):
        yield Backup(f"week-{number}", "weekly", slot + timedelta(seconds=0.6), slot, slot=slot)
    yield _click(
        "emergency",
        at(night[EMERGENCY - 1], 18, 22),
        "emergency",
        "Disk warnings on the database host; a copy before anybody touches it.",
    )
    yield replace(
        _click("retry", at(night[FAILED - 1], 6, 52), "scheduled", "Space freed on the archive disk."),
        retry_of=f"night-{FAILED}",
    )
    yield replace(
        _click("cancelled", at(night[CANCELLED - 1], 15, 5), "manual", "Snapshot for the test team."),
        outcome=Outcome.CANCELLED,
    )
    yield _click(
        "pre-change",
        at(night[PRE_CHANGE - 1], 16, 40),
        "pre_change",
        "Before the prices of the winter catalogue are imported.",
    )
    yield replace(
        _click("before-drill", at(night[DRILL - 1], 13, 48), "pre_change", "Archive for the recovery drill."),
        plan="staging",
    )


def _click(key: str, moment: datetime, purpose: str, reason: str) -> Backup:
    return Backup(key, "nightly", moment, moment, purpose, Role.OPERATOR, reason)


def _retain(story: Story, plan: str, keep_days: int | None, keep_last: int) -> None:
    """Play the plan's clean-ups in order; see `backups.retention` for the rule."""
    there: list[Backup] = []
    for backup in story.backups:
        if backup.plan != plan or backup.outcome is not Outcome.OK:
            continue
        there.append(backup)
        verified = [one for one in there if not (one.damaged and backup.requested_at > story.moments["damage found"])]
        counted = sorted(verified, key=lambda one: one.requested_at)[-keep_last:]
        removed = [
            one
            for one in there
            if one not in counted
            and (keep_days is None or backup.requested_at - one.requested_at >= timedelta(days=keep_days))
        ]
        there = [one for one in there if one not in removed]
        story.prunes.append(Prune(backup, tuple(one.key for one in removed)))
    story.kept += there
