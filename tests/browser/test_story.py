"""The whole story in a real browser: back up, lose rows, restore, undo; who may not; what a person does in between."""

import re
import uuid

import pytest
from playwright.sync_api import expect

from tests.browser.pages import main_pages
from tests.browser.steps import (
    back_up,
    clicked,
    confirm,
    fill_restore,
    newest_archive,
    on_operation,
    press,
    watch_until,
)

FIRST_STEP, SECOND_STEP = ".step:nth-child(1)", ".step:nth-child(2)"


def notes(portal, database="erp"):
    with portal.target(database) as session:
        return session.execute("SELECT count(*) FROM audit_notes").fetchone()[0]


def test_rows_are_lost_restored_and_the_restore_undone(portal, operator, plan_of):
    page = operator
    # Back up, and watch: the first step done while the second waits for a lock, then everything.
    with portal.dumps_held("erp"):
        back_up(page, plan_of("erp"))
        page.evaluate("window.loaded = 'once'")
        expect(page.locator(f"{FIRST_STEP} .step-state")).to_have_text("Done", timeout=20_000)
        expect(page.locator(f"{SECOND_STEP}.step-running progress")).to_be_visible(timeout=20_000)
    watch_until(page, "Succeeded")
    expect(page.locator(".step-ok .step-state")).to_have_text(["Done"] * 4)
    expect(page.locator("#live[hx-get]")).to_have_count(1)
    assert page.evaluate("window.loaded") == "once", "the page was loaded again; it must follow by itself"

    before = notes(portal)
    with portal.target("erp") as session:
        gone = session.execute("DELETE FROM audit_notes WHERE id % 2 = 0").rowcount
    assert gone > 1000

    # The wizard: which database, which point, what changes.
    page.goto("/backups/restore/")
    page.click("text=Restore a database")
    page.click(".choice:has-text('ERP · Production')")
    first = page.locator("table.rows tbody tr").first
    expect(first.locator("td").first).to_contain_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d CET|CEST"))
    first.locator("text=Choose").click()
    expect(page.locator("#loss-title ~ p")).to_contain_text(f"{gone:,} rows come back")
    expect(page.locator("tr.changed")).to_have_count(1)
    expect(page.locator("tr.changed")).to_contain_text(f"+{gone:,}")
    expect(page.locator("#dry-run")).to_contain_text("pg_restore")

    # A wrong name is refused, and nothing typed is lost.
    asked = clicked(portal)
    fill_restore(page, typed="erp_staging")
    page.fill("#id_reason", "Somebody tidied up.")
    confirm(page)
    expect(page.locator("[role=alert]")).to_contain_text("Nothing was started")
    expect(page.locator(".field-bad .errorlist")).to_contain_text("Type erp exactly")
    expect(page.locator("#id_reason_kind")).to_have_value("deletion")
    expect(page.locator("#id_reason")).to_have_value("Somebody tidied up.")
    expect(page.locator("#id_typed_name")).to_have_value("erp_staging")
    assert clicked(portal) == asked

    page.fill("#id_typed_name", "erp")
    page.locator(".confirm .form-actions button[type=submit]").dblclick()
    on_operation(page)
    watch_until(page, "Succeeded")
    assert clicked(portal) == asked + 1, "a double click asks once"
    assert notes(portal) == before
    expect(page.locator(".asked")).to_contain_text("Somebody tidied up.")

    # The restore's own page measures it against the target; the way back is offered on both.
    page.click(".asked a")
    expect(page.locator(".clock-line")).to_contain_text("RTO met")
    expect(page.locator("#do-undo")).to_be_visible()
    page.go_back()
    press(page, "undo")
    confirm(page)
    on_operation(page)
    watch_until(page, "Succeeded")
    assert notes(portal) == before - gone


def test_a_restore_without_javascript(portal, sign_in_as):
    page = sign_in_as("operator", java_script_enabled=False)
    asked = clicked(portal)
    page.goto(f"/backups/archive/{newest_archive(portal, 'erp_staging')}/do/restore/")
    fill_restore(page, typed="erp_staging", reason="other")
    confirm(page)
    expect(page.locator("[role=alert]")).to_contain_text("Nothing was started")
    expect(page.locator(".field-bad .errorlist")).to_contain_text("Say why you restore")
    page.fill("#id_reason", "No scripts here.")
    # Nothing holds the second click back: the server itself must recognise it.
    page.locator(".confirm .form-actions button[type=submit]").dblclick(no_wait_after=True)
    number = on_operation(page)
    assert clicked(portal) == asked + 1
    portal.wait_for_operation(number, "succeeded")
    page.reload()
    watch_until(page, "Succeeded")
    page.click(".asked a")
    expect(page.locator(".clock-line")).to_contain_text("RTO met")
    expect(page.locator(".facts").first).to_contain_text("No scripts here.")


def test_take_over_do_a_step_by_hand_and_continue(portal, operator):
    page = operator
    with portal.new_databases_held():
        page.goto(f"/backups/archive/{newest_archive(portal, 'erp_staging')}/do/restore/")
        fill_restore(page, typed="erp_staging")
        confirm(page)
        number = on_operation(page)
        expect(page.locator(f"{SECOND_STEP}.step-running")).to_be_visible(timeout=20_000)
        press(page, "take_over")
        page.select_option("#id_step", label="Stop the application")
        confirm(page)
        on_operation(page)
    watch_until(page, "Paused for a person")
    press(page, "mark_done")
    expect(page.locator(".confirm")).to_contain_text("Stop the application")
    confirm(page)
    expect(page.locator(".errorlist")).to_be_visible()  # evidence is asked for
    page.fill("#id_evidence", "systemctl says inactive (dead).")
    confirm(page)
    on_operation(page)
    expect(page.locator(".step-evidence")).to_contain_text("inactive (dead)")
    press(page, "continue")
    confirm(page)
    on_operation(page)
    watch_until(page, "Succeeded")
    by_hand = "SELECT name, evidence FROM operations_operationstep WHERE operation_id = %s AND state = 'by_hand'"
    assert portal.rows(by_hand, number) == [("stop_service", "systemctl says inactive (dead).")]


