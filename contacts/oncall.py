"""Who is on call: layers, windows and overrides as pure calendar arithmetic. Knows no database.

Handoffs, windows and days are wall times of the schedule's zone; shifts of hours are elapsed time. Around a change of
clocks the convention of operations/slots.py holds: a wall time that does not exist counts at the same distance after
midnight in elapsed time (02:30 in a spring night falls on 03:30), one that exists twice counts the first time.

People are plain numbers. None is a turn that nobody takes: the layer below answers, and below the last is a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
MIDNIGHT = time(0)
# How far ahead the next change is looked for, in steps: most rotations hand over within a week.
LOOK_AHEAD = tuple(timedelta(days=days) for days in (2, 9, 36, 370))


@dataclass(frozen=True)
class Window:
    """Hours of a weekday (0 is Monday). `ends` at midnight is the end of the day."""

    weekday: int
    begins: time
    ends: time


@dataclass(frozen=True)
class Layer:
    """A rotation. It begins with the handoff of `starts_on` and ends with the one of `ends_on`."""

    members: tuple[int | None, ...]
    starts_on: date
    rank: int = 1
    ends_on: date | None = None
    handoff: time = time(9)
    length: int = 1
    unit: str = "weeks"
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Override:
    """Somebody stands in. Where several apply, the last of their list counts."""

    member: int | None
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True)
class Turn:
    """Who answers, and whether an override says so. Without a member it is a gap."""

    member: int | None
    is_override: bool = False


@dataclass(frozen=True)
class Run:
    """A stretch of time in which one turn holds."""

    turn: Turn
    starts_at: datetime
    ends_at: datetime


NOBODY = Turn(None)


def instant(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """The UTC instant of a wall time."""
    return datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)


class _Rotation:
    """A layer in its zone, with what every question needs worked out once."""

    def __init__(self, layer: Layer, zone: ZoneInfo) -> None:
        self.layer = layer
        self.zone = zone
        self.begins_at = instant(layer.starts_on, layer.handoff, zone)
        self.ends_at = instant(layer.ends_on, layer.handoff, zone) if layer.ends_on else None
        self.days = {"hours": 0, "days": 1, "weeks": 7}[layer.unit] * layer.length  # of a shift; 0: it is hours
        self.turns_differ = len(set(layer.members)) > 1

    def shift_start(self, number: int) -> datetime:
        if not self.days:
            return self.begins_at + timedelta(hours=self.layer.length) * number
        return instant(self.layer.starts_on + DAY * (self.days * number), self.layer.handoff, self.zone)

    def shift_at(self, at: datetime) -> int:
        """The number of the last shift that begins by `at`."""
        if not self.days:
            return (at - self.begins_at) // timedelta(hours=self.layer.length)
        number = (at.astimezone(self.zone).date() - self.layer.starts_on).days // self.days
        while self.shift_start(number + 1) <= at:
            number += 1
        while self.shift_start(number) > at:
            number -= 1
        return number

    def member_at(self, at: datetime) -> int | None:
        members = self.layer.members
        if not members or at < self.begins_at or (self.ends_at is not None and at >= self.ends_at):
            return None
        if self.layer.windows and not self._in_window(at):
            return None
        return members[self.shift_at(at) % len(members)]

    def _in_window(self, at: datetime) -> bool:
        today = at.astimezone(self.zone).date()
        # A change of clocks may carry a window over midnight, in either direction.
        return any(
            begins <= at < ends for day in (today, today - DAY, today + DAY) for begins, ends in self.windows_of(day)
        )

    def windows_of(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        for window in self.layer.windows:
            if window.weekday == day.weekday():
                last = day + DAY if window.ends == MIDNIGHT else day
                yield instant(day, window.begins, self.zone), instant(last, window.ends, self.zone)

    def changes_between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Every instant in between at which this layer may name somebody else."""
        yield self.begins_at
        if self.ends_at is not None:
            yield self.ends_at
            end = min(end, self.ends_at)
        start = max(start, self.begins_at)
        if start >= end:
            return
        if self.turns_differ:
            number = self.shift_at(start)
            while (begins := self.shift_start(number)) < end:
                yield begins
                number += 1
        if self.layer.windows:
            day, last = (at.astimezone(self.zone).date() + by for at, by in ((start, -DAY), (end, DAY)))
            while day <= last:
                for window in self.windows_of(day):
                    yield from window
                day += DAY


class Rota:
    """One level of a schedule: its layers in a zone, and its overrides in the order in which they were made."""

    def __init__(
        self, zone: str, layers: tuple[Layer, ...] | list[Layer], overrides: tuple[Override, ...] | list[Override] = ()
    ) -> None:
        place = ZoneInfo(zone)
        ranked = sorted(layers, key=lambda layer: layer.rank, reverse=True)
        self._rotations = [_Rotation(layer, place) for layer in ranked]
        self._overrides = [each for each in reversed(overrides) if each.member is not None]

    def who(self, at: datetime) -> Turn:
        """Whose turn it is."""
        for override in self._overrides:
            if override.starts_at <= at < override.ends_at:
                return Turn(override.member, True)
        for rotation in self._rotations:
            member = rotation.member_at(at)
            if member is not None:
                return Turn(member)
        return NOBODY

    def timeline(self, start: datetime, end: datetime, same: Callable[[Turn], object] = lambda turn: turn) -> list[Run]:
        """Who answers from `start` to `end`, without a hole and merged: neighbours differ in what `same` sees."""
        start, end = start.astimezone(UTC), end.astimezone(UTC)
        if start >= end:
            return []
        runs: list[Run] = []
        for begins, ends in self._pieces(start, end):
            turn = self.who(begins)
            if runs and same(runs[-1].turn) == same(turn):
                runs[-1] = Run(runs[-1].turn, runs[-1].starts_at, ends)
            else:
                runs.append(Run(turn, begins, ends))
        return runs

    def gaps(self, start: datetime, end: datetime) -> list[Run]:
        """When nobody answers."""
        return [run for run in self.timeline(start, end) if run.turn.member is None]

    def next_change(self, at: datetime) -> Run | None:
        """The next stretch in which somebody else answers, or nobody. None: not within a year. Its end may be cut."""
        for ahead in LOOK_AHEAD:
            runs = self.timeline(at, at + ahead, same=lambda turn: turn.member)
            if len(runs) > 1:
                return runs[1]
        return None

    def _pieces(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """`start` to `end`, cut wherever anything may change."""
        cuts = {start, end}
        for rotation in self._rotations:
            cuts.update(rotation.changes_between(start, end))
        for override in self._overrides:
            cuts.update((override.starts_at, override.ends_at))
        ordered = sorted(cut.astimezone(UTC) for cut in cuts if start <= cut <= end)
        yield from pairwise(ordered)
