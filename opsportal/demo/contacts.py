"""Whom the trading company calls: people, vendors, teams, who is on call, and the escalation matrix."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta

from catalog.models import BusinessHours, OpeningHours, Service, Severity
from contacts.models import (
    Channel,
    Contact,
    EscalationPolicy,
    Layer,
    LayerMember,
    Level,
    OnCallSchedule,
    PolicyVersion,
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
from core.models import User
from core.roles import Role as AccountRole
from opsportal.demo.people import PEOPLE

TITLES = {
    AccountRole.MANAGER: "Head of IT",
    AccountRole.RESPONDER: "Senior Developer",
    AccountRole.OPERATOR: "Database Administrator",
    AccountRole.APPROVER: "Release Manager",
    AccountRole.ADMINISTRATOR: "Technical Lead",
}
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# Numbers that are reserved for use in fiction.
NUMBERS = {
    AccountRole.MANAGER: "+44 1632 960101",
    AccountRole.RESPONDER: "+44 1632 960102",
    AccountRole.OPERATOR: "+44 1632 960103",
    AccountRole.APPROVER: "+44 1632 960104",
    AccountRole.ADMINISTRATOR: "+44 1632 960105",
}
CADENCE = {  # of the ERP's severities, by rank: response, its business days, cadence of updates, in words, team
    1: (5 * MINUTE, None, 30 * MINUTE, "", "All hands on deck"),
    2: (15 * MINUTE, None, HOUR, "", "Technical lead and whoever is on call"),
    3: (4 * HOUR, None, DAY, "", "Whoever the lead assigns"),
    4: (None, 1, None, "At sprint planning", "Product backlog"),
}


@dataclass(frozen=True)
class Directory:
    """Whom the history of incidents names."""

    people: dict[AccountRole, Contact]
    schedule: OnCallSchedule
    channel: Channel


def create(erp: Service, users: dict[AccountRole, User], now: datetime) -> Directory:
    """Write everything down. Call inside a transaction, after the catalog."""
    hours = _office_hours()
    Service.objects.filter(pk=erp.pk).update(business_hours=hours)
    _cadence(erp)
    people = _people(users, hours, now)
    _vendors(hours)
    teams = _teams(people)
    schedule = _on_call(erp, people, now)
    channel = Channel.objects.create(
        name="erp-alerts@hansewerk.example",
        kind=Channel.Kind.EMAIL,
        service=erp,
        address="erp-alerts@hansewerk.example",
        purposes=["incident", "alerts", "stakeholders"],
    )
    Channel.objects.create(name="Emergency hotline", kind=Channel.Kind.HAND, service=erp, purposes=["support"])
    _matrix(erp, people, teams, schedule, channel)
    _everything_else(people)
    return Directory(people, schedule, channel)


def _office_hours() -> BusinessHours:
    hours = BusinessHours.objects.create(name="Office hours, Hamburg", time_zone="Europe/Berlin")
    OpeningHours.objects.bulk_create(
        OpeningHours(calendar=hours, weekday=day, opens=time(8), closes=time(18)) for day in range(5)
    )
    return hours


def _cadence(erp: Service) -> None:
    for severity in Severity.objects.filter(service=erp):
        response, days, every, words, team = CADENCE[severity.rank]
        severity.response_time, severity.response_business_days = response, days
        severity.response_in_business_hours = severity.rank == 3
        severity.update_every, severity.update_words, severity.team = every, words, team
        severity.save()


def _people(users: dict[AccountRole, User], hours: BusinessHours, now: datetime) -> dict[AccountRole, Contact]:
    found = {}
    for place, person in enumerate(PEOPLE):
        contact = Contact.objects.create(
            name=f"{person.first_name} {person.last_name}",
            title=TITLES[person.role],
            organisation="Hansewerk",
            user=users[person.role],
            time_zone=person.time_zone,
            business_hours=hours if person.role == AccountRole.MANAGER else None,
            confirmed_at=now - timedelta(days=12 * place),
            confirmed_by=users[person.role],
        )
        _ways(contact, sms=NUMBERS[person.role], email=f"{person.username}@hansewerk.example")
        found[person.role] = contact
    return found


def _ways(contact: Contact, **addresses: str) -> None:
    for rank, (kind, address) in enumerate(addresses.items(), start=1):
        Way.objects.create(contact=contact, kind=kind, address=address, rank=rank)


def _vendors(hours: BusinessHours) -> None:
    """One that is complete, and two placeholders as every directory has them."""
    vendor = Contact.objects.create(
        name="PostgreSQL support",
        kind=Contact.Kind.VENDOR,
        organisation="Elbe Database Consulting",
        support_tier="Premium, contract 4711",
        notes="Say the contract number first. After 18:00 only for a production database that is down.",
    )
    _ways(vendor, phone="+44 1632 960110", email="support@elbe-db.example")
    cloud = Contact.objects.create(name="Hosting provider", kind=Contact.Kind.PROVIDER, support_tier="Business")
    line = Contact.objects.create(name="Internet provider", kind=Contact.Kind.PROVIDER, business_hours=hours)
    _ways(cloud, phone="")
    _ways(line, phone="")


def _teams(people: dict[AccountRole, Contact]) -> dict[str, Team]:
    members = {
        "Development": (AccountRole.RESPONDER, AccountRole.ADMINISTRATOR),
        "Infrastructure": (AccountRole.OPERATOR, AccountRole.ADMINISTRATOR),
        "Management": (AccountRole.MANAGER, AccountRole.APPROVER),
    }
    teams = {}
    for name, roles in members.items():
        teams[name] = team = Team.objects.create(name=name)
        for rank, role in enumerate(roles, start=1):
            TeamMember.objects.create(team=team, contact=people[role], rank=rank)
    for name, holders in (
        ("Technical Lead", (AccountRole.ADMINISTRATOR, AccountRole.RESPONDER)),
        ("Business Owner", (AccountRole.MANAGER, AccountRole.APPROVER)),
        ("Database Specialist", (AccountRole.OPERATOR,)),
    ):
        role_row = Role.objects.create(name=name)
        for rank, role in enumerate(holders, start=1):
            RoleHolder.objects.create(role=role_row, contact=people[role], rank=rank)
    return teams


def _on_call(erp: Service, people: dict[AccountRole, Contact], now: datetime) -> OnCallSchedule:
    """A week each, handed over on Monday morning; the secondary is the next in turn."""
    monday = (now - timedelta(days=now.weekday() + 35)).date()
    schedule = OnCallSchedule.objects.create(
        name="ERP", service=erp, time_zone="Europe/Berlin", recorded_until=now - timedelta(days=30)
    )
    turn = (AccountRole.RESPONDER, AccountRole.OPERATOR, AccountRole.ADMINISTRATOR)
    for level, shift in ((Level.PRIMARY, 0), (Level.SECONDARY, 1)):
        layer = Layer.objects.create(schedule=schedule, level=level, name="Weekly", starts_on=monday)
        for position in range(len(turn)):
            LayerMember.objects.create(
                layer=layer, position=position, contact=people[turn[(position + shift) % len(turn)]]
            )
    return schedule


def _matrix(
    erp: Service,
    people: dict[AccountRole, Contact],
    teams: dict[str, Team],
    schedule: OnCallSchedule,
    channel: Channel,
) -> None:
    first = {"kind": Target.Kind.ONCALL, "oncall": schedule, "level": Level.PRIMARY}
    second = {"kind": Target.Kind.ONCALL, "oncall": schedule, "level": Level.SECONDARY}
    room = {"kind": Target.Kind.CHANNEL, "channel": channel}
    lead = {"kind": Target.Kind.ROLE, "role": Role.objects.get(name="Technical Lead"), "part": Target.Part.PRIMARY}
    management = {"kind": Target.Kind.TEAM, "team": teams["Management"]}
    backlog = {"kind": Target.Kind.QUEUE, "queue": Queue.objects.create(name="Backlog")}
    ladders = {
        1: ((0, [first, room]), (5, [second]), (15, [lead]), (30, [management])),
        2: ((0, [first, room]), (30, [second]), (60, [lead])),
        3: ((60, [first]), (240, [lead])),
        4: ((0, [backlog]),),
    }
    policy = EscalationPolicy.objects.create(service=erp, fallback=people[AccountRole.ADMINISTRATOR])
    version = PolicyVersion.objects.create(policy=policy, number=1, reason="As agreed with the departments.")
    for order, severity in enumerate(Severity.objects.filter(service=erp)):
        row = Rule.objects.create(version=version, order=order, severity=severity, severity_words=str(severity))
        for place, (minutes, targets) in enumerate(ladders[severity.rank]):
            step = Step.objects.create(rule=row, order=place, after=minutes * MINUTE)
            for target in targets:
                Target.objects.create(step=step, **target)


def _everything_else(people: dict[AccountRole, Contact]) -> None:
    """The matrix of services that have none: one row for everything."""
    policy = EscalationPolicy.objects.create(fallback=people[AccountRole.ADMINISTRATOR])
    version = PolicyVersion.objects.create(policy=policy, number=1)
    row = Rule.objects.create(version=version, order=0)
    step = Step.objects.create(rule=row, order=0, after=timedelta(0))
    Target.objects.create(step=step, kind=Target.Kind.TEAM, team=Team.objects.get(name="Infrastructure"))
