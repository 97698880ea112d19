"""The newcomer's story in a real browser: a bad release is caught, others are taken back by hand."""

import json
import time
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from tests.browser.deploying import answer, ask_for, environment, state_of
from tests.browser.steps import END_LIMIT_MS, STATE, confirm, press, watch_until
from tests.browser.test_incidents import declare


@pytest.fixture
def erp(portal) -> str:
    """Where people reach the ERP."""
    ports = json.loads((portal.data / "demo" / "ports.json").read_text())
    return f"http://127.0.0.1:{ports['proxy']}/"


@contextmanager
def customer(browser):
    """A window of somebody who uses the ERP and knows nothing of the portal."""
    context = browser.new_context()
    try:
        yield context.new_page()
    finally:
        context.close()


def version_of(page: Page, erp: str) -> str:
    answer = page.goto(f"{erp}orders")
    assert answer is not None
    return page.locator("#version").inner_text() if answer.ok else ""


def open_an_order(page: Page) -> None:
    """The oldest of the list: the newest may be the smoke test's, which takes it away again."""
    page.locator("tbody a").last.click()


def wait_for_version(page: Page, erp: str, version: str, *, limit_s: float = 150) -> None:
    deadline = time.monotonic() + limit_s
    while (seen := version_of(page, erp)) != version:
        assert time.monotonic() < deadline, f"the ERP is {seen}, not {version}"
        time.sleep(0.5)


def test_a_bad_release_is_caught_and_traffic_goes_back(portal, browser, erp, operator, sign_in_as):
    with customer(browser) as shop:
        assert version_of(shop, erp) == "v1.4.0"
        path = ask_for(operator, portal, "v1.5.0")
        expect(operator.locator(STATE)).to_have_text("Waiting")
        assert operator.locator("#do-start").count() == 0, "it waits for somebody else's word"
        assert operator.locator("#do-approve").count() == 0, "whoever asks does not approve"
        answer(sign_in_as("approver"), portal, path, "approve")
        answer(operator, portal, path, "start")
        wait_for_version(shop, erp, "v1.5.0")  # it was ready, so it got the traffic
        watch_until(operator, "Rolled back")
        assert version_of(shop, erp) == "v1.4.0"
    back = portal.rows(
        "SELECT automatic, state, extract(epoch FROM switched_at - requested_at) FROM deployments_deployment"
        " WHERE rollback_of_id = %s",
        int(path.split("/")[-2]),
    )
    assert [row[:2] for row in back] == [(True, "live")]
    assert back[0][2] < 10
    deadline = time.monotonic() + 20
    while not (found := portal.value("SELECT id FROM incidents_incident WHERE title LIKE '%v1.5.0%'")):
        assert time.monotonic() < deadline, "no incident was opened"
        time.sleep(0.5)
    operator.goto(f"/incidents/incident/{found}/")
    expect(operator.locator(".suspects li").first).to_contain_text("v1.5.0 to Production")


def test_a_release_that_somebody_does_not_like_is_taken_back_by_hand(portal, browser, erp, operator, sign_in_as):
    """While it is still watched. Its schema stays, and the release before goes on with it."""
    with customer(browser) as shop:
        path = ask_for(operator, portal, "v1.6.0")
        answer(sign_in_as("approver"), portal, path, "approve")
        answer(operator, portal, path, "start")
        wait_for_version(shop, erp, "v1.6.0")
        open_an_order(shop)
        expect(shop.locator("main")).to_contain_text("Delivery wish")
        expect(operator.locator(STATE)).to_have_text("Being verified", timeout=END_LIMIT_MS)
        press(operator, "roll_back")
        operator.fill("#id_reason", "Bookkeeping is not ready for it.")
        confirm(operator)
        wait_for_version(shop, erp, "v1.4.0")
        operator.goto(path)
        watch_until(operator, "Rolled back")
        open_an_order(shop)
        expect(shop.locator("main")).not_to_contain_text("Delivery wish")
    with portal.target("erp") as session:
        assert session.execute(
            "SELECT count(*) FROM information_schema.columns WHERE column_name = 'delivery_wish'"
        ).fetchone() == (1,)
    assert state_of(portal, path) == "rolled_back"
    operator.goto(environment(portal))
    expect(operator.locator("h1")).to_contain_text("ERP")
    expect(operator.locator(".headline-sentence")).to_contain_text("v1.4.0 is live")


def test_an_incident_offers_to_take_back_what_is_likely_its_cause(portal, browser, erp, operator, sign_in_as):
    path = ask_for(operator, portal, "v1.6.0")
    answer(sign_in_as("approver"), portal, path, "approve")
    answer(operator, portal, path, "start")
    with customer(browser) as shop:
        wait_for_version(shop, erp, "v1.6.0")
        declare(operator, "Orders are shipped at the wrong time", "high")
        likely = operator.locator(".suspects li").first
        expect(likely).to_contain_text("v1.6.0 to Production")
        likely.get_by_role("link", name="Roll back").click()
        expect(operator.locator(".consequence")).to_contain_text("v1.6.0 is live in ERP · Production")
        operator.fill("#id_reason", "The delivery wish is printed as the day of delivery.")
        confirm(operator)
        wait_for_version(shop, erp, "v1.4.0")
    operator.goto(path)
    watch_until(operator, "Rolled back")
    back = portal.rows(
        "SELECT automatic, reason FROM deployments_deployment WHERE rollback_of_id = %s", int(path.split("/")[-2])
    )
    assert len(back) == 1 and not back[0][0]
    assert "INC-" in back[0][1] and "day of delivery" in back[0][1]
