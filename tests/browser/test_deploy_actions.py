"""Each button of the pages of releases, environments and deployments, pressed once in a real browser."""

import re
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.deploying import answer, ask_for, environment, fill_deploy, on_deployment, state_of
from tests.browser.pages import window
from tests.browser.portal import Portal
from tests.browser.steps import STATE, confirm, on_operation, press, watch_until

MENU = "#more-menu"
ACTS = "[id^=do-], .env-acts .button, .gate-acts .button, a[href*='/do/']"
VARIABLE = "ERP_GREETING"


@pytest.fixture(scope="module")
def watched_shortly(portal, browser):
    """Production with the long checklist and a watch of two seconds, as an administrator sets them; put back after."""
    profile = portal.value(
        "SELECT p.id FROM deployments_deploymentprofile p JOIN catalog_environment e ON e.id = p.environment_id"
        " WHERE e.kind = 'production'"
    )

    def save(checklist: str, watch_for: str) -> None:
        with window(browser, portal, "administrator") as page:
            page.goto(f"/deployments/deploymentprofile/{profile}/change/")
            page.select_option("#id_checklist", label=checklist)
            page.fill("#id_watch_for", watch_for)
            page.click("input[type=submit], .form-actions button[type=submit], .submit-row button[type=submit]")
            page.wait_for_url(re.compile(rf"/deploymentprofile/{profile}/$"))
            expect(page.locator("main")).to_contain_text(checklist)

    save("Before production, with scans and backup", "2 s")
    yield
    save("Before production, short", "1 min 30 s")


def from_menu(page: Page, label: str) -> None:
    """What nobody needs in a hurry stands in the menu beside the buttons."""
    page.click(f"{MENU} summary")
    page.click(f"{MENU} a:text-is('{label}')")
    page.wait_for_url(re.compile(r"/do/\w+/$"))


def why(page: Page, reason: str) -> None:
    page.fill("#id_reason", reason)
    confirm(page)


def test_a_release_is_added_and_withdrawn(portal, operator):
    page, checksum = operator, "sha256:" + "0b" * 32
    page.goto("/deployments/release/add/")
    page.select_option("#id_service", label="ERP")
    page.fill("#id_version", "v1.6.1")
    page.select_option("#id_source_kind", "folder")
    page.fill("#id_source", "/srv/releases/v1.6.1")
    confirm(page)
    expect(page.locator(".field-bad")).to_contain_text("checksum")
    page.fill("#id_checksum", checksum)
    confirm(page)
    expect(page.locator("h1")).to_have_text("ERP v1.6.1")
    expect(page.locator(".stops")).to_contain_text("Must be verified in Staging first.")
    press(page, "withdraw")
    why(page, "Built from the wrong branch.")
    expect(page.locator(STATE)).to_have_text("Withdrawn")
    expect(page.locator("#do-withdraw")).to_have_count(0)
    page.goto(f"{environment(portal)}do/deploy/")
    assert "v1.6.1" not in page.locator("#id_release").inner_text()


def test_a_restart_a_setting_and_the_setting_taken_back(portal, operator):
    page, place = operator, environment(portal, "staging")
    page.goto(place)
    from_menu(page, "Restart …")
    why(page, "The certificate was replaced.")
    on_operation(page)
    watch_until(page, "Succeeded")
    page.goto(place)
    expect(page.locator("main")).to_contain_text("The certificate was replaced.")

    page.goto(place)
    from_menu(page, "Set a setting …")
    page.fill("#id_name", VARIABLE)
    page.fill("#id_value", "Moin")
    why(page, "The shop wants to be greeted.")
    on_operation(page)
    watch_until(page, "Succeeded")
    page.goto(place)
    expect(page.locator("dl.facts", has_text=VARIABLE)).to_contain_text("Moin")
    page.click(f"td a:text-is('Setting {VARIABLE}: not set → Moin')")
    expect(page.locator("h1")).to_have_text(f"Setting {VARIABLE}: not set → Moin")

    press(page, "take_back")
    why(page, "The auditors do not.")
    on_operation(page)
    watch_until(page, "Succeeded")
    page.goto(place)
    expect(page.locator("td", has_text=f"Setting {VARIABLE}: Moin → not set")).to_have_count(1)
    assert VARIABLE not in portal.value(
        "SELECT settings FROM deployments_livestate WHERE id = %s", place.split("/")[-2]
    )


def test_going_back_in_code_and_cleaning_up(portal, operator):
    """Staging has no approvals and no watch: back to the release before, and forth again by itself."""
    page, place = operator, environment(portal, "staging")
    page.goto(place)
    press(page, "roll_back")
    expect(page.locator("main")).to_contain_text("The code only")
    why(page, "")
    expect(page.locator(".field-bad")).to_contain_text("Reason")
    why(page, "The delivery wish is asked for twice.")
    on_deployment(page, portal)
    expect(page.locator("h1")).to_contain_text("Rollback of ERP v1.5.0")
    watch_until(page, "Succeeded")

    fill_deploy(page, portal, "v1.6.0", "It was right after all.", "staging")
    page.check("#id_starts_itself")
    confirm(page)
    on_deployment(page, portal)
    watch_until(page, "Succeeded")

    page.goto(place)
    expect(page.locator(".headline-sentence")).to_have_text("v1.6.0 is live.")
    from_menu(page, "Clean up …")
    found = page.locator("#leftovers-title + *").inner_text()
    why(page, "Room for the next one.")
    on_operation(page)
    watch_until(page, "Succeeded")
    page.goto(f"{place}do/clean_up/")
    left = page.locator("#leftovers-title + *").inner_text()
    assert "Nothing to remove" in left, (found, left)


