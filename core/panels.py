"""Tiles of the situation room. An app declares its own in `<app>/panels.py`; they are found at start.

@panel("rto-board", title="Recovery targets", order=20, permission="backups.view_archive",
       template="backups/panels/rto.html", icon="target", url="admin:backups_archive_changelist")
def rto_board(request) -> dict:
    return {"rows": ...}
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse

logger = logging.getLogger(__name__)
Builder = Callable[[HttpRequest], dict[str, Any] | None]
SIZES = ("normal", "wide", "full")


@dataclass(frozen=True)
class Panel:
    """One registered tile. `size`: normal (one column), wide (two), full (all)."""

    name: str
    title: str
    order: int
    permission: str | None
    template: str
    build: Builder
    size: str = "normal"
    icon: str = ""
    url: str = ""


@dataclass(frozen=True)
class Tile:
    """A panel as one person sees it now. `failed` means that its data could not be read or drawn."""

    panel: Panel
    html: str = ""
    count: str = ""
    url: str = ""  # where the title leads: the builder's `url`, else the panel's URL name, else nowhere
    failed: bool = False


_registry: dict[str, Panel] = {}


def panel(
    name: str,
    *,
    title: str,
    template: str,
    order: int = 100,
    permission: str | None = None,
    size: str = "normal",
    icon: str = "",
    url: str = "",
) -> Callable[[Builder], Builder]:
    """Register the decorated builder as a tile. `url` is a URL name. Raises ValueError for a name used twice.

    The builder gets the request and returns the template's context, or None to leave the tile out. Keys with a
    meaning for the frame: `count` (shown beside the title), `url` (where the title leads).
    """
    if size not in SIZES:
        raise ValueError(f"Panel {name!r}: size must be one of {', '.join(SIZES)}.")

    def decorate(build: Builder) -> Builder:
        if name in _registry and _registry[name].build.__module__ != build.__module__:
            raise ValueError(f"Two panels are called {name!r}.")
        _registry[name] = Panel(name, title, order, permission, template, build, size, icon, url)
        return build

    return decorate


def tiles_for(request: HttpRequest) -> list[Tile]:
    """Every tile this person may see, in order, with its data.

    One broken tile must not take down the page that people open during an outage: it is logged and shown as failed.
    """
    tiles = []
    for entry in sorted(_registry.values(), key=lambda p: (p.order, p.name)):
        if entry.permission and not request.user.has_perm(entry.permission):
            continue
        try:
            tile = _tile(entry, request)
        except Exception:
            logger.exception("Panel %s failed", entry.name)
            tile = Tile(entry, failed=True)
        if tile is not None:
            tiles.append(tile)
    return tiles


def _tile(entry: Panel, request: HttpRequest) -> Tile | None:
    """The tile, drawn: what its template reads lazily is read here. None when there is nothing to show."""
    context = entry.build(request)
    if context is None:
        return None
    count = context.get("count")
    return Tile(
        entry,
        html=render_to_string(entry.template, {"panel": entry, "tile": context}, request=request),
        count="" if count is None else str(count),
        url=str(context.get("url", "")) or (reverse(entry.url) if entry.url else ""),
    )
