"""Screens of action items. They are not in the audit trail: it would name what confidential incidents are about. Who
added, changed and finished what stands on the timeline of the incident, for those who may see it."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString

from core.admin_site import Headline, ReadOnlyAdmin, register
from core.buttons import Button, signed_in
from core.environments import EnvironmentBand
from core.templatetags.portal import status
from incidents.actions import items as actions
from incidents.forms_updates import ActionItemForm
from incidents.models import ActionItem, Incident

WRITTEN = ("text", "owner", "due_on")


class StateFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("overdue", "Overdue"), ("done", "Done")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ActionItem]) -> QuerySet[ActionItem]:
        if self.value() == "done":
            return queryset.filter(done_at__isnull=False)
        if self.value() == "overdue":
            return queryset.filter(done_at=None, due_on__lt=timezone.localdate())
        return queryset.filter(done_at=None) if self.value() == "open" else queryset


class WhoseFilter(admin.SimpleListFilter):
    title, parameter_name = "whose", "whose"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("mine", "Mine"), ("nobody", "Nobody's")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ActionItem]) -> QuerySet[ActionItem]:
        if self.value() == "mine":
            return queryset.filter(owner__user=signed_in(request))
        return queryset.filter(owner=None) if self.value() == "nobody" else queryset


def state_of(item: ActionItem, today: date) -> tuple[str, str]:
    """How an item stands: status and word."""
    if item.done_at is not None:
        return "ok", "Done"
    if item.due_on is None:
        return "neutral", "Open"
    if item.due_on < today:
        return "bad", "Overdue"
    return ("warn", "Due today") if item.due_on == today else ("neutral", "Open")


@register(ActionItem)
class ActionItemAdmin(ReadOnlyAdmin):
    """What is to be done, who does it, until when. Read only for the audit trail, see above."""

    nav, nav_label, nav_icon = ("Respond", 20), "Action items", "check-circle"
    list_help = "What is to be done so that it does not happen again."
    list_empty = "Nothing to do. Items are added on the page of an incident or of its review."
    form = ActionItemForm
    list_display = ("text", "shown_state", "shown_due", "owner", "shown_incident", "shown_service")
    phone_columns = ("text", "shown_state", "shown_due", "owner")
    list_filter = (StateFilter, WhoseFilter, "incident__service")
    search_fields = ("text", "incident__number", "owner__name")
    detail_template = "incidents/item_detail.html"
    buttons = [
        Button(
            "done",
            "Done",
            actions.MAY_CHANGE,
            run=lambda request, item, data, key: actions.done(item, by=signed_in(request)),
            visible=lambda request, item: item.done_at is None,
            confirm=False,
            icon="check",
            primary=True,
            done="Done.",
        ),
        Button(
            "reopen",
            "Open again",
            actions.MAY_CHANGE,
            run=lambda request, item, data, key: actions.reopen(item, by=signed_in(request)),
            visible=lambda request, item: item.done_at is not None,
            confirm=False,
            icon="undo",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ActionItem]:
        rows = ActionItem.objects.select_related("incident__service", "incident__environment", "owner", "done_by")
        return rows.filter(incident__in=Incident.objects.visible_to(signed_in(request)))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(actions.MAY_ADD))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(actions.MAY_CHANGE))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(actions.MAY_DELETE))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form finds the incident by its number, among those that this person sees. `?incident=` names it."""
        base = super().get_form(request, obj, change=change, **{**kwargs, "fields": WRITTEN})
        visible = Incident.objects.visible_to(signed_in(request))
        asked = request.GET.get("incident", "")
        preset = visible.filter(pk=asked).first() if asked.isdecimal() and obj is None else None
        return type("Form", (base,), {"visible": visible, "preset": preset.number if preset else ""})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*WRITTEN] if obj else ["number", *WRITTEN]

    def environment_of(self, obj: ActionItem) -> EnvironmentBand | None:
        return obj.incident.environment_band

    def save_model(self, request: HttpRequest, obj: ActionItem, form: ModelForm, change: bool) -> None:
        said, by = form.cleaned_data, signed_in(request)
        values = {name: said[name] for name in WRITTEN}
        if change:
            actions.edit(obj, by=by, **values)
        else:
            obj.pk = actions.add(said["number"], by=by, **values).pk

    def delete_model(self, request: HttpRequest, obj: ActionItem) -> None:
        actions.remove(obj, by=signed_in(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ActionItem]) -> None:
        with transaction.atomic():
            for item in queryset:
                actions.remove(item, by=signed_in(request))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Who did what stands on the timeline."""
        item = self.visible_object(request, object_id)
        return HttpResponseRedirect(item.incident.get_absolute_url() + "#timeline")

    def headline(self, request: HttpRequest, obj: ActionItem) -> Headline:
        kind, word = state_of(obj, timezone.localdate())
        return Headline(kind, word, f"From {obj.incident.number} {obj.incident.title}")

    def detail_context(self, request: HttpRequest, obj: ActionItem) -> dict[str, Any]:
        return {"item": obj, "incident": obj.incident}

    @admin.display(description="State", ordering="done_at")
    def shown_state(self, obj: ActionItem) -> SafeString:
        return status(*state_of(obj, timezone.localdate()))

    @admin.display(description="Due", ordering="due_on")
    def shown_due(self, obj: ActionItem) -> str:
        return f"{obj.due_on:%Y-%m-%d}" if obj.due_on else "not set"

    @admin.display(description="Incident", ordering="incident__number")
    def shown_incident(self, obj: ActionItem) -> str:
        return obj.incident.number

    @admin.display(description="Service", ordering="incident__service__name")
    def shown_service(self, obj: ActionItem) -> str:
        return str(obj.incident.service or "–")
