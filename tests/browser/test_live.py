"""Live parts, shortcuts and the theme: what only a browser can tell."""

from playwright.sync_api import expect

from tests.browser.steps import back_up, confirm, on_operation, press, watch_until

COUNT_SWAPS = """
window.kept = document.activeElement; window.swaps = 0;
document.addEventListener("htmx:afterSwap", () => window.swaps++);
"""


def swaps(page, at_least):
    for _ in range(150):  # wait_for_function would need eval, which the policy forbids
        if page.evaluate("window.swaps") >= at_least:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{page.evaluate('window.swaps')} refreshes, not {at_least}")


def test_a_refresh_keeps_what_a_person_uses_and_stops_at_the_end(portal, operator, plan_of):
    page = operator
    with portal.dumps_held("crm"):
        back_up(page, plan_of("crm"))
        expect(page.locator(".step:nth-child(2).step-running")).to_be_visible(timeout=20_000)
        key = {"number": 0}

        def with_key(route):  # a page may hold a one-time key in its live part; each refresh brings another
            answer, key["number"] = route.fetch(), key["number"] + 1
            field = f'<input type="hidden" name="request_key" value="{key["number"]}">'
            route.fulfill(response=answer, body=answer.text() + field)

        page.route("**/live/", with_key)
        page.click("#more-menu summary")
        page.focus("#do-cancel")
        page.evaluate(COUNT_SWAPS)
        swaps(page, 1)
        first = page.get_attribute("#live [name=request_key]", "value")
        swaps(page, 3)
        assert page.evaluate("window.kept.isConnected && document.activeElement === window.kept"), "focus was lost"
        assert page.evaluate("document.querySelector('#more-menu').open"), "the menu was closed under the pointer"
        assert page.get_attribute("#live [name=request_key]", "value") == first, "a double click must carry one key"
        assert key["number"] > int(first), "the test itself: no new key was offered"
        page.unroute("**/live/")
    watch_until(page, "Succeeded")
    seen = page.evaluate("window.swaps")
    page.wait_for_timeout(2500)
    assert page.evaluate("window.swaps") == seen, "polling goes on after the state is final"


def test_a_page_left_by_a_sign_out_says_so(portal, operator, plan_of):
    page = operator
    with portal.dumps_held("crm"):
        back_up(page, plan_of("crm"))
        page.context.clear_cookies()
        page.wait_for_url("**/login/?next=**")
        expect(page.locator("#id_username")).to_be_visible()
        expect(page.locator("#live")).to_have_count(0)


def test_search_by_slash(operator):
    operator.goto("/operations/operation/")
    operator.keyboard.press("/")
    assert operator.evaluate("document.activeElement.id") == "searchbar"
    operator.keyboard.type("Restore erp_staging")
    operator.keyboard.press("Enter")
    operator.wait_for_url("**q=Restore**")
    expect(operator.locator("#result_list tbody tr").first).to_contain_text("Restore erp_staging")


def test_a_chosen_theme_stays(operator):
    operator.goto("/me/")
    operator.click(".user-button")
    operator.click("text=Dark")
    operator.goto("/")
    assert operator.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_the_title_of_a_row_opens_it(operator):
    operator.goto("/operations/operation/")
    title = operator.locator("#result_list tbody th a").first.inner_text()
    operator.locator("#result_list tbody tr").first.locator("td").first.click(force=True)  # its link covers the row
    number = on_operation(operator)
    expect(operator.locator("h1")).to_contain_text(f"#{number} {title}")


def test_a_cancel_that_comes_too_late_is_said(portal, operator, plan_of):
    """The confirm page was opened while it ran; by the time of the click it has ended."""
    page = operator
    with portal.dumps_held("crm"):
        number = back_up(page, plan_of("crm"))
        expect(page.locator(".step:nth-child(2).step-running")).to_be_visible(timeout=20_000)
        press(page, "cancel")
    portal.wait_for_operation(number, "succeeded")
    confirm(page)
    on_operation(page)
    expect(page.locator(".message")).to_contain_text("not possible any more")
    watch_until(page, "Succeeded")
