"""The deployments of thirty days: pure values, and the operations that carried them out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from catalog.models import Environment
from core.models import User
from deployments.models import Deployment
from operations.models import Operation
from opsportal.demo.history import Teller
from opsportal.demo.records import BETWEEN_STEPS_S, PastOperation, PastStep
from opsportal.demo.timeline import at

PORTAL = "portal"
AGENT = f"{sys.executable} -I -"
Kind = Deployment.Kind


@dataclass(frozen=True)
class Past:
    """A deployment, or going back, that is over."""

    key: str
    kind: str  # production or staging
    version: str
    before: str  # what was live; empty: nothing
    moment: datetime
    reason: str = ""
    rollback_of: str = ""
    emergency: bool = False

    @property
    def is_rollback(self) -> bool:
        return bool(self.rollback_of)


def tell(nights: Sequence[datetime]) -> list[Past]:
    """All of them, the oldest first. Night 1 is the latest; every moment lies before it."""

    def moment(night: int, hours: int, minutes: int) -> datetime:
        return at(nights[night - 1], hours, minutes)

    told = [
        Past("s120", "staging", "v1.2.0", "", moment(27, 14, 5)),
        Past("p120", "production", "v1.2.0", "", moment(26, 10, 20), "First release that the portal deploys."),
        Past("s130", "staging", "v1.3.0", "v1.2.0", moment(23, 13, 40)),
        Past("p130", "production", "v1.3.0", "v1.2.0", moment(18, 10, 5), "Totals for bookkeeping, before month end."),
        Past(
            "p130-back",
            "production",
            "v1.2.0",
            "v1.3.0",
            moment(18, 10, 31),
            "Totals of orders with a discount are too low: bookkeeping compared ten of them.",
            rollback_of="p130",
        ),
        Past("s131", "staging", "v1.3.1", "v1.3.0", moment(17, 15, 20)),
        Past(
            "p131", "production", "v1.3.1", "v1.2.0", moment(16, 10, 10), "Totals again, with discounts counted once."
        ),
        Past(
            "p132",
            "production",
            "v1.3.2",
            "v1.3.1",
            moment(5, 19, 42),
            "Orders of customers without a city cannot be opened, and the late shift has forty of them to ship.",
            emergency=True,
        ),
        Past("s140", "staging", "v1.4.0", "v1.3.1", moment(4, 14, 30)),
        Past("p140", "production", "v1.4.0", "v1.3.2", moment(3, 10, 15), "Sign-in, as the auditors asked for."),
        Past("s150", "staging", "v1.5.0", "v1.4.0", moment(3, 16, 5)),
        Past("s160", "staging", "v1.6.0", "v1.5.0", moment(2, 15, 10)),
    ]
    return sorted(told, key=lambda past: past.moment)


def built(told: Sequence[Past]) -> dict[str, datetime]:
    """When CI had made each version: an hour and a half before it was first deployed."""
    first: dict[str, datetime] = {}
    for past in told:
        first.setdefault(past.version, past.moment - timedelta(minutes=95))
    return dict(sorted(first.items(), key=lambda each: each[1]))


# -- as the engine would have left them --------------------------------------------------------------------------------


def operation(past: Past, environment: Environment, teller: Teller, by: User) -> PastOperation:
    rollback = past.is_rollback
    ending = "is live again." if rollback else "is live."
    return PastOperation(
        key=past.key,
        procedure="deployments.rollback" if rollback else "deployments.deploy",
        title=f"{'Roll back' if rollback else 'Deploy'} {environment.service} {environment.name} to {past.version}",
        requested_at=past.moment,
        environment=environment.environment_band,
        steps=_back(past, teller) if rollback else _forth(past, teller),
        trigger=Operation.Trigger.CLICK,
        by=by,
        reason=past.reason,
        message=f"{past.version} {ending}",
        lock_keys=[f"environment:{environment.pk}"],
    )


def switched_at(one: PastOperation) -> datetime:
    """When its switch was over."""
    spent = 0.0
    for step in one.steps:
        spent += step.seconds + BETWEEN_STEPS_S
        if step.name == "switch":
            break
    return one.started_at + timedelta(seconds=spent)


def _forth(past: Past, teller: Teller) -> list[PastStep]:
    slot = _slot(past)
    watched = past.kind == "production"
    requests = teller.random.randint(300, 420)
    seen = f"{requests} requests were answered, 0 with an error." if watched else "Not watched."
    return [
        _step(teller, "check", 0.5, f"port: The {slot} slot is free for the new version.", "proxy: The proxy answers."),
        _step(teller, "back_up", 0.03, "No backup plan is set for this environment; none is taken."),
        PastStep("migrate", 0.2 * teller.noise(), lines=[("stdout", f"{past.version} changes no schema.")])
        if past.version != "v1.6.0"
        else PastStep("migrate", 0.3 * teller.noise(), lines=[("stdout", "orders.delivery_wish was added.")]),
        _step(teller, "prepare_new", 0.4, f"{past.version} was started in the {slot} slot."),
        _step(teller, "ready", 0.6, f"{past.version} is ready in the {slot} slot, 6 ms."),
        _step(teller, "switch", 0.2, f"Traffic goes to the {slot} slot.", f"Traffic goes to {past.version}."),
        _step(teller, "verify", 0.6, *(f"{name}: {sentence}" for name, sentence in checks(past))),
        PastStep("watch", 90.4 if watched else 0.02, lines=[(PORTAL, seen)]),
        _step(teller, "drain", 0.3),
    ]


def _back(past: Past, teller: Teller) -> list[PastStep]:
    slot = _slot(past)
    return [
        _step(teller, "check", 0.2, f"Traffic goes to the {_other(slot)} slot, which runs {past.before}."),
        _step(teller, "prepare_old", 0.2, f"{past.version} is still warm in the {slot} slot."),
        _step(teller, "ready", 0.2, f"{past.version} is ready in the {slot} slot, 5 ms."),
        _step(teller, "switch", 0.2, f"Traffic goes to the {slot} slot.", f"Traffic goes to {past.version}."),
        _step(teller, "restore", 0.01, "Code only: no backup is put back."),
        _step(teller, "verify", 0.6, *(f"{name}: {sentence}" for name, sentence in checks(past))),
        _step(teller, "drain", 0.3),
    ]


def _step(teller: Teller, name: str, seconds: float, *said: str) -> PastStep:
    commands = () if name in ("back_up", "restore") else (AGENT,)
    return PastStep(name, seconds * teller.noise(), commands, [(PORTAL, text) for text in said])


def _slot(past: Past) -> str:
    """Blue and green in turn; going back, the one from before."""
    return "blue" if past.version in ("v1.2.0", "v1.3.1", "v1.4.0", "v1.6.0") else "green"


def _other(slot: str) -> str:
    return "green" if slot == "blue" else "blue"


def checks(past: Past) -> list[tuple[str, str]]:
    """What verifying found, as (name, sentence)."""
    return [
        ("Health", f"{past.version} answers its health check."),
        ("Smoke test", "test signed in; an order was taken, read, changed and deleted in 71 ms."),
        ("Response time", "6 ms; 2000 ms are allowed."),
        ("Log", "0 of the last 1 lines report an error."),
    ]
