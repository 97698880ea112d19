"""Screens of the changes that are no deployment: restarts, scaling, settings, clean-ups."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from core.admin_site import Headline, ReadOnlyAdmin, register
from core.templatetags.portal import ago, status
from deployments.models import ConfigurationChange


@register(ConfigurationChange)
class ConfigurationChangeAdmin(ReadOnlyAdmin):
    """What was changed, what it was before, who did it and why."""

    nav, nav_label, nav_icon = ("Release", 40), "Changes", "edit"
    list_help = "Restarts, scaling, settings and clean-ups: what it was, what it is, who and why."
    list_empty = "Nothing was changed yet. Restart, scale or set something on the page of an environment."
    list_display = ("shown_state", "what", "environment", "shown_reason", "by", "when")
    list_display_links = ("what",)
    phone_columns = ("what", "shown_state", "environment", "when")
    list_filter = ("kind", "environment__kind")
    search_fields = ("name", "old", "new", "reason", "environment__name", "environment__service__name")
    date_hierarchy = "at"
    detail_template = "deployments/change_detail.html"
    live_template = "core/partials/live_headline.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ConfigurationChange]:
        return ConfigurationChange.objects.with_place()

    def headline(self, request: HttpRequest, obj: ConfigurationChange) -> Headline:
        return Headline(obj.status, obj.state_word, obj.operation.message if obj.operation is not None else "")

    def is_final(self, obj: ConfigurationChange) -> bool:
        return obj.operation is None or obj.operation.is_final

    def detail_context(self, request: HttpRequest, obj: ConfigurationChange) -> dict[str, Any]:
        return {"change": obj}

    @admin.display(description="State")
    def shown_state(self, obj: ConfigurationChange) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Change", ordering="kind")
    def what(self, obj: ConfigurationChange) -> str:
        return str(obj)

    @admin.display(description="Reason", ordering="reason")
    def shown_reason(self, obj: ConfigurationChange) -> str:
        return obj.reason

    @admin.display(description="When", ordering="at")
    def when(self, obj: ConfigurationChange) -> SafeString | str:
        return ago(obj.at)
