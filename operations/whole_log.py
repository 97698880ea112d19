"""The whole log of an operation as plain text, however long it is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC

from django.http import StreamingHttpResponse

from operations.models import LogLine, Operation

CHUNK_LINES = 1000


def response(operation: Operation) -> StreamingHttpResponse:
    """The log for reading in the browser, streamed. Times are in UTC."""
    answer = StreamingHttpResponse(_chunks(operation), content_type="text/plain; charset=utf-8")
    answer["Content-Disposition"] = f'inline; filename="operation-{operation.pk}.log"'
    return answer


def _chunks(operation: Operation) -> Iterator[str]:
    """By primary key, so that neither the portal nor the database holds more than one chunk."""
    lines, last = LogLine.objects.filter(operation=operation).order_by("pk"), 0
    while chunk := list(lines.filter(pk__gt=last)[:CHUNK_LINES]):
        yield "".join(map(_text, chunk))
        last = chunk[-1].pk


def _text(line: LogLine) -> str:
    at = line.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{at} {line.stream} {' '.join(line.text.splitlines())}\n"
