"""Screens of operations, schedules, slots and workers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString

import operations.event_screens
import operations.worker_screens  # noqa: F401  the pages of events and workers register themselves
from core.admin_site import Headline, ReadOnlyAdmin, register
from core.buttons import Button, OfferedButton, offered, signed_in
from core.environments import EnvironmentBand
from core.links import page_url
from core.templatetags.portal import ago, human_duration, status
from operations import actions, housekeeping, locks, procedures, standing, whole_log
from operations.exceptions import OperationError
from operations.filters import EnvironmentKindFilter, ProcedureFilter, WentWrongFilter
from operations.forms import CancelForm, EvidenceForm, RetryForm, TakeOverForm
from operations.models import LogLine, Operation, OperationStep, Schedule, Slot, WorkerNode

State = Operation.State
# A page shows the end of a long log; the whole log is one link away.
LOG_TAIL = 300
SLOT_TAIL = 50


def _controllable(*states: str) -> Any:
    def visible(request: HttpRequest, operation: Operation) -> bool:
        return operation.state in states and actions.may_control(signed_in(request), operation)

    return visible


def _can_pause(request: HttpRequest, operation: Operation) -> bool:
    return (
        _controllable(State.QUEUED, State.RUNNING)(request, operation)
        and not operation.outcome
        and not operation.pause_requested
        and not operation.cancel_requested_at
    )


def _can_cancel(request: HttpRequest, operation: Operation) -> bool:
    return (
        _controllable(State.QUEUED, State.RUNNING, State.WAITING, State.PAUSED)(request, operation)
        and not operation.outcome
        and not operation.cancel_requested_at
    )


def _has_open_step(request: HttpRequest, operation: Operation) -> bool:
    return _controllable(State.PAUSED)(request, operation) and next_step(operation) is not None


def next_step(operation: Operation) -> OperationStep | None:
    """The step a paused operation stands before."""
    return operation.steps.unfinished().first()


def _pending_steps(operation: Operation) -> list[tuple[str, str]]:
    return [
        (step.name, step.title) for step in operation.steps.filter(state=OperationStep.State.PENDING).order_by("index")
    ]


def _mark_done(request: HttpRequest, operation: Operation, data: dict[str, Any], key: str) -> Operation:
    return actions.mark_done(operation, data["step"], by=signed_in(request), evidence=data["evidence"])


def _evidence_form(request: HttpRequest, operation: Operation) -> dict[str, Any]:
    step = next_step(operation)
    return {"step": step.name if step else "", "title": step.title if step else ""}


@register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    """Everything the portal was asked to do, and how far it is."""

    nav, nav_label, nav_icon = ("Watch", 10), "Operations", "zap"
    list_help = "Everything the portal was asked to do: by a click, a schedule or a command."
    list_empty = "Nothing was asked for yet. Press “Back up now” on a backup plan, and it appears here."
    list_display = ("shown_state", "title", "environment", "asked_by", "asked", "took")
    list_display_links = ("title",)
    phone_columns = ("title", "shown_state", "asked")
    list_filter = (WentWrongFilter, "state", ProcedureFilter, "trigger", EnvironmentKindFilter)
    search_fields = ("title", "message", "reason")
    list_select_related = ("requested_by",)
    detail_template = "operations/operation_detail.html"
    live_template = "operations/operation_live.html"
    buttons = [
        Button(
            "continue",
            "Continue",
            "operations.control_operation",
            run=lambda request, operation, data, key: actions.resume(operation, by=signed_in(request)),
            consequence="The portal goes on with the next step.",
            visible=_controllable(State.PAUSED),
            primary=True,
            icon="play",
        ),
        Button(
            "mark_done",
            "Mark step done by hand",
            "operations.control_operation",
            run=_mark_done,
            form=EvidenceForm,
            form_kwargs=_evidence_form,
            consequence="The portal takes the step as done and does not run it. It stays paused until you continue.",
            visible=_has_open_step,
            icon="hand",
        ),
        Button(
            "retry",
            "Retry",
            "operations.control_operation",
            run=lambda request, operation, data, key: actions.retry(
                operation,
                by=signed_in(request),
                reason=data["reason"],
                key=key,
                typed_name=data.get("typed_name", ""),
            ),
            form=RetryForm,
            form_kwargs=lambda request, operation: {"expected": _typed_name(operation)},
            consequence="The same thing is asked for again, as a new operation.",
            visible=_controllable(State.FAILED, State.ERRORED, State.CANCELLED),
            icon="refresh",
        ),
        Button(
            "take_over",
            "Take over",
            "operations.control_operation",
            run=lambda request, operation, data, key: actions.pause(
                operation, by=signed_in(request), before=data["step"]
            ),
            form=TakeOverForm,
            form_kwargs=lambda request, operation: {"steps": _pending_steps(operation)},
            consequence="The operation stops before the step and waits for you. Its locks stay held.",
            visible=_can_pause,
            icon="hand",
        ),
        Button(
            "cancel",
            "Cancel",
            "operations.control_operation",
            run=lambda request, operation, data, key: actions.cancel(
                operation, by=signed_in(request), reason=data["reason"]
            ),
            form=CancelForm,
            consequence="The step at work is stopped, and what was done is undone.",
            visible=_can_cancel,
            danger=True,
            icon="x",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Operation]:
        return super().get_queryset(request).defer("params", "data", "result", "traceback")

    def get_urls(self) -> list[Any]:
        log = self.admin_site.admin_view(self.log_view)
        return [path("<path:object_id>/log/", log, name="operations_operation_log"), *super().get_urls()]

    def log_view(self, request: HttpRequest, object_id: str) -> StreamingHttpResponse:
        """The whole log as plain text."""
        return whole_log.response(self.visible_object(request, object_id))

    def headline(self, request: HttpRequest, obj: Operation) -> Headline:
        return Headline(obj.status, obj.state_word, obj.message)

    def is_final(self, obj: Operation) -> bool:
        return obj.is_final

    def environment_of(self, obj: Operation) -> EnvironmentBand | None:
        if not obj.environment_label:
            return None
        return EnvironmentBand(obj.environment_label, obj.environment_kind)

    def detail_context(self, request: HttpRequest, obj: Operation) -> dict[str, Any]:
        lines = list(LogLine.objects.filter(operation=obj).order_by("-pk")[: LOG_TAIL + 1])
        steps = list(obj.steps.in_order().select_related("done_by"))
        subject = _subject(obj)
        return {
            "operation": obj,
            "buttons": offered(self.buttons, request, obj) + self._following(request, obj, subject),
            "steps": steps,
            "current_step": next((step for step in steps if step.status == "running"), None),
            "lines": list(reversed(lines[:LOG_TAIL])),
            "log_truncated": len(lines) > LOG_TAIL,
            "log_url": page_url(obj, "log"),
            "log_removed": housekeeping.has_lost_log(obj),
            "subject": subject,
            "children": obj.children.all(),
            "waiting_for": _waiting_for(obj),
            "kind": _kind(obj),
        }

    def _following(self, request: HttpRequest, obj: Operation, subject: Model | None) -> list[OfferedButton]:
        """What may be done next with what the ended operation worked on, such as undoing a restore."""
        if subject is None or not obj.is_final:
            return []
        owner = self.admin_site.get_model_admin(type(subject))
        if not owner.has_view_permission(request, subject):
            return []
        buttons = owner.get_buttons(request, subject)  # type: ignore[attr-defined]  # every admin here is a PortalAdmin
        return offered([button for button in buttons if button.follows], request, subject)

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Operation) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Environment", ordering="environment_label")
    def environment(self, obj: Operation) -> str:
        return obj.environment_label or "–"

    @admin.display(description="Asked by", ordering="requested_by")
    def asked_by(self, obj: Operation) -> str:
        return str(obj.requested_by) if obj.requested_by else Operation.Trigger(obj.trigger).label

    @admin.display(description="Asked", ordering="requested_at")
    def asked(self, obj: Operation) -> SafeString | str:
        return ago(obj.requested_at)

    @admin.display(description="Took")
    def took(self, obj: Operation) -> str:
        return human_duration(obj.duration) if obj.duration is not None else "–"


def _kind(operation: Operation) -> str:
    try:
        return procedures.get(operation.procedure).title
    except (OperationError, ObjectDoesNotExist):
        return operation.procedure


def _typed_name(operation: Operation) -> str:
    """What has to be typed before the operation is asked for again."""
    try:
        return procedures.get(operation.procedure)(operation).typed_name
    except (OperationError, ObjectDoesNotExist):
        return ""


def _subject(operation: Operation) -> Model | None:
    """What the operation works on; None when this version does not know its procedure or the thing is gone."""
    try:
        return procedures.get(operation.procedure)(operation).subject
    except (OperationError, ObjectDoesNotExist):
        return None


def _waiting_for(operation: Operation) -> str:
    """Why a queued operation does not start, in a sentence; empty when it may start any moment."""
    if operation.state != State.QUEUED:
        return ""
    holder = locks.holder_of(operation)
    if holder is not None:
        return f"Waits for {holder}, which is working on the same thing."
    if not WorkerNode.objects.serving(operation.queue).exists():
        return f"Queued, but no live worker serves the queue “{operation.queue}”. Start one."
    return ""


@register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    """When things recur. A schedule is changed where it belongs: on its plan."""

    nav, nav_label, nav_icon = ("Prepare", 20), "Schedules", "calendar"
    list_help = "Each moment of a schedule gets exactly one decision. Change a schedule on the plan it belongs to."
    list_empty = "Give a backup plan a schedule, and it appears here."
    list_display = ("name", "shown_cron", "zone", "next", "enabled", "misfire")
    phone_columns = ("name", "next")
    list_filter = ("enabled",)
    search_fields = ("name",)
    list_select_related = ("crontab",)
    detail_template = "operations/schedule_detail.html"

    def get_buttons(self, request: HttpRequest, obj: Model) -> list[Button]:
        entry = standing.of(obj) if isinstance(obj, Schedule) else None
        if entry is None:
            return []
        return [
            Button(
                "run_now",
                "Run now",
                entry.permission,
                run=lambda request, schedule, data, key: entry.request(
                    by=signed_in(request), trigger=Operation.Trigger.CLICK, key=key
                ),
                consequence=lambda schedule: entry.preview(),
                primary=True,
                icon="play",
            )
        ]

    def headline(self, request: HttpRequest, obj: Schedule) -> Headline:
        if not obj.enabled:
            return Headline("neutral", "Switched off", "Nothing is started until it is switched on.")
        return Headline("ok", "Switched on", f"Missed slots: {obj.get_misfire_display().lower()}.")

    def detail_context(self, request: HttpRequest, obj: Schedule) -> dict[str, Any]:
        return {
            "schedule": obj,
            "cron": _cron(obj),
            "slots": obj.slots.latest_first().select_related("operation")[:SLOT_TAIL],
        }

    @admin.display(description="When")
    def shown_cron(self, obj: Schedule) -> SafeString:
        return format_html("<code>{}</code>", _cron(obj))

    @admin.display(description="Zone")
    def zone(self, obj: Schedule) -> str:
        return str(obj.crontab.timezone)

    @admin.display(description="Next")
    def next(self, obj: Schedule) -> SafeString | str:
        return ago(obj.next_slot)


def _cron(schedule: Schedule) -> str:
    crontab = schedule.crontab
    return f"{crontab.minute} {crontab.hour} {crontab.day_of_month} {crontab.month_of_year} {crontab.day_of_week}"


@register(Slot)
class SlotAdmin(ReadOnlyAdmin):
    """Every decision about every due moment."""

    nav, nav_label, nav_icon = ("Watch", 40), "Schedule decisions", "clock"
    list_help = "What became of every scheduled moment, and why."
    list_empty = "No scheduled moment was due yet. Each gets one line here, with what became of it."
    list_display = ("shown_decision", "schedule", "due", "late", "message")
    list_display_links = ("schedule",)
    phone_columns = ("schedule", "shown_decision", "due")
    list_filter = ("decision", "schedule")
    list_select_related = ("schedule", "operation")

    @admin.display(description="Decision", ordering="decision")
    def shown_decision(self, obj: Slot) -> SafeString:
        kinds = {"started": "ok", "merged": "neutral", "too_late": "warn", "refused": "bad"}
        return status(kinds[obj.decision], obj.get_decision_display())

    @admin.display(description="Due", ordering="at")
    def due(self, obj: Slot) -> SafeString | str:
        return ago(obj.at)

    @admin.display(description="Decided after")
    def late(self, obj: Slot) -> str:
        return human_duration(obj.lateness)
