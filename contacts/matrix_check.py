"""What is wrong with a matrix while nothing is wrong yet: who could not be told, and which severity tells nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from django.db.models import prefetch_related_objects

from catalog.models import Severity
from contacts import policy, reach, routes
from contacts.models import Contact, EscalationPolicy, Level, Rule, Target, Way

BEHIND = (
    "contact__ways",
    "team__members__contact__ways",
    "role__holders__contact__ways",
    "oncall__layers__members__contact__ways",
)
Kind, Part = Target.Kind, Target.Part


def problems(matrix: EscalationPolicy, rules: Sequence[Rule]) -> list[str]:
    """In sentences, the worst first. `rules` come from contacts.matrix.rules_of."""
    if not rules:
        return ["No row was saved yet, so this matrix tells nobody."]
    prefetch_related_objects([target for rule in rules for target in _targets(rule)], *BEHIND)
    sendable = reach.sendable_kinds()
    found = [*_uncovered(matrix, rules), *_gone(rules)]
    for rule in rules:
        found += _of_rule(rule, sendable)
    return list(dict.fromkeys(found))


def _targets(rule: Rule) -> Iterator[Target]:
    for step in rule.steps.all():
        yield from step.targets.all()


def _uncovered(matrix: EscalationPolicy, rules: Sequence[Rule]) -> Iterator[str]:
    for severity in Severity.objects.filter(service=matrix.service_id) if matrix.service_id else ():
        if policy.best(rules, severity.pk, "") is None:
            only = any(rule.severity_id == severity.pk for rule in rules)
            how = " without a situation" if only else ""
            yield f"{severity}{how}: no row says who is told, so the fallback is."
    if matrix.service_id is None and policy.best(rules, None, "") is None:
        yield "Without a situation no row says who is told, so the fallback is."


def _gone(rules: Iterable[Rule]) -> Iterator[str]:
    for rule in rules:
        if rule.severity_id is None and rule.severity_words:
            yield f"{rule}: the severity was removed from the catalog, so this row counts for nothing."


def _of_rule(rule: Rule, sendable: frozenset[str]) -> Iterator[str]:
    for number, step in enumerate(rule.steps.all(), start=1):
        where = f"{rule}, step {number}"
        targets = list(step.targets.all())
        helped = [_reachable(target, sendable) for target in targets]
        for target in targets:
            for trouble in of_target(target, step.channels, sendable):
                yield f"{where}: {trouble}"
        if targets and not any(helped):
            yield f"{where}: nobody can be reached."


def _reachable(target: Target, sendable: frozenset[str]) -> bool:
    """Whether somebody or something would take the message, at a good moment."""
    if target.kind == Kind.QUEUE:
        return True
    if target.kind == Kind.CHANNEL:
        return target.channel is not None and not routes.why_no_channel(target.channel)
    return any(_can_be_told(contact, sendable) for contact in people_behind(target))


def of_target(target: Target, channels: Sequence[str], sendable: frozenset[str]) -> list[str]:
    """What speaks against one target."""
    if target.channel is not None:
        why = routes.why_no_channel(target.channel)
        return [f"the channel {target.channel} {why}."] if why else []
    if target.kind == Kind.QUEUE:
        return []
    people = people_behind(target)
    if target.kind == Kind.CONTACT:
        return [trouble for contact in people for trouble in _of_contact(contact, channels, sendable)]
    if not people and target.kind == Kind.ONCALL:
        return [f"{target.oncall} has nobody in its {Level(target.level).label.lower()} layers."]
    if not any(_can_be_told(contact, sendable) for contact in people):
        return [f"nobody of {target} can be reached."]
    return [trouble for contact in people if contact.active for trouble in _of_contact(contact, channels, sendable)]


def people_behind(target: Target) -> list[Contact]:
    """Whom a target may mean at some time."""
    if target.contact is not None:
        return [target.contact]
    if target.oncall is not None:
        layers = [layer for layer in target.oncall.layers.all() if layer.level == target.level]
        return list({turn.contact_id: turn.contact for layer in layers for turn in layer.members.all()}.values())
    places = target.team.members.all() if target.team else target.role.holders.all() if target.role else ()
    first = 2 if target.part == Part.BACKUP else 1
    return [place.contact for place in places if place.rank >= first]


def _can_be_told(contact: Contact, sendable: frozenset[str]) -> bool:
    return contact.active and not reach.why_no_way(contact, sendable)


def _of_contact(contact: Contact, channels: Sequence[str], sendable: frozenset[str]) -> list[str]:
    if not contact.active:
        return [f"{contact} is switched off."]
    kinds = {way.kind for way in contact.ways.all() if way.address}
    if not kinds:
        return [f"there is no way to reach {contact}."]
    if why := reach.why_no_way(contact, sendable):
        return [f"{contact} {why}."]
    return [f"{contact} has no address for {Way.Kind(kind).label}." for kind in channels if kind not in kinds]
