"""Screens of escalations: who was told, who is told next, who has answered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from contacts import subjects
from contacts.actions import escalation as actions
from contacts.actions.matrix import when
from contacts.ladder import Ladder, ladder_of
from contacts.models import Contact, Escalation, Notification, StepRun
from core.admin_site import Headline, ReadOnlyAdmin, register
from core.buttons import Button, signed_in
from core.templatetags.portal import ago, status

State = Escalation.State


@dataclass(frozen=True)
class Rung:
    """A step as the page shows it: taken, or still to come."""

    number: int
    when: str
    whom: str
    run: StepRun | None
    due_at: datetime | None

    @property
    def status(self) -> str:
        assert self.run is not None
        return {"told": "ok", "queued": "ok", "nobody": "bad"}[self.run.outcome]


class EscalateForm(forms.Form):
    """Which level is told."""

    level = forms.TypedChoiceField(coerce=int, widget=forms.RadioSelect, label="Tell")

    def __init__(self, *args: Any, levels: list[tuple[int, str]], first: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["level"].choices = levels  # type: ignore[attr-defined]  # a choice field
        self.fields["level"].initial = first


class ReassignForm(forms.Form):
    """To whom, and why."""

    contact = forms.ModelChoiceField(Contact.objects.active().order_by("name"), label="To", empty_label="Choose whom")
    reason = forms.CharField(
        max_length=500, widget=forms.Textarea(attrs={"rows": 2}), help_text="Stands in the message and in the record."
    )


def _level_words(position: int, step: Any) -> str:
    whom = ", ".join(f"{target.get_kind_display()}: {target}" for target in step.targets.all())
    return f"Step {position + 1}, {when(step.after)}: {whom or 'nobody'}"


def _levels(request: HttpRequest, row: Escalation) -> dict[str, Any]:
    left = actions.levels_left(row)
    ahead = [position for position, _ in left if position >= row.position]
    first = (ahead or [position for position, _ in left] or [0])[0]
    return {"levels": [(position, _level_words(position, step)) for position, step in left], "first": first}


def _may_act(request: HttpRequest, row: Escalation) -> bool:
    """Asked of the room that owns the subject: a confidential one concerns only those named in it."""
    return row.state != State.STOPPED and subjects.may_act(signed_in(request), row)


def _may_escalate(request: HttpRequest, row: Escalation) -> bool:
    return _may_act(request, row) and row.rule_id is not None and bool(actions.levels_left(row))


BUTTONS = [
    Button(
        "acknowledge",
        "Acknowledge",
        actions.ANSWER,
        run=lambda request, row, data, key: actions.acknowledge(row, by=signed_in(request)),
        visible=lambda request, row: row.is_open and _may_act(request, row),
        confirm=False,
        primary=True,
        icon="check",
        done="Acknowledged. Nobody more is told.",
    ),
    Button(
        "escalate",
        "Escalate now …",
        actions.ANSWER,
        run=lambda request, row, data, key: (
            actions.escalate_now(row, by=signed_in(request), to_position=data["level"]).escalation
        ),
        form=EscalateForm,
        form_kwargs=_levels,
        consequence="They are told at once. The steps after keep their times.",
        visible=_may_escalate,
        icon="bell",
    ),
    Button(
        "reassign",
        "Give to somebody …",
        actions.ANSWER,
        run=lambda request, row, data, key: actions.reassign(
            row, data["contact"], by=signed_in(request), reason=data["reason"]
        ),
        form=ReassignForm,
        consequence="The ladder ends, and this person is paged at once. If no answer comes, the fallback is told.",
        visible=_may_act,
        icon="user",
    ),
]


@register(Escalation)
class EscalationAdmin(ReadOnlyAdmin):
    """Every time somebody had to be told of something."""

    nav, nav_label, nav_icon = ("Respond", 50), "Escalations", "bell"
    list_help = "Every time somebody had to be told of something, and who answered."
    list_empty = "Nobody had to be told of anything yet."
    list_display = ("shown_state", "title", "severity_words", "service", "started", "next_due", "answered")
    list_display_links = ("title",)
    phone_columns = ("title", "shown_state", "severity_words", "started")
    list_filter = ("state", "service")
    search_fields = ("title", "situation")
    detail_template = "contacts/escalation_detail.html"
    live_template = "contacts/escalation_live.html"
    buttons = BUTTONS

    def get_queryset(self, request: HttpRequest) -> QuerySet[Escalation]:
        return Escalation.objects.select_related(
            "service__business_hours", "rule", "version__policy__service", "acknowledged_by", "acknowledged_by_user"
        )

    def headline(self, request: HttpRequest, obj: Escalation) -> Headline:
        return Headline(obj.status, obj.state_word, _sentence(obj))

    def is_final(self, obj: Escalation) -> bool:
        waiting = obj.notifications.filter(state=Notification.State.PENDING, tries=0)
        return not obj.is_open and not waiting.exists()

    def detail_context(self, request: HttpRequest, obj: Escalation) -> dict[str, Any]:
        ladder = ladder_of(obj.rule, obj.service)
        runs = list(obj.runs.select_related("by"))
        shown = obj.notifications.select_related("contact", "channel").order_by("pk")
        return {
            "escalation": obj,
            "open": subjects.may_act(signed_in(request), obj),
            "rungs": _rungs(obj, ladder, runs),
            "earlier": [run for run in runs if run.round != obj.round],
            "has_ladder": bool(ladder.steps),
            "messages_sent": [(row, _contact_words(row)) for row in shown[:200]],
            "queued": obj.queued.select_related("queue", "taken_by"),
        }

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Escalation) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Began", ordering="started_at")
    def started(self, obj: Escalation) -> SafeString | str:
        return ago(obj.started_at)

    @admin.display(description="Next due", ordering="due_at")
    def next_due(self, obj: Escalation) -> SafeString | str:
        return ago(obj.due_at)

    @admin.display(description="Answered by")
    def answered(self, obj: Escalation) -> str:
        return str(obj.acknowledged_by or obj.acknowledged_by_user or "–")


def _contact_words(row: Notification) -> str:
    return str(row.contact or row.channel)


def _sentence(row: Escalation) -> str:
    """The one thing to know, and what to do."""
    if row.state == State.ACKNOWLEDGED:
        return f"{row.acknowledged_by or row.acknowledged_by_user or 'The portal'} has answered. Nobody more is told."
    return {
        State.ACTIVE: "Nobody has answered yet. People are told until somebody does.",
        State.WAITING: "Nobody has answered yet, and nothing more goes out by itself. Escalate by hand.",
        State.EXHAUSTED: "Nobody has answered, and nobody is left to be told. Acknowledge it, or give it to somebody.",
        State.STOPPED: "It is over. Nobody more is told.",
    }[State(row.state)]


def _rungs(row: Escalation, ladder: Ladder, runs: list[StepRun]) -> list[Rung]:
    taken = {run.position: run for run in runs if run.round == row.round}
    rungs = []
    for position, step in enumerate(ladder.steps):
        due = None
        if position not in taken and row.state == State.ACTIVE and position >= row.position:
            due = row.due_at if position == row.position else ladder.due(position, row.round_at)
        whom = ", ".join(f"{target.get_kind_display()}: {target}" for target in step.targets.all())
        rungs.append(Rung(position + 1, when(step.after), whom or "nobody", taken.get(position), due))
    return rungs
