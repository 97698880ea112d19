"""The list of incidents stays quick with hundreds of thousands of rows: what is counted and offered reads no row."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import cached_property

from core.changelist import COUNT_CAP, CappedPaginator
from incidents.models import Incident

FIELD = "declared_at"
YEAR, MONTH, DAY = f"{FIELD}__year", f"{FIELD}__month", f"{FIELD}__day"


class LeanPaginator(CappedPaginator):
    """Counts rows without what the list adds to each."""

    @cached_property
    def count(self) -> int:
        if isinstance(self.object_list, QuerySet):
            return self.object_list.order_by().values("pk")[: COUNT_CAP + 1].count()
        return len(self.object_list)


def dates_of(cl: ChangeList) -> dict[str, Any]:
    """Years, months or days to choose from, by the calendar alone: which of them have rows is not asked."""
    chosen = [_number(cl, name) for name in (YEAR, MONTH, DAY)]
    year, month, day = chosen
    today = timezone.localdate()
    if year is None:
        return {"show": True, "choices": [_link(cl, str(y), {YEAR: y}) for y in _years(today)]}
    if month is None:
        months = range(1, today.month + 1 if year == today.year else 13)
        choices = [_link(cl, _name(year, m), {YEAR: year, MONTH: m}) for m in months]
        return {"show": True, "back": _link(cl, "All dates", {}), "choices": choices}
    back = _link(cl, str(year), {YEAR: year})
    if day is None:
        last = today.day if (year, month) == (today.year, today.month) else _days(year, month)
        choices = [_link(cl, f"{d}", {YEAR: year, MONTH: month, DAY: d}) for d in range(1, last + 1)]
        return {"show": True, "back": back, "choices": [{"title": _name(year, month)}, *choices]}
    up = _link(cl, _name(year, month), {YEAR: year, MONTH: month})
    return {"show": True, "back": up, "choices": [{"title": f"{day} {_name(year, month)}"}]}


def _years(today: date) -> range:
    """From that of the oldest incident on. One look at the end of an index."""
    oldest = Incident.objects.order_by(FIELD).values_list(FIELD, flat=True).first()
    return range(timezone.localtime(oldest).year if oldest else today.year, today.year + 1)


def _number(cl: ChangeList, name: str) -> int | None:
    value = cl.params.get(name, "")
    return int(value) if value.isdecimal() and 0 < int(value) < 10_000 else None


def _days(year: int, month: int) -> int:
    following = date(year + month // 12, month % 12 + 1, 1)
    return (following - date(year, month, 1)).days


def _name(year: int, month: int) -> str:
    return date_format(date(year, min(max(month, 1), 12), 1), "F Y")


def _link(cl: ChangeList, title: str, chosen: dict[str, int]) -> dict[str, str]:
    return {"title": title, "link": cl.get_query_string({**chosen, "p": None}, [f"{FIELD}__"])}
