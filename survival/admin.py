"""Screens of the portal's own backups, its offline card and break-glass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.safestring import SafeString

from backups.admin.dry_run import dry_run
from core.admin_site import Headline, ReadOnlyAdmin, register
from core.audit import track
from core.buttons import Button, signed_in
from core.templatetags.portal import ago, filesize_si, status
from survival import actions, breakglass, health, recovery
from survival.forms import KeyKeptForm
from survival.models import BreakGlass, CardCopy, PortalBackup, SecondPlace

track(SecondPlace)
track(BreakGlass, exclude=("token_sha256",))

LATEST = 10


def _back_up() -> Button:
    return Button(
        "back_up",
        "Back up now",
        "survival.back_up_portal",
        run=lambda request, place, data, key: actions.request_backup(by=signed_in(request), key=key),
        consequence="The portal's database and secrets are sealed and put into the second place. Nothing stops.",
        context=lambda request, place: dry_run(actions.BACKUP, "Back up the portal", {}),
        template="backups/dry_run_confirm.html",
        icon="archive",
    )


@register(SecondPlace)
class SecondPlaceAdmin(ReadOnlyAdmin):
    """Where the portal's backups go and who has their key. One record; its list leads to it."""

    nav, nav_label, nav_icon = ("Recover", 50), "The portal itself", "shield"
    list_help = "Where the portal's own backups go, and whether their key is kept apart."
    list_empty = "The portal makes its first backup when its control worker starts. Start the workers."
    list_display = ("__str__", "recipient", "key_kept_where")
    detail_template = "survival/second_place.html"
    buttons = [
        Button(
            "confirm_key",
            "Confirm the key",
            "survival.confirm_key",
            run=lambda request, place, data, key: actions.confirm_key(
                place, where=data["where"], by=signed_in(request)
            ),
            form=KeyKeptForm,
            consequence=lambda place: _confirm_sentence(place),
            visible=lambda request, place: bool(place.recipient) and not place.key_is_apart,
            primary=True,
            done="Confirmed. The offline card says where the key is.",
            icon="lock",
        ),
        _back_up(),
    ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        place = SecondPlace.objects.filter(pk=1).first()
        if place is not None and self.has_view_permission(request):
            return HttpResponseRedirect(place.get_absolute_url())
        return super().changelist_view(request, extra_context)

    def headline(self, request: HttpRequest, obj: SecondPlace) -> Headline:
        items = health.look(("portal-backup", "portal-key", "offline-card"))
        worst = max(items, key=lambda each: (health.OK, health.WARN, health.BAD).index(each.finding.state))
        words = {health.OK: "In order", health.WARN: "Needs you", health.BAD: "Not safe"}
        return Headline(worst.finding.state, words[worst.finding.state], worst.finding.sentence)

    def detail_context(self, request: HttpRequest, obj: SecondPlace) -> dict[str, Any]:
        return {
            "place": obj,
            "folder": settings.PORTAL_BACKUP_DIR,
            "keep_days": settings.PORTAL_BACKUP_KEEP_DAYS,
            "keep_last": settings.PORTAL_BACKUP_KEEP_LAST,
            "backups": PortalBackup.objects.newest_first().select_related("operation")[:LATEST],
            "copies": CardCopy.objects.all(),
            "recovery": recovery.EMBEDDED,
            "key_lies_here": bool(obj.identity_path) and _exists(obj.identity_path),
        }


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        return False


def _confirm_sentence(place: SecondPlace) -> str:
    if place.identity_path and _exists(place.identity_path):
        return (
            f"Copy {place.identity_path} to a place that survives this machine. Remove it here, or leave it for the "
            "daily check that opens each backup. Without the key no backup of the portal can be opened."
        )
    return "Whoever confirms knows where the key is. Without it no backup of the portal can be opened."


@register(PortalBackup)
class PortalBackupAdmin(ReadOnlyAdmin):
    """Every backup of the portal itself."""

    nav_label = "Portal backups"
    list_help = "Backups of the portal itself: one sealed file each, in the second place."
    list_empty = "The first backup is made when the control worker starts."
    list_display = ("shown_state", "name", "made", "size", "folder")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "made")
    list_filter = ("state", "verification")
    detail_fields = ("folder", "name", "made_at", "size_bytes", "sha256", "recipient", "portal_version", "operation")

    def headline(self, request: HttpRequest, obj: PortalBackup) -> Headline:
        return Headline(obj.status, obj.state_word, obj.message)

    @admin.display(description="State")
    def shown_state(self, obj: PortalBackup) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Made", ordering="made_at")
    def made(self, obj: PortalBackup) -> SafeString | str:
        return ago(obj.made_at)

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, obj: PortalBackup) -> str:
        return filesize_si(obj.size_bytes)


@register(CardCopy)
class CardCopyAdmin(ReadOnlyAdmin):
    """Where the offline card lies."""

    nav, nav_label, nav_icon = ("Recover", 60), "Offline card", "book"
    list_help = "What helps when the portal is down: newest archives, where they are, the commands to restore them."
    list_empty = "The card is written by the control worker. Start it."
    list_display = ("shown_state", "place", "written", "error")
    list_display_links = ("place",)
    phone_columns = ("place", "shown_state", "written")

    @admin.display(description="State")
    def shown_state(self, obj: CardCopy) -> SafeString:
        if obj.error:
            return status("bad", "Not written")
        return status("ok", "Written") if obj.written_at else status("neutral", "Waiting")

    @admin.display(description="Written", ordering="written_at")
    def written(self, obj: CardCopy) -> SafeString | str:
        return ago(obj.written_at)


@register(BreakGlass)
class BreakGlassAdmin(ReadOnlyAdmin):
    """Every time the glass was broken."""

    nav, nav_label, nav_icon = ("Watch", 60), "Break-glass", "alert"
    list_help = "Administrator sessions that were opened from the portal's host, because nobody could sign in."
    list_empty = "The glass was never broken. The operations guide says how, for the night when nobody can sign in."
    list_display = ("shown_state", "name", "reason", "issued", "used_from", "until")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "issued")
    search_fields = ("name", "reason")
    detail_fields = (
        "name",
        "account",
        "reason",
        "minutes",
        "issued_at",
        "link_expires_at",
        "used_at",
        "used_from",
        "expires_at",
        "ended_at",
    )
    buttons = [
        Button(
            "end",
            "End access",
            "survival.end_breakglass",
            run=lambda request, access, data, key: breakglass.end(access),
            consequence="The link or the session ends at once.",
            visible=lambda request, access: access.is_open or access.is_waiting,
            danger=True,
            done="Ended.",
            icon="x",
        )
    ]

    def headline(self, request: HttpRequest, obj: BreakGlass) -> Headline:
        return Headline(obj.status, obj.state_word, obj.reason)

    @admin.display(description="State")
    def shown_state(self, obj: BreakGlass) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Issued", ordering="issued_at")
    def issued(self, obj: BreakGlass) -> SafeString | str:
        return ago(obj.issued_at)

    @admin.display(description="Session until", ordering="expires_at")
    def until(self, obj: BreakGlass) -> SafeString | str:
        return ago(obj.ended_at or obj.expires_at)
