"""What a person does on the pages, in words."""

import re

from playwright.sync_api import Page, expect

from tests.browser.portal import Portal

STATE = ".headline .status"
# A loaded machine is slow, a broken portal does not come at all.
END_LIMIT_MS = 60_000


def press(page: Page, name: str) -> None:
    """A button of a detail page, up to its confirm page."""
    page.click(f"#do-{name}")
    page.wait_for_url(re.compile(rf"/do/{name}/$"))


def confirm(page: Page) -> None:
    """The button of the confirm page."""
    page.click(".confirm .form-actions button[type=submit]")


def on_operation(page: Page) -> int:
    """Wait for an operation's page; its number."""
    page.wait_for_url(re.compile(r"/operations/operation/\d+/$"))
    return int(page.url.rstrip("/").rpartition("/")[2])


def back_up(page: Page, plan: str) -> int:
    """Ask for a backup; the operation's number. The page shows it."""
    page.goto(plan)
    press(page, "back_up")
    confirm(page)
    return on_operation(page)


def watch_until(page: Page, word: str) -> None:
    """Look at the page, without touching it, until the state is this word."""
    expect(page.locator(STATE)).to_have_text(word, timeout=END_LIMIT_MS)


def fill_restore(page: Page, *, typed: str, reason: str = "deletion") -> None:
    """The restore's confirm page."""
    page.select_option("#id_reason_kind", reason)
    page.fill("#id_typed_name", typed)


def newest_archive(portal: Portal, database: str) -> int:
    """The newest restore point of a database."""
    return int(
        portal.value(
            "SELECT a.id FROM backups_archive a JOIN catalog_databasetarget t ON t.id = a.target_id"
            " WHERE t.database = %s AND a.state = 'available' AND a.verification = 'verified'"
            " ORDER BY a.snapshot_at DESC LIMIT 1",
            database,
        )
    )


def clicked(portal: Portal) -> int:
    """How many operations people have asked for."""
    return int(portal.value("SELECT count(*) FROM operations_operation WHERE trigger = 'click'"))
