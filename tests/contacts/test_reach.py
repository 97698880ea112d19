"""Whom a target means."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from contacts import reach
from contacts.models import Target, TeamMember
from tests.contacts.factories import (
    ChannelFactory,
    ContactFactory,
    OnCallScheduleFactory,
    ProviderFactory,
    QueueFactory,
    layer_of,
    office_hours,
    role_of,
    team_of,
)
from tests.pages import counted

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
SATURDAY = datetime(2026, 3, 7, 12, tzinfo=UTC)


def resolve(at=MONDAY, part="all", level=1, **thing):
    kind = next(iter(thing))
    target = Target(kind=kind, part=part, level=level, **thing)
    return reach.resolve(target, at)


def test_a_person():
    ann = ContactFactory(name="Ann")
    found = resolve(contact=ann)
    assert (found.contacts, found.channels, found.queues, found.words) == ([ann], [], [], "Ann")


def test_a_channel_and_a_queue():
    channel, queue = ChannelFactory(name="#alerts"), QueueFactory(name="Backlog")
    assert (resolve(channel=channel).channels, resolve(channel=channel).words) == ([channel], "Channel #alerts")
    assert (resolve(queue=queue).queues, resolve(queue=queue).words) == ([queue], "Queue Backlog")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"enabled": False}, "is switched off"),
        ({"address": ""}, "has no address yet"),
        ({"kind": "hand", "address": "040 112"}, "is used by hand: tell them yourself at 040 112"),
    ],
)
def test_a_channel_that_takes_nothing_is_left_out(values, why):
    found = resolve(channel=ChannelFactory(name="#alerts", **values))
    assert (found.channels, found.words) == ([], f"Channel #alerts ({why})")


def test_who_is_on_call():
    ann, schedule = ContactFactory(name="Ann Example"), OnCallScheduleFactory()
    layer_of(schedule, ann, starts_on=date(2026, 3, 2))
    assert resolve(oncall=schedule).contacts == [ann]
    assert resolve(oncall=schedule).words == "On call, primary: Ann Example"
    found = resolve(oncall=schedule, level=2)
    assert (found.contacts, found.words) == ([], "On call, secondary: nobody")


def test_a_whole_team_and_a_whole_role():
    ann, ben = ContactFactory(name="Ann"), ContactFactory(name="Ben")
    assert resolve(team=team_of(ann, ben, name="Web")).words == "Team Web: Ann, Ben"
    assert resolve(role=role_of(ann, name="Lead")).words == "Role Lead: Ann"


def test_primary_and_backup_with_who_comes_after_them():
    ann, ben, cleo = (ContactFactory(name=name) for name in ("Ann", "Ben", "Cleo"))
    team = team_of(ann, ben, cleo, name="Web")
    assert resolve(team=team, part="primary").contacts == [ann]
    assert resolve(team=team, part="backup").contacts == [ben]
    ann.active = False
    ann.save()
    found = resolve(team=team, part="primary")
    assert (found.contacts, found.words) == ([ben], "Team Web, primary: Ben (Ann is switched off)")
    ben.ways.update(address="")
    found = resolve(team=team, part="backup")
    assert (found.contacts, found.words) == ([cleo], "Team Web, backup: Cleo (Ben has no address)")


def test_several_of_one_rank_are_told_together():
    ann, ben = ContactFactory(name="Ann"), ContactFactory(name="Ben")
    team = team_of(ann)
    TeamMember.objects.create(team=team, contact=ben, rank=1)
    assert resolve(team=team, part="primary").contacts == [ann, ben]


def test_outside_business_hours_somebody_is_left_out_and_the_words_say_so():
    vendor = ContactFactory(name="Vendor", business_hours=office_hours())
    assert resolve(contact=vendor).contacts == [vendor]
    found = resolve(contact=vendor, at=SATURDAY)
    assert (found.contacts, found.words) == ([], "nobody (Vendor is outside business hours)")


def test_a_way_without_a_provider_reaches_nobody():
    ann = ContactFactory(name="Ann", sms="+49 170 1")
    why = "nobody (Ann has no way that a provider is switched on for (SMS))"
    assert (resolve(contact=ann).contacts, resolve(contact=ann).words) == ([], why)
    provider = ProviderFactory(kind="sms", enabled=False)
    assert resolve(contact=ann).contacts == []
    provider.enabled = True
    provider.save()
    assert resolve(contact=ann).contacts == [ann]
    both = ContactFactory(name="Ben", phone="+49 170 2", email="ben@example.org")
    assert resolve(contact=both).contacts == [both]


def test_nobody_at_all():
    assert resolve(team=team_of(name="Web")).words == "Team Web: nobody"
    assert resolve(role=role_of(name="Lead"), part="backup").words == "Role Lead, backup: nobody"


def test_a_big_team_costs_as_many_queries_as_a_small_one():
    def cost(size: int) -> int:
        team = team_of(*(ContactFactory(business_hours=hours) for _ in range(size)))
        with counted() as queries:
            resolve(team=team)
        return len(queries)

    hours = office_hours()
    assert cost(2) == cost(20)
