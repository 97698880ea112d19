"""The page of the events: what has happened, newest first."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin_site import Headline, ReadOnlyAdmin, register
from core.templatetags.portal import ago
from operations import events
from operations.models import Event


def _flat(data: dict[str, Any], start: str = "") -> dict[str, Any]:
    """Values by their path, such as `result.bytes`."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{start}{name}.")
        else:
            found[f"{start}{name}"] = "–" if value is None or value == "" else value
    return found


@register(Event)
class EventAdmin(ReadOnlyAdmin):
    """News of the portal."""

    nav, nav_label, nav_icon = ("Watch", 40), "Events", "history"
    list_help = "What has happened, as webhooks tell it to other systems."
    list_empty = "Nothing has happened yet. The end of every operation appears here."
    list_display = ("name", "shown_sentence", "when")
    phone_columns = ("name", "shown_sentence", "when")
    list_filter = ("name",)
    search_fields = ("sentence",)
    date_hierarchy = "at"
    detail_fields = ("name", "at", "sentence", "subject_type", "subject_id", "url", "data")

    def headline(self, request: HttpRequest, obj: Event) -> Headline:
        return Headline("neutral", events.NAMES.get(obj.name, obj.name), obj.sentence)

    def facts(self, request: HttpRequest, obj: Event) -> list[tuple[str, Any]]:
        about = format_html('<a href="{}">{} {}</a>', obj.url, obj.subject_type, obj.subject_id) if obj.url else "–"
        return [("When", ago(obj.at)), ("About", about), *sorted(_flat(obj.data).items())]

    @admin.display(description="What", ordering="sentence")
    def shown_sentence(self, obj: Event) -> str:
        return obj.sentence

    @admin.display(description="When", ordering="at")
    def when(self, obj: Event) -> SafeString | str:
        return ago(obj.at)