def test_what_only_the_portal_can_do_is_not_done_by_hand(portal, operator, plan_of):
    """A verification that a person vouches for would leave an unverified archive, which retention then removes."""
    page = operator
    with portal.dumps_held("erp_staging"):
        number = back_up(page, plan_of("erp_staging"))
        expect(page.locator(f"{SECOND_STEP}.step-running")).to_be_visible(timeout=20_000)
        press(page, "take_over")
        page.select_option("#id_step", label="Read everything back: checksums, full decode, row counts")
        confirm(page)
        on_operation(page)
    watch_until(page, "Paused for a person")
    if page.locator("#do-mark_done").count():
        press(page, "mark_done")
        page.fill("#id_evidence", "I looked.")
        confirm(page)
        expect(page.locator("[role=alert]")).to_contain_text("nobody can do it by hand")
        page.goto(f"/operations/operation/{number}/")
    press(page, "continue")
    confirm(page)
    on_operation(page)
    watch_until(page, "Succeeded")
    archive = "SELECT state, verification FROM backups_archive WHERE operation_id = %s"
    assert portal.rows(archive, number) == [("available", "verified")]


def test_cancel_while_it_runs(portal, operator, plan_of):
    page = operator
    with portal.dumps_held("crm"):
        number = back_up(page, plan_of("crm"))
        expect(page.locator(f"{SECOND_STEP}.step-running")).to_be_visible(timeout=20_000)
        press(page, "cancel")
        page.fill("#id_reason", "Wrong database.")
        confirm(page)
        on_operation(page)
        watch_until(page, "Cancelled")  # with the lock still held
    expect(page.locator("#log")).to_contain_text("Wrong database.")
    assert portal.value("SELECT state FROM backups_archive WHERE operation_id = %s", number) == "failed"
    assert not list((portal.data / "archives").rglob(".partial-*"))


def test_a_failure_says_what_to_do_and_is_retried(portal, operator, plan_of):
    page = operator
    with portal.target("postgres") as session:
        session.execute("ALTER DATABASE crm RENAME TO crm_away")
        try:
            first = back_up(page, plan_of("crm"))
            watch_until(page, "Failed")
        finally:
            session.execute("ALTER DATABASE crm_away RENAME TO crm")
    expect(page.locator(".headline-sentence")).to_contain_text("crm")
    press(page, "retry")
    page.fill("#id_reason", "The database is back.")
    confirm(page)
    page.wait_for_url(lambda url: re.search(r"/operation/\d+/$", url) and f"/{first}/" not in url)
    second = on_operation(page)
    watch_until(page, "Succeeded")
    assert portal.value("SELECT retry_of_id FROM operations_operation WHERE id = %s", second) == first


def test_a_manager_sees_everything_and_can_do_nothing(portal, sign_in_as):
    page = sign_in_as("manager")
    forbidden = {"adopt", "back-up", "clean-up", "restore-databases", "restore-points", "restore-confirm", "token-new"}
    forbidden |= {"declare", "incident-edit", "incident-resolve", "incident-evidence", "incident-restore"}
    forbidden |= {"incident-update", "contact-import", "stand-in", "matrix-edit"}
    forbidden |= {"deploy", "roll-back", "set", "clean-up-versions", "release-new", "attach-scan"}
    paths = main_pages(portal)
    for name, path in paths.items():
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == (403 if name in forbidden else 404 if name == "not-found" else 200), name
        offered = page.locator("[id^=do-], .tile .button:not([href^='tel:'])")
        assert offered.count() == 0, f"{name} offers a button"
    page.goto("/")
    expect(page.locator("#tile-rto-board")).to_contain_text("ERP · Production")

    doors = {
        paths["plan"]: ("back_up", "prune", "adopt"),
        paths["archive"]: ("restore", "verify", "keep"),
        paths["operation-failed"]: ("retry",),
        paths["restore"]: ("undo", "drop"),
        paths["database"]: ("check_connection",),
    }
    asked, kept = clicked(portal), "SELECT count(*) FROM backups_archive WHERE keep"
    count = portal.value(kept)
    for path, names in doors.items():
        for name in names:
            assert post(page, f"{path}do/{name}/") == 403, f"{path} {name}"
    assert (clicked(portal), portal.value(kept)) == (asked, count)
    # The same POST works for an operator: it is the role that was refused, and not the request.
    other = sign_in_as("operator")
    assert post(other, f"{paths['archive']}do/keep/") == 302
    assert portal.value(kept) == count + 1
    assert post(other, f"{paths['archive']}do/let_go/") == 302


def post(page, path):
    """Send what the confirm page would send, with a good token; the status of the answer."""
    page.goto("/")
    token = page.locator("[name=csrfmiddlewaretoken]").first.get_attribute("value")
    form = {"csrfmiddlewaretoken": token, "request_key": str(uuid.uuid4()), "purpose": "manual", "reason": "x"}
    form |= {"reason_kind": "deletion", "into": "erp", "typed_name": "erp"}
    headers = {"Referer": page.url}
    return page.request.post(path, form=form, headers=headers, max_redirects=0).status


@pytest.mark.parametrize("path", ["/", "/operations/operation/", "/backups/archive/restore/"])
def test_nobody_enters_without_signing_in(sign_in_as, path):
    page = sign_in_as()
    page.goto(path)
    expect(page).to_have_url(re.compile("/login/"))
