"""Windows of a layer as people write them: `Mon-Fri 18:00-08:00`, a line for each.

A window that ends before it begins goes on into the next day. Kept are pieces of single days, since a layer names
somebody or nobody at an instant; written out, pieces that meet at midnight read as one again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import time

from contacts.oncall import Window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
GROUPS = {"daily": range(7), "every day": range(7), "weekdays": range(5), "weekends": range(5, 7)}
LINE = re.compile(r"(?P<days>[a-z][a-z ,–-]*?)\s+(?P<begins>\d{1,2}:\d{2})\s*(?:-|–|to)\s*(?P<ends>\d{1,2}:\d{2})")
EXAMPLE = "Write lines such as “Mon-Fri 18:00-08:00” or “Sat, Sun 00:00-24:00”."
END_OF_DAY = 24 * 60

Piece = tuple[int, int, int]  # weekday, and minutes since midnight


class WindowsError(ValueError):
    """A line that cannot be read; the message says which, and how to write it."""


def parse(text: str) -> list[Window]:
    """The windows of a text, in order, pieces of one day that touch put together. Raises WindowsError."""
    pieces: list[Piece] = []
    for line in re.split(r"[\n;]", text.strip().lower()):
        if line.strip():
            pieces += _pieces_of(line.strip())
    return [Window(day, _clock(begins), _clock(ends)) for day, begins, ends in _joined(pieces)]


def written(windows: Iterable[Window]) -> str:
    """The text that `parse` reads as these windows."""
    return "\n".join(f"{_days_written(days)} {_span_written(*span)}" for span, days in _grouped(windows))


def _pieces_of(line: str) -> list[Piece]:
    found = LINE.fullmatch(line)
    if found is None:
        raise WindowsError(f"“{line}” is no window. {EXAMPLE}")
    begins, ends = _minutes(found["begins"], line), _minutes(found["ends"], line)
    if begins in (END_OF_DAY, ends):
        raise WindowsError(f"“{line}” is no time at all. {EXAMPLE}")
    ends = ends or END_OF_DAY
    pieces: list[Piece] = []
    for day in _days(found["days"].strip(), line):
        if begins < ends:
            pieces.append((day, begins, ends))
        else:
            pieces += [(day, begins, END_OF_DAY), ((day + 1) % 7, 0, ends)]
    return pieces


def _minutes(clock: str, line: str) -> int:
    hours, minutes = map(int, clock.split(":"))
    if minutes > 59 or hours * 60 + minutes > END_OF_DAY:
        raise WindowsError(f"“{line}” has a time that no clock shows. {EXAMPLE}")
    return hours * 60 + minutes


def _days(text: str, line: str) -> list[int]:
    if text in GROUPS:
        return list(GROUPS[text])
    days: list[int] = []
    for part in text.split(","):
        first, *last = [_day(name.strip(), line) for name in re.split("[-–]", part)]
        if len(last) > 1:
            raise WindowsError(f"“{line}” is no window. {EXAMPLE}")
        span = (last[0] - first) % 7 if last else 0
        days += [(first + step) % 7 for step in range(span + 1)]
    return days


def _day(name: str, line: str) -> int:
    """`mon` and `monday` alike."""
    for number, whole in enumerate(WEEKDAYS):
        if len(name) >= 2 and whole.startswith(name):
            return number
    raise WindowsError(f"“{name}” in “{line}” is no weekday. {EXAMPLE}")


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for day, begins, ends in sorted(pieces):
        if joined and joined[-1][0] == day and begins <= joined[-1][2]:
            joined[-1] = day, joined[-1][1], max(ends, joined[-1][2])
        else:
            joined.append((day, begins, ends))
    return joined


def _clock(minutes: int) -> time:
    return time(minutes // 60 % 24, minutes % 60)


def _grouped(windows: Iterable[Window]) -> list[tuple[tuple[int, int], list[int]]]:
    """(begin, end) in minutes with the days on which it begins; an end by the begin means the next day."""
    pieces = _joined((w.weekday, _of(w.begins), _of(w.ends) or END_OF_DAY) for w in windows)
    starting_at_midnight = {day: (day, begins, ends) for day, begins, ends in pieces if not begins}
    taken: set[Piece] = set()
    spans: dict[tuple[int, int], list[int]] = defaultdict(list)
    for day, begins, ends in pieces:
        rest = starting_at_midnight.get((day + 1) % 7)
        if begins and ends == END_OF_DAY and rest and rest[2] < begins:
            taken.add(rest)
    for day, begins, ends in pieces:
        if (day, begins, ends) in taken:
            continue
        rest = starting_at_midnight.get((day + 1) % 7)
        if rest in taken and begins and ends == END_OF_DAY:
            ends = rest[2]
        spans[begins, ends].append(day)
    return sorted(spans.items(), key=lambda item: (item[1], item[0]))


def _of(clock: time) -> int:
    return clock.hour * 60 + clock.minute


def _days_written(days: list[int]) -> str:
    runs: list[list[int]] = []
    for day in days:
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ", ".join(DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs)


def _span_written(begins: int, ends: int) -> str:
    return f"{begins // 60:02}:{begins % 60:02}-{ends // 60:02}:{ends % 60:02}"
