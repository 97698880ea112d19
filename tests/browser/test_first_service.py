"""A newcomer with an empty portal and a database of their own: how long until a verified backup of it."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.pages import window
from tests.browser.portal import running_portal
from tests.browser.steps import on_operation, watch_until

LIMIT_S = 300


@pytest.fixture
def empty():
    with running_portal(demo=False) as portal:
        yield portal


def test_from_an_empty_portal_to_a_verified_backup(empty, browser, target_server):
    database = factories.sample_database(target_server)
    try:
        with window(browser, empty, "root") as page:
            began = time.monotonic()
            page.goto("/")
            page.click("text=Back up my first database")
            page.fill("#id_service", "Web shop")
            page.fill("#id_host", target_server.host)
            page.fill("#id_database", database.name)
            page.fill("#id_user", target_server.user)
            page.locator("#id_password").press_sequentially("wrong")
            expect(page.locator("#finding")).to_contain_text("refused the password")
            page.fill("#id_password", target_server.password)
            expect(page.locator("#finding")).to_contain_text("Connected: PostgreSQL")
            page.click("text=Save and back up now")
            on_operation(page)
            watch_until(page, "Succeeded")
            assert time.monotonic() - began < LIMIT_S
            page.goto("/")
            expect(page.locator(".board")).to_contain_text("Web shop")
    finally:
        factories.drop_databases(target_server, database.name)
