"""The edit forms of plans and storages: what is typed wrong is said, and stays in its field."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backups.models import Plan, Storage
from operations.models import Schedule
from tests.factories import (
    StorageFactory,
    TargetFactory,
)
from tests.furnished import HOUR
from tests.pages import Page, page_of


class TestPlanForm:
    TYPED = {
        "name": "Shop weekly",
        "folder": "shop/weekly",
        "cron": "0 3 * * 0",
        "enabled": "on",
        "misfire": "latest",
        "name_pattern": "erp_backup_%Y-%m-%d_%H00",
        "on_demand_pattern": "manual_%Y%m%d_%H%M%S",
        "keep_days": "7",
        "jobs": "2",
    }

    @pytest.fixture
    def send(self, administrator) -> Callable[..., Page | str]:
        places = {"target": str(TargetFactory().pk), "storage": str(StorageFactory().pk)}

        def send(address: str = "/backups/plan/add/", **values: str) -> Page | str:
            typed = {**self.TYPED, **places, **values}
            response = administrator.post(address, typed)
            if response.status_code == 302:
                return response["Location"]
            page = page_of(response)
            assert "Nothing was saved" in page.text
            shown = {key: page.post.fields.get(key, "") for key in typed}
            assert shown == typed, "what was typed is kept"
            return page

        return send

    def test_a_new_plan_has_its_schedule(self, send, administrator):
        location = send(max_lateness="2 h", expected_min="15 min", expected_max="30 min")
        plan = Plan.objects.get()
        assert location == f"/backups/plan/{plan.pk}/"
        assert (plan.schedule.crontab.hour, plan.schedule.crontab.day_of_week) == ("3", "0")
        assert plan.schedule.max_lateness == 2 * HOUR
        assert (plan.expected_min, plan.expected_max) == (HOUR / 4, HOUR / 2)
        text = page_of(administrator.get(location)).text
        assert "0 3 * * 0" in text and "Europe/Berlin" in text and "7 days" in text

    def test_editing_shows_what_is_stored(self, send, administrator):
        location = send()
        form = page_of(administrator.get(f"{location}change/")).post
        assert form.fields["cron"] == "0 3 * * 0" and form.fields["enabled"] == "on"
        send(f"{location}change/", cron="", enabled="")
        plan = Plan.objects.get()
        assert plan.schedule.enabled is False
        assert "On demand" in page_of(administrator.get("/backups/plan/")).text

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"cron": "0 3 * *"}, "Write five fields"),
            ({"cron": "99 3 * * *"}, "“99 3 * * *” is not a schedule: '99', not in 0-59 for Minutes."),
            ({"cron": "0 3 30 2 *"}, "never occurs"),
            ({"cron": "0 3 * * monday-ish"}, "is not a schedule"),
            ({"name_pattern": "../%Y-%m-%d"}, "leads into another folder"),
            ({"name_pattern": "nightly"}, "gives every archive the same name"),
            ({"on_demand_pattern": "%Y-%Q"}, "uses %Q, which is not known here"),
            ({"folder": "../outside"}, "Write a folder below the storage's"),
            ({"folder": "/etc"}, "Write a folder below the storage's"),
            ({"folder": ".hidden"}, "Write a folder below the storage's"),
            ({"keep_days": "0"}, "Keep archives for at least one day"),
            ({"keep_last": "-1"}, "greater than or equal to 0"),
            ({"jobs": "99"}, "Between 1 and 16"),
            ({"name": ""}, "This field is required"),
            ({"max_lateness": "soon"}, "Write a number with its unit"),
        ],
    )
    def test_what_is_wrong_is_said_and_what_was_typed_is_kept(self, send, values, words):
        page = send(**values)
        assert isinstance(page, Page) and words in page.text
        assert not Plan.objects.exists() and not Schedule.objects.exists()

    def test_a_storage_is_an_absolute_folder(self, administrator):
        host = StorageFactory().host
        fields = {"name": "nas", "kind": "local", "host": host.pk}
        page = page_of(administrator.post("/backups/storage/add/", {**fields, "root": "backups/../etc"}))
        assert "Write an absolute folder" in page.text
        assert administrator.post("/backups/storage/add/", {**fields, "root": "/backups"}).status_code == 302
        assert Storage.objects.filter(root="/backups").exists()
