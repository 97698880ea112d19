"""Working on an incident: answer it, note, move it on, resolve, close, reopen."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from contacts.models import Contact, Escalation
from incidents import access, clocks, gates, news, status_page, timeline
from incidents.actions import escalating
from incidents.actions import review as reviews
from incidents.actions.writing import (
    changing,
    demand,
    demand_text,
    index,
    not_closed,
    not_ended,
    not_merged,
    note_that,
)
from incidents.exceptions import IncidentError
from incidents.models import ChecklistTick, CoreState, Incident, Pin, Stage, TimelineEntry
from incidents.timeline import Kind, Source

if TYPE_CHECKING:
    from core.models import User

# What a person may call a note.
NOTE_KINDS = (Kind.NOTE, Kind.DECISION, Kind.ROOT_CAUSE, Kind.FIX)
ORDER = list(CoreState.values)


def _who(by: User | None, contact: Contact | None = None) -> str:
    if by is not None:
        return by.display_name
    return contact.name if contact is not None else timeline.PORTAL


# -- answering ---------------------------------------------------------------------------------------------------------


def acknowledge(
    incident: Incident, *, by: User | None = None, contact: Contact | None = None, source: str = ""
) -> Incident:
    """Somebody is at it: the response clock and the escalation stop. A second time changes nothing."""
    demand(by is None or access.may_work(by, incident))
    with changing(incident) as row:
        not_ended(row)
        _acknowledged(row, by=by, contact=contact, source=source)
        escalating.answer(row, by=by, contact=contact)
        return row


def acknowledged_elsewhere(incident: Incident, *, by: User | None, contact: Contact | None, actor: str = "") -> bool:
    """Its escalation was answered, such as by the link in a message: that answers the incident too. Returns whether it
    waited for that."""
    with changing(incident) as row:
        return _acknowledged(row, by=by, contact=contact, actor=actor)


def _acknowledged(
    row: Incident, *, by: User | None, contact: Contact | None, source: str = "", actor: str = ""
) -> bool:
    if row.state != CoreState.OPEN:
        return False
    row.state, row.acknowledged_at = CoreState.ACKNOWLEDGED, row.acknowledged_at or timezone.now()
    _follow(row)
    row.update_due_at = clocks.update_at_change(row, row.acknowledged_at)
    row.save()
    who = actor or _who(by, contact)
    note_that(row, f"Acknowledged by {who}.", by=by, actor=who, source=source or Source.PERSON)
    news.tell(news.ACKNOWLEDGED, row, f"acknowledged by {who}", by=by, actor=who)
    return True


def _follow(row: Incident) -> None:
    """The stage follows the state, where the workflow has a later stage for it."""
    if row.stage is None or ORDER.index(row.stage.core_state) >= ORDER.index(row.state):
        if row.is_ended:
            row.stage_due_at = None
        return
    later = row.stage.workflow.stages.filter(order__gt=row.stage.order, core_state=row.state).first()
    if later is not None:
        clocks.enter(row, later, timezone.now())
    elif row.is_ended:
        row.stage_due_at = None


# -- moving on ---------------------------------------------------------------------------------------------------------


def place_of(incident: Incident) -> str:
    """Where it stands: what a page that moves it on was made from."""
    return f"{incident.stage_id}-{incident.state}"


def moved_meanwhile(incident: Incident) -> str:
    return (
        f"{incident.number} has moved since you opened this page: it is in the stage “{incident.stage}” and "
        f"{incident.state_word.lower()} now. Nothing was changed. Choose again if it should still move."
    )


def move_to_stage(incident: Incident, stage: Stage, *, by: User | None, seen: str = "") -> Incident:
    """Enter a stage. A stage that means a later state brings the incident there; closing asks for the gates.

    `seen` is `place_of` when the person chose. Raises IncidentError where it has moved since.
    """
    demand(by is None or access.may_work(by, incident))
    with changing(incident) as row:
        not_closed(row)
        if seen and seen != place_of(row):
            raise IncidentError(moved_meanwhile(row))
        if row.stage is None or row.stage.workflow_id != stage.workflow_id:
            raise IncidentError(f"“{stage}” is no stage of {row.number}. Load the page again.")
        if row.stage_id == stage.pk:
            return row
        before, target = row.stage, ORDER.index(stage.core_state)
        clocks.enter(row, stage, timezone.now())
        row.save()
        note_that(row, f"Stage “{before}” → “{stage}”.", by=by)
        for state, move in ((1, acknowledge), (2, mitigate), (3, resolve), (4, close)):
            if state == target > ORDER.index(row.state):
                move(row, by=by)
    return Incident.objects.get(pk=incident.pk)


def mitigate(incident: Incident, *, by: User | None, source: str = "") -> Incident:
    """The harm is contained; the cause may still be there."""
    demand(by is None or access.may_work(by, incident))
    with changing(incident) as row:
        not_ended(row)
        if row.state == CoreState.MITIGATED:
            return row
        if row.state == CoreState.OPEN:
            _acknowledged(row, by=by, contact=None, source=source)
            escalating.answer(row, by=by, contact=None)
        row.state, row.mitigated_at = CoreState.MITIGATED, timezone.now()
        _follow(row)
        row.update_due_at = clocks.update_at_change(row, row.mitigated_at)
        row.save()
        note_that(row, "Mitigated: the harm is contained.", by=by, source=source)
        news.tell(news.MITIGATED, row, f"mitigated by {_who(by)}", by=by)
        return row


def resolve(
    incident: Incident,
    *,
    by: User | None,
    text: str = "",
    at: datetime | None = None,
    source: str = "",
    actor: str = "",
) -> Incident:
    """It is over: the escalation stops, no update is due any more, the review is drafted. `at` may lie in the past.

    A second time changes nothing.
    """
    demand(by is None or access.may_work(by, incident))
    with changing(incident) as row:
        not_merged(row)
        if row.state == CoreState.RESOLVED:
            return row
        not_ended(row)
        now = timezone.now()
        row.resolved_at = _moment(row, at, now)
        if by is not None:  # who ends it has answered it
            row.acknowledged_at = row.acknowledged_at or max(row.resolved_at, row.declared_at)
        row.state, row.update_due_at = CoreState.RESOLVED, None
        was_told = status_page.say_resolved(row)
        _follow(row)
        text = text.replace("\0", "").strip()
        if text and text not in row.resolution:  # reopened, it is solved in another way than the first time
            row.resolution = f"{row.resolution}\n{text}".strip()
        row.save()
        index(row)
        who = actor or _who(by)
        note_that(row, f"Resolved. {text}".strip(), by=by, source=source, actor=actor, at=row.resolved_at)
        if was_told:
            note_that(row, f"The status page said “{was_told}” and says “Resolved” now.", by=None, kind=Kind.UPDATE)
        news.tell(news.RESOLVED, row, f"resolved by {who}", by=by, actor=actor)
        escalating.stop(row, ending=Escalation.Ending.RESOLVED, by=by)
        reviews.after_resolving(row)
        return row


def _moment(row: Incident, at: datetime | None, now: datetime) -> datetime:
    if at is None:
        return now
    if at > now:
        raise IncidentError("It cannot be resolved in the future. Give the time at which it was over.")
    if at < row.started_at:
        raise IncidentError(
            f"It cannot be over before it began, at {row.started_at:%Y-%m-%d %H:%M} UTC. Correct either time."
        )
    return at


def close(incident: Incident, *, by: User | None, source: str = "") -> Incident:
    """What was to be done about it is done. Raises IncidentError while a gate is open."""
    demand(by is None or access.may_command(by, incident))
    with changing(incident) as row:
        not_merged(row)
        if row.state == CoreState.CLOSED:
            return row
        if row.state != CoreState.RESOLVED:
            raise IncidentError(f"{row.number} is not resolved. Resolve it first.")
        missing = gates.missing_gates(row)
        if missing:
            raise IncidentError(f"Before it is closed: {'; '.join(missing)}.")
        row.state, row.closed_at = CoreState.CLOSED, timezone.now()
        _follow(row)
        row.save()
        note_that(row, "Closed.", by=by, source=source)
        news.tell(news.CLOSED, row, f"closed by {_who(by)}", by=by)
        return row


def reopen(incident: Incident, *, by: User | None, reason: str, actor: str = "", page: bool = True) -> Incident:
    """It goes on after all. Those of the matrix are told again, unless a rule says that they know (`page`)."""
    demand(by is None or access.may_work(by, incident))
    reason = demand_text(reason, "Say why it is not over.")
    with changing(incident) as row:
        not_closed(row)
        if not row.is_ended:
            return row
        row.state, row.resolved_at, row.mitigated_at = CoreState.OPEN, None, None
        if not page and row.acknowledged_at is not None:
            row.state = CoreState.ACKNOWLEDGED
        row.update_due_at = clocks.first_update(row)
        if row.update_due_at is not None:
            row.update_due_at = max(row.update_due_at, timezone.now())
        if row.stage is not None and ORDER.index(row.stage.core_state) >= ORDER.index(CoreState.RESOLVED):
            earlier = row.stage.workflow.stages.exclude(core_state__in=["resolved", "closed"]).last()
            clocks.enter(row, earlier or row.stage, timezone.now())
        row.save()
        note_that(row, f"Reopened: {reason}", by=by, actor=actor)
        _confirm_again(row)
        reviews.after_reopening(row)
        news.tell(news.REOPENED, row, f"reopened by {actor or _who(by)}", by=by, actor=actor)
        if page:
            escalating.start(row, by=by)
        return row


def _confirm_again(row: Incident) -> None:
    """What was confirmed of its closing gates was said of an end that was none."""
    ticks = row.ticks.filter(gate=True)
    if said := list(ticks.values_list("text", flat=True)):
        ticks.delete()
        note_that(row, f"To be confirmed again before it is closed: {'; '.join(said)}.", by=None)


# -- the timeline ------------------------------------------------------------------------------------------------------


def note(
    incident: Incident,
    text: str,
    *,
    by: User,
    kind: str = Kind.NOTE,
    at: datetime | None = None,
    source: str = Source.PERSON,
    key: str | None = None,
) -> TimelineEntry:
    """Write something down, also of one that is closed. The same `key` gives the same entry again."""
    demand(access.may_work(by, incident))
    text = demand_text(text, "Write what happened.")
    if kind not in NOTE_KINDS:
        raise IncidentError("Choose what kind of note it is: a note, a decision, the root cause or the fix.")
    now = timezone.now()
    if at is not None and at > now:
        raise IncidentError("A note is about something that has happened. Give a time in the past.")
    with changing(incident) as row:
        if key and (earlier := row.timeline.filter(data__key=key).first()) is not None:
            return earlier
        data = {"key": key} if key else None
        return timeline.write(row, text, kind=kind, source=source, user=by, at=at, data=data)


def correct(entry: TimelineEntry, text: str, *, by: User) -> TimelineEntry:
    """Correct an entry: another entry, which names the one it corrects."""
    demand(access.may_work(by, entry.incident))
    text = demand_text(text, "Write how it was.")
    with transaction.atomic():
        return timeline.write(
            entry.incident, text, kind=Kind.CORRECTION, source=Source.PERSON, user=by, at=entry.at, corrects=entry
        )


def pin(entry: TimelineEntry, *, by: User) -> Pin:
    """Show an entry on top."""
    demand(access.may_work(by, entry.incident))
    found, _ = Pin.objects.get_or_create(entry=entry, defaults={"by": by})
    return found


def unpin(entry: TimelineEntry, *, by: User) -> None:
    demand(access.may_work(by, entry.incident))
    Pin.objects.filter(entry=entry).delete()


# -- checklists --------------------------------------------------------------------------------------------------------


def checklist(stage: Stage) -> list[str]:
    """What is to be done in a stage."""
    return [line.strip() for line in stage.checklist.splitlines() if line.strip()]


def tick(incident: Incident, text: str, *, gate: bool, by: User) -> ChecklistTick:
    """Mark something as done. Raises IncidentError for what is on no list."""
    demand(access.may_work(by, incident))
    with changing(incident) as row:
        not_closed(row)
        if text not in _listed(row, gate=gate):
            raise IncidentError(f"“{text}” is not on the list. Load the page again.")
        if gate and text == gates.LOOKED_AT and by.pk == row.declared_by_id:
            raise IncidentError("You worked on it alone, so somebody else looks at it and confirms that.")
        found, new = ChecklistTick.objects.get_or_create(incident=row, gate=gate, text=text, defaults={"by": by})
        if new:
            note_that(row, f"Done: {text}", by=by, kind=Kind.NOTE)
        return found


def _listed(row: Incident, *, gate: bool) -> list[str]:
    if gate:
        return gates.asked(row, gates.profile_of(row))
    if row.stage is None:
        return []
    return [text for stage in row.stage.workflow.stages.all() for text in checklist(stage)]


def untick(incident: Incident, text: str, *, gate: bool, by: User) -> None:
    demand(access.may_work(by, incident))
    with changing(incident) as row:
        not_closed(row)
        gone, _ = ChecklistTick.objects.filter(incident=row, gate=gate, text=text).delete()
        if gone:
            note_that(row, f"Not done after all: {text}", by=by, kind=Kind.NOTE)
