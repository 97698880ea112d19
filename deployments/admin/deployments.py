"""Screens of deployments and rollbacks: the list, and the page from which one is settled, started and watched."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from backups.admin.dry_run import dry_run
from catalog.admin.inventory import EnvironmentKind
from core.admin_site import Headline, MoreLink, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import Button, signed_in
from core.forms import OptionalReasonForm
from core.templatetags.portal import ago, human_duration, status
from deployments import gates, shown
from deployments.actions import requesting
from deployments.admin.going_back import live_row, may_go_back, roll_back_button, running_in
from deployments.forms import ApproveForm, GateForm, RefuseForm, ReviewForm
from deployments.models import Approval, Deployment, Gate
from operations.models import LogLine

State = Deployment.State
LOG_TAIL = 40
HEADLINE = ("start", "approve", "refuse", "withdraw", "review")
# In these *Roll back …* stands apart, large; in the others among the buttons.
STANDS_APART = (*Deployment.ACTIVE, State.SUSPECT)


def gates_of(deployment: Deployment) -> list[Gate]:
    """Its checklist; while it waits, as the portal finds it now. Nothing is written."""
    if "_gates" not in deployment.__dict__:
        waits = deployment.state == State.WAITING
        found = gates.checked(deployment, timezone.now()) if waits else list(deployment.gates.select_related("by"))
        deployment.__dict__["_gates"] = found
    known: list[Gate] = deployment.__dict__["_gates"]
    return known


def kept_of(deployment: Deployment) -> list[str]:
    """What keeps it from going on, in sentences; asked once a page."""
    if "_kept" not in deployment.__dict__:
        waits = deployment.state == State.WAITING
        deployment.__dict__["_kept"] = gates.obstacles(deployment, timezone.now()) if waits else []
    known: list[str] = deployment.__dict__["_kept"]
    return known


def approvals_of(deployment: Deployment) -> list[Approval]:
    if "_approvals" not in deployment.__dict__:
        found = list(deployment.approvals.select_related("by"))
        for each in found:
            each.deployment = deployment
        deployment.__dict__["_approvals"] = found
    known: list[Approval] = deployment.__dict__["_approvals"]
    return known


def _waits(request: HttpRequest, row: Deployment) -> bool:
    return row.state == State.WAITING


def _may_start(request: HttpRequest, row: Deployment) -> bool:
    due = row.not_before is None or row.not_before <= timezone.now()
    return row.state == State.WAITING and due and not kept_of(row)


def _may_approve(request: HttpRequest, row: Deployment) -> bool:
    me, now = signed_in(request), timezone.now()
    given = any(each.by_id == me.pk and each.counts(now) for each in approvals_of(row))
    return row.state == State.WAITING and row.requested_by_id != me.pk and not given


def _may_refuse(request: HttpRequest, row: Deployment) -> bool:
    me = signed_in(request)
    refused = any(each.by_id == me.pk and not each.granted for each in approvals_of(row))
    return row.state == State.WAITING and row.requested_by_id != me.pk and not refused


def _may_review(request: HttpRequest, row: Deployment) -> bool:
    due = row.review_needed and row.reviewed_at is None and row.is_final
    return due and row.requested_by_id != signed_in(request).pk


def _may_roll_back(request: HttpRequest, row: Deployment) -> bool:
    """While it is at work, or while it is what is live."""
    live = live_row(row)
    if live is None:
        return False
    running = running_in(live)
    concerns = running.pk == row.pk if running is not None else live.deployment_id == row.pk
    return concerns and may_go_back(live)


def _decide(granted: bool, request: HttpRequest, row: Deployment, data: dict[str, Any], key: str) -> None:
    requesting.decide(row, granted=granted, note=data["note"], by=signed_in(request))


def _settle(gate: Gate, passed: bool, request: HttpRequest, row: Deployment, data: dict[str, Any], key: str) -> None:
    requesting.confirm_gate(gate, passed=passed, evidence=data["evidence"], by=signed_in(request))


def _approval_context(request: HttpRequest, row: Deployment) -> dict[str, Any]:
    return {"deployment": row, "gates": gates_of(row)}


BUTTONS = [
    Button(
        "start",
        "Start …",
        "deployments.run_deployment",
        run=lambda request, row, data, key: requesting.start(row, by=signed_in(request)),
        consequence=lambda row: (
            f"{row.release.version} is brought to {row.environment} now. Gates and approvals are looked at once more, "
            "also at the switch."
        ),
        context=lambda request, row: dry_run("deployments.deploy", "Deploy", {"deployment": row.pk}),
        template="deployments/start_confirm.html",
        visible=_may_start,
        primary=True,
        icon="play",
    ),
    Button(
        "approve",
        "Approve …",
        "deployments.approve_deployment",
        run=partial(_decide, True),
        form=ApproveForm,
        consequence=lambda row: f"Your word counts for exactly this artefact: {row.fingerprint}",
        context=_approval_context,
        template="deployments/approve_confirm.html",
        visible=_may_approve,
        primary=True,
        icon="check",
    ),
    Button(
        "refuse",
        "Refuse …",
        "deployments.approve_deployment",
        run=partial(_decide, False),
        form=RefuseForm,
        consequence="Your refusal stops it until you approve it or it is asked for again.",
        context=_approval_context,
        template="deployments/approve_confirm.html",
        visible=_may_refuse,
        danger=True,
        icon="x",
    ),
    Button(
        "withdraw",
        "Withdraw …",
        "deployments.run_deployment",
        run=lambda request, row, data, key: requesting.cancel(row, reason=data["reason"], by=signed_in(request)),
        form=OptionalReasonForm,
        consequence="It will not be started. What is live stays live.",
        visible=_waits,
        danger=True,
        icon="x-circle",
    ),
    roll_back_button(_may_roll_back),
    Button(
        "review",
        "Review …",
        "deployments.review_deployment",
        run=lambda request, row, data, key: requesting.review(row, note=data["note"], by=signed_in(request)),
        form=ReviewForm,
        consequence="What you found stays with the deployment under your name.",
        visible=_may_review,
        icon="eye",
    ),
]


def _gate_buttons(gate: Gate) -> list[Button]:
    """The two words that a person may have on one manual item."""
    return [
        Button(
            f"{word}-{gate.pk}",
            label,
            "deployments.request_deployment",
            run=partial(_settle, gate, passed),
            form=GateForm,
            consequence=f"“{gate.text}”: {consequence}",
            visible=_waits,
            danger=not passed,
            icon=icon,
        )
        for word, label, passed, icon, consequence in (
            ("confirm", "Confirm …", True, "check", "you say that it is settled, and what shows it."),
            ("fail", "Does not hold …", False, "x", "you say that it is not settled, and what shows it."),
        )
    ]


@register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    """Every deployment and every rollback: what it waited for, how it went, how long it took."""

    nav, nav_label, nav_icon = ("Release", 20), "Deployments", "rocket"
    list_help = "Every deployment and rollback, with what it waits for and what came of it."
    list_empty = "Nothing was deployed yet. Open an environment on the board and press “Deploy”."
    list_display = ("shown_state", "version", "environment", "shown_kind", "asked_by", "asked", "shown_took", "flags")
    list_display_links = ("version",)
    phone_columns = ("version", "shown_state", "environment", "asked")
    list_filter = ("state", "kind", ("environment__kind", EnvironmentKind), "emergency", "review_needed")
    search_fields = ("release__version", "environment__name", "environment__service__name", "reason", "incident")
    date_hierarchy = "requested_at"
    detail_template = "deployments/deployment_detail.html"
    live_template = "deployments/deployment_live.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return Deployment.objects.with_place().select_related("archive", "reviewed_by", "release__service")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Deployment | None:
        rows = self.get_queryset(request).prefetch_related(
            Prefetch("rollbacks", Deployment.objects.select_related("release", "requested_by"))
        )
        known = object_id.isdecimal() and len(object_id) < 19
        return rows.filter(pk=object_id).first() if known else None

    def get_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        manual = [gate for gate in gates_of(obj) if gate.is_manual] if obj.state == State.WAITING else []
        return [*BUTTONS, *(button for gate in manual for button in _gate_buttons(gate))]

    # -- page ----------------------------------------------------------------------------------------------------------

    def headline(self, request: HttpRequest, obj: Deployment) -> Headline:
        if obj.state == State.WAITING:
            return Headline(*self._waiting(obj))
        return Headline(obj.status, obj.state_word, obj.message)

    def _waiting(self, obj: Deployment) -> tuple[str, str, str]:
        if kept_of(obj):
            return "warn", "Waiting", "It cannot start yet. What keeps it stands below."
        if obj.not_before is not None and obj.not_before > timezone.now():
            return "neutral", "Scheduled", "Nothing keeps it; it starts by itself when its time has come."
        if obj.starts_itself:
            return "running", "About to start", "Nothing keeps it; it starts by itself within seconds."
        return "ok", "Ready", "Nothing keeps it. Start it."

    def is_final(self, obj: Deployment) -> bool:
        return obj.is_final

    def full_context(self, request: HttpRequest, obj: Deployment) -> dict[str, Any]:
        context = super().full_context(request, obj)
        acts = {each.name: each for each in context["buttons"]}
        beside = () if obj.state in STANDS_APART else ("roll_back",)
        return {
            **context,
            "buttons": [each for each in context["buttons"] if each.name in HEADLINE or each.name in beside],
            "acts": acts,
            "go_back": None if beside else acts.get("roll_back"),
            "checklist": [
                (gate, acts.get(f"confirm-{gate.pk}"), acts.get(f"fail-{gate.pk}")) for gate in gates_of(obj)
            ],
        }

    def more_links(self, request: HttpRequest, obj: Deployment) -> list[MoreLink]:
        live = live_row(obj)
        links = [MoreLink("Release", obj.release.get_absolute_url(), "box")]
        if live is not None:
            links.append(MoreLink("Environment", live.get_absolute_url(), "layers"))
        return links

    def detail_context(self, request: HttpRequest, obj: Deployment) -> dict[str, Any]:
        live, operation, now = live_row(obj), obj.operation, timezone.now()
        lines = list(LogLine.objects.filter(operation=operation).order_by("-pk")[:LOG_TAIL]) if operation else []
        # Once it has begun, it is what counted then that matters.
        approvals = [(each, each.counts(obj.started_at or now)) for each in approvals_of(obj)]
        return {
            "deployment": obj,
            "live": live,
            "kept": kept_of(obj),
            "approvals": approvals,
            "given": sum(counts and each.by_id != obj.requested_by_id for each, counts in approvals),
            "operation": operation,
            "steps": list(operation.steps.in_order()) if operation is not None else [],
            "lines": list(reversed(lines)),
            "log_url": reverse("admin:operations_operation_log", args=(operation.pk,)) if operation is not None else "",
            "instances": shown.copies(live),
            "raw": shown.raw(obj.frozen),
        }

    # -- list ----------------------------------------------------------------------------------------------------------

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Deployment) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Release", ordering="release__version")
    def version(self, obj: Deployment) -> str:
        return obj.release.version

    @admin.display(description="Kind", ordering="kind")
    def shown_kind(self, obj: Deployment) -> str:
        return obj.get_kind_display()

    @admin.display(description="Asked by", ordering="requested_by")
    def asked_by(self, obj: Deployment) -> str:
        return str(obj.requested_by or ("The portal" if obj.automatic else obj.get_trigger_display()))

    @admin.display(description="Asked", ordering="requested_at")
    def asked(self, obj: Deployment) -> SafeString | str:
        return ago(obj.requested_at)

    @admin.display(description="Took")
    def shown_took(self, obj: Deployment) -> str:
        return human_duration(obj.took) if obj.took is not None else "–"

    @admin.display(description="Flags")
    def flags(self, obj: Deployment) -> str:
        words = [("Emergency", obj.emergency), ("Solo", obj.solo), ("By itself", obj.automatic)]
        words.append(("To review", obj.review_needed and obj.reviewed_at is None))
        return ", ".join(word for word, holds in words if holds) or "–"


track(Deployment, exclude=("checks", "frozen"))
