"""Screens of restores."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from backups import actions
from backups.admin.dry_run import dry_run
from backups.models import Restore
from core.admin_site import Headline, ReadOnlyAdmin, register
from core.buttons import Button, signed_in
from core.forms import OptionalReasonForm, TypedNameForm
from core.templatetags.portal import ago, human_duration, status


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
    list_empty = "Nothing was restored yet. Each restore appears here with its reason and the time it took."
    list_display = ("shown_state", "into_database", "archive", "why", "asked", "shown_measured", "shown_rto")
    list_display_links = ("into_database",)
    phone_columns = ("into_database", "shown_state", "asked", "shown_rto")
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
                restore, by=signed_in(request), reason=data["reason"], key=key
            ),
            form=OptionalReasonForm,
            consequence=lambda restore: (
                f"{restore.into_database} becomes again what it was before the restore. The "
                "restored database is kept aside."
            ),
            context=lambda request, restore: dry_run("backups.undo_restore", "Undo", {"restore": restore.pk}),
            template="backups/dry_run_confirm.html",
            visible=_may_undo,
            follows=True,
            danger=True,
            icon="undo",
        ),
        Button(
            "drop",
            "Remove safety copy …",
            "backups.undo_restore",
            run=lambda request, restore, data, key: actions.request_drop_safety_copy(
                restore, by=signed_in(request), reason=data["reason"], key=key
            ),
            form=TypedNameForm,
            form_kwargs=lambda request, restore: {"expected": restore.safety_database},
            consequence=lambda restore: (
                f"The database {restore.safety_database} is dropped for good; "
                + ("it holds what had been restored." if restore.is_undone else "after that nothing can be undone.")
            ),
            context=lambda request, restore: dry_run(
                "backups.drop_safety_copy", "Remove the safety copy", {"restore": restore.pk}
            ),
            template="backups/dry_run_confirm.html",
            visible=_may_drop,
            danger=True,
            icon="trash",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Restore]:
        return Restore.objects.with_place()

    def headline(self, request: HttpRequest, obj: Restore) -> Headline:
        told_by = obj.undo_operation if obj.is_undone and obj.undo_operation else obj.operation
        return Headline(obj.status, obj.state_word, told_by.message)

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
