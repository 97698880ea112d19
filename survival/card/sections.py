"""Port: a higher room puts its part on the offline card, such as who is on call or what a runbook says.

@section("on-call", title="Who is on call", order=20)
def on_call() -> list[Entry]: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One thing on the card. Nothing secret: the card lies where anybody on the night can read it.

    facts     (label, value) pairs
    commands  (sentence, shell text) pairs, to be run as they stand
    warning   a sentence, shown before all else
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    warning: str = ""


Builder = Callable[[], list[Entry]]


@dataclass(frozen=True)
class Section:
    """A heading with its entries; `empty` is what it says without any."""

    name: str
    title: str
    order: int
    empty: str
    build: Builder = field(repr=False)


_sections: dict[str, Section] = {}


def section(name: str, *, title: str, order: int = 100, empty: str = "Nothing yet.") -> Callable[[Builder], Builder]:
    """Register a part of the card. The builder is called by the control worker, never during a request of a person."""

    def add(build: Builder) -> Builder:
        _sections[name] = Section(name, title, order, empty, build)
        return build

    return add


def built() -> list[dict[str, Any]]:
    """Every section, in order, as plain values."""
    return [
        {
            "name": each.name,
            "title": each.title,
            "empty": each.empty,
            "entries": [asdict(entry) for entry in each.build()],
        }
        for each in sorted(_sections.values(), key=lambda one: (one.order, one.name))
    ]
