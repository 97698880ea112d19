"""What escalates: ladders of four steps, many at once; and now and then a fault whose message is awaited.

Every tenth escalation is about an incident, on whose timeline each step must stand; the others are about things that
the portal does not know, so that the engine alone is under load. A fault is declared as an incident by a rule.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from typing import Any

from aiosmtpd.controller import Controller
from django.core.management import call_command
from django.db import Error

from catalog.models import Service
from contacts.models import (
    Contact,
    Escalation,
    EscalationPolicy,
    PolicyVersion,
    Rule,
    Step,
    Target,
    Way,
)
from incidents import chain
from incidents.actions.declare import declare
from incidents.models import Incident

STEPS, EVERY = 4, timedelta(seconds=2)
RULES, PROBED = 5, 40
INCIDENTS = 10  # one in so many
NOTHING = "tests.load"
FAULT = re.compile(r"Fault number (\d+)")


class _Controller(Controller):
    """Listens on a port of the system's choice and asks nobody whether it is ready."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Mailbox:
    """A real SMTP server that keeps when each message came."""

    def __init__(self) -> None:
        self.came: list[tuple[float, list[str]]] = []  # when, and which faults it told of
        self.controller = _Controller(self, hostname="127.0.0.1", port=0)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        body = mail.get_body(("plain",))
        text = f"{mail['Subject']} {body.get_content() if body is not None else ''}"
        self.came.append((time.time(), FAULT.findall(text)))
        return "250 taken"

    def __enter__(self) -> Mailbox:
        self.controller.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.controller.stop()

    @property
    def port(self) -> int:
        return int(self.controller.port)


@dataclass
class Probe:
    """A fault, and when it was to be told."""

    number: int
    at: float
    begun: bool = False


@dataclass
class World:
    steps: int
    rate: float
    probes: list[Probe] = field(default_factory=list)

    @property
    def count(self) -> int:
        return max(1, self.steps // STEPS)

    def create(self) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        self.service = Service.objects.create(name="Load", slug="load")
        self.probed = Service.objects.create(name="Probed", slug="probed")
        contacts = [self._contact(f"Load {number}") for number in range(RULES * STEPS)]
        version = self._version(self.service)
        self.version = version
        self.rules = []
        for order in range(RULES):
            people = contacts[order * STEPS : (order + 1) * STEPS]
            self.rules.append(self._rule(version, order, f"load {order}", people))
        probe_version = self._version(self.probed)
        for order in range(PROBED):
            self._rule(probe_version, order, f"probe {order}", [self._contact(f"Probe {order}")])

    def _contact(self, name: str) -> Contact:
        contact = Contact.objects.create(name=name)
        Way.objects.create(contact=contact, kind="email", address=f"{name.replace(' ', '.').lower()}@example.org")
        return contact

    def _version(self, service: Service) -> PolicyVersion:
        matrix = EscalationPolicy.objects.create(service=service)
        return PolicyVersion.objects.create(policy=matrix, number=1)

    def _rule(self, version: PolicyVersion, order: int, situation: str, people: list[Contact]) -> Rule:
        rule = Rule.objects.create(version=version, order=order, situation=situation)
        for position, contact in enumerate(people):
            step = Step.objects.create(rule=rule, order=position, after=position * EVERY)
            Target.objects.create(step=step, kind="contact", contact=contact)
        return rule

    def fill(self, base: datetime) -> None:
        """Every escalation of the run, due one after the other so that `rate` steps a second come."""
        pause = timedelta(seconds=STEPS / self.rate)
        there = Incident.objects.count()
        incidents = Incident.objects.bulk_create(
            Incident(number=f"LOAD-{there + number:06}", title=f"Load {number}", service=self.service, started_at=base)
            for number in range(-(-self.count // INCIDENTS))
        )
        rows = []
        for number in range(self.count):
            at = base + number * pause
            incident = None if number % INCIDENTS else incidents[number // INCIDENTS]
            rows.append(
                Escalation(
                    subject_type=incident._meta.label_lower if incident else NOTHING,
                    subject_id=incident.pk if incident else number,
                    title=f"Load {number}",
                    service=self.service,
                    version=self.version,
                    rule=self.rules[number % RULES],
                    started_at=at,
                    round_at=at,
                    due_at=at,
                )
            )
        Escalation.objects.bulk_create(rows, batch_size=2000)

    def last_due(self, base: datetime) -> datetime:
        return base + timedelta(seconds=self.count * STEPS / self.rate) + (STEPS - 1) * EVERY

    # -- faults whose message is awaited ---------------------------------------------------------------------------

    def probe(self) -> None:
        """A new fault happens now; it is told as soon as the database takes it."""
        self.probes.append(Probe(len(self.probes), time.time()))

    def tell(self) -> None:
        for probe in [each for each in self.probes if not each.begun]:
            try:
                declare(
                    f"Fault number {probe.number}.",
                    service=self.probed,
                    situation=f"probe {probe.number % PROBED}",
                    door=Incident.Door.RULE,
                    key=f"fault:{probe.number}",
                )
                probe.begun = True
            except Error:
                from django.db import connection

                connection.close()
                return

    # -- what has become of it ---------------------------------------------------------------------------------------

    def timelines(self) -> tuple[int, int]:
        """How many steps do not stand on the timeline of their incident or stand there twice, and how many timelines
        are not the chain that was written."""
        wrong, broken = 0, 0
        for incident in Incident.objects.filter(service=self.service):
            wrong += abs(incident.timeline.filter(kind="escalation").count() - STEPS)
            broken += bool(chain.verify(incident))
        broken += sum(bool(chain.verify(incident)) for incident in Incident.objects.filter(service=self.probed))
        return wrong, broken

    def waits(self, mailbox: Mailbox) -> list[float | None]:
        """Seconds from each fault to its message; None where none came."""
        first: dict[int, float] = {}
        for at, faults in list(mailbox.came):
            for number in faults:
                first.setdefault(int(number), at)
        return [first[probe.number] - probe.at if probe.number in first else None for probe in self.probes]
