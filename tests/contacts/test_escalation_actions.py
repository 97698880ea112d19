"""What people do to escalations: answer, climb by hand, give away; who may, and what is told of it."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied

from contacts.actions import escalation as actions
from contacts.exceptions import ContactsError
from contacts.models import Escalation, Notification
from core.roles import Role
from operations.models import Event
from tests.contacts.factories import ContactFactory, OnCallScheduleFactory
from tests.contacts.ladders import MONDAY, NOW, Story, matrix, minutes, people
from tests.factories import PersonFactory, ServiceFactory

pytestmark = pytest.mark.django_db
State = Escalation.State


@pytest.fixture
def responder():
    return PersonFactory(role=Role.RESPONDER)


@pytest.fixture
def story():
    """Ann at once, Bob after five minutes, Cid by hand."""
    service = ServiceFactory()
    ann, bob, cid = people("Ann", "Bob", "Cid")
    matrix(service, (None, "", [(NOW, [ann]), (minutes(5), [bob]), (None, [cid])]))
    story = Story(service=service)
    assert story.at(0) == ["Ann"]
    return story


def test_it_is_not_given_to_somebody_whom_no_page_reaches(story, responder):
    for contact, why in (
        (ContactFactory(email=""), "has no address, so no page would arrive"),
        (ContactFactory(sms="+49 40 1"), "has no way that a provider is switched on for"),
    ):
        with pytest.raises(ContactsError, match=why):
            actions.reassign(story.row, contact, by=responder)
    story.row.refresh_from_db()
    assert story.row.state == State.ACTIVE


def test_another_title_reaches_what_is_said_from_then_on(story):
    actions.rename(story.row.service, "Only the search is down")
    (waiting,) = Notification.objects.all()
    assert waiting.subject == "Only the search is down" and waiting.body.startswith("Only the search is down")
    assert story.at(5) == ["Bob"]
    assert Notification.objects.latest("pk").subject == "Only the search is down"


def test_answering_twice_changes_nothing(story, responder):
    ann = Notification.objects.get().contact
    with story.when(1):
        row = actions.acknowledge(story.row, contact=ann)
    with story.when(2):
        again = actions.acknowledge(row, by=responder)
    assert (again.acknowledged_by, again.acknowledged_by_user) == (ann, None)
    assert again.acknowledged_at == MONDAY + minutes(1)
    events = Event.objects.filter(name="escalation.acknowledged")
    assert [(event.data["actor"], event.data["contact"]) for event in events] == [("Ann", ann.pk)]


def test_the_next_level_is_told_at_once_and_the_one_after_at_its_time(story, responder):
    with story.when(2):
        run = actions.escalate_now(story.row, by=responder)
    assert story.told() == ["Bob"]
    assert (run.by, run.position, run.outcome) == (responder, 1, "told")
    assert story.at(10) == []
    assert story.row.state == State.WAITING, "the last level has no time"
    with story.when(11):
        actions.escalate_now(story.row, by=responder)
    assert story.told() == ["Cid"]


def test_a_later_level_may_be_chosen_and_one_left_out_still_be_told(story, responder):
    with story.when(2):
        actions.escalate_now(story.row, by=responder, to_position=2)
        assert story.told() == ["Cid"]
        actions.escalate_now(story.row, by=responder, to_position=1)
    assert story.told() == ["Bob"]
    story.row.refresh_from_db()
    assert (story.row.state, story.row.position) == (State.ACTIVE, 3)
    with pytest.raises(ContactsError, match="was told already"):
        actions.escalate_now(story.row, by=responder, to_position=1)
    with pytest.raises(ContactsError, match="no further level"):
        actions.escalate_now(story.row, by=responder)


def test_the_levels_between_are_told_at_their_times(responder):
    service = ServiceFactory()
    ann, bob, cid, dee, eve = people("Ann", "Bob", "Cid", "Dee", "Eve")
    steps = [(NOW, [ann]), (minutes(5), [bob]), (minutes(10), [cid]), (minutes(20), [dee]), (minutes(30), [eve])]
    matrix(service, (None, "", steps))
    story = Story(service=service)
    story.at(0)
    with story.when(2):
        actions.escalate_now(story.row, by=responder, to_position=3)
    assert story.told() == ["Dee"]
    assert story.around((5, 10, 20, 30, 44)) == {5: ["Bob"], 10: ["Cid"], 30: ["Eve"]}, "and nobody twice"
    story.at(45)
    assert story.row.state == State.EXHAUSTED


def test_a_later_level_that_reaches_nobody_lets_the_next_come_at_once(responder):
    service = ServiceFactory()
    ann, bob = people("Ann", "Bob")
    matrix(service, (None, "", [(NOW, [ann]), (minutes(5), [bob]), (minutes(10), [OnCallScheduleFactory()])]))
    story = Story(service=service)
    story.at(0)
    with story.when(2):
        assert actions.escalate_now(story.row, by=responder, to_position=2).outcome == "nobody"
    assert story.at(2) == ["Bob"]


def test_who_has_answered_may_call_more_people(story, responder):
    with story.when(1):
        actions.acknowledge(story.row, by=responder)
        actions.escalate_now(story.row, by=responder)
    assert story.told() == ["Bob"]
    assert story.at(60) == []
    assert story.row.state == State.ACKNOWLEDGED


def test_a_level_that_reaches_nobody_by_hand_tells_the_fallback(responder):
    service = ServiceFactory()
    policy = matrix(service, (None, "", [(None, people("Ann")), (None, [OnCallScheduleFactory()]), (None, [])]))
    policy.fallback = ContactFactory(name="Fallback")
    policy.save()
    story = Story(service=service)
    story.at(0)
    with story.when(1):
        assert actions.escalate_now(story.row, by=responder).outcome == "nobody"
    assert story.told() == ["Fallback"]


def test_given_to_somebody_the_ladder_ends_and_their_silence_too(story, responder):
    dee = ContactFactory(name="Dee")
    admin = ContactFactory(name="Admin", user=PersonFactory(role=Role.ADMINISTRATOR))
    with story.when(1):
        given = actions.reassign(story.row, dee, by=responder, reason="Knows the database.")
    assert story.told() == ["Dee"]
    assert "Knows the database." in Notification.objects.get(contact=dee).body
    old = Escalation.objects.get(pk=story.row.pk)
    assert (old.state, old.ending) == (State.STOPPED, "reassigned")
    assert Notification.objects.get(contact__name="Ann").state == "cancelled"
    assert actions.current(story.row.service) == given
    assert story.at(15) == []
    assert story.at(16) == ["Admin"], "nobody is forgotten"
    told = Notification.objects.get(contact=admin)
    assert told.urgency == "page"
    assert told.body.startswith("Dee has not answered.")


def test_who_was_given_it_answers_by_the_link(story, responder):
    dee = ContactFactory(name="Dee")
    with story.when(1):
        given = actions.reassign(story.row, dee, by=responder)
        actions.acknowledge(given, contact=dee)
    assert story.told() == ["Dee"]
    assert story.at(60) == []


def test_it_is_not_given_to_somebody_who_is_switched_off(story, responder):
    with pytest.raises(ContactsError, match="switched off"):
        actions.reassign(story.row, ContactFactory(active=False), by=responder)


def test_what_is_over_is_over(story, responder):
    actions.stop(story.row, ending="resolved", by=responder)
    actions.stop(story.row, ending="withdrawn", by=responder)
    story.row.refresh_from_db()
    assert (story.row.state, story.row.ending, story.row.due_at) == (State.STOPPED, "resolved", None)
    assert story.at(60) == []
    assert actions.acknowledge(story.row, by=responder).state == State.STOPPED
    for refused in (
        lambda: actions.escalate_now(story.row, by=responder),
        lambda: actions.reassign(story.row, ContactFactory(), by=responder),
    ):
        with pytest.raises(ContactsError, match="over"):
            refused()
    assert Event.objects.filter(name="escalation.stopped").count() == 1


def test_a_new_escalation_of_the_same_subject_replaces_the_old(story):
    with story.when(3):
        new = actions.start(story.row.service, title="Worse", service=story.row.service)
    story.row.refresh_from_db()
    assert (story.row.state, story.row.ending) == (State.STOPPED, "replaced")
    assert actions.current(story.row.service) == new


@pytest.mark.parametrize("role", [Role.MANAGER, Role.APPROVER])
def test_who_may_only_look_cannot_answer(story, role):
    person = PersonFactory(role=role)
    for refused in (
        lambda: actions.acknowledge(story.row, by=person),
        lambda: actions.escalate_now(story.row, by=person),
        lambda: actions.reassign(story.row, ContactFactory(), by=person),
    ):
        with pytest.raises(PermissionDenied):
            refused()
    story.row.refresh_from_db()
    assert story.row.state == State.ACTIVE
