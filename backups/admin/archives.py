"""Screens of archives, and the wizard that restores one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString

from backups import actions, loss, retention
from backups.admin.dry_run import dry_run
from backups.forms import RestoreForm
from backups.models import Archive
from catalog.models import DatabaseTarget
from core.admin_site import Headline, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import Button, signed_in
from core.templatetags.portal import absolute_time, ago, filesize_si, human_duration, status
from operations.models import Operation

track(Archive, exclude=("manifest",))


def _restore_context(request: HttpRequest, archive: Archive) -> dict[str, Any]:
    expected = loss.preview(archive)
    return {
        "archive": archive,
        "loss": expected,
        "wizard_steps": ["Choose a restore point", "Review and confirm", "Watch"],
        "wizard_current": 2,
        **dry_run("backups.restore", "Restore", {"archive": archive.pk, "into": archive.target.database}),
    }


def _tables(archive: Archive) -> list[dict[str, Any]]:
    """The tables of the archive, those with most rows first."""
    return sorted((archive.manifest or {}).get("tables", []), key=lambda table: -table["rows"])


@register(Archive)
class ArchiveAdmin(ReadOnlyAdmin):
    """What came of the plans, and what may be restored."""

    nav, nav_label, nav_icon = ("Recover", 10), "Archives", "archive"
    list_help = "Every backup that was made. A verified one is a restore point."
    list_empty = "No backup was made yet. Open a backup plan and press “Back up now”."
    list_display = ("shown_state", "name_or_number", "target", "taken", "size", "took", "purpose")
    list_display_links = ("name_or_number",)
    phone_columns = ("name_or_number", "shown_state", "taken", "size")
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
                by=signed_in(request),
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
                f"{archive.target.database} becomes what it was at {absolute_time(archive.snapshot_at)}. What was "
                "written since is no longer in it; the present database is kept aside, so that one click undoes the "
                "restore."
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
            run=lambda request, archive, data, key: actions.request_verify(archive, by=signed_in(request), key=key),
            consequence="Every byte is read: checksums, full decode, row counts. The live database is not touched.",
            visible=lambda request, archive: archive.state in Archive.READABLE,
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
            "operation__params", "operation__data", "operation__result", "operation__traceback"
        )

    def get_urls(self) -> list[Any]:
        picker = path("restore/", self.admin_site.admin_view(self.pick_view), name="backups_restore_pick")
        return [picker, *super().get_urls()]

    def pick_view(self, request: HttpRequest) -> HttpResponse:
        """First page of the restore wizard: which database, which restore point."""
        if not request.user.has_perm("backups.restore_archive"):
            raise PermissionDenied("Your role does not allow restoring. Ask an operator.")
        targets = DatabaseTarget.objects.select_related("component__environment__service")
        number = request.GET.get("target", "")
        chosen = targets.filter(pk=number).first() if number.isdecimal() else None
        context = {
            **self.admin_site.each_context(request),
            "title": "Restore",
            "targets": targets,
            "chosen": chosen,
            "archives": Archive.objects.available().of(chosen).newest_first().with_place()[:60] if chosen else [],
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
        reading = Operation.objects.active().filter(locks__key=retention.archive_lock(obj.pk))
        return obj.operation.is_final and not reading.exists()

    def detail_context(self, request: HttpRequest, obj: Archive) -> dict[str, Any]:
        return {
            "archive": obj,
            # Read when they are drawn: the live part, asked for every second, draws neither.
            "tables": SimpleLazyObject(lambda: _tables(obj)),
            "files": SimpleLazyObject(lambda: (obj.manifest or {}).get("files", [])),
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
