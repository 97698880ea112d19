"""The tile of the backups of late."""

from datetime import timedelta

import pytest
from django.test import RequestFactory

from backups import panels
from backups.models import Archive
from tests.factories import ArchiveFactory, OperationFactory, PersonFactory, PlanFactory, browser

pytestmark = pytest.mark.django_db


def test_the_newest_are_drawn_oldest_first_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(panels, "DRAWN_BARS", 3)
    plan, hour = PlanFactory(), timedelta(hours=1)
    for age in (2, 1, 4, 5, 3):  # in no order
        ArchiveFactory(plan=plan, age=age * hour, name=f"aged-{age}")
    ArchiveFactory(plan=plan, failed=True, age=9 * hour)  # too old to be drawn, and counted
    ArchiveFactory(plan=plan, failed=True, age=timedelta(days=31))
    ArchiveFactory(plan=plan, failed=True, state=Archive.State.CREATING, operation=OperationFactory(state="queued"))
    tile = panels.recent(RequestFactory().get("/"))
    assert [label.split(": ")[1] for label, _, _ in tile["bars"]] == ["aged-3 (MB)", "aged-2 (MB)", "aged-1 (MB)"]
    assert (tile["count"], tile["failed"]) == (6, 1)
    html = browser(PersonFactory(is_superuser=True)).get("/").content.decode()
    assert "1 of 6" in html and "Drawn: the latest 3" in html
