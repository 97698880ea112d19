"""How the portal itself is: items with a state, a figure and a sentence. A room may register more.

@item("workers", title="Workers")
def workers() -> Finding:
    return Finding("ok", 2, "2 workers are live.")
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, connection

from core.recent import Recent

logger = logging.getLogger(__name__)

LATELY_S = 5.0
OK, WARN, BAD = "ok", "warn", "bad"
WORDS = {OK: "ok", WARN: "warning", BAD: "bad"}


@dataclass(frozen=True)
class Finding:
    """`state` is ok, warn or bad; `figure` is a number or None; `sentence` says what it means and what to do."""

    state: str
    figure: float | None
    sentence: str


@dataclass(frozen=True)
class Item:
    """A finding as it was looked for now. `unit` belongs to the figure."""

    name: str
    title: str
    unit: str
    finding: Finding

    @property
    def word(self) -> str:
        return WORDS[self.finding.state]

    def as_json(self, *, whole: bool) -> dict[str, object]:
        """Strangers get the word alone: sentences name hosts, queues and folders."""
        if not whole:
            return {"state": self.word}
        return {
            "state": self.word,
            "figure": self.finding.figure,
            "unit": self.unit,
            "sentence": self.finding.sentence,
        }


Look = Callable[[], Finding]
_looks: dict[str, tuple[str, str, Look]] = {}


def item(name: str, *, title: str, unit: str = "") -> Callable[[Look], Look]:
    """Register what is looked at. Items are looked at in the order in which they were registered."""

    def add(look: Look) -> Look:
        _looks[name] = (title, unit, look)
        return look

    return add


def look(only: Collection[str] | None = None) -> list[Item]:
    """Every item now, or those of these names. One that breaks is bad and says so; the others are looked at as well."""
    return [
        Item(name, title, unit, _safely(name, each))
        for name, (title, unit, each) in _looks.items()
        if only is None or name in only
    ]


lately: Recent[list[Item]] = Recent(lambda: look(), LATELY_S)
"""Every item, looked at within the last seconds: strangers who ask again and again cost nothing more."""


def _safely(name: str, each: Look) -> Finding:
    try:
        return each()
    except (DatabaseError, InterfaceError):
        if not connection.in_atomic_block:
            connection.close()
        return Finding(BAD, None, "The portal's database does not answer. Start it.")
    except Exception:
        logger.exception("health item %s failed", name)
        return Finding(BAD, None, "This could not be looked at. The reason is in the portal's log.")


def is_well(items: list[Item]) -> bool:
    """False when anything is bad. A warning is for people, not for a load balancer."""
    return all(each.finding.state != BAD for each in items)
