"""The pages of escalations: live, with what was taken and what comes, and three buttons."""

from __future__ import annotations

import pytest

from contacts.models import Escalation, Notification
from core.links import list_url, page_url
from core.roles import Role
from tests.contacts.factories import ContactFactory, EscalationFactory, QueueFactory
from tests.contacts.ladders import NOW, Story, matrix, minutes, people
from tests.factories import PersonFactory, ServiceFactory, browser
from tests.pages import counted, page_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def story():
    service = ServiceFactory(name="Shop")
    ann, bob, cid = people("Ann", "Bob", "Cid")
    matrix(service, (None, "", [(NOW, [ann, QueueFactory(name="Backlog")]), (minutes(5), [bob]), (None, [cid])]))
    story = Story(service=service)
    story.at(0)
    return story


@pytest.fixture
def responder():
    return browser(PersonFactory(role=Role.RESPONDER))


def press(client, row: Escalation, button: str, **data):
    page = page_of(client.get(page_url(row, "do", button)))
    return client.post(page_url(row, "do", button), {**page.post.fields, **data})


def test_everybody_sees_what_was_taken_and_what_comes(story):
    client = browser(PersonFactory(role=Role.MANAGER))
    page = page_of(client.get(story.row.get_absolute_url()))
    for words in (
        "The shop is down",
        "Climbing",
        "1 at once Told",
        "2 after 5 min Person: Bob due",
        "3 by hand Person: Cid time not set",
        "In the queue Backlog since",
        "Waiting Ann",
        "Shop, version 1",
    ):
        assert words in page.text, words
    assert story.row.service.get_absolute_url() in page.links, "the subject"
    for words in ("Acknowledge", "Escalate now", "Give to somebody"):
        assert words not in page.text
    for button in ("acknowledge", "escalate", "reassign"):
        assert client.post(page_url(story.row, "do", button)).status_code == 403
    story.row.refresh_from_db()
    assert story.row.state == "active"


def test_the_live_part_is_polled_until_somebody_has_answered(story, responder):
    assert responder.get(page_url(story.row, "live")).status_code == 200
    page = page_of(responder.get(story.row.get_absolute_url()))
    (form,) = [form for form in page.forms if form.action.endswith("/do/acknowledge/")]
    assert responder.post(form.action, form.fields).status_code == 302
    story.row.refresh_from_db()
    assert story.row.state == "acknowledged"
    answer = responder.get(page_url(story.row, "live"))
    assert answer.status_code == 286
    assert "has answered. Nobody more is told." in page_of(answer).text


def test_escalate_asks_which_level(story, responder):
    asked = page_of(responder.get(page_url(story.row, "do", "escalate")))
    assert "Step 2, after 5 min: Person: Bob" in asked.text and "Step 1" not in asked.text
    assert asked.post.fields["level"] == "1", "the next one is chosen"
    assert press(responder, story.row, "escalate", level="2").status_code == 302
    assert story.told() == ["Cid"]


def test_it_is_given_to_somebody_with_a_reason(story, responder):
    dee = ContactFactory(name="Dee")
    ContactFactory(name="Left last year", active=False)
    assert "Left last year" not in page_of(responder.get(page_url(story.row, "do", "reassign"))).text
    response = press(responder, story.row, "reassign", contact=dee.pk, reason="Knows it")
    given = Escalation.objects.exclude(pk=story.row.pk).get()
    assert response["Location"] == given.get_absolute_url()
    assert story.told() == ["Dee"]
    assert "Given to somebody" in page_of(responder.get(story.row.get_absolute_url())).text


def test_what_is_over_offers_nothing(responder):
    row = EscalationFactory(state="stopped", due_at=None, ending="resolved", ended_at=EscalationFactory().started_at)
    page = page_of(responder.get(row.get_absolute_url()))
    assert "It is over" in page.text and "Acknowledge" not in page.text
    assert "no matrix counted" in page.text


def test_the_list_and_the_page_cost_the_same_however_much_there_is(story, responder):
    def cost(address: str) -> int:
        responder.get(address)
        with counted() as queries:
            assert responder.get(address).status_code == 200
        return len(queries)

    addresses = (list_url(Escalation), story.row.get_absolute_url())
    before = [cost(address) for address in addresses]
    for number in range(20):
        EscalationFactory(service=ServiceFactory())
        Notification.objects.create(
            key=f"more {number}", contact=ContactFactory(), subject="More", escalation=story.row
        )
    assert [cost(address) for address in addresses] == before
