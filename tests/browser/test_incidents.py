"""The story of an incident in a real browser: declared, answered from a mail, resolved; the matrix; the public page."""

from __future__ import annotations

import email
import re
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.portal import Portal

LINK = re.compile(r"http\S+/answer/\S+/")
LIMIT_S = 60


def declare(page: Page, title: str, severity: str) -> str:
    """From wherever the page is, in two fields; the number. The page shows the incident."""
    page.click("#declare")
    page.fill("#id_title", title)
    choice = page.locator("#id_place option", has_text=severity).first
    page.select_option("#id_place", value=choice.get_attribute("value"))
    page.locator(".form-actions button[type=submit]").first.dblclick()
    page.wait_for_url(re.compile(r"/incidents/incident/\d+/$"))
    found = re.search(r"INC-\d{4}-\d\d-\d\d-\d{3}", page.locator("h1").inner_text())
    assert found is not None
    return found[0]


def link_in_a_mail(portal: Portal, about: str) -> str:
    """The acknowledge link of the first mail about this, once it has come."""
    give_up = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up:
        for path in sorted(Path(portal.data, "demo", "mail").glob("*.eml")):
            text = _text_of(path)
            if about in text and (found := LINK.search(text)):
                return found[0]
        time.sleep(0.2)
    raise AssertionError(f"no mail about {about} came within {LIMIT_S} s")


def _text_of(path: Path) -> str:
    mail = email.message_from_bytes(path.read_bytes())
    body = mail.get_payload(decode=True)
    assert isinstance(body, bytes)
    return f"{mail['Subject']}\n{body.decode(errors='replace')}"


def state_of(portal: Portal, number: str) -> str:
    return str(portal.value("SELECT state FROM incidents_incident WHERE number = %s", number))


def test_declared_answered_from_the_mail_and_resolved(portal, sign_in_as):
    page = sign_in_as("responder")
    page.goto("/")
    before = portal.value("SELECT count(*) FROM incidents_incident")
    number = declare(page, "Nobody can take an order", "critical")
    assert portal.value("SELECT count(*) FROM incidents_incident") == before + 1, "a double click declares once"
    expect(page.locator("a[href^='tel:']").first).to_be_visible()

    # Whoever got the mail has no session here. Looking at the link answers nothing; the button does.
    phone = sign_in_as("", size="390")
    phone.goto(link_in_a_mail(portal, number))
    expect(phone.locator("h1")).to_contain_text("Nobody can take an order")
    assert state_of(portal, number) == "open"
    phone.click("button[type=submit]")
    expect(phone.locator("[role=status]")).to_contain_text("Acknowledged")
    assert state_of(portal, number) == "acknowledged"

    # The page of the other follows by itself.
    expect(page.locator(".headline .status").first).to_contain_text("Acknowledged", timeout=20_000)
    taken = portal.value("SELECT state FROM contacts_escalation WHERE title LIKE %s", f"%{number}%")
    assert taken == "acknowledged", "the rest of the ladder stays silent"

    # A note without leaving the page; the end with what was done; the review is drafted.
    address = page.url
    page.fill(".note-form textarea", "The queue was stuck.")
    page.click(".note-form button[type=submit]")
    expect(page.locator("#timeline")).to_contain_text("The queue was stuck.")
    assert page.url == address
    page.goto(f"{address}do/resolve/")
    page.fill("#id_text", "Restarted the queue.")
    page.click(".confirm .form-actions button[type=submit]")
    page.wait_for_url(re.compile(r"/incidents/incident/\d+/$"))
    assert state_of(portal, number) == "resolved"
    drafted = portal.value(
        "SELECT r.state FROM incidents_review r JOIN incidents_incident i ON i.id = r.incident_id WHERE i.number = %s",
        number,
    )
    assert drafted == "draft"


def test_a_matrix_edit_changes_the_next_escalation(portal, sign_in_as):
    responder, operator = sign_in_as("responder"), sign_in_as("operator")
    responder.goto("/")
    running = declare(responder, "Invoices are late", "high")
    version = "SELECT version_id FROM contacts_escalation WHERE title LIKE %s AND state <> 'stopped'"
    frozen = portal.value(version, f"%{running}%")
    assert frozen is not None

    matrix = portal.value("SELECT id FROM contacts_escalationpolicy WHERE service_id IS NOT NULL ORDER BY id LIMIT 1")
    operator.goto(f"/contacts/escalationpolicy/{matrix}/edit/")
    times = operator.locator("input[name$='-after']")
    chosen = next(place for place in range(times.count()) if times.nth(place).input_value() == "30 min")
    times.nth(chosen).fill("20 min")
    operator.click(".matrix-foot button:has-text('See the difference')")
    expect(operator.locator("main")).to_contain_text("20 min")
    operator.fill("[name=reason]", "Thirty minutes are too long.")
    operator.click("button:has-text('Put in force')")
    operator.wait_for_url(re.compile(r"/contacts/escalationpolicy/\d+/$"))

    later = declare(responder, "Invoices are late again", "high")
    assert portal.value(version, f"%{running}%") == frozen
    assert portal.value(version, f"%{later}%") not in (frozen, None)


def test_the_public_page_needs_no_sign_in_and_fits_a_phone(portal, sign_in_as):
    page = sign_in_as("", size="390")
    answer = page.goto("/status/")
    assert answer is not None and answer.status == 200
    expect(page.locator("body")).to_contain_text("Web shop")
    expect(page.locator("body")).to_contain_text("Invoices arrive late at the moment")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    assert page.context.cookies() == []
    for path in ("/status.json", "/status.rss", "/status/history/"):
        answer = page.request.get(path)
        assert answer.status == 200, path