def test_refused_approved_started_and_taken_back_with_its_backup(portal, operator, sign_in_as, watched_shortly):
    page, approver = operator, sign_in_as("approver")
    path = ask_for(page, portal, "v1.6.0")
    answer(approver, portal, path, "refuse", note="Who has rotated the keys?")
    page.goto(path)
    expect(page.locator(".kept")).to_contain_text("Who has rotated the keys?")

    item = page.locator(".gate", has_text="Secrets rotated")
    item.get_by_role("link", name="Confirm …").click()
    confirm(page)
    expect(page.locator(".field-bad")).to_contain_text("Evidence")
    page.fill("#id_evidence", "https://vault.example/audit/71")
    confirm(page)
    expect(item.locator(".status")).to_have_text("Passed")
    expect(item).to_contain_text("vault.example/audit/71")

    answer(approver, portal, path, "approve", note="Seen.")
    page.goto(path)
    expect(page.locator(STATE)).to_have_text("Ready")
    answer(page, portal, path, "start")
    watch_until(page, "Succeeded")
    with portal.target("erp") as session:
        before = session.execute("SELECT count(*) FROM payments").fetchone()
        session.execute("DELETE FROM payments WHERE id IN (SELECT id FROM payments ORDER BY id DESC LIMIT 7)")

    press(page, "roll_back")
    page.click("a[href='?restore=1']")
    expect(page.locator("#loss-title + p")).to_contain_text("come back")
    expect(page.locator("tr.changed", has_text="payments")).to_contain_text("+7")
    why(page, "Seven payments are gone.")
    expect(page.locator(".field-bad")).to_contain_text("erp")
    page.fill("#id_typed_name", "erp")
    confirm(page)
    on_deployment(page, portal)
    watch_until(page, "Succeeded")
    expect(page.locator("#card-facts")).to_contain_text("is put back")
    with portal.target("erp") as session:
        assert session.execute("SELECT count(*) FROM payments").fetchone() == before
    page.goto(environment(portal))
    expect(page.locator(".headline-sentence")).to_have_text("v1.4.0 is live.")


def test_one_for_later_and_one_that_cannot_wait(portal, operator):
    page = operator
    fill_deploy(page, portal, "v1.6.0", "Before the shop opens.")
    page.fill("#id_not_before", f"{datetime.now() + timedelta(days=2):%Y-%m-%dT%H:%M}")
    confirm(page)
    later = on_deployment(page, portal)
    expect(page.locator(".notice")).to_contain_text("when nothing keeps it")
    expect(page.locator("#do-start")).to_have_count(0)
    answer(page, portal, later, "withdraw", reason="Not in this week.")
    expect(page.locator(STATE)).to_have_text("Cancelled")

    fill_deploy(page, portal, "v1.6.0")
    page.check("#id_emergency")
    confirm(page)
    expect(page.locator(".field-bad")).to_contain_text("Say why this cannot wait")
    page.fill("#id_reason", "No order can be taken.")
    confirm(page)
    now = on_deployment(page, portal)
    expect(page.locator(STATE)).to_have_text("Ready")
    expect(page.locator(".headline")).to_contain_text("emergency")
    expect(page.locator(".notice-warn")).to_contain_text("has to be reviewed by somebody else")
    answer(page, portal, now, "withdraw", reason="It can, after all.")
    assert {state_of(portal, path) for path in (later, now)} == {"cancelled"}


def paths_to_read(portal: Portal) -> list[str]:
    def newest(table: str) -> int:
        return int(portal.value(f"SELECT max(id) FROM deployments_{table}"))

    waiting = portal.value("SELECT id FROM deployments_deployment WHERE state = 'waiting' LIMIT 1")
    return [
        "/deployments/livestate/",
        environment(portal),
        f"/deployments/deployment/{waiting}/",
        f"/deployments/deployment/{newest('deployment')}/",
        f"/deployments/release/{newest('release')}/",
        f"/deployments/configurationchange/{newest('configurationchange')}/",
        "/deployments/calendar/",
    ]


def test_a_manager_reads_everything_and_presses_nothing(portal, sign_in_as):
    page = sign_in_as("manager")
    for path in paths_to_read(portal):
        assert page.goto(path).status == 200, path
        assert page.locator(ACTS).count() == 0, path
    place = environment(portal)
    for act in ("deploy", "roll_back", "restart", "set", "clean_up"):
        assert page.goto(f"{place}do/{act}/").status == 403, act
    assert page.goto("/deployments/release/add/").status == 403
