"""What a matrix would do: who hears what, by which way, at which time. Reads only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from catalog.models import Severity
from contacts import policy, reach
from contacts.ladder import ladder_of
from contacts.matrix import ways_in_words
from contacts.models import Contact, PolicyVersion, Rule, Step


@dataclass(frozen=True)
class Heard:
    """A step as it would be: `at` None means that it waits for a person."""

    number: int
    at: datetime | None
    lines: list[str]
    nobody: bool
    early: bool = False
    waits_in_queue: bool = False  # nobody is told, so nobody is expected to answer


@dataclass(frozen=True)
class Simulation:
    rule: Rule | None
    steps: list[Heard] = field(default_factory=list)
    end: str = ""
    ends_at: datetime | None = None


def simulate(version: PolicyVersion, at: datetime, severity: Severity | None, situation: str = "") -> Simulation:
    """Play the ladder from `at` on, as if nobody ever answered."""
    matrix = version.policy
    fallback = str(matrix.fallback) if matrix.fallback is not None and matrix.fallback.active else "every administrator"
    rule = policy.rule_of(version, severity, situation)
    if rule is None:
        return Simulation(None, end=f"No row fits. {fallback[0].upper()}{fallback[1:]} is told at once.", ends_at=at)
    ladder = ladder_of(rule, matrix.service)
    steps: list[Heard] = []
    clock: datetime | None = at
    sendable = reach.sendable_kinds()
    for position, step in enumerate(ladder.steps):
        due = ladder.due(position, at)
        early = bool(steps) and steps[-1].nobody and due is not None and clock is not None
        clock = clock if early else due
        moment = clock or at
        found = [reach.resolve(target, moment, sendable) for target in step.targets.all()]
        nobody = not any(each.contacts or each.channels or each.queues for each in found)
        lines = [_line(each, step, sendable) for each in found]
        queued = not nobody and not any(each.contacts or each.channels for each in found)
        steps.append(Heard(position + 1, clock, lines, nobody, early, queued))
    if steps and steps[-1].waits_in_queue:
        return Simulation(rule, steps, "Then it waits in the queue until somebody takes it out.")
    last = clock
    end = "Then it waits for somebody who escalates by hand." if last is None else f"Unanswered, {fallback} is told."
    if last is not None and ladder.repeats:
        end = f"The ladder begins again up to {ladder.repeats} times. Then, unanswered, {fallback} is told."
    return Simulation(rule, steps, end, last + ladder.pause if last is not None else None)


def _line(found: reach.Reached, step: Step, sendable: frozenset[str]) -> str:
    ways = [_ways(contact, step, sendable) for contact in found.contacts]
    said = "; ".join(dict.fromkeys(way for way in ways if way))
    return f"{found.words}, {said}" if said else found.words


def _ways(contact: Contact, step: Step, sendable: frozenset[str]) -> str:
    """By which ways it would really go: one that was asked for and cannot be used is made up for by another."""
    kinds = [way.kind for way in contact.ways.all() if way.address]
    able = [kind for kind in kinds if kind in sendable]
    if not able:
        return ""
    asked = list(step.channels) or able[:1]
    goes = dict.fromkeys(kind if kind in able else able[0] for kind in asked)
    missing = {kind: _why_missing(kind, kinds) for kind in asked if kind not in able}
    notes = [f"not {ways_in_words([kind])}: {why}" for kind, why in missing.items()]
    return ways_in_words(goes) + (f" ({'; '.join(notes)})" if notes else "")


def _why_missing(kind: str, kinds: list[str]) -> str:
    return "no provider is switched on for it" if kind in kinds else "no address for it"
