"""Tiles of the situation room: what does not answer as it should."""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.http import HttpRequest

from catalog.models import Probe
from core.links import list_url
from core.panels import panel

SHOWN = 6


@panel(
    "probes",
    title="Probes that are not good",
    order=9,
    permission="catalog.view_probe",
    template="catalog/panels/probes.html",
    icon="eye",
)
def probes(request: HttpRequest) -> dict[str, Any]:
    worrying = Probe.objects.with_place().worrying()
    shown = list(worrying.order_by("-asked_at")[:SHOWN])
    count = len(shown) if len(shown) < SHOWN else worrying.count()
    newest = list(Probe.objects.order_by(F("asked_at").desc(nulls_last=True)).values_list("asked_at", flat=True)[:1])
    return {
        "probes": shown,
        "any": bool(newest),
        "asked": newest != [None],
        "count": count,
        "url": list_url(Probe),
    }
