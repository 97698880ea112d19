"""Screens of plans, archives, restores and storages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.safestring import SafeString

from backups import actions, loss, retention, trends
from backups.forms import BackUpForm, PlanForm, RestoreForm
from backups.models import Archive, Plan, Restore, Storage
from catalog.models import DatabaseTarget
from core.admin_site import Headline, PortalAdmin, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import Button
from core.exceptions import PortalError
from core.forms import OptionalReasonForm, TypedNameForm
from core.templatetags.portal import ago, filesize_si, human_duration, status
from operations import actions as operations
from operations.models import Operation

track(Plan)
track(Storage)
track(Archive, exclude=("manifest",))


def _dry_run(procedure: str, title: str, params: dict[str, Any]) -> dict[str, Any]:
    """The planned steps for a confirm page, or the sentence why they cannot be told."""
    try:
        return {"planned": operations.dry_run(procedure, title=title, params=params)}
    except PortalError as error:
        return {"planned_error": error.message}


def _restore_context(request: HttpRequest, archive: Archive) -> dict[str, Any]:
    expected = loss.preview(archive)
    return {
        "archive": archive,
        "loss": expected,
        "wizard_steps": ["Choose a restore point", "Review and confirm", "Watch"],
        "wizard_current": 2,
        **_dry_run("backups.restore", "Restore", {"archive": archive.pk, "into": archive.target.database}),
    }


@register(Storage)
class StorageAdmin(PortalAdmin):
    """Where archives are kept."""

    nav, nav_label, nav_icon = ("Configure", 50), "Storages", "box"
    list_display = ("name", "kind", "host", "root")
    list_select_related = ("host",)


@register(Plan)
class PlanAdmin(PortalAdmin):
    """What is backed up, when and where to."""

    nav, nav_label, nav_icon = ("Recover", 20), "Backup plans", "calendar"
    list_help = "What is backed up, when, and for how long it is kept."
    form = PlanForm
    list_display = ("name", "target", "shown_schedule", "newest", "retention")
    phone_columns = ("name", "newest")
    list_filter = ("storage",)
    search_fields = ("name", "target__name", "target__database")
    detail_template = "backups/plan_detail.html"
    buttons = [
        Button(
            "back_up",
            "Back up now",
            "backups.run_plan",
            run=lambda request, plan, data, key: actions.request_backup(
                plan, by=request.user, purpose=data["purpose"], reason=data["reason"], key=key
            ),
            form=BackUpForm,
            consequence=lambda plan: (
                f"{plan.target.address} is read and an archive is written to {plan.storage}. The database stays in use."
            ),
            context=lambda request, plan: _dry_run("backups.backup", "Back up", {"plan": plan.pk, "purpose": "manual"}),
            template="backups/dry_run_confirm.html",
            primary=True,
            icon="archive",
        ),
        Button(
            "prune",
            "Clean up …",
            "backups.prune_plan",
            run=lambda request, plan, data, key: actions.request_prune(
                plan, by=request.user, reason=data["reason"], key=key
            ),
            form=OptionalReasonForm,
            consequence="The archives marked below are removed for good. What goes is decided again when it runs.",
            context=lambda request, plan: {"verdicts": retention.judge(plan)},
            template="backups/prune_confirm.html",
            danger=True,
            icon="trash",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        return Plan.objects.with_place().with_newest()

    def save_model(self, request: HttpRequest, obj: Plan, form: ModelForm, change: bool) -> None:
        values = form.cleaned_data
        actions.save_plan(obj, cron=values["cron"], misfire=values["misfire"], enabled=values["enabled"])

    def headline(self, request: HttpRequest, obj: Plan) -> Headline:
        newest = obj.archives.restore_points().newest_first().first()
        rpo = obj.target.component.rpo
        if newest is None:
            return Headline("bad", "No restore point", "Nothing of this plan can be restored yet. Back up now.")
        age = retention.age_of(newest)
        sentence = f"The newest restore point is {human_duration(age)} old; RPO {human_duration(rpo)}."
        if rpo is None:
            return Headline("neutral", "No RPO set", sentence)
        return Headline("ok", "RPO met", sentence) if age < rpo else Headline("bad", "RPO missed", sentence)

    def detail_context(self, request: HttpRequest, obj: Plan) -> dict[str, Any]:
        archives = list(obj.archives.order_by("-requested_at").defer("manifest")[:30])
        return {
            "plan": obj,
            "archives": archives[:12],
            "trend": trends.of(archives),
            "cron": PlanForm(instance=obj).initial.get("cron", ""),
        }

    @admin.display(description="Schedule")
    def shown_schedule(self, obj: Plan) -> str:
        if obj.schedule is None or not obj.schedule.enabled:
            return "On demand"
        crontab = obj.schedule.crontab
        return (
            f"{crontab.minute} {crontab.hour} {crontab.day_of_month} {crontab.month_of_year} {crontab.day_of_week}"
            f" ({crontab.timezone})"
        )

    @admin.display(description="Newest restore point")
    def newest(self, obj: Plan) -> SafeString | str:
        return ago(obj.newest_at) if obj.newest_at else status("bad", "None")

    @admin.display(description="Kept")
    def retention(self, obj: Plan) -> str:
        parts = []
        if obj.keep_days:
            parts.append(f"{obj.keep_days} days")
        if obj.keep_last:
            parts.append(f"last {obj.keep_last}")
        return " and ".join(parts) or "Everything"


@register(Archive)
class ArchiveAdmin(ReadOnlyAdmin):
    """What came of the plans, and what may be restored."""

    nav, nav_label, nav_icon = ("Recover", 10), "Archives", "archive"
    list_help = "Every backup that was made. A verified one is a restore point."
    list_display = ("shown_state", "name_or_number", "target", "taken", "size", "took", "purpose")
    phone_columns = ("shown_state", "name_or_number", "taken", "size")
    list_filter = ("state", "verification", "purpose", "plan")
    search_fields = ("name", "reason", "target__name")
    detail_template = "backups/archive_detail.html"
    live_template = "backups/archive_live.html"
    buttons = [
        Button(
            "restore",
            "Restore …",
            "backups.restore_archive",
            run=lambda request, archive, data, key: actions.request_restore(
                archive,
                by=request.user,
                reason_kind=data["reason_kind"],
                reason=data["reason"],
                into=data["into"],
                typed_name=data["typed_name"],
                override_reason=data.get("override_reason", ""),
                key=key,
            ),
            form=RestoreForm,
            form_kwargs=lambda request, archive: {"archive": archive},
            consequence=lambda archive: (
                f"{archive.target.database} becomes what it was at "
                f"{archive.snapshot_at:%Y-%m-%d %H:%M} UTC. What was written since is no longer in it; the present database "
                "is kept aside, so that one click undoes the restore."
            ),
            context=_restore_context,
            template="backups/restore_confirm.html",
            visible=lambda request, archive: (
                archive.state == Archive.State.AVAILABLE and archive.verification != Archive.Verification.DAMAGED
            ),
            danger=True,
            primary=True,
            icon="restore",
        ),
        Button(
            "verify",
            "Verify now",
            "backups.verify_archive",
            run=lambda request, archive, data, key: actions.request_verify(archive, by=request.user, key=key),
            consequence="Every byte is read: checksums, full decode, row counts. The live database is not touched.",
            visible=lambda request, archive: archive.state == Archive.State.AVAILABLE,
            icon="check-circle",
        ),
        Button(
            "keep",
            "Keep for good",
            "backups.keep_archive",
            run=lambda request, archive, data, key: actions.set_keep(archive, keep=True),
            consequence="Retention will never remove this archive until somebody lets it go again.",
            visible=lambda request, archive: archive.state == Archive.State.AVAILABLE and not archive.keep,
            icon="lock",
        ),
        Button(
            "let_go",
            "Let go",
            "backups.keep_archive",
            run=lambda request, archive, data, key: actions.set_keep(archive, keep=False),
            consequence="Retention may remove this archive again when its time has come.",
            visible=lambda request, archive: archive.keep and archive.state == Archive.State.AVAILABLE,
            icon="lock",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Archive]:
        return Archive.objects.with_place().defer(
            "manifest", "operation__params", "operation__data", "operation__result", "operation__traceback"
        )

    def get_urls(self) -> list[Any]:
        picker = path("restore/", self.admin_site.admin_view(self.pick_view), name="backups_restore_pick")
        return [picker, *super().get_urls()]

    def pick_view(self, request: HttpRequest) -> HttpResponse:
        """First page of the restore wizard: which database, which restore point."""
        if not request.user.has_perm("backups.restore_archive"):
            raise PermissionDenied("Your role does not allow restoring. Ask an operator.")
        targets = DatabaseTarget.objects.select_related("component__environment__service")
        chosen = targets.filter(pk=request.GET["target"]).first() if request.GET.get("target", "").isdigit() else None
        context = {
            **self.admin_site.each_context(request),
            "title": "Restore",
            "targets": targets,
            "chosen": chosen,
            "archives": Archive.objects.available().of(chosen).newest_first().with_place().defer("manifest")[:60]
            if chosen
            else [],
            "wizard_steps": ["Choose a restore point", "Review and confirm", "Watch"],
            "wizard_current": 1,
        }
        if chosen is not None:
            context["environment_band"] = chosen.environment_band
        return TemplateResponse(request, "backups/restore_pick.html", context)

    def headline(self, request: HttpRequest, obj: Archive) -> Headline:
        sentence = obj.verification_message
        if obj.state in (Archive.State.FAILED, Archive.State.CREATING):
            sentence = obj.operation.message
        return Headline(obj.status, obj.state_word, sentence)

    def is_final(self, obj: Archive) -> bool:
        return not Operation.objects.active().filter(locks__key=retention.archive_lock(obj.pk)).exists() and (
            obj.operation.is_final
        )

    def detail_context(self, request: HttpRequest, obj: Archive) -> dict[str, Any]:
        manifest = obj.manifest or {}
        tables = sorted(manifest.get("tables", []), key=lambda table: -table["rows"])
        return {
            "archive": obj,
            "tables": tables,
            "files": manifest.get("files", []),
            "warning": obj.plan.warning_for(obj.duration),
            "restores": obj.restores.select_related("operation"),
            "operations": Operation.objects.filter(locks__key=retention.archive_lock(obj.pk)),
        }

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Archive) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Name", ordering="name")
    def name_or_number(self, obj: Archive) -> str:
        return str(obj)

    @admin.display(description="Data of", ordering="snapshot_at")
    def taken(self, obj: Archive) -> SafeString | str:
        return ago(obj.snapshot_at or obj.requested_at)

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, obj: Archive) -> str:
        return filesize_si(obj.size_bytes)

    @admin.display(description="Took", ordering="duration")
    def took(self, obj: Archive) -> str:
        return human_duration(obj.duration) if obj.duration else "–"


def _may_undo(request: HttpRequest, restore: Restore) -> bool:
    return restore.safety_copy == Restore.SafetyCopy.KEPT and restore.operation.is_final


def _may_drop(request: HttpRequest, restore: Restore) -> bool:
    kept = restore.safety_copy in (Restore.SafetyCopy.KEPT, Restore.SafetyCopy.PUT_BACK)
    return kept and bool(restore.safety_database) and restore.operation.is_final


@register(Restore)
class RestoreAdmin(ReadOnlyAdmin):
    """Every restore: why, what it replaced, how long it took."""

    nav, nav_label, nav_icon = ("Recover", 30), "Restores", "restore"
    list_help = "Every restore, timed against its target."
    list_display = ("shown_state", "archive", "into_database", "why", "asked", "shown_measured", "shown_rto")
    phone_columns = ("shown_state", "into_database", "asked", "shown_rto")
    list_filter = ("reason_kind", "safety_copy")
    search_fields = ("into_database", "reason", "archive__name")
    detail_template = "backups/restore_detail.html"
    live_template = "backups/restore_live.html"
    buttons = [
        Button(
            "undo",
            "Undo restore",
            "backups.undo_restore",
            run=lambda request, restore, data, key: actions.request_undo(
                restore, by=request.user, reason=data["reason"], key=key
            ),
            form=OptionalReasonForm,
            consequence=lambda restore: (
                f"{restore.into_database} becomes again what it was before the restore. The "
                "restored database is kept aside."
            ),
            context=lambda request, restore: _dry_run("backups.undo_restore", "Undo", {"restore": restore.pk}),
            template="backups/dry_run_confirm.html",
            visible=_may_undo,
            danger=True,
            icon="undo",
        ),
        Button(
            "drop",
            "Remove safety copy …",
            "backups.undo_restore",
            run=lambda request, restore, data, key: actions.request_drop_safety_copy(
                restore, by=request.user, reason=data["reason"], key=key
            ),
            form=TypedNameForm,
            form_kwargs=lambda request, restore: {"expected": restore.safety_database},
            consequence=lambda restore: (
                f"The database {restore.safety_database} is dropped for good; after that the restore cannot be undone."
            ),
            visible=_may_drop,
            danger=True,
            icon="trash",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Restore]:
        return Restore.objects.with_place()

    def headline(self, request: HttpRequest, obj: Restore) -> Headline:
        return Headline(obj.status, obj.state_word, obj.operation.message)

    def is_final(self, obj: Restore) -> bool:
        undoing = obj.undo_operation is not None and not obj.undo_operation.is_final
        return obj.operation.is_final and not undoing

    def detail_context(self, request: HttpRequest, obj: Restore) -> dict[str, Any]:
        shown = obj.undo_operation if obj.undo_operation and not obj.undo_operation.is_final else obj.operation
        return {
            "restore": obj,
            "operation": shown,
            "steps": list(shown.steps.in_order()),
            "loss": obj.expected_loss,
        }

    @admin.display(description="State")
    def shown_state(self, obj: Restore) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Why", ordering="reason_kind")
    def why(self, obj: Restore) -> str:
        return obj.get_reason_kind_display()

    @admin.display(description="Asked", ordering="requested_at")
    def asked(self, obj: Restore) -> SafeString | str:
        return ago(obj.requested_at)

    @admin.display(description="Took", ordering="measured")
    def shown_measured(self, obj: Restore) -> str:
        return human_duration(obj.measured) if obj.measured else "–"

    @admin.display(description="RTO")
    def shown_rto(self, obj: Restore) -> SafeString | str:
        if obj.rto is None:
            return "not set"
        if obj.rto_met is None:
            return human_duration(obj.rto)
        return status("ok", "Met") if obj.rto_met else status("bad", "Missed")
