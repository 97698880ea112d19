"""The maintenance that is going on, for the line on top of every page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import QuerySet
from django.utils import timezone

from core.recent import Recent
from incidents.models import Maintenance

KEPT_S = 10.0  # so long an answer serves every page of this process


class Window(NamedTuple):
    """What the line says of one window."""

    pk: int
    title: str
    service: str
    starts_at: datetime
    ends_at: datetime


def running() -> list[Window]:
    """The windows of now. Read from the database at most every KEPT_S seconds, with those that begin meanwhile."""
    moment = timezone.now()
    return [window for window in lately() if window.starts_at <= moment < window.ends_at]


def _read() -> list[Window]:
    moment = timezone.now()
    soon = timedelta(seconds=KEPT_S)
    rows: QuerySet[Maintenance] = Maintenance.objects.filter(starts_at__lte=moment + soon, ends_at__gt=moment)
    return [
        Window(row.pk, row.title, str(row.service or ""), row.starts_at, row.ends_at)
        for row in rows.select_related("service").order_by("starts_at")[:5]
    ]


lately: Recent[list[Window]] = Recent(_read, KEPT_S)
