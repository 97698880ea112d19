"""axe on every main page, with widths and themes in turns, and the keyboard alone."""

import os
from itertools import product

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import expect

from tests.browser.pages import SET_THEME, SIZES, THEMES, administrator_pages, deployment_pages, main_pages
from tests.browser.steps import back_up, newest_archive, on_operation, watch_until

RUN = """() => axe.run(document, {resultTypes: ["violations"]}).then((found) =>
  found.violations.map((one) => `${one.id}: ${one.nodes.length} x ${one.nodes[0].html.slice(0, 160)}`))"""
# Pages are made of the same parts, so their pairs of width and theme take turns; whether a page fits is asked at both
# widths. FULL=1 lets axe look at every page in every pair.
PAIRS = list(product(SIZES, THEMES))
FULL = bool(os.environ.get("FULL"))
# Long lists cost axe seconds and teach it nothing that a few rows do not.
SHORT = {
    "list-operations": "?state__exact=failed",
    "list-archives": "?verification__exact=damaged",
    "list-decisions": "?decision__exact=merged",
}
TOURS = 4
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


def look(page, name, found, turn=0):
    """Collect what is wrong with the page that is open."""
    for size in SIZES:
        page.set_viewport_size(SIZES[size])
        if page.evaluate(TOO_WIDE):
            found.append(f"{name} {size}: wider than the window")
    page.evaluate(AXE_SCRIPT)
    for size, theme in PAIRS if FULL else [PAIRS[turn % len(PAIRS)]]:
        page.set_viewport_size(SIZES[size])
        page.evaluate(SET_THEME, theme)
        found += [f"{name} {size} {theme}: {one}" for one in page.evaluate(RUN)]


def tour(page, pages):
    """Look at every page of a tour; what is wrong with them."""
    found = []
    for turn, (name, path) in enumerate(pages.items()):
        page.goto(path + SHORT.get(name, ""))
        look(page, name, found, turn)
    return found


def test_the_axe_finds_what_is_wrong(operator):
    """A control: without it, a broken harness finds nothing either."""
    operator.goto("/")
    operator.evaluate(
        "document.querySelector('main').insertAdjacentHTML('beforeend',"
        " '<input><p class=\"bad\">grey</p><img src=/static/ops/icon.svg>');"
        "document.querySelector('.bad').style.cssText = 'color: #999; background: #aaa; width: 2000px'"
    )
    found = []
    look(operator, "broken", found)
    for rule in ("label", "image-alt", "color-contrast", "wider"):
        assert any(rule in one for one in found), rule


def test_a_dark_system_gets_the_dark_theme(sign_in_as):
    page = sign_in_as("operator", theme="dark")
    page.goto("/")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 15, 19)"


@pytest.mark.parametrize("part", range(TOURS))
def test_main_pages(portal, operator, part):
    pages = list(main_pages(portal).items())
    assert tour(operator, dict(pages[part::TOURS])) == []


def test_pages_of_an_administrator(portal, sign_in_as):
    assert tour(sign_in_as("root"), administrator_pages(portal)) == []


def test_pages_before_and_outside_the_sign_in(portal, sign_in_as):
    found = tour(sign_in_as(), {"sign-in": "/login/"})
    refused = f"/backups/archive/{newest_archive(portal, 'erp')}/do/restore/"
    found += tour(sign_in_as("manager"), {"forbidden": refused, "live": deployment_pages(portal)["live"]})
    assert found == []


def test_a_page_while_it_runs_and_what_opens_on_it(portal, operator, plan_of):
    page, found = operator, []
    with portal.dumps_held("crm"):
        back_up(page, plan_of("crm"))
        expect(page.locator(".step-running progress")).to_be_visible(timeout=20_000)
        page.evaluate(AXE_SCRIPT)
        look(page, "running", found)
        page.set_viewport_size(SIZES["1280"])
        page.click("#more-menu summary")
        look(page, "running, menu", found)
        page.goto("/")
        look(page, "home, running", found)
    page.set_viewport_size(SIZES["390"])
    page.goto("/operations/operation/")
    page.click(".nav-open")
    expect(page.locator("#nav")).to_be_visible()
    found += [f"navigation: {one}" for one in page.evaluate(f"async () => {{ {AXE_SCRIPT}; return ({RUN})(); }}")]
    assert found == []


def test_a_refused_confirm_page(portal, operator):
    found = []
    operator.goto(f"/backups/archive/{newest_archive(portal, 'erp_staging')}/do/restore/")
    operator.click(".confirm .form-actions button[type=submit]")
    expect(operator.locator(".errorlist").first).to_be_visible()
    look(operator, "refused", found)
    assert found == []


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 40)")


def tab_to(page, wanted, limit=80):
    """Press Tab until it is reached; every stop on the way shows that it has the focus."""
    for _ in range(limit):
        page.keyboard.press("Tab")
        shown = page.evaluate(
            "() => { const el = document.activeElement; if (el === document.body) return true;"
            " const looks = [getComputedStyle(el), getComputedStyle(el, '::after')];"
            " return looks.some((one) => one.outlineStyle !== 'none' && parseFloat(one.outlineWidth) >= 2); }"
        )
        assert shown, f"the focus on “{focused(page)}” cannot be seen"
        if focused(page) == wanted:
            return
    raise AssertionError(f"{limit} times Tab did not lead to {wanted}")


def test_a_restore_by_keyboard_alone(portal, operator):
    page = operator
    archive = newest_archive(portal, "erp_staging")
    page.goto(f"/backups/archive/{archive}/")
    tab_to(page, "do-restore")
    page.keyboard.press("Enter")
    page.wait_for_url("**/do/restore/")
    tab_to(page, "id_reason_kind")
    page.keyboard.type("Acc")  # jumps to the choice that begins so
    tab_to(page, "id_reason")
    page.keyboard.type("By keyboard.")
    tab_to(page, "id_typed_name")
    page.keyboard.type("erp_staging")
    tab_to(page, "Restore")
    page.keyboard.press("Enter")
    on_operation(page)
    watch_until(page, "Succeeded")
    expect(page.locator(".asked")).to_contain_text("By keyboard.")


@pytest.mark.parametrize("size", SIZES)
def test_the_first_tab_skips_the_navigation(operator, size):
    operator.set_viewport_size(SIZES[size])
    operator.goto("/operations/operation/")
    operator.keyboard.press("Tab")
    assert focused(operator) == "Skip to the content"
    operator.keyboard.press("Enter")
    assert operator.evaluate("document.activeElement.id") == "content"
