"""Rows of people, on-call and the matrix. Factories need no arguments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time, timedelta
from typing import Any

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from catalog.models import BusinessHours, OpeningHours, Severity
from contacts.models import (
    Channel,
    Contact,
    Escalation,
    EscalationPolicy,
    Layer,
    LayerMember,
    Notification,
    OnCallSchedule,
    Override,
    PolicyVersion,
    Provider,
    Queue,
    Role,
    RoleHolder,
    Rule,
    Step,
    Target,
    Team,
    TeamMember,
    Way,
)
from tests.factories import ServiceFactory


class ContactFactory(DjangoModelFactory):
    """`ContactFactory(email="ann@example.org", sms="+49 40 1")`; each way in the order named. Without any, an email."""

    class Meta:
        model = Contact
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"Contact {n}")

    class Params:
        ways = None

    @classmethod
    def _create(cls, model_class: type[Contact], *args: Any, **kwargs: Any) -> Contact:
        ways = {kind: kwargs.pop(kind) for kind in Way.Kind.values if kind in kwargs}
        contact = super()._create(model_class, *args, **kwargs)
        ways = ways or {"email": f"contact-{contact.pk}@example.org"}
        for rank, (kind, address) in enumerate(ways.items(), start=1):
            Way.objects.create(contact=contact, kind=kind, address=address, rank=rank)
        return contact


class TeamFactory(DjangoModelFactory):
    class Meta:
        model = Team

    name = factory.Sequence(lambda n: f"Team {n}")


class RoleFactory(DjangoModelFactory):
    class Meta:
        model = Role

    name = factory.Sequence(lambda n: f"Role {n}")


def team_of(*contacts: Contact, **values: Any) -> Team:
    """A team with these members, the first the primary."""
    team = TeamFactory(**values)
    for rank, contact in enumerate(contacts, start=1):
        TeamMember.objects.create(team=team, contact=contact, rank=rank)
    return team


def role_of(*contacts: Contact, **values: Any) -> Role:
    """A role held by these, the first the primary."""
    role = RoleFactory(**values)
    for rank, contact in enumerate(contacts, start=1):
        RoleHolder.objects.create(role=role, contact=contact, rank=rank)
    return role


class QueueFactory(DjangoModelFactory):
    class Meta:
        model = Queue

    name = factory.Sequence(lambda n: f"Backlog {n}")


class ChannelFactory(DjangoModelFactory):
    """A mailing list, so that it needs no provider."""

    class Meta:
        model = Channel

    name = factory.Sequence(lambda n: f"#alerts-{n}")
    kind = "email"
    address = factory.Sequence(lambda n: f"alerts-{n}@example.org")
    purposes = factory.LazyFunction(lambda: ["incident"])


class ProviderFactory(DjangoModelFactory):
    class Meta:
        model = Provider

    name = factory.Sequence(lambda n: f"Provider {n}")
    kind = "sms"
    url_ref = "env:OPS_SECRET_TEST_SMS"


class OnCallScheduleFactory(DjangoModelFactory):
    class Meta:
        model = OnCallSchedule

    name = factory.Sequence(lambda n: f"On call {n}")
    time_zone = "Europe/Berlin"


def layer_of(schedule: OnCallSchedule, *contacts: Contact, **values: Any) -> Layer:
    """A weekly rotation of these from 2026-01-05 09:00, unless said otherwise."""
    values = {"starts_on": date(2026, 1, 5), "handoff": time(9), **values}
    layer = Layer.objects.create(schedule=schedule, **values)
    for position, contact in enumerate(contacts):
        LayerMember.objects.create(layer=layer, position=position, contact=contact)
    return layer


class OverrideFactory(DjangoModelFactory):
    class Meta:
        model = Override

    schedule = factory.SubFactory(OnCallScheduleFactory)
    contact = factory.SubFactory(ContactFactory)
    starts_at = factory.LazyFunction(timezone.now)
    ends_at = factory.LazyFunction(lambda: timezone.now() + timedelta(hours=8))


class SeverityFactory(DjangoModelFactory):
    class Meta:
        model = Severity

    service = factory.SubFactory(ServiceFactory)
    rank = factory.Sequence(lambda n: n % 1000 + 1)
    code = factory.LazyAttribute(lambda severity: f"P{severity.rank}")
    name = "Critical"
    definition = "Nothing works."
    examples = "The database is down."
    response_time = timedelta(minutes=15)


def office_hours(**values: Any) -> BusinessHours:
    """Monday to Friday, 09:00 to 17:00, Europe/Berlin."""
    calendar = BusinessHours.objects.create(**{"name": "Office", "time_zone": "Europe/Berlin", **values})
    for weekday in range(5):
        OpeningHours.objects.create(calendar=calendar, weekday=weekday, opens=time(9), closes=time(17))
    return calendar


class PolicyFactory(DjangoModelFactory):
    """A matrix without rules; see `rule`."""

    class Meta:
        model = EscalationPolicy

    service = factory.SubFactory(ServiceFactory)


def version_of(policy: EscalationPolicy) -> PolicyVersion:
    """The version in force; the first is made here."""
    found = policy.versions.first()
    return found or PolicyVersion.objects.create(policy=policy, number=1)


def rule(
    policy: EscalationPolicy,
    *steps: tuple[timedelta | None, Sequence[Any]],
    severity: Severity | None = None,
    situation: str = "",
    **values: Any,
) -> Rule:
    """A row: `rule(policy, (timedelta(0), [contact]), (timedelta(minutes=5), [team, queue]))`."""
    version = version_of(policy)
    row = Rule.objects.create(
        version=version,
        order=version.rules.count(),
        severity=severity,
        severity_words=str(severity or ""),
        situation=situation,
        **values,
    )
    for order, (after, targets) in enumerate(steps):
        step = Step.objects.create(rule=row, order=order, after=after)
        for thing in targets:
            kind = {"oncallschedule": "oncall"}.get(thing._meta.model_name, thing._meta.model_name)
            Target.objects.create(step=step, kind=kind, **{kind: thing})
    return row


class EscalationFactory(DjangoModelFactory):
    """Climbing, with its next step in an hour; its subject does not exist."""

    class Meta:
        model = Escalation

    subject_type = "tests.subject"
    subject_id = factory.Sequence(lambda n: n + 1)
    title = "The shop does not answer"
    due_at = factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1))


class NotificationFactory(DjangoModelFactory):
    class Meta:
        model = Notification

    key = factory.Sequence(lambda n: f"test:{n}")
    contact = factory.SubFactory(ContactFactory)
    subject = "The shop does not answer"
    body = "Look at it."
