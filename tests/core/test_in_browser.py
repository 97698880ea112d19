"""What only a browser can tell: the live part, the keyboard, both themes and both widths."""

import os
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import PASSWORD
from playwright.sync_api import Browser, Page, sync_playwright

from core.models import User

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.needs("chromium"),
    pytest.mark.usefixtures("small_portal"),
]
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--no-first-run"]
SIZES = {"desktop": (1280, 900, 18), "phone": (390, 844, 6)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright's loop runs in this thread, and Django would take the fixtures' queries for async code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def people(transactional_db: None) -> list[User]:
    User.objects.create_superuser("root", password=PASSWORD)
    return [User.objects.create_user(f"person.{i:02d}", last_name="production") for i in range(40)]


def open_portal(browser: Browser, address: str, *, size: str = "desktop", theme: str = "light") -> Page:
    width, height, _ = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
    page.goto(f"{address}/login/")
    page.fill("#id_username", "root")
    page.fill("#id_password", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_selector("h1")
    return page


def findings(page: Page) -> list[str]:
    return [f"{v['id']}: {v['nodes'][0]['html'][:120]}" for v in Axe().run(page).response["violations"]]


def test_a_refresh_keeps_focus_and_stops_at_the_end(browser, live_server, people):
    target = people[0]
    page = open_portal(browser, live_server.url)
    page.goto(f"{live_server.url}/core/user/{target.pk}/")
    page.click("#more-menu summary")
    page.focus("#do-poke")
    page.evaluate("window.kept = document.activeElement; window.swaps = 0;"
                  "document.addEventListener('htmx:afterSwap', () => window.swaps++)")  # fmt: skip
    key = page.get_attribute("[name=request_key]", "value")
    for _ in range(100):  # wait_for_function would need eval, which the policy forbids
        if page.evaluate("window.swaps") >= 2:
            break
        page.wait_for_timeout(100)
    assert page.evaluate("window.kept.isConnected && document.activeElement === window.kept")
    assert page.evaluate("document.querySelector('#more-menu').open"), "the menu was closed under the pointer"
    assert page.get_attribute("[name=request_key]", "value") == key, "a double click must carry one key"
    User.objects.filter(pk=target.pk).update(is_active=False, username="renamed")
    page.wait_for_selector("h1:has-text('renamed')")
    seen = page.evaluate("window.swaps")
    page.wait_for_timeout(2500)
    assert page.evaluate("window.swaps") == seen, "polling goes on after the state is final"
    page.close()


def test_search_by_slash_and_a_theme_that_stays(browser, live_server, people):
    page = open_portal(browser, live_server.url)
    page.goto(f"{live_server.url}/core/user/")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "searchbar"
    page.keyboard.type("person.07")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=person.07**")
    assert page.locator("#result_list tbody tr").count() == 1
    page.click(".user-button")
    page.click("text=Dark")
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_main_pages_are_accessible_fit_and_break_no_policy(browser, live_server, people, size, theme):
    page = open_portal(browser, live_server.url, size=size, theme=theme)
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if "Content Security" in m.text else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    person = f"/core/user/{people[1].pk}/"
    own = ("", "do/poke/", "change/", "history/")
    others = ("/", "/core/user/", "/auditlog/logentry/", "/django_celery_beat/periodictask/add/", "/me/", "/nothing/")
    paths = (*others, *(person + page_name for page_name in own))
    for path in paths:
        page.goto(live_server.url + path)
        assert findings(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the window"
    page.goto(f"{live_server.url}/core/user/")
    visible = "rows => rows.filter(row => row.getBoundingClientRect().bottom <= innerHeight).length"
    assert page.eval_on_selector_all("#result_list tbody tr", visible) >= SIZES[size][2]
    if size == "phone":
        page.click(".nav-open")
        assert page.is_visible("#nav")
        assert findings(page) == []
    assert complaints == []
    page.close()
