"""Pages of operations: the whole log, the list of what went wrong."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from core.roles import Role
from operations import admin, whole_log
from operations.models import LogLine, Operation
from tests.factories import OperationFactory, PersonFactory, browser
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db
AT = datetime(2026, 3, 1, 14, 5, 9, 870_000, tzinfo=UTC)


@pytest.fixture
def manager():
    return browser(PersonFactory(role=Role.MANAGER))


def logged(*texts: str) -> Operation:
    operation = OperationFactory()
    LogLine.objects.filter(operation=operation).delete()
    LogLine.objects.bulk_create(LogLine(operation=operation, at=AT, stream="stderr", text=text) for text in texts)
    return operation


def address(operation: Operation, page: str = "") -> str:
    return f"/operations/operation/{operation.pk}/{page}"


def test_the_whole_log_is_plain_text_one_line_each(manager):
    operation, other = logged("Zwölf <b>Züge</b>", "two\nlines"), logged("of another")
    response = manager.get(address(operation, "log/"))
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Content-Disposition"].startswith("inline")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert b"".join(response.streaming_content).decode() == (
        "2026-03-01T14:05:09Z stderr Zwölf <b>Züge</b>\n2026-03-01T14:05:09Z stderr two lines\n"
    )
    empty = manager.get(address(logged(), "log/"))
    assert (empty.status_code, b"".join(empty.streaming_content)) == (200, b"")
    assert other.pk != operation.pk


def test_a_long_log_comes_in_chunks_and_whole(manager, monkeypatch):
    monkeypatch.setattr(whole_log, "CHUNK_LINES", 10)
    operation = logged(*(f"line {number}" for number in range(25)))
    response = manager.get(address(operation, "log/"))
    assert response.streaming
    with counted() as queries:
        chunks = list(response.streaming_content)
    assert len(chunks) == 3 and len(queries) == 4
    assert all("LIMIT 10" in query["sql"] for query in queries)
    lines = b"".join(chunks).decode().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == [str(number) for number in range(25)]


def test_the_log_needs_what_the_operation_needs(client):
    operation = logged("a line")
    assert browser(PersonFactory()).get(address(operation, "log/")).status_code == 403
    assert client.get(address(operation, "log/")).status_code == 302
    assert browser(PersonFactory(role=Role.MANAGER)).get("/operations/operation/0/log/").status_code == 404


def test_the_page_leads_to_the_whole_log(manager, monkeypatch):
    monkeypatch.setattr(admin, "LOG_TAIL", 2)
    for texts, cut in ((("one", "two"), False), (("one", "two", "three"), True)):
        operation = logged(*texts)
        for page in ("", "live/"):
            shown = page_of(manager.get(address(operation, page)))
            assert address(operation, "log/") in shown.links
            assert ("The latest 2 lines." in shown.text) is cut


def test_the_tile_leads_to_what_it_counts(manager):
    recent = timezone.now() - timedelta(days=2)
    failed = OperationFactory(state=Operation.State.FAILED, title="Failed lately", requested_at=recent)
    errored = OperationFactory(state=Operation.State.ERRORED, title="Errored lately", requested_at=recent)
    OperationFactory(state=Operation.State.FAILED, title="Failed once", requested_at=timezone.now() - timedelta(days=8))
    OperationFactory(title="Went well")
    home = manager.get("/").content.decode()
    tile = home[home.index('id="tile-operations-wrong"') :].split("</section>")[0]
    assert '<span class="count">2</span>' in tile
    link = tile.split('<a href="')[1].split('"')[0]
    listed = manager.get(link).context["cl"].queryset
    assert set(listed) == {failed, errored}
    assert manager.get("/operations/operation/?went_wrong=ever").context["cl"].queryset.count() == 3
    assert manager.get("/operations/operation/?went_wrong=nonsense").context["cl"].queryset.count() == 4
