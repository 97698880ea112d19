"""The policy on every page, the weight of a page on the wire, and how much of a list a window shows."""

import re
from html import unescape
from urllib.parse import urljoin, urlsplit

import pytest
from django.urls import Resolver404, resolve
from playwright.sync_api import Page

from tests.browser.pages import SIZES, administrator_pages, main_pages, watch

FIRST_LOAD_BYTES, REPEAT_BYTES = 160 * 1024, 20 * 1024
LINK = re.compile(r"""<a\b[^>]*\bhref="([^"]*)\"""")
ROWS = {"1280": 18, "390": 6}
# Pages of the stock admin that the portal does not link to.
NOT_PAGES = (
    "export",
    "logout",
    "live",
    "jsi18n",
    "autocomplete",
    "static",
    "csv",
    "download",
    "markdown",
    "-feed",
    "-json",
)


def kind_of(path):
    """The route of a path: one page of each kind is enough."""
    try:
        return resolve(path).view_name
    except Resolver404:
        return None


@pytest.mark.timeout(900)  # some hundred kinds of pages
def test_no_page_breaks_the_policy(portal, sign_in_as):
    """Every kind of page that links lead to from home, as the superuser, once.

    Those that the tours of axe open are opened there: what the policy forbids on them is seen there too.
    """
    page = sign_in_as("root")
    toured = {
        kind_of(urlsplit(path).path) for tour in (main_pages, administrator_pages) for path in tour(portal).values()
    }
    waiting, seen = ["/", "/django_celery_beat/periodictask/add/", "/backups/plan/add/", "/nothing/"], set()
    while waiting:
        path = waiting.pop(0)
        if kind_of(path) not in toured or "/do/" in path:
            page.goto(path)
        for link in LINK.findall(page.request.get(path).text()):
            parts = urlsplit(urljoin(path, unescape(link)))
            kind = kind_of(parts.path)
            if parts.netloc or kind is None or kind in seen or kind.endswith(NOT_PAGES):
                continue
            # Confirm pages are of one route, but each has its own form.
            if "/do/" not in parts.path:
                seen.add(kind)
            elif parts.path.rpartition("/do/")[2] in seen:
                continue
            else:
                seen.add(parts.path.rpartition("/do/")[2])
            waiting.append(parts.path)
    assert len(seen) > 60, sorted(seen)
    assert {"admin:django_celery_beat_periodictask_change", "admin:django_celery_beat_crontabschedule_change"} <= seen
    # `sign_in_as` asks at the end what the policy forbade.


def test_a_violation_is_seen(portal, browser):
    """A control: the watch works."""
    context = browser.new_context(base_url=portal.address)
    complaints: list[str] = []
    watch(context, complaints)
    page = context.new_page()
    page.goto("/login/")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">inline</p>')")
    page.wait_for_timeout(200)
    assert any("style-src" in text for text in complaints)
    context.close()


class Wire:
    """Bytes that a page's requests took on the wire, headers and all, by what Chromium's network layer counts."""

    def __init__(self, page: Page) -> None:
        self.by_request: dict[str, float] = {}
        self.address: dict[str, str] = {}
        session = page.context.new_cdp_session(page)
        session.on("Network.requestWillBeSent", lambda e: self.address.update({e["requestId"]: e["request"]["url"]}))
        session.on(
            "Network.loadingFinished", lambda e: self.by_request.update({e["requestId"]: e["encodedDataLength"]})
        )
        session.send("Network.enable")

    def take(self) -> tuple[int, dict[str, int]]:
        """The sum since the last call, and what it is made of."""
        parts = {self.address[key]: int(size) for key, size in self.by_request.items()}
        self.by_request.clear()
        return sum(parts.values()), parts


@pytest.mark.parametrize("path", ["/", "/operations/operation/"])
def test_a_page_is_light_and_a_repeat_lighter(sign_in_as, path):
    page = sign_in_as("operator", extra_http_headers={"Accept-Encoding": "gzip"})
    wire = Wire(page)
    page.goto(path, wait_until="networkidle")
    first, parts = wire.take()
    assert any(".woff2" in url for url in parts), "the font must be counted"
    assert any(re.search(r"ops\.[0-9a-f]{12}\.css", url) for url in parts), "assets carry the hash of their content"
    assert first <= FIRST_LOAD_BYTES, parts
    page.goto("/me/")
    page.wait_for_load_state("networkidle")
    wire.take()
    page.goto(path, wait_until="networkidle")
    repeat, parts = wire.take()
    assert 0 < repeat <= REPEAT_BYTES, parts


@pytest.mark.parametrize("size", SIZES)
def test_a_window_shows_many_rows(operator, size):
    operator.set_viewport_size(SIZES[size])
    operator.goto("/operations/operation/")
    rows = operator.locator("#result_list tbody tr")
    assert rows.count() == 50
    whole = "all => all.filter(row => row.getBoundingClientRect().bottom <= innerHeight).length"
    assert rows.evaluate_all(whole) >= ROWS[size]
    hidden = "all => all.filter(el => el.scrollWidth > el.clientWidth + 1).map(el => el.textContent.trim())"
    assert operator.eval_on_selector_all("#result_list tbody :is(th, td):not([data-wide])", hidden) == []
