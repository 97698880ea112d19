"""Escalations climb: every shape of a matrix, each step once, under a frozen clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contacts import answer, engine
from contacts.actions import escalation as actions
from contacts.engine import tell_again
from contacts.models import Contact, Escalation, Notification, OnCallSchedule, StepRun
from core.roles import Role
from operations.models import Event
from tests.contacts.factories import (
    ChannelFactory,
    ContactFactory,
    OnCallScheduleFactory,
    QueueFactory,
    layer_of,
    office_hours,
    role_of,
    rule,
    team_of,
)
from tests.contacts.ladders import MONDAY, NOW, Story, matrix, minutes, people, scheme
from tests.factories import PersonFactory, ServiceFactory

pytestmark = pytest.mark.django_db
State = Escalation.State


@pytest.fixture
def boss():
    """The one administrator who has a contact."""
    return ContactFactory(name="Admin", user=PersonFactory(role=Role.ADMINISTRATOR))


def s2_schedule(*contacts) -> OnCallSchedule:
    schedule = OnCallScheduleFactory(name="SmartCloudOps")
    for level, contact in enumerate(contacts, start=1):
        layer_of(schedule, contact, level=level)
    return schedule


# --- the five shapes -------------------------------------------------------------------------------------------------


def test_s0_four_levels_without_times_are_climbed_by_hand(boss):
    service = ServiceFactory()
    dev, lead, infra, management = people("Dev", "Lead", "Infra", "Management")
    matrix(
        service, (None, "", [(None, [team_of(dev)]), (None, [role_of(lead)]), (None, [infra]), (None, [management])])
    )
    story = Story(service=service)
    assert story.row.severity_words == ""
    assert story.at(0) == ["Dev"]
    assert (story.row.state, story.row.due_at) == (State.WAITING, None)
    assert story.at(600) == []
    person = PersonFactory(role=Role.RESPONDER)
    for minute, name in ((601, "Lead"), (602, "Infra"), (603, "Management")):
        with story.when(minute):
            actions.escalate_now(story.row, by=person)
        assert story.told() == [name]
    with pytest.raises(Exception, match="no further level"):
        actions.escalate_now(story.row, by=person)
    assert story.at(617) == []
    assert story.at(618) == ["Admin"]
    assert story.row.state == State.EXHAUSTED


def test_s1_one_target_set_for_each_severity():
    service, severities = scheme("Critical", "High", "Medium", "Low")
    vp, cto, lead, team_lead = people("VP Eng", "CTO", "Eng Lead", "Team Lead")
    backlog = QueueFactory(name="Backlog")
    matrix(
        service,
        (severities["Critical"], "", [(minutes(15), [vp, cto])]),
        (severities["High"], "", [(minutes(60), [lead])]),
        (severities["Medium"], "", [(minutes(240), [team_lead])]),
        (severities["Low"], "", [(minutes(1440), [backlog])]),
    )
    told = {}
    for code, severity in severities.items():
        story = Story(service=service, severity=severity, subject=severity)
        told[code] = story.around((0, 15, 60, 240, 1440))
        story_states = (story.row.state, story.row.queued.count())
    assert told["Critical"] == {15: ["VP Eng", "CTO"]}
    assert told["High"] == {60: ["Eng Lead"]}
    assert told["Medium"] == {240: ["Team Lead"]}
    assert told["Low"] == {}
    assert story_states == (State.WAITING, 1), "what is in the backlog waits there"


S2 = {"P0": (0, 5, 15, 30), "P1": (15, 30, 60), "P2": (60, 120, 240), "P3": (1440, 2880)}


@pytest.fixture
def s2():
    service, severities = scheme(*S2)
    oncall, senior, manager, cto = people("On call", "Senior", "Manager", "CTO")
    s2_schedule(oncall, senior, manager)
    schedule = OnCallSchedule.objects.get()
    policy = matrix(service)
    for code, times in S2.items():
        row = rule(policy, *((minutes(at), [cto]) for at in times), severity=severities[code])
        for level, step in enumerate(row.steps.all(), start=1):
            if level < 4:
                step.targets.update(kind="oncall", contact=None, oncall=schedule, level=level)
    return service, severities


NAMES = ("On call", "Senior", "Manager", "CTO")


@pytest.mark.parametrize("code", S2)
def test_s2_timed_ladders_tell_each_level_at_its_minute(s2, code):
    service, severities = s2
    story = Story(service=service, severity=severities[code])
    expected = {at: [name] for at, name in zip(S2[code], NAMES, strict=False)}
    assert story.around((0, 5, *S2[code])) == expected
    assert StepRun.objects.count() == len(S2[code])


def test_s2_p0_acknowledged_at_minute_six_the_rest_stay_silent(s2):
    service, severities = s2
    story = Story(service=service, severity=severities["P0"])
    assert story.through(5) == {0: ["On call"], 5: ["Senior"]}
    with story.when(6):
        actions.acknowledge(story.row, contact=Notification.objects.first().contact)
    assert story.around((7, 15, 30, 60)) == {}
    assert story.row.state == State.ACKNOWLEDGED
    assert {row.state for row in Notification.objects.all()} == {"cancelled"}, "what had not gone out does not"


def test_s3_severity_and_situation_tell_several_people():
    service, severities = scheme("P1", "P2", "P3")
    senior, dba, support = people("Senior", "DBA", "Support")
    rows = (
        ("P1", "System down", 5, [senior]),
        ("P1", "Data at risk", 5, [senior, dba]),
        ("P2", "API slow", 15, [support, senior]),
        ("P2", "High error rate", 15, [senior]),
        ("P3", "Performance issue", 30, [support]),
        ("P3", "Single user issue", 60, [support]),
    )
    matrix(service, *((severities[code], name, [(minutes(at), whom)]) for code, name, at, whom in rows))
    for code, name, at, whom in rows:
        story = Story(service=service, severity=severities[code], situation=name.upper())
        assert story.around((5, at)) == {at: [str(contact) for contact in whom]}, name


def test_s4_roles_tell_their_primary_and_then_their_backup():
    service, severities = scheme("P1")
    lead, manager = people("Lead", "IT Manager")
    commander = role_of(lead, manager)
    policy = matrix(service, (severities["P1"], "", [(NOW, [commander]), (minutes(15), [commander])]))
    for step, part in zip(policy.versions.get().rules.get().steps.all(), ("primary", "backup"), strict=True):
        step.targets.update(part=part)
    story = Story(service=service, severity=severities["P1"])
    assert story.around((0, 15, 20)) == {0: ["Lead"], 15: ["IT Manager"]}


# --- once, together, again -------------------------------------------------------------------------------------------


def test_who_is_named_twice_in_a_step_gets_one_message():
    service = ServiceFactory()
    (ann,) = people("Ann")
    matrix(service, (None, "", [(NOW, [ann, team_of(ann), role_of(ann)])]))
    assert Story(service=service).at(0) == ["Ann"]


def test_each_way_of_a_step_is_a_message_of_its_own():
    service = ServiceFactory()
    ann = ContactFactory(name="Ann", email="ann@example.org", sms="+49 1")
    policy = matrix(service, (None, "", [(NOW, [ann])]))
    policy.versions.get().rules.get().steps.update(channels=["sms", "email"])
    assert Story(service=service).at(0) == ["Ann", "Ann"]
    assert set(Notification.objects.values_list("way", flat=True)) == {"sms", "email"}


def test_channels_and_queues_are_told_beside_people():
    service = ServiceFactory()
    (ann,), channel, queue = people("Ann"), ChannelFactory(name="#alerts"), QueueFactory()
    matrix(service, (None, "", [(NOW, [ann, channel, queue])]))
    story = Story(service=service)
    assert story.at(0) == ["Ann", "#alerts"]
    assert story.row.queued.get().queue == queue
    assert story.row.runs.get().outcome == "told"


def test_after_an_outage_overdue_steps_are_one_message_a_person():
    service = ServiceFactory()
    ann, bob = people("Ann", "Bob")
    matrix(service, (None, "", [(NOW, [ann]), (minutes(5), [ann, bob]), (minutes(15), [bob])]))
    story = Story(service=service)
    assert story.at(90) == ["Ann", "Bob"]
    runs = list(story.row.runs.all())
    assert [(run.due_at - MONDAY, run.at - MONDAY) for run in runs] == [
        (NOW, minutes(90)), (minutes(5), minutes(90)), (minutes(15), minutes(90)),
    ]  # fmt: skip
    assert story.row.state == State.ACTIVE, "whoever was told late has the whole time to answer"
    assert story.row.due_at == MONDAY + minutes(105)


def test_a_row_repeats_after_its_pause_and_ends_then(boss):
    service = ServiceFactory()
    ann, bob = people("Ann", "Bob")
    policy = matrix(service)
    rule(policy, (NOW, [ann]), (minutes(5), [bob]), repeats=2, repeat_after=minutes(10))
    story = Story(service=service)
    assert story.around(range(0, 65, 5)) == {
        0: ["Ann"], 5: ["Bob"], 15: ["Ann"], 20: ["Bob"], 30: ["Ann"], 35: ["Bob"], 45: ["Admin"],
    }  # fmt: skip
    assert (story.row.state, story.row.round) == (State.EXHAUSTED, 2)


def test_after_an_outage_a_row_that_repeats_gives_time_to_answer():
    service = ServiceFactory()
    (ann,) = people("Ann")
    rule(matrix(service), (NOW, [ann]), repeats=3, repeat_after=minutes(10))
    story = Story(service=service)
    assert story.at(600) == ["Ann"]
    assert story.at(605) == []
    assert story.at(610) == ["Ann"]


def test_what_went_out_is_counted_once_however_often_the_engine_looks():
    service = ServiceFactory()
    (ann,) = people("Ann")
    matrix(service, (None, "", [(NOW, [ann]), (minutes(5), [ann])]))
    story = Story(service=service)
    assert [story.at(0), story.at(0), story.at(1), story.at(5), story.at(5)] == [["Ann"], [], [], ["Ann"], []]


# --- nobody ----------------------------------------------------------------------------------------------------------


def test_nobody_on_call_the_next_step_comes_at_once_and_the_fallback_hears_of_it(boss):
    service = ServiceFactory()
    (senior,) = people("Senior")
    matrix(service, (None, "", [(NOW, [OnCallScheduleFactory()]), (minutes(5), [senior]), (minutes(15), [senior])]))
    story = Story(service=service)
    assert story.at(0) == ["Senior", "Admin"]
    assert [run.outcome for run in story.row.runs.all()] == ["nobody", "told"]
    assert Notification.objects.get(contact=boss).urgency == "news"
    assert story.row.due_at == MONDAY + minutes(15), "the steps after keep their times"
    assert story.at(15) == ["Senior"]


def test_nobody_at_all_ends_the_ladder_at_once(boss):
    service = ServiceFactory()
    policy = matrix(service, (None, "", [(NOW, [ContactFactory(active=False)]), (minutes(5), [team_of()])]))
    policy.fallback = ContactFactory(name="Fallback")
    policy.save()
    story = Story(service=service)
    assert story.at(0) == ["Fallback"]
    assert story.row.state == State.EXHAUSTED
    assert Notification.objects.get().urgency == "page"


def test_a_ladder_that_ends_unanswered_tells_the_fallback_of_the_matrix(boss):
    service = ServiceFactory()
    (ann,) = people("Ann")
    policy = matrix(service, (None, "", [(NOW, [ann])]))
    policy.fallback = ContactFactory(name="Fallback")
    policy.save()
    story = Story(service=service)
    assert story.through(30) == {0: ["Ann"], 15: ["Fallback"]}
    assert story.row.state == State.EXHAUSTED
    assert Event.objects.filter(name="escalation.exhausted").count() == 1


def test_it_is_said_again_and_again_that_nobody_has_answered(boss):
    service = ServiceFactory()
    policy = matrix(service, (None, "", [(NOW, people("Ann"))]))
    policy.fallback = ContactFactory(name="Fallback")
    policy.save()
    story = Story(service=service)
    story.through(30)
    told = {}
    for minute in range(16, 200):
        with story.when(minute):
            tell_again()
            engine.climb_due()
        if names := story.told():
            told[minute] = names
    assert told == {minute: ["Fallback", "Admin"] for minute in (30, 45, 75, 135)}
    said = list(Event.objects.filter(name="escalation.exhausted").order_by("pk").values_list("sentence", flat=True))
    assert len(said) == 5 and "Still nobody has answered, 15 min after the ladder ended." in said[1]
    assert set(Notification.objects.filter(body__contains="Still nobody").values_list("urgency", flat=True)) == {"page"}
    with story.when(240):
        actions.acknowledge(story.row, contact=boss)
    with story.when(500):
        assert tell_again() == 0


def test_a_running_escalation_keeps_the_fallback_it_began_with(boss):
    service = ServiceFactory()
    policy = matrix(service, (None, "", [(NOW, people("Ann"))]))
    policy.fallback = ContactFactory(name="Old fallback")
    policy.save()
    story = Story(service=service)
    policy.fallback = ContactFactory(name="New fallback")
    policy.save()
    assert story.through(30) == {0: ["Ann"], 15: ["Old fallback"]}


def test_a_fallback_that_has_left_is_followed_by_the_administrators(boss):
    service = ServiceFactory()
    policy = matrix(service, (None, "", [(NOW, people("Ann"))]))
    policy.fallback = ContactFactory(name="Fallback")
    policy.save()
    story = Story(service=service)
    Contact.objects.filter(name="Fallback").update(active=False)
    assert story.through(30) == {0: ["Ann"], 15: ["Admin"]}


def test_without_any_row_the_administrators_are_told_at_once(boss):
    story = Story(service=ServiceFactory())
    assert story.told() == ["Admin"]
    assert (story.row.state, story.row.version, story.row.rule) == (State.EXHAUSTED, None, None)


def test_a_page_about_nobody_is_not_lost_behind_earlier_news(boss):
    """The news of the first step had the key under which the page of the third should have gone out."""
    service = ServiceFactory()
    bob, dee = people("Bob", "Dee")
    empty = OnCallScheduleFactory()
    matrix(service, (None, "", [(NOW, [empty]), (minutes(1), [bob]), (minutes(15), [empty]), (None, [dee])]))
    story = Story(service=service)
    assert story.at(0) == ["Bob", "Admin"]
    assert story.at(15) == ["Admin"]
    assert story.row.state == State.WAITING
    assert [row.urgency for row in Notification.objects.filter(contact=boss).order_by("pk")] == ["news", "page"]


def test_each_round_that_ends_with_nobody_is_told(boss):
    service = ServiceFactory()
    (bob,) = people("Bob")
    empty = OnCallScheduleFactory()
    policy = matrix(service)
    rule(policy, (NOW, [empty]), (minutes(1), [bob]), (minutes(5), [empty]), repeats=1, repeat_after=minutes(10))
    story = Story(service=service)
    assert story.around((0, 5, 15, 20), by=0) == {
        0: ["Bob", "Admin"], 5: ["Admin"], 15: ["Bob", "Admin"], 20: ["Admin"],
    }  # fmt: skip
    assert story.row.state == State.EXHAUSTED


def test_administrators_who_are_told_can_answer_and_are_left_alone_after_an_answer(boss, settings):
    settings.PORTAL_URL = "https://ops.example.org"
    story = Story(service=ServiceFactory())
    message = Notification.objects.get(contact=boss)
    assert message.escalation == story.row
    assert "/answer/" in answer.link_for(message)
    actions.acknowledge(story.row)
    message.refresh_from_db()
    assert message.state == "cancelled"


def test_a_channel_used_by_hand_and_a_phone_without_a_provider_reach_nobody(boss):
    service = ServiceFactory()
    hand = ChannelFactory(name="Hotline", kind="hand", address="040 112")
    matrix(service, (None, "", [(NOW, [hand, ContactFactory(name="Ann", phone="+49 1")])]))
    story = Story(service=service)
    assert story.at(0) == ["Admin"]
    assert story.row.runs.get().outcome == "nobody"
    assert "tell them yourself at 040 112" in Notification.objects.get().body


# --- business hours --------------------------------------------------------------------------------------------------


def test_times_may_count_business_hours_only():
    service = ServiceFactory(business_hours=office_hours())
    ann, bob = people("Ann", "Bob")
    rule(matrix(service), (NOW, [ann]), (minutes(60), [bob]), in_business_hours=True)
    friday_night = datetime(2026, 3, 6, 20, tzinfo=UTC)
    story = Story(friday_night, service=service)
    assert story.row.due_at == datetime(2026, 3, 9, 8, tzinfo=UTC), "Monday 09:00 in Berlin"
    assert story.at(60) == []
    assert story.at(60 * 60) == ["Ann"]
    assert story.row.due_at == datetime(2026, 3, 9, 9, tzinfo=UTC)
    assert story.at(61 * 60) == ["Bob"]
