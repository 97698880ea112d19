"""What is learnt from an incident: a draft from its record, one sheet for page, print and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.contrib.postgres.search import SearchQuery
from django.db.models import Q, QuerySet

from contacts import rota
from contacts.models import Contact, Level, OnCallSchedule
from core.templatetags.portal import human_duration
from incidents import measures, updates
from incidents.gates import profile_of
from incidents.models import ActionItem, Evidence, Incident, IncidentRole, Review, TimelineEntry
from incidents.models.record import review_words
from incidents.querysets import SEARCH_CONFIG

Kind = TimelineEntry.Kind
EXCERPT = 60
PROMPTS = "What went well?\n\n\nWhat went badly?\n\n\nWhere were we lucky?\n\n\nWhat will we do differently?\n"
DEFAULT_TITLE = "Post-Incident Review - {number}"
DEFAULT_FILE = "{date}-{number}.md"
_NAMED = re.compile(r"\{(\w+)\}")
_NOT_IN_NAMES = re.compile(r"[^\w.+=@() -]+")


@dataclass(frozen=True)
class Sheet:
    """Everything a review says besides its prose, computed from the incident as it is now."""

    review: Review
    incident: Incident
    zone: ZoneInfo
    facts: list[tuple[str, str]]
    marks: list[tuple[str, datetime | None]]  # the five moments of the report
    impact: list[tuple[str, str]]
    times: list[tuple[str, str]]
    restores: list[str]
    excerpt: list[TimelineEntry]
    actions: list[ActionItem]
    attendees: list[Contact]
    evidence: list[Evidence]

    def moment(self, at: datetime | None) -> str:
        return moment(at, self.zone)


def moment(at: datetime | None, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M %Z}" if at else "not set"


# -- the draft --------------------------------------------------------------------------------------------------------


def draft_for(incident: Incident) -> Review:
    """The review of the incident; a draft from its record if there is none yet. What was written stays."""
    values = draft_values(incident)
    review, made = Review.objects.get_or_create(incident=incident, defaults=values | {"drafted": kept(values)})
    if made:
        review.attendees.set(attendees_of(incident))
    return review


def kept(values: dict[str, object]) -> dict[str, str]:
    """The texts of a draft, to tell later what people wrote from what the portal did."""
    return {name: value for name, value in values.items() if isinstance(value, str)}


def bring_up_to_date(review: Review) -> tuple[list[str], list[str]]:
    """Write anew what the portal had drafted, since the record says something else now. The row is not saved.

    What people wrote stays: a field they changed is left alone, but for a drafted text that still stands within it.
    Returns the fields that are new, and those that people wrote and the record would now tell otherwise.
    """
    new, left = [], []
    values = draft_values(review.incident)
    for name, text in kept(values).items():
        before, now = plain(review.drafted.get(name, "")), plain(getattr(review, name))
        if plain(text) in (before, now):
            continue
        if now == before:
            setattr(review, name, text)
            new.append(name)
        elif before and before in now:
            again = now.replace(before, text)
            setattr(review, name, again[:200] if name == "title" else again)
            new.append(name)
        else:
            left.append(name)
    if review.owner is None and values["owner"] is not None:
        review.owner = _owner(review.incident)
        new.append("owner")
    review.drafted = kept(values)
    return new, left


def plain(text: str) -> str:
    """As it is compared: browsers send other line ends, and forms take blanks away."""
    return text.replace("\r\n", "\n").strip()


def draft_values(incident: Incident) -> dict[str, object]:
    """The fields of a draft."""
    return {
        "title": title_of(incident),
        "summary": _summary(incident),
        "impact": "\n".join(part for part in (", ".join(incident.impacts), incident.impact_words.strip()) if part),
        "root_cause": incident.root_cause.strip() or _told(incident, Kind.ROOT_CAUSE),
        "resolution": "\n".join(part for part in _resolution(incident) if part),
        "lessons": PROMPTS,
        "owner": _owner(incident),
    }


def title_of(incident: Incident) -> str:
    """By the pattern of the profile, such as `Post-Incident Review - INC-2026-01-31-001`."""
    profile = profile_of(incident)
    return fill(profile.review_title_pattern if profile else DEFAULT_TITLE, incident)[:200] or incident.number


def fill(pattern: str, incident: Incident) -> str:
    """A pattern of the profile with its {date}, {number}, {service} and {title} filled in."""
    values = {
        "date": f"{incident.started_at.astimezone(updates.zone_of(incident)):%Y-%m-%d}",
        "number": incident.number,
        "service": incident.service.slug if incident.service else "",
        "title": incident.shown_title,
    }
    return " ".join(_NAMED.sub(lambda found: values.get(found[1], found[0]), pattern).split())


def file_name(review: Review) -> str:
    """The name of the exported file. Of a pattern such as docs/incidents/{date}-{number}.md it is the last part."""
    profile = profile_of(review.incident)
    name = fill(profile.export_pattern if profile else DEFAULT_FILE, review.incident).rsplit("/", 1)[-1]
    name = _NOT_IN_NAMES.sub("-", name).strip("-. ") or review.incident.number
    return name if name.endswith(".md") else f"{name}.md"


def _summary(incident: Incident) -> str:
    zone = updates.zone_of(incident)
    parts = [incident.service.name if incident.service else "", str(incident.severity or "")]
    where = ", ".join(part for part in parts if part)
    sentences = [f"{incident.title}{f' ({where})' if where else ''}."]
    sentences.append(f"It began at {moment(incident.started_at, zone)}")
    sentences[-1] += f" and was declared at {moment(incident.declared_at, zone)}."
    if incident.resolved_at:
        lasted = human_duration(measures.downtime(incident))
        sentences.append(f"It was resolved at {moment(incident.resolved_at, zone)}, after {lasted}.")
    return " ".join(sentences) + (f"\n\n{incident.description.strip()}" if incident.description.strip() else "")


def _resolution(incident: Incident) -> list[str]:
    return [
        incident.resolution.strip() or _told(incident, Kind.FIX),
        f"Workaround: {incident.workaround.strip()}" if incident.workaround.strip() else "",
    ]


def _told(incident: Incident, kind: str) -> str:
    """What the timeline says of a kind; corrections replace what they correct."""
    entries = incident.timeline.filter(kind=kind).prefetch_related("corrections")
    return "\n".join(current_text(entry) for entry in entries)


def current_text(entry: TimelineEntry) -> str:
    """The text of an entry, or of its last correction."""
    corrections = sorted(entry.corrections.all(), key=lambda each: each.sequence)
    return (corrections[-1] if corrections else entry).text.strip()


def _owner(incident: Incident) -> Contact | None:
    """Who commanded, else who led the technical response."""
    held = {row.role: row.primary or row.backup for row in incident.assignments.select_related("primary", "backup")}
    return held.get(IncidentRole.COMMANDER) or held.get(IncidentRole.TECHNICAL)


def attendees_of(incident: Incident) -> list[Contact]:
    """Who belongs at the table: everybody with a role in it, and who was on call for the service when it began."""
    found: dict[int, Contact] = {}
    for row in incident.assignments.select_related("primary", "backup"):
        found |= {each.pk: each for each in (row.primary, row.backup) if each}
    if incident.service_id:
        for schedule in OnCallSchedule.objects.filter(service=incident.service_id):
            for level in Level:
                contact = rota.who(schedule, level, incident.declared_at)
                if contact is not None:
                    found[contact.pk] = contact
    return list(found.values())


# -- the sheet --------------------------------------------------------------------------------------------------------


def sheet(review: Review) -> Sheet:
    """Gather what the page, the print and the Markdown show."""
    incident = review.incident
    zone = updates.zone_of(incident)
    return Sheet(
        review=review,
        incident=incident,
        zone=zone,
        facts=_facts(incident, zone),
        marks=marks_of(incident),
        impact=_impact(incident),
        times=_times(incident),
        restores=[_restore_sentence(restore) for restore in measures.restores_of(incident)],
        excerpt=excerpt_of(incident),
        actions=list(incident.actions.select_related("owner")),
        attendees=list(review.attendees.all()),
        evidence=list(incident.evidence.all()),
    )


def _facts(incident: Incident, zone: ZoneInfo) -> list[tuple[str, str]]:
    service = incident.service.name if incident.service else "not set"
    parts = [component.name for component in incident.components.all()]
    return [
        ("Incident ID", incident.number),
        ("Date", f"{incident.started_at.astimezone(zone):%Y-%m-%d}"),
        ("Start – end", f"{moment(incident.started_at, zone)} – {moment(incident.resolved_at, zone)}"),
        ("Severity", updates.severity_words(incident)),
        ("Affected services", service + (f": {', '.join(parts)}" if parts else "")),
    ]


def marks_of(incident: Incident) -> list[tuple[str, datetime | None]]:
    """The five moments that a report names."""
    said = list(incident.timeline.filter(kind__in=(Kind.ROOT_CAUSE, Kind.FIX)).values_list("kind", "at"))
    found = min((at for kind, at in said if kind == Kind.ROOT_CAUSE), default=None)
    fixed = max((at for kind, at in said if kind == Kind.FIX), default=None)  # the first one may not have held
    return [
        ("Detected", incident.declared_at),
        ("Initial response", incident.acknowledged_at),
        ("Root cause identified", found),
        ("Resolution implemented", fixed or incident.mitigated_at),
        ("Service restored", incident.resolved_at),
    ]


def _impact(incident: Incident) -> list[tuple[str, str]]:
    users = "not set" if incident.users_affected is None else f"{incident.users_affected:,}"
    return [
        ("Users affected", users),
        ("Downtime", human_duration(measures.downtime(incident)) if incident.resolved_at else "not over yet"),
        ("Data loss", incident.get_data_loss_display() or "not set"),
        ("Financial impact", incident.cost or "not set"),
    ]


def _times(incident: Incident) -> list[tuple[str, str]]:
    met = measures.response_met(incident)
    word = "not set" if incident.response_due_at is None else "still open" if met is None else "yes" if met else "no"
    rows = [
        ("Time to acknowledge", measures.time_to_acknowledge(incident)),
        ("Time to mitigate", measures.time_to_mitigate(incident)),
        ("Time to recover", measures.time_to_resolve(incident)),
    ]
    return [*((label, _or_dash(span)) for label, span in rows), ("Response met", word)]


def _restore_sentence(row: measures.MeasuredRestore) -> str:
    """What a restore took against its targets."""
    return (
        f"{row.restore.into_database}: {row.restore.state_word.lower()}. "
        f"Recovery took {_or_dash(row.measured)} (RTO {human_duration(row.rto)}{_verdict(row.rto_met)}); "
        f"its data was {_or_dash(row.loss)} older than the incident "
        f"(RPO {human_duration(row.rpo)}{_verdict(row.rpo_met)})."
    )


def _verdict(met: bool | None) -> str:
    return "" if met is None else ", met" if met else ", missed"


def _or_dash(span: timedelta | None) -> str:
    return human_duration(span) if span is not None else "–"


def excerpt_of(incident: Incident) -> list[TimelineEntry]:
    """What matters of the timeline: pinned and typed entries, oldest first. Plain notes and operations stay there."""
    kinds = (Kind.STATE, Kind.SEVERITY, Kind.DECISION, Kind.ROOT_CAUSE, Kind.FIX, Kind.CAUSE)
    rows = (
        incident.timeline.filter(Q(kind__in=kinds) | Q(pin__isnull=False))
        .prefetch_related("corrections")
        .order_by("at", "sequence")
    )
    return list(rows[:EXCERPT])


# -- Markdown and search ----------------------------------------------------------------------------------------------


def markdown(review: Review) -> str:
    """The report as one file: facts, timeline, cause, impact, resolution, lessons, actions, follow-up."""
    data = sheet(review)
    parts = [
        f"# {inline(review.title)}",
        _bullets(data.facts),
        *_section("Summary", prose(review.summary)),
        *_section("Timeline", _bullets((label, data.moment(at)) for label, at in data.marks)),
        "\n".join(f"- {data.moment(e.at)}: {inline(current_text(e))} ({inline(e.actor)})" for e in data.excerpt),
        *_section("Root cause analysis", prose(review.root_cause)),
        *_section("Impact", _bullets(data.impact)),
        prose(review.impact),
        *_section("Times", _bullets(data.times)),
        "\n".join(f"- Restore of {inline(sentence)}" for sentence in data.restores),
        *_section("Resolution steps", prose(review.resolution)),
        *_section("Lessons learned", prose(review.lessons)),
        *_section("Action items", "\n".join(_task(item) for item in data.actions)),
        *_section("Evidence", "\n".join(f"- {inline(each.name)} (SHA-256 {each.sha256})" for each in data.evidence)),
        *_section("Follow-up", _bullets(follow_up(data))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# What means something anywhere in Markdown; an underline inside a word does not. What does so only where a line begins
# is left to those who write simple lists.
_MARKS = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)")
_BEGINS = re.compile(r"^[ \t]*(?:(?=[#+=])|(?=-(?! +[^\s-])))")


def prose(text: str) -> str:
    """What people wrote, so that it reads as they wrote it and is no part of the document's own form."""
    return "\n".join(_escaped(line) for line in plain(text).split("\n"))


