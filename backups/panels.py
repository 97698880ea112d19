"""Tiles of the situation room: recovery targets, backups of late, space."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest
from django.utils import timezone

from backups import board
from backups.models import Archive, Storage
from catalog.models import DatabaseTarget
from core.links import list_url
from core.panels import panel

DRAWN_BARS = 200


@panel(
    "rto-board",
    title="Recovery targets",
    order=10,
    permission="backups.view_archive",
    template="backups/panels/board.html",
    size="full",
    icon="target",
)
def rto_board(request: HttpRequest) -> dict[str, Any]:
    lines = board.lines()
    return {"lines": lines, "url": list_url(DatabaseTarget)}


@panel(
    "backups-recent",
    title="Backups in 30 days",
    order=20,
    permission="backups.view_archive",
    template="backups/panels/recent.html",
    icon="archive",
)
def recent(request: HttpRequest) -> dict[str, Any]:
    since = timezone.now() - timedelta(days=30)
    ended = Archive.objects.filter(requested_at__gt=since).exclude(state=Archive.State.CREATING)
    counts = ended.aggregate(count=Count("pk"), failed=Count("pk", filter=Q(state=Archive.State.FAILED)))
    shown = ended.only("state", "verification", "requested_at", "size_bytes", "name")
    newest = list(shown.order_by("-requested_at", "-pk")[:DRAWN_BARS])
    bars = [
        (
            f"{archive.requested_at:%d %b}: {'failed' if archive.state == Archive.State.FAILED else archive.name} (MB)",
            round((archive.size_bytes or 0) / 1e6, 1),
            "bad" if archive.state == Archive.State.FAILED or archive.verification == "damaged" else "ok",
        )
        for archive in reversed(newest)
    ]
    return {"bars": bars, **counts, "url": list_url(Archive)}


@panel(
    "storage",
    title="Room for archives",
    order=45,
    permission="backups.view_storage",
    template="backups/panels/storage.html",
    icon="box",
)
def storage(request: HttpRequest) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for place in Storage.objects.select_related("host"):
        try:
            usage = shutil.disk_usage(place.root)
        except OSError as error:
            rows.append({"storage": place, "trouble": error.strerror})
            continue
        share = usage.free / usage.total
        rows.append(
            {
                "storage": place,
                "free": usage.free,
                "used": usage.total - usage.free,  # what is reserved is not ours either
                "total": usage.total,
                "status": "ok" if share > 0.2 else "warn" if share > 0.1 else "bad",
                "word": "Room enough" if share > 0.2 else "Getting full",
            }
        )
    return {"rows": rows, "url": list_url(Storage)}
