"""Who is on call, how everybody is reached, and whom each severity goes to: what a night without the portal needs."""

from __future__ import annotations

from django.db.models import Prefetch

from catalog.models import Severity
from contacts import rota
from contacts.models import Contact, EscalationPolicy, PolicyVersion, Step, Target
from core.templatetags.portal import human_duration
from survival.card.sections import Entry, section

MISSING = "missing"


def _ways(contact: Contact) -> str:
    """Every number and address, in the order in which to try them."""
    found = [f"{way.get_kind_display()} {way.address}" for way in contact.ways.all() if way.address]
    return ", ".join(found) or MISSING


@section(
    "on-call",
    title="Who is on call",
    order=2,
    empty="No on-call schedule. Add one under Respond, On-call schedules, and who answers stands here.",
)
def on_call() -> list[Entry]:
    entries: dict[str, list[tuple[str, str]]] = {}
    for place in rota.on_call_now():
        who = MISSING if place.contact is None else f"{place.contact}: {_ways(place.contact)}"
        until = f" (until {place.until:%Y-%m-%d %H:%M} UTC)" if place.until else ""
        then = f", then {place.next}" if place.next else ""
        facts = entries.setdefault(str(place.schedule), [])
        facts.append((place.level.label, f"{who}{until}{then}"))
    return [Entry(title=name, facts=tuple(facts)) for name, facts in entries.items()]


@section("contacts", title="People", order=4, empty="Nobody is in the directory yet. Add them under Respond, Contacts.")
def contacts() -> list[Entry]:
    entries = []
    for contact in Contact.objects.active().with_ways().order_by("kind", "name"):
        facts = [("Reached by", _ways(contact))]
        facts += [("Says", contact.title)] if contact.title else []
        facts += [("Agreed", contact.support_tier)] if contact.support_tier else []
        facts += [("Notes", contact.notes)] if contact.notes else []
        warning = "" if facts[0][1] != MISSING else "Nobody has filled in how this contact is reached."
        entries.append(
            Entry(title=f"{contact} ({contact.get_kind_display().lower()})", facts=tuple(facts), warning=warning)
        )
    return entries


@section("matrix", title="Escalation", order=6, empty="No escalation matrix yet.")
def matrix() -> list[Entry]:
    """A line for each row of each matrix in force."""
    names = ("contact", "team", "role", "oncall", "queue", "channel")
    targets = Prefetch("targets", Target.objects.select_related(*names))
    rows = Prefetch("rules__steps", Step.objects.prefetch_related(targets))
    entries = []
    for policy in EscalationPolicy.objects.select_related("service").order_by("service__name"):
        version = PolicyVersion.objects.filter(policy=policy).prefetch_related(rows).first()
        if version is not None:
            facts = tuple((str(rule), _ladder(list(rule.steps.all()))) for rule in version.rules.all())
            entries.append(Entry(title=str(policy), facts=facts))
    return entries


def _ladder(steps: list[Step]) -> str:
    """`at once: …; after 5 min: …; then, by hand: …`."""
    said = []
    for step in steps:
        whom = " and ".join(str(target) for target in step.targets.all()) or "nobody"
        when = "by hand" if step.after is None else f"after {human_duration(step.after)}" if step.after else "at once"
        said.append(f"{when}: {whom}")
    return "; ".join(said) or "nobody"


@section("severities", title="Severities", order=8, empty="No service has a severity scheme yet.")
def severities() -> list[Entry]:
    """What each grade means and how soon somebody answers."""
    entries: dict[str, list[tuple[str, str]]] = {}
    for severity in Severity.objects.select_related("service").order_by("service__name", "rank"):
        answered = (
            human_duration(severity.response_time)
            if severity.response_time
            else f"{severity.response_business_days} business days"
            if severity.response_business_days
            else "not set"
        )
        said = f"{severity.definition} Answered within: {answered}.".strip()
        entries.setdefault(str(severity.service), []).append((str(severity), said))
    return [Entry(title=name, facts=tuple(facts)) for name, facts in entries.items()]
