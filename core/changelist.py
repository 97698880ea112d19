"""Lists: rows lead to the detail page, counting stops where nobody reads on."""

from collections.abc import Iterator
from typing import Any

from django.contrib.admin.templatetags.admin_list import result_headers, results
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.utils.functional import cached_property
from django.utils.html import escape, strip_tags
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst

from core.links import detail_url

COUNT_CAP = 10_000


class CappedPaginator(Paginator):
    """Counts at most COUNT_CAP rows: counting a million costs more than the page. Beyond the cap, filter."""

    @cached_property
    def count(self) -> int:
        if isinstance(self.object_list, QuerySet):
            return self.object_list.order_by()[: COUNT_CAP + 1].count()
        return len(self.object_list)

    @property
    def is_capped(self) -> bool:
        return self.count > COUNT_CAP


class PortalChangeList(ChangeList):
    """A list whose rows open the detail page."""

    def url_for_result(self, result: Model) -> str:
        return detail_url(result)


def phone_columns(cl: ChangeList) -> set[str]:
    """The columns a phone shows: the admin's `phone_columns`, else the first four."""
    columns = [c for c in cl.list_display if c != "action_checkbox"]
    chosen = getattr(cl.model_admin, "phone_columns", None) or columns[:4]
    return {"action_checkbox", *(c if isinstance(c, str) else c.__name__ for c in chosen)}


def column_names(cl: ChangeList) -> list[str]:
    """The names of the list's columns; a callable column has its function's name."""
    return [c if isinstance(c, str) else c.__name__ for c in cl.list_display]


def labelled_rows(cl: ChangeList) -> tuple[list[dict[str, Any]], list[list[SafeString]]]:
    """The stock headers and cells, each cell with its column's label and whether a phone shows it."""
    names, keep = column_names(cl), phone_columns(cl)
    headers = list(result_headers(cl))
    for name, header in zip(names, headers, strict=True):
        header["on_phone"] = name in keep
        header["plain"] = "" if name == "action_checkbox" else capfirst(strip_tags(str(header["text"])))
    return headers, [list(_labelled(row, names, headers)) for row in results(cl)]


def _labelled(row: Any, names: list[str], headers: list[dict[str, Any]]) -> Iterator[SafeString]:
    for index, cell in enumerate(row):
        if index >= len(names):  # the hidden primary key of an editable list
            yield cell
            continue
        label = escape(headers[index]["plain"])
        phone = "" if headers[index]["on_phone"] else " data-wide"
        tag = str(cell)[:3]
        yield mark_safe(f'{tag} data-label="{label}"{phone}{str(cell)[3:]}')  # noqa: S308  (label is escaped)
