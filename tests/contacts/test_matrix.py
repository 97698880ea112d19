"""Saving a matrix: versions, what cannot be, what is different, and what runs already."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied

from contacts import matrix_check
from contacts.actions import matrix as actions
from contacts.actions.matrix import MatrixChanged
from contacts.exceptions import ContactsError
from contacts.matrix import Cell, Names, Row, from_plain, plain, rows_of, rules_of
from contacts.models import EscalationPolicy, OnCallSchedule
from contacts.simulate import simulate
from core.roles import Role
from tests.contacts.factories import (
    ChannelFactory,
    ContactFactory,
    OnCallScheduleFactory,
    PolicyFactory,
    ProviderFactory,
    QueueFactory,
    layer_of,
    role_of,
    team_of,
)
from tests.contacts.ladders import MONDAY, NOW, Story, matrix, minutes, people, scheme
from tests.factories import PersonFactory, ServiceFactory

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def operator():
    return PersonFactory(role=Role.OPERATOR)


@pytest.fixture
def edited():
    """A service with P0 and P1, and a matrix in which Ann is told of P0 at once."""
    service, severities = scheme("P0", "P1")
    (ann,) = people("Ann")
    policy = PolicyFactory(service=service)
    row = Row(severity=severities["P0"].pk, cells=(Cell(NOW, (f"contact:{ann.pk}",)),))
    actions.save_version(policy, [row], reason="First", by=None, based_on=0)
    return policy, severities, ann


def saved(policy: EscalationPolicy) -> tuple[Row, ...]:
    return rows_of(actions.current(policy))


def test_every_kind_of_target_is_kept(edited, operator):
    policy, severities, ann = edited
    codes = (
        f"contact:{ann.pk}",
        f"team:{team_of(ann).pk}:all",
        f"role:{role_of(ann).pk}:backup",
        f"oncall:{OnCallScheduleFactory().pk}:2",
        f"queue:{QueueFactory().pk}",
        f"channel:{ChannelFactory().pk}",
    )
    row = Row(
        severity=severities["P1"].pk,
        words="P1 P1",
        situation="Data at risk",
        response_time=HOUR,
        in_business_hours=True,
        repeats=2,
        repeat_after=HOUR,
        cells=(Cell(NOW, codes, ("sms", "email")), Cell(None, codes[:1])),
    )
    actions.save_version(policy, [row], reason="More", by=operator, based_on=1)
    assert saved(policy) == (row,)
    assert from_plain(plain([row])) == (row,)


def test_versions_before_stay_and_one_can_be_put_back(edited, operator):
    policy, _, _ = edited
    bob = ContactFactory(name="Bob")
    first = saved(policy)
    second = (replace(first[0], cells=(Cell(NOW, (f"contact:{bob.pk}",)),)),)
    actions.save_version(policy, second, reason="Bob it is", by=operator, based_on=1)
    assert rows_of(policy.versions.get(number=1)) == first
    version = actions.put_back(policy, 1, reason="No, Ann", by=operator, based_on=2)
    assert (version.number, version.saved_by, version.reason) == (3, operator, "No, Ann")
    assert saved(policy) == first
    with pytest.raises(ContactsError, match="no version 9"):
        actions.put_back(policy, 9, reason="", by=operator, based_on=3)


def test_who_saves_second_is_told_and_nothing_is_lost(edited, operator):
    policy, _, _ = edited
    rows = saved(policy)
    theirs = (replace(rows[0], cells=(Cell(minutes(5), rows[0].cells[0].targets),)),)
    actions.save_version(policy, theirs, reason="Later", by=operator, based_on=1)
    mine = (replace(rows[0], cells=(Cell(minutes(9), rows[0].cells[0].targets),)),)
    with pytest.raises(MatrixChanged, match="has saved version 2") as caught:
        actions.save_version(policy, mine, reason="Mine", by=operator, based_on=1)
    assert caught.value.version.number == 2
    assert saved(policy) == theirs


def test_the_same_again_is_not_saved(edited, operator):
    policy, _, _ = edited
    with pytest.raises(ContactsError, match="Nothing is different"):
        actions.save_version(policy, saved(policy), reason="", by=operator, based_on=1)


def test_who_may_not_edit_is_refused(edited):
    policy, _, _ = edited
    for role in (Role.MANAGER, Role.RESPONDER):
        with pytest.raises(PermissionDenied):
            actions.save_version(policy, (), reason="", by=PersonFactory(role=role), based_on=1)


def test_a_change_counts_for_the_next_escalation_and_not_for_the_running_one(edited, operator):
    policy, severities, _ = edited
    bob = ContactFactory(name="Bob")
    rows = saved(policy)
    longer = replace(rows[0], cells=(*rows[0].cells, Cell(minutes(5), (f"contact:{bob.pk}",))))
    running = Story(service=policy.service, severity=severities["P0"])
    assert running.at(0) == ["Ann"]
    actions.save_version(policy, [longer], reason="Bob too", by=operator, based_on=1)
    assert running.through(10) == {}
    later = Story(service=policy.service, severity=severities["P0"], subject=severities["P0"])
    assert later.through(10) == {0: ["Ann"], 5: ["Bob"]}
    assert (running.row.version.number, later.row.version.number) == (1, 2)


BAD = {
    "no step": lambda row: replace(row, cells=()),
    "tells nobody": lambda row: replace(row, cells=(Cell(NOW),)),
    "later than the one before": lambda row: replace(row, cells=row.cells * 2),
    "come after those with one": lambda row: replace(row, cells=(replace(row.cells[0], after=None), *row.cells)),
    "who is gone": lambda row: replace(row, cells=(Cell(NOW, ("contact:0",)),)),
    "same target twice": lambda row: replace(row, cells=(Cell(NOW, row.cells[0].targets * 2),)),
    "not one of this service": lambda row: replace(row, severity=0),
    "needs a pause": lambda row: replace(row, repeats=1),
    "longer than zero": lambda row: replace(row, response_time=timedelta(0)),
    "a way that there is not": lambda row: replace(row, cells=(replace(row.cells[0], channels=("pigeon",)),)),
    "below zero": lambda row: replace(row, cells=(replace(row.cells[0], after=-HOUR),)),
    "at most 80": lambda row: replace(row, situation="x" * 81),
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_cannot_be_is_said(edited, operator, sentence):
    policy, _, _ = edited
    bad = BAD[sentence](saved(policy)[0])
    with pytest.raises(ContactsError, match=sentence):
        actions.save_version(policy, [bad], reason="", by=operator, based_on=1)
    assert policy.versions.count() == 1


@pytest.mark.parametrize("code", ["contact:x", "thing:1", "contact", "oncall:1:9", "", "team:1:some"])
def test_what_is_no_target_is_refused(edited, code):
    OnCallScheduleFactory(), team_of()
    assert not Names().exists(code.replace("1", str(OnCallSchedule.objects.get().pk), 1))


def test_two_rows_for_the_same_are_refused(edited, operator):
    policy, _, _ = edited
    row = saved(policy)[0]
    with pytest.raises(ContactsError, match="such a row already"):
        actions.save_version(policy, [row, row], reason="", by=operator, based_on=1)


def test_the_difference_reads_as_words(edited):
    policy, severities, ann = edited
    bob = ContactFactory(name="Bob")
    schedule = OnCallScheduleFactory(name="Shop")
    old = saved(policy)
    new = (
        replace(
            old[0],
            response_time=minutes(5),
            cells=(
                Cell(minutes(1), (f"oncall:{schedule.pk}:1",), ("sms",)),
                Cell(minutes(15), (f"contact:{bob.pk}",)),
            ),
        ),
        Row(severity=severities["P1"].pk, words="P1 P1", cells=(Cell(None, (f"contact:{ann.pk}",)),)),
    )
    said = [(change.row, change.kind, change.what) for change in actions.diff(old, new)]
    assert said == [
        ("P0 P0", "changed", "Response time: not set becomes 5 min."),
        ("P0 P0", "changed", "Step 1: at once becomes after 1 min."),
        ("P0 P0", "added", "Step 1: On call: Shop, primary is told too."),
        ("P0 P0", "removed", "Step 1: Person: Ann is not told any more."),
        ("P0 P0", "changed", "Step 1: whichever way works becomes by SMS."),
        ("P0 P0", "added", "Step 2: after 15 min, Person: Bob."),
        ("P1 P1", "added", "The row is new: by hand, Person: Ann."),
    ]
    gone = [(change.kind, change.what) for change in actions.diff(new, old)]
    assert ("removed", "The row is gone, with 1 step.") in gone
    assert actions.diff(old, old) == []


# --- gaps ------------------------------------------------------------------------------------------------------------


def gaps(policy: EscalationPolicy) -> list[str]:
    return matrix_check.problems(policy, rules_of(actions.current(policy)))


def test_a_complete_matrix_has_no_gap():
    service, severities = scheme("P0")
    (ann,) = people("Ann")
    schedule = OnCallScheduleFactory()
    layer_of(schedule, ann)
    targets = [ann, team_of(ann), role_of(ann), schedule, QueueFactory(), ChannelFactory()]
    assert gaps(matrix(service, (severities["P0"], "", [(NOW, targets)]))) == []


def test_gaps_are_named(edited):
    policy, severities, ann = edited
    assert gaps(policy) == ["P1 P1: no row says who is told, so the fallback is."]
    ann.active = False
    ann.save()
    placeholder = ContactFactory(name="Placeholder", email="")
    rows = (
        replace(saved(policy)[0]),
        Row(
            severity=severities["P1"].pk,
            situation="Odd",
            cells=(Cell(NOW, (f"contact:{placeholder.pk}", f"oncall:{OnCallScheduleFactory(name='Empty').pk}:1")),),
        ),
    )
    actions.save_version(policy, rows, reason="", by=None, based_on=1)
    assert gaps(policy) == [
        "P1 P1 without a situation: no row says who is told, so the fallback is.",
        "P0 P0, step 1: Ann is switched off.",
        "P0 P0, step 1: nobody can be reached.",
        "P1 P1 · Odd, step 1: there is no way to reach Placeholder.",
        "P1 P1 · Odd, step 1: Empty has nobody in its primary layers.",
        "P1 P1 · Odd, step 1: nobody can be reached.",
    ]


def test_what_nothing_can_be_sent_to_is_a_gap(edited):
    policy, severities, ann = edited
    ann.ways.update(kind="sms", address="+49 170 1")
    hand = ChannelFactory(name="Hotline", kind="hand", address="040 112")
    row = Row(severity=severities["P1"].pk, cells=(Cell(NOW, (f"channel:{hand.pk}",)),))
    actions.save_version(policy, (saved(policy)[0], row), reason="", by=None, based_on=1)
    assert gaps(policy) == [
        "P0 P0, step 1: Ann has no way that a provider is switched on for (SMS).",
        "P0 P0, step 1: nobody can be reached.",
        "P1 P1, step 1: the channel Hotline is used by hand: tell them yourself at 040 112.",
        "P1 P1, step 1: nobody can be reached.",
    ]


def test_what_only_waits_in_a_queue_is_not_unanswered():
    service = ServiceFactory()
    policy = matrix(service, (None, "", [(NOW, people("Ann")), (minutes(5), [QueueFactory(name="Backlog")])]))
    played = simulate(policy.versions.get(), MONDAY, None)
    assert (played.end, played.ends_at) == ("Then it waits in the queue until somebody takes it out.", None)
    assert Story(service=service).through(60) == {0: ["Ann"]}, "as it is when it happens"


def test_a_way_that_somebody_does_not_have_is_a_gap(edited):
    policy, _, _ = edited
    policy.versions.get().rules.get().steps.update(channels=["sms"])
    assert "P0 P0, step 1: Ann has no address for SMS." in gaps(policy)


def test_a_simulation_tells_by_which_way_it_would_really_go():
    service = ServiceFactory()
    both, mail = ContactFactory(name="Ann", sms="+49 40 1", email="a@example.org"), ContactFactory(name="Bob")
    policy = matrix(service, (None, "", [(NOW, [both, mail])]))
    policy.versions.get().rules.get().steps.update(channels=["sms"])
    lines = simulate(policy.versions.get(), MONDAY, None).steps[0].lines
    assert lines == [
        "Ann, by email (not by SMS: no provider is switched on for it)",
        "Bob, by email (not by SMS: no address for it)",
    ]
    ProviderFactory(kind="sms")
    lines = simulate(policy.versions.get(), MONDAY, None).steps[0].lines
    assert lines == ["Ann, by SMS", "Bob, by email (not by SMS: no address for it)"]
