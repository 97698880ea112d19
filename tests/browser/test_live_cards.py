"""Cards beside the live part are drawn anew while a person looks on, without a reload."""

import psycopg
from playwright.sync_api import expect

from tests.browser.steps import back_up, watch_until
from tests.browser.test_accessibility import look

KEEP = """
window.here = true; window.card = document.getElementById("%s");
window.link = window.card.querySelector("a"); window.link?.focus();
"""
KEPT = "window.here && document.getElementById('%s') === window.card"


def fact(page, card, label):
    return page.locator(f"#{card} .facts > div", has=page.locator(f"dt:text-is('{label}')")).locator("dd")


def test_the_cards_follow_without_a_reload(portal, operator, plan_of):
    page = operator
    with portal.dumps_held("crm"):
        number = back_up(page, plan_of("crm"))
        expect(page.locator(".step:nth-child(2).step-running")).to_be_visible()
        expect(fact(page, "card-times", "Ended")).to_have_text("not yet")
        expect(fact(page, "card-times", "Started")).not_to_have_text("not yet")  # without a reload
        page.evaluate(KEEP % "card-why")
        other = page.context.new_page()
        archive = portal.value("SELECT id FROM backups_archive WHERE operation_id = %s", number)
        other.goto(f"/backups/archive/{archive}/")
        expect(other.locator("#card-holds")).to_contain_text("Nothing yet")
        other.evaluate(KEEP % "card-facts")
        page.bring_to_front()
        page.wait_for_timeout(2500)
        assert page.evaluate("window.link && document.activeElement === window.link"), "the focus was lost"
    watch_until(page, "Succeeded")
    expect(fact(page, "card-times", "Ended").locator("time")).to_be_visible()
    assert page.evaluate(KEPT % "card-why"), "the card was replaced or the page was loaded again"
    other.bring_to_front()
    expect(other.locator("#card-holds table")).to_be_visible()
    expect(fact(other, "card-facts", "Verified")).not_to_have_text("never")
    expect(other.locator("#card-files details")).to_have_count(1)
    assert other.evaluate(KEPT % "card-facts")
    for one in (page, other):
        assert one.locator("[hx-swap-oob]").count() == 0
        assert one.evaluate(
            "[...document.querySelectorAll('[id]')].every((e, _, all) => all.filter((o) => o.id === e.id).length === 1)"
        ), "an id is there twice"
        found = []
        look(one, one.url, found)
        assert found == []


def test_the_traceback_comes_to_the_open_page(portal, operator, plan_of):
    page = operator
    with portal.dumps_held("crm"):
        number = back_up(page, plan_of("crm"))
        expect(page.locator(".step:nth-child(2).step-running")).to_be_visible()
        page.evaluate(KEEP % "card-times")
        # As the engine leaves it when a step breaks; what this page does with it is the question here.
        with psycopg.connect(portal.database_url, autocommit=True) as session:
            session.execute("UPDATE operations_operation SET traceback = 'Traceback: here' WHERE id = %s", [number])
    page.wait_for_selector("#card-traceback details")
    expect(page.locator("#card-traceback")).to_contain_text("Traceback: here")
    assert page.evaluate(KEPT % "card-times")
