"""Who is on call, worked out a second time and naively: a walk through time, minute by minute.

    python -m tests.contacts.oracle 100000

asks so many random questions around every change of clocks from 2000 to 2037 in some zones, and compares the answers
with contacts/oncall.py. Wall times are never converted to instants here: the walk looks at the wall
clock as it goes by.
"""

from __future__ import annotations

import random
import sys
import time as clock
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from contacts import oncall

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SPAN = timedelta(days=4)  # on each side of a change of clocks
PAD = timedelta(days=2)
# With changes by half an hour, by two, at midnight, at one past midnight, over a whole day, for Ramadan, and none.
ZONES = (
    "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "America/Havana",
    "America/Nuuk", "Africa/Casablanca", "Asia/Beirut", "Asia/Tehran", "Asia/Kolkata", "Australia/Lord_Howe",
    "Pacific/Apia", "Pacific/Auckland", "Antarctica/Troll", "UTC",
)  # fmt: skip
TRICKY = [time(0), time(0, 30), time(1), time(1, 30), time(2), time(2, 30), time(3), time(8), time(23), time(23, 30)]


def changes(zone: str) -> list[datetime]:
    """Every change of the offset from 2000 to 2037, to the hour; two instants for zones without any."""
    place, found = ZoneInfo(zone), []
    at, end = datetime(2000, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
    before = at.astimezone(place).utcoffset()
    while at < end:
        at += DAY
        offset = at.astimezone(place).utcoffset()
        if offset != before:
            hours = (at - HOUR * number for number in range(24, -1, -1))
            found.append(next(hour for hour in hours if hour.astimezone(place).utcoffset() != before))
        before = offset
    return found or [datetime(2004, 2, 29, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)]


def all_changes() -> list[tuple[str, datetime]]:
    return [(zone, at) for zone in ZONES for at in changes(zone)]


@dataclass(frozen=True)
class Scenario:
    """A schedule of one level, and the time that is walked through."""

    zone: str
    start: datetime
    layers: list[oncall.Layer]
    overrides: list[oncall.Override]

    @property
    def end(self) -> datetime:
        return self.start + 2 * SPAN


def scenario(rng: random.Random, zone: str, around: datetime) -> Scenario:
    """A random schedule whose oddities gather around one instant."""
    day = around.astimezone(ZoneInfo(zone)).date()
    layers = [_layer(rng, day, rank) for rank in rng.sample(range(1, 9), rng.randint(1, 3))]
    overrides = []
    for number in range(rng.randint(0, 4)):
        begins = around + MINUTE * rng.randint(-4 * 1440, 4 * 1440)
        member = None if rng.random() < 0.1 else 100 + number
        overrides.append(oncall.Override(member, begins, begins + MINUTE * rng.randint(1, 2 * 1440)))
    return Scenario(zone, around - SPAN, layers, overrides)


def _layer(rng: random.Random, day: date, rank: int) -> oncall.Layer:
    unit = rng.choice(["hours", "days", "weeks"])
    length = rng.choice([1, 2, 3, 7, 8, 12, 24, 36]) if unit == "hours" else rng.choice([1, 1, 1, 2, 3, 5])
    starts_on = day + DAY * rng.choice([-400, -90, -31, -8, -3, -1, 0, 1, 2])
    if unit == "hours":
        starts_on = max(starts_on, day - 40 * DAY)
    members = tuple(
        None if rng.random() < 0.08 else rank * 10 + rng.randint(0, 3) for _ in range(rng.choice([0, 1, 2, 2, 3, 5]))
    )
    windows = tuple(_window(rng, day) for _ in range(rng.choice([0, 0, 2, 4, 7])))
    ends_on = starts_on + DAY * rng.randint(1, 450) if rng.random() < 0.4 else None
    handoff = rng.choice([*TRICKY, time(rng.randint(0, 23), rng.randint(0, 59))])
    return oncall.Layer(members, starts_on, rank, ends_on, handoff, length, unit, windows)


def _window(rng: random.Random, day: date) -> oncall.Window:
    weekday = rng.choice([*((day.weekday() + by) % 7 for by in (-1, 0, 0, 1)), *range(7)])
    begins, ends = sorted(rng.sample([*TRICKY, time(12), time(17, 30), time(22)], 2))
    return oncall.Window(weekday, begins, ends if rng.random() < 0.7 else time(0))


class Walk:
    """The wall clock, read every minute from a little before a scenario to a little after it."""

    def __init__(self, found: Scenario) -> None:
        self.zone = ZoneInfo(found.zone)
        self.start = found.start - PAD
        self.minutes = int((found.end + PAD - self.start) / MINUTE)
        self.walls: list[datetime] = []
        self.first_seen: dict[datetime, int] = {}
        at = self.start
        for number in range(self.minutes):
            wall = at.astimezone(self.zone).replace(tzinfo=None, fold=0)
            self.walls.append(wall)
            self.first_seen.setdefault(wall, number)
            at += MINUTE

    def minute_of(self, day: date, wall_time: time) -> int | None:
        """When the wall clock first shows this; where it skips it, so much later as it was after the last it showed."""
        wanted = datetime.combine(day, wall_time)
        for back in range(2 * 1440):
            seen = self.first_seen.get(wanted - MINUTE * back)
            if seen is not None:
                return seen + back if seen + back < self.minutes else None
        return None

    def days(self) -> Iterator[date]:
        day = self.walls[0].date() + DAY
        while day < self.walls[-1].date():
            yield day
            day += DAY


def seen_far_away(zone: ZoneInfo, day: date, wall_time: time) -> datetime:
    """The same for a day outside a walk, by a walk of its own."""
    wanted = datetime.combine(day, wall_time)
    at = wanted.replace(tzinfo=UTC) - 40 * HOUR
    while True:
        wall = at.astimezone(zone).replace(tzinfo=None, fold=0)
        if wall == wanted:
            return at
        ahead = (at + MINUTE).astimezone(zone).replace(tzinfo=None, fold=0)
        if wall < wanted < ahead:
            return at + (wanted - wall)
        at += MINUTE


def answers(found: Scenario) -> tuple[datetime, list[oncall.Turn]]:
    """Whose turn it is in each minute of a scenario, with its first minute."""
    walk = Walk(found)
    named: list[oncall.Turn] = [oncall.Turn(None)] * walk.minutes
    for layer in sorted(found.layers, key=lambda each: each.rank):  # a higher one writes over a lower one
        for minute, member in enumerate(_of_layer(walk, layer)):
            if member is not None:
                named[minute] = oncall.Turn(member)
    for override in found.overrides:  # and a later one over an earlier one
        at = override.starts_at
        while override.member is not None and at < override.ends_at:
            named[int((at - walk.start) / MINUTE)] = oncall.Turn(override.member, True)
            at += MINUTE
    return walk.start, named


def _of_layer(walk: Walk, layer: oncall.Layer) -> list[int | None]:
    """Whom one layer names in each minute."""
    if not layer.members:
        return [None] * walk.minutes
    handoffs, taken = _hours(walk, layer) if layer.unit == "hours" else _days(walk, layer)
    begins = _ahead(walk, layer.starts_on, layer.handoff)
    ends = _ahead(walk, layer.ends_on, layer.handoff) if layer.ends_on else walk.minutes
    opens, closes = Counter[int](), Counter[int]()
    for day in walk.days():
        for window in layer.windows:
            if window.weekday == day.weekday():
                last = day + DAY if window.ends == time(0) else day
                a, b = walk.minute_of(day, window.begins), walk.minute_of(last, window.ends)
                if a is not None and (b is None or a < b):
                    opens[a] += 1
                    closes[b if b is not None else walk.minutes] += 1
    named: list[int | None] = []
    is_open = 0
    for minute in range(walk.minutes):
        taken += handoffs[minute]
        is_open += opens[minute] - closes[minute]
        here = begins <= minute < ends and (is_open > 0 or not layer.windows)
        named.append(layer.members[(taken - 1) % len(layer.members)] if here else None)
    return named


def _ahead(walk: Walk, day: date, wall_time: time) -> int:
    """The minute of a wall time, also where it is before or after the walk."""
    return int((seen_far_away(walk.zone, day, wall_time) - walk.start) / MINUTE)


def _days(walk: Walk, layer: oncall.Layer) -> tuple[Counter[int], int]:
    """How many handoffs there are in each minute, and how many were before the first."""
    step = layer.length * (7 if layer.unit == "weeks" else 1)
    handoffs, before, day = Counter[int](), 0, layer.starts_on
    first, last = walk.walls[0].date() + DAY, walk.walls[-1].date() - DAY
    while day <= last:
        if day < first:
            before += 1
        else:
            minute = walk.minute_of(day, layer.handoff)
            if minute is not None:
                handoffs[minute] += 1
        day += DAY * step
    return handoffs, before


def _hours(walk: Walk, layer: oncall.Layer) -> tuple[Counter[int], int]:
    handoffs, before = Counter[int](), 0
    at = seen_far_away(walk.zone, layer.starts_on, layer.handoff)
    while at < walk.start + MINUTE * walk.minutes:
        if at < walk.start:
            before += 1
        else:
            handoffs[int((at - walk.start) / MINUTE)] += 1
        at += HOUR * layer.length
    return handoffs, before


@dataclass
class Findings:
    """How many questions were asked, and where the answers differ."""

    scenarios: int = 0
    queries: int = 0
    mismatches: int = 0
    timelines_that_differ: int = 0
    resolving_s: float = 0.0


def ask(rng: random.Random, zone: str, around: datetime, queries: int, findings: Findings) -> None:
    """Compare `queries` answers and one timeline of one random schedule."""
    found = scenario(rng, zone, around)
    first, named = answers(found)
    rota = oncall.Rota(found.zone, found.layers, found.overrides)
    span = int((found.end - found.start) / MINUTE)
    for number in range(queries):
        near = (4 * 60, 36 * 60, span // 2)[number % 3]
        at = found.start + MINUTE * (span // 2 + rng.randrange(-near, near))
        begun = clock.perf_counter()
        turn = rota.who(at + timedelta(seconds=rng.randint(0, 59)))
        findings.resolving_s += clock.perf_counter() - begun
        findings.queries += 1
        if turn != named[int((at - first) / MINUTE)]:
            findings.mismatches += 1
            if findings.mismatches <= 5:
                print(f"{at}: {turn}, the walk says {named[int((at - first) / MINUTE)]}\n  {found}", file=sys.stderr)
    findings.scenarios += 1
    if not _same(rota.timeline(found.start, found.end), named, first, found):
        findings.timelines_that_differ += 1
        print(f"timeline of {found}", file=sys.stderr)


def _same(runs: list[oncall.Run], named: list[oncall.Turn], first: datetime, found: Scenario) -> bool:
    """Whether a timeline says what the walk says, without a hole and without two alike beside each other."""
    walked: list[oncall.Run] = []
    at = found.start
    while at < found.end:
        turn = named[int((at - first) / MINUTE)]
        if walked and walked[-1].turn == turn:
            walked[-1] = oncall.Run(turn, walked[-1].starts_at, at + MINUTE)
        else:
            walked.append(oncall.Run(turn, at, at + MINUTE))
        at += MINUTE
    return runs == walked


def compare(queries: int, seed: int = 0, changes_asked: int | None = None) -> Findings:
    """So many questions, spread over every change of clocks, or over some."""
    rng = random.Random(seed)
    places = all_changes()
    if changes_asked is not None:
        places = rng.sample(places, changes_asked)
    findings = Findings()
    share = -(-queries // len(places))
    for zone, around in places:
        ask(rng, zone, around, share, findings)
    return findings


if __name__ == "__main__":
    began = clock.perf_counter()
    result = compare(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(f"{result.queries:,} questions over {result.scenarios} schedules: {result.mismatches} mismatches, ", end="")
    print(f"{result.timelines_that_differ} timelines that differ. ", end="")
    print(f"Resolving took {result.resolving_s:.1f} s of {clock.perf_counter() - began:.0f} s.")
    sys.exit(bool(result.mismatches or result.timelines_that_differ))
