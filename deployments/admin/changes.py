"""Screens of the changes that are no deployment: restarts, scaling, settings, clean-ups."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from catalog.admin.inventory import EnvironmentKind
from core.admin_site import Headline, ReadOnlyAdmin, register
from core.buttons import Button, signed_in
from core.forms import ReasonForm
from core.templatetags.portal import ago, status
from deployments.actions import changing
from deployments.models import ConfigurationChange

BUTTONS = [
    Button(
        "take_back",
        "Take back …",
        "deployments.control_service",
        run=lambda request, change, data, key: changing.request_take_back(
            change, by=signed_in(request), reason=data["reason"], key=key
        ),
        form=ReasonForm,
        consequence=lambda change: (
            f"{change.name or 'The number of copies'} in {change.environment} goes back from {change.new or 'not set'} "
            f"to {change.old or 'not set'}. That is recorded as a change of its own."
        ),
        visible=lambda request, change: not changing.why_not_taken_back(change),
        icon="undo",
    ),
]


@register(ConfigurationChange)
class ConfigurationChangeAdmin(ReadOnlyAdmin):
    """What was changed, what it was before, who did it and why."""

    nav, nav_label, nav_icon = ("Release", 40), "Changes", "edit"
    list_help = "Restarts, scaling, settings and clean-ups: what it was, what it is, who and why."
    list_empty = "Nothing was changed yet. Restart, scale or set something on the page of an environment."
    list_display = ("shown_state", "what", "environment", "shown_reason", "by", "when")
    list_display_links = ("what",)
    phone_columns = ("what", "shown_state", "environment", "when")
    list_filter = ("kind", ("environment__kind", EnvironmentKind))
    search_fields = ("name", "old", "new", "reason", "environment__name", "environment__service__name")
    date_hierarchy = "at"
    detail_template = "deployments/change_detail.html"
    live_template = "core/partials/live_headline.html"
    buttons = BUTTONS

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
