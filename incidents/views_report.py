"""The month report: a page, printable, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from catalog.models import Service
from core.admin_site import site
from core.buttons import signed_in
from core.export import FORMULA_STARTS
from core.links import list_url
from incidents import report as reports
from incidents.models import Incident

# The colours of the bars: the worst rank is the strongest.
RANK_COLOURS = {1: "rank-1", 2: "rank-2", 3: "rank-3"}
OTHER, NO_RANK = "rank-4", "rank-none"
RANK_NAMES = {**{css: f"rank {rank}" for rank, css in RANK_COLOURS.items()}, OTHER: "milder", NO_RANK: "not set"}


@never_cache
@require_safe
@login_required
@permission_required("incidents.view_incident", raise_exception=True)
def month(request: HttpRequest) -> HttpResponseBase:
    """`?month=2026-01&service=3`, and `&format=csv`."""
    services = list(Service.objects.order_by("name"))
    asked = request.GET.get("service", "")
    service = next((each for each in services if str(each.pk) == asked), None)
    zone = timezone.get_current_timezone()
    chosen = reports.Month.parse(request.GET.get("month", ""), ZoneInfo(str(zone)))
    if request.GET.get("format") == "csv":
        return _csv(chosen, service, request)
    found = reports.build(chosen, service, signed_in(request))
    return TemplateResponse(request, "incidents/report.html", _context(request, found, services))


def _context(request: HttpRequest, found: reports.Report, services: list[Service]) -> dict[str, Any]:
    chosen = found.month
    now = reports.Month.parse("", chosen.zone)
    return {
        **site.each_context(request),
        "title": f"Incidents in {chosen}",
        "report": found,
        "services": services,
        "zone": str(chosen.zone),
        "before_url": _url(chosen.moved(-1), found.service),
        "after_url": _url(chosen.moved(1), found.service) if chosen.first < now.first else "",
        "csv_url": _url(chosen, found.service, format="csv"),
        "list_url": list_url(Incident),
        "rank_names": RANK_NAMES,
        "by_rank": [(_rank_word(rank), found.by_rank[rank], colour(rank)) for rank in found.ranks],
        "speeds": [(_rank_word(speed.rank), speed) for speed in found.speeds],
        "trend": [(name, _parts(ranks)) for name, ranks in found.trend],
        "by_service": [
            (name, sum(ranks.values()), [(_rank_word(rank), ranks.get(rank, 0)) for rank in found.ranks])
            for name, ranks in sorted(found.by_service.items(), key=lambda each: -sum(each[1].values()))
        ],
        "rank_words": [_rank_word(rank) for rank in found.ranks],
    }


def _url(chosen: reports.Month, service: Service | None, **more: str) -> str:
    asked = {"month": chosen.key, **({"service": str(service.pk)} if service else {}), **more}
    return "?" + urlencode(asked)


def colour(rank: int | None) -> str:
    return NO_RANK if rank is None else RANK_COLOURS.get(rank, OTHER)


def _rank_word(rank: int | None) -> str:
    return "Not set" if rank is None else f"Rank {rank}"


def _parts(ranks: dict[int | None, int]) -> list[tuple[str, float]]:
    """The bar of a month, the mildest on the ground."""
    sums: dict[str, float] = {}
    for rank, number in ranks.items():
        sums[colour(rank)] = sums.get(colour(rank), 0) + number
    return [(css, sums[css]) for css in (NO_RANK, OTHER, "rank-3", "rank-2", "rank-1") if css in sums]


class _Echo:
    """A file for csv.writer that hands each line on instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def _csv(chosen: reports.Month, service: Service | None, request: HttpRequest) -> StreamingHttpResponse:
    rows = reports.csv_rows(chosen, service, signed_in(request))
    response = StreamingHttpResponse(_lines(rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="incidents-{chosen.key}.csv"'
    return response


def _lines(rows: Iterator[list[Any]]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    for row in rows:
        yield writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return str(round(value.total_seconds()))
    text = " ".join(str(value).split())
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
