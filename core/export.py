"""A list as CSV: the rows that are filtered, in the order shown, the columns of the list."""

import csv
import datetime
from collections.abc import Iterator
from typing import Any

from django.contrib.admin.templatetags.admin_list import result_headers
from django.contrib.admin.utils import lookup_field
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model
from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.html import strip_tags
from django.utils.text import capfirst

# A cell that begins so is run as a formula by spreadsheet programs.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class _Echo:
    """A file for csv.writer that hands each line on instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def csv_response(cl: ChangeList) -> StreamingHttpResponse:
    """All filtered rows of the list as a download, streamed. Times are ISO 8601 in UTC."""
    model = cl.model._meta
    stamp = timezone.now().strftime("%Y%m%dT%H%M%SZ")
    response = StreamingHttpResponse(_lines(cl), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{model.model_name}-{stamp}.csv"'
    return response


def _lines(cl: ChangeList) -> Iterator[str]:
    columns = [c for c in cl.list_display if c != "action_checkbox"]
    titles = [
        capfirst(strip_tags(str(header["text"])))
        for column, header in zip(cl.list_display, result_headers(cl), strict=True)
        if column != "action_checkbox"
    ]
    more = getattr(cl.model_admin, "csv_more", ())  # what programs read: (title, value of a row)
    writer = csv.writer(_Echo())
    yield writer.writerow([*titles, *(title for title, _ in more)])
    for obj in cl.queryset.iterator(chunk_size=500):
        values = [_value(cl, obj, column) for column in columns]
        yield writer.writerow([_safe(value) for value in (*values, *(read(obj) for _, read in more))])


def _value(cl: ChangeList, obj: Model, column: Any) -> Any:
    try:
        field, _, value = lookup_field(column, obj, cl.model_admin)
    except ObjectDoesNotExist:
        return ""
    if field is not None:
        if field.flatchoices:
            return getattr(obj, f"get_{field.name}_display")()
        if field.is_relation:
            return getattr(obj, field.name)
    return value


def _safe(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, (int, float)):
        return str(value)
    text = " ".join(strip_tags(str(value)).split())
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
