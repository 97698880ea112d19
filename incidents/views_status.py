"""The public status page: signed out, without a session, the same for everybody."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from functools import wraps
from itertools import groupby
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.feedgenerator import Rss201rev2Feed
from django.views.decorators.http import require_safe

from incidents import status_page
from incidents.actions.writing import CONTROL

CACHING = "public, max-age=30, stale-if-error=60"
FEED_ITEMS = 50
View = Callable[[HttpRequest], HttpResponse]


def for_everybody(view: View) -> View:
    """The page is on, is read in UTC, and may be kept by whoever carries it."""

    @wraps(view)
    def wrapped(request: HttpRequest) -> HttpResponse:
        if not settings.STATUS_PAGE:
            raise Http404("There is no status page here.")
        with timezone.override(zoneinfo.ZoneInfo("UTC")):
            response = view(request)
            if isinstance(response, TemplateResponse):
                response.render()  # within the zone
        response["Cache-Control"] = CACHING
        return response

    return require_safe(wrapped)


def _context(shot: status_page.Snapshot, **more: Any) -> dict[str, Any]:
    return {
        "page_title": settings.STATUS_PAGE_TITLE,
        "shot": shot,
        "history_days": status_page.HISTORY_DAYS,
        **more,
    }


@for_everybody
def page(request: HttpRequest) -> HttpResponse:
    """How everything is now."""
    shot = status_page.lately()
    context = _context(shot, title=shot.sentence, lately=shot.past[:3])
    return TemplateResponse(request, "incidents/status.html", context)


@for_everybody
def history(request: HttpRequest) -> HttpResponse:
    """What is over, by month."""
    shot = status_page.lately()
    rows = sorted((*shot.current, *shot.past), key=lambda each: each.started_at, reverse=True)
    months = [(first, list(group)) for first, group in groupby(rows, key=lambda each: f"{each.started_at:%B %Y}")]
    return TemplateResponse(request, "incidents/status_history.html", _context(shot, title="History", months=months))


@for_everybody
def as_json(request: HttpRequest) -> HttpResponse:
    """For programs, from anywhere."""
    response = JsonResponse(status_page.as_json(status_page.lately(), settings.STATUS_PAGE_TITLE))
    response["Access-Control-Allow-Origin"] = "*"
    return response


@for_everybody
def feed(request: HttpRequest) -> HttpResponse:
    """RSS 2.0: an item for each public update."""
    shot = status_page.lately()
    here = settings.PORTAL_URL or f"{request.scheme}://{request.get_host()}"
    home = here + reverse("status-page")
    rss = Rss201rev2Feed(
        title=settings.STATUS_PAGE_TITLE,
        link=home,
        description="Disturbances as they are told.",
        feed_url=here + reverse("status-feed"),
        language="en",
    )
    for each, word in status_page.news(shot)[:FEED_ITEMS]:
        rss.add_item(
            title=CONTROL.sub("", f"{each.title}: {word.status}"),
            link=f"{here}{reverse('status-history')}#disturbance-{each.pk}",
            description=CONTROL.sub("", word.text),
            pubdate=word.at,
            unique_id=f"update-{word.pk}@{home}",
            unique_id_is_permalink=False,
        )
    return HttpResponse(rss.writeString("utf-8"), content_type="application/rss+xml; charset=utf-8")
