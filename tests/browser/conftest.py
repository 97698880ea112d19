"""One real portal and one Chromium for all tests of this folder; see portal.py and pages.py."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.pages import chromium, window
from tests.browser.portal import Portal, running_portal

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))
            item.add_marker(pytest.mark.needs("chromium"))


@pytest.fixture(scope="package")
def portal() -> Iterator[Portal]:
    with running_portal() as running:
        yield running


# Not for the session: Playwright's loop lives in this thread, and Django would refuse other tests' queries meanwhile.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def sign_in_as(portal: Portal, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a window as somebody of a role. At the end each window is asked what broke the policy."""
    with ExitStack() as windows:

        def open_window(role: str = "", **options: object) -> Page:
            return windows.enter_context(window(browser, portal, role, **options))

        yield open_window


@pytest.fixture
def operator(sign_in_as: Callable[..., Page]) -> Page:
    return sign_in_as("operator")


@pytest.fixture
def plan_of(portal: Portal) -> Callable[[str], str]:
    """Path of the plan that backs up a database."""
    return partial(_plan_of, portal)


def _plan_of(portal: Portal, database: str) -> str:
    found = portal.value(
        "SELECT p.id FROM backups_plan p JOIN catalog_databasetarget t ON t.id = p.target_id WHERE t.database = %s",
        database,
    )
    return f"/backups/plan/{found}/"
