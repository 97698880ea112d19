"""What the polled answer carries for the cards beside the live part; and the dry run of a removal."""

import pytest

from backups.models import Restore
from core.roles import Role
from operations.models import Operation
from tests.factories import ArchiveFactory, OperationFactory, PersonFactory, RestoreFactory, browser
from tests.pages import page_of

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def operator():
    return browser(PersonFactory(role=Role.OPERATOR))


def carried(html: str) -> set[str]:
    """The ids of what is swapped out of band."""
    return {part.rpartition('id="')[2].split('"')[0] for part in html.split(' hx-swap-oob="morph"')[:-1]}


def check(client, address: str, cards: set[str], *facts: str) -> None:
    page, plain = (client.get(path).content.decode() for path in (address, f"{address}live/"))
    assert not carried(page) and not carried(plain)
    for card in cards:
        assert page.count(f'id="{card}"') == 1
    answer = client.get(f"{address}live/", headers=HTMX).content.decode()
    assert carried(answer) == cards
    for fact in facts:
        assert fact in answer and fact not in plain, fact


def test_an_operation_carries_its_times_and_at_the_end_its_traceback(operator):
    running = OperationFactory(state=Operation.State.RUNNING)
    check(operator, f"/operations/operation/{running.pk}/", {"card-why", "card-times"}, "<dt>Ended</dt><dd>not yet")
    errored = OperationFactory(state=Operation.State.ERRORED, traceback="ZeroDivisionError: here")
    cards = {"card-why", "card-times", "card-traceback"}
    check(operator, f"/operations/operation/{errored.pk}/", cards, "ZeroDivisionError: here", "<dt>Ended</dt><dd><time")


def test_a_restore_carries_what_it_measured_and_kept(operator):
    restore = RestoreFactory()
    facts = ("<dt>Measured</dt><dd>42 s", f"<code>{restore.safety_database}</code>")
    check(operator, f"/backups/restore/{restore.pk}/", {"card-facts"}, *facts)


def test_an_archive_carries_its_facts_and_at_the_end_what_it_holds(operator):
    running = OperationFactory(state=Operation.State.RUNNING)
    creating = ArchiveFactory(failed=True, state="creating", operation=running)
    page = f"/backups/archive/{creating.pk}/"
    check(operator, page, {"card-facts"}, "<dt>Verified</dt><dd>never")
    assert "Nothing yet: the backup is being made." in page_of(operator.get(page)).text
    archive = ArchiveFactory()
    cards = {"card-facts", "card-holds", "card-files"}
    check(operator, f"/backups/archive/{archive.pk}/", cards, "public.customer", "toc.dat")


@pytest.mark.parametrize("copy", [Restore.SafetyCopy.KEPT, Restore.SafetyCopy.PUT_BACK])
def test_removing_a_safety_copy_shows_the_dry_run(operator, copy):
    restore = RestoreFactory(safety_copy=copy)
    page = page_of(operator.get(f"/backups/restore/{restore.pk}/do/drop/"))
    assert "Dry run: what will happen, step by step" in page.text
    assert "Drop the database that was set aside" in page.text
