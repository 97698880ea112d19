"""How incidents are drawn: chips of severities, the response clock, icons of the timeline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from catalog.models import Severity
from core import icons
from core.templatetags.portal import absolute_time, human_duration, status
from incidents import measures
from incidents.models import Incident, TimelineEntry

Kind = TimelineEntry.Kind
COLOURED_RANKS = 4  # milder ones look alike
KIND_ICONS: dict[str, str] = {
    Kind.NOTE: "message",
    Kind.STATE: "flag",
    Kind.SEVERITY: "alert",
    Kind.ROLE: "user",
    Kind.DECISION: "scale",
    Kind.ESCALATION: "bell",
    Kind.UPDATE: "send",
    Kind.OPERATION: "zap",
    Kind.EVIDENCE: "paperclip",
    Kind.CORRECTION: "edit",
    Kind.CAUSE: "zap",
    Kind.ROOT_CAUSE: "target",
    Kind.FIX: "wrench",
}


@dataclass(frozen=True)
class Clock:
    """A deadline as it stands now."""

    status: str
    word: str
    title: str = ""

    @property
    def html(self) -> SafeString:
        if self.status == "running":  # time runs, nothing turns
            shape = format_html('<span class="status status-running">{}{}</span>', icons.svg("clock"), self.word)
        else:
            shape = status(self.status, self.word)
        return format_html('<span class="clock-word" title="{}">{}</span>', self.title, shape) if self.title else shape


def severity_chip(severity: Severity | None) -> SafeString:
    """The severity by its code and name, coloured by rank: P1 of one team is not P1 of another."""
    if severity is None:
        return format_html('<span class="chip sev sev-none">{}</span>', "Undecided")
    rank = min(severity.rank, COLOURED_RANKS + 1)
    return format_html('<span class="chip sev sev-{}" title="{}">{}</span>', rank, severity, severity.code)


def response_clock(incident: Incident) -> Clock:
    """Whether somebody answered in time: met, late, running with the time left, overdue, or not set."""
    due, answered = incident.response_due_at, measures.answered_at(incident)
    if due is None:
        return Clock("ok", "Answered", "No response time is set.") if answered else Clock("neutral", "not set")
    title = f"Due {absolute_time(due)}"
    if answered is not None:
        late = answered - due
        return Clock("warn", f"Late by {brief(late)}", title) if late > timedelta(0) else Clock("ok", "Met", title)
    left = due - timezone.now()
    if left < timedelta(0):
        return Clock("bad", f"Overdue {brief(-left)}", title)
    return Clock("running", f"{brief(left)} left", title)


def brief(span: timedelta) -> str:
    """A duration in words that fit a column: seconds count in the last minutes alone, hours on the first days."""
    for least, unit in ((timedelta(days=2), 86400), (timedelta(minutes=10), 60)):
        if span >= least:
            return human_duration(int(span.total_seconds()) // unit * unit)
    return human_duration(int(span.total_seconds()))


def deadline(due: datetime | None, *, over: bool = False) -> Clock:
    """A time box or the next update: how long there is left."""
    if over or due is None:
        return Clock("neutral", "" if over else "not set")
    left = due - timezone.now()
    if left < timedelta(0):
        return Clock("bad", f"Overdue {brief(-left)}", f"Due {absolute_time(due)}")
    return Clock("running", f"{brief(left)} left", f"Due {absolute_time(due)}")