def inline(text: str) -> str:
    """The same on one line, where the line has begun already or its first mark would count."""
    return _escaped(" ".join(text.split()))


def _escaped(line: str) -> str:
    line = _MARKS.sub(r"\\\g<0>", line.rstrip())
    begun = _BEGINS.match(line)
    if begun and begun.end() < len(line):
        return f"\\{line[begun.end() :]}"
    return line.lstrip() if line.startswith(("    ", "\t")) else line


def follow_up(data: Sheet) -> list[tuple[str, str]]:
    review = data.review
    return [
        ("Meeting", data.moment(review.meeting_at)),
        ("Attendees", ", ".join(_with_title(each) for each in data.attendees) or "not set"),
        ("Review date", f"{review.review_on:%Y-%m-%d}" if review.review_on else "not set"),
        ("Owner", review.owner.name if review.owner else "not set"),
    ]


def _with_title(contact: Contact) -> str:
    return f"{contact.name} ({contact.title})" if contact.title else contact.name


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text.strip() or "Not set."]


def _bullets(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- **{label}**: {inline(value)}" for label, value in rows)


def _task(item: ActionItem) -> str:
    more = [
        f"owner {inline(item.owner.name)}" if item.owner else "no owner",
        f"due {item.due_on}" if item.due_on else "",
    ]
    return f"- [{'x' if item.done_at else ' '}] {inline(item.text)} ({', '.join(part for part in more if part)})"


def search(reviews: QuerySet[Review], words: str) -> QuerySet[Review]:
    """Reviews that hold all these words, in their own text or in their incident's."""
    query = SearchQuery(words, search_type="websearch", config=SEARCH_CONFIG)
    own = Review.objects.annotate(words=review_words()).filter(words=query).values("pk")
    found = Incident.objects.filter(Q(search=query) | Q(number__iexact=words.strip())).values("pk")
    return reviews.filter(Q(pk__in=own) | Q(incident__in=found))
