"""Screens of how environments are deployed to: profiles, checklists, freezes, what releases look like."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from catalog.admin.inventory import CatalogAdmin, command_text, kind_chip
from catalog.forms import ArgumentVectorField
from core.admin_site import Headline, MoreLink, PortalTabularInline, register
from core.audit import track
from core.links import page_url
from core.templatetags.portal import ago, human_duration, status
from deployments.actions.profiles import save_profile
from deployments.drivers import DRIVERS
from deployments.forms_settings import ProfileFields, driver_fields, profile_form
from deployments.models import ChecklistItem, ChecklistTemplate, DeploymentProfile, FreezeWindow, ReleaseRules

for model in (DeploymentProfile, ChecklistTemplate, ChecklistItem, FreezeWindow, ReleaseRules):
    track(model)

BEFORE = ("promotes_from", "checklist", "approvals", "approval_lasts", "solo", "freezes_on_rank")
COMMANDS = ("migrate", "smoke", "command_timeout_s", "ready_within_s", "drain_within_s")
AFTER = ("answers_within_ms", "most_log_errors", "watch_for", "most_errors_percent", "auto_rollback", "rollback_target")
BACKUP = ("backup_plan", "backup_fresh_for")


@register(DeploymentProfile)
class DeploymentProfileAdmin(CatalogAdmin):
    """How one environment is deployed to. Whoever edits it runs programs there."""

    nav, nav_label, nav_icon = ("Configure", 62), "Deployment profiles", "rocket"
    list_help = "How each environment is deployed to: by which driver, behind which gates, watched for how long."
    list_empty = "Nothing can be deployed yet. Add a profile: it says how one environment is deployed to."
    list_display = ("environment", "kind_chip", "driver_name", "checklist", "approvals", "shown_backup", "shown_auto")
    phone_columns = ("environment", "kind_chip", "driver_name")
    list_filter = ("driver", "environment__kind")
    search_fields = ("environment__name", "environment__service__name")
    detail_template = "deployments/profile_detail.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeploymentProfile]:
        return DeploymentProfile.objects.select_related(
            "environment__service", "promotes_from__service", "checklist", "backup_plan", "host"
        )

    # -- forms ---------------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Which driver comes first: what a profile needs depends on it."""
        if not self.has_add_permission(request):
            raise PermissionDenied("Your role does not allow you to add deployment profiles.")
        if request.GET.get("driver") not in DRIVERS:
            context = {
                **self.admin_site.each_context(request),
                "title": "Add a deployment profile",
                "drivers": [(kind, driver.label, _first_line(driver)) for kind, driver in DRIVERS.items()],
                "list_url": self.list_url_of(request),
                "list_label": self.list_label,
            }
            return TemplateResponse(request, "deployments/profile_drivers.html", context)
        return super().add_view(request, form_url, extra_context)

    def _kind(self, request: HttpRequest, obj: DeploymentProfile | None) -> str:
        asked = request.GET.get("driver", "")
        if asked in DRIVERS:
            return asked
        return obj.driver if obj is not None else next(iter(DRIVERS), "")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = profile_form(self._kind(request, obj))
        return super().get_form(request, obj, change, **{**kwargs, "form": form, "fields": ProfileFields.Meta.fields})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        kind = self._kind(request, obj)
        label = DRIVERS[kind].label if kind in DRIVERS else "Driver"
        driver = {
            "fields": tuple(driver_fields(kind)),
            "description": ""
            if kind in DRIVERS
            else "This version of the portal does not know the driver; it is kept.",
        }
        return [
            (None, {"fields": ("environment", "host", "secrets")}),
            (label, driver),
            ("Before a deployment", {"fields": BEFORE}),
            ("Commands and limits", {"fields": COMMANDS}),
            ("After the switch", {"fields": AFTER}),
            ("Backup", {"fields": BACKUP}),
        ]

    def save_model(self, request: HttpRequest, obj: DeploymentProfile, form: ModelForm, change: bool) -> None:
        save_profile(obj)

    # -- pages ---------------------------------------------------------------------------------------------------------

    def more_links(self, request: HttpRequest, obj: DeploymentProfile) -> list[MoreLink]:
        if not self.has_change_permission(request, obj):
            return []
        return [
            MoreLink(f"Use {driver.label}", f"{page_url(obj, 'change')}?driver={kind}", "refresh")
            for kind, driver in DRIVERS.items()
            if kind != obj.driver
        ]

    def detail_context(self, request: HttpRequest, obj: DeploymentProfile) -> dict[str, Any]:
        return {
            "profile": obj,
            "live": getattr(obj.environment, "live", None),
            "driver": self.driver_name(obj),
            "settings": _shown_settings(obj),
            "secrets": sorted((obj.secrets or {}).items()),
            "before": _shown(obj, BEFORE),
            "commands": _shown(obj, COMMANDS),
            "after": _shown(obj, AFTER),
            "backup": _shown(obj, BACKUP),
        }

    @admin.display(description="Kind", ordering="environment__kind")
    def kind_chip(self, obj: DeploymentProfile) -> SafeString:
        return kind_chip(obj.environment)

    @admin.display(description="Driver", ordering="driver")
    def driver_name(self, obj: DeploymentProfile) -> str:
        return obj.get_driver_display()

    @admin.display(description="Backup before", ordering="backup_plan")
    def shown_backup(self, obj: DeploymentProfile) -> str:
        return str(obj.backup_plan or "none")

    @admin.display(description="Rolls back by itself", ordering="auto_rollback")
    def shown_auto(self, obj: DeploymentProfile) -> str:
        return "yes" if obj.auto_rollback else "no, it is offered"


def _first_line(thing: type) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


def _shown(obj: DeploymentProfile, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Label and value of fields, as people read them."""
    found: list[tuple[str, Any]] = []
    for name in names:
        value = getattr(obj, name)
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = command_text(value)
        elif hasattr(value, "total_seconds"):
            value = human_duration(value)
        field: Any = obj._meta.get_field(name)
        found.append((str(capfirst(field.verbose_name)), "not set" if value is None else value))
    return found


def _shown_settings(obj: DeploymentProfile) -> list[tuple[str, Any]]:
    """What the driver was told, in the order of its form."""
    form = DRIVERS[obj.driver].form.base_fields if obj.driver in DRIVERS else {}
    names = [*form, *(name for name in obj.settings if name not in form)]
    found = []
    for name in names:
        field, value = form.get(name), obj.settings.get(name)
        label = field.label if field is not None else ""
        found.append((str(label or name.replace("_", " ").capitalize()), _setting(field, value)))
    return found


def _setting(field: Any, value: Any) -> Any:
    """One of them as a person would say it."""
    if value in (None, ""):
        return "not set"
    if isinstance(field, ArgumentVectorField):
        return command_text(value)
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return dict(getattr(field, "choices", ())).get(value, str(value))


class ChecklistItemInline(PortalTabularInline):
    model = ChecklistItem
    fields = ("position", "text", "kind", "optional")


@register(ChecklistTemplate)
class ChecklistTemplateAdmin(CatalogAdmin):
    """What must be settled before a deployment."""

    nav, nav_label, nav_icon = ("Configure", 63), "Release checklists", "check-circle"
    list_help = "What must be settled before a deployment. A deployment keeps the list as it was when it was asked for."
    list_empty = "Add a checklist, such as: CI passed, a fresh backup exists, somebody told the support team."
    inlines = (ChecklistItemInline,)
    list_display = ("name", "shown_items", "shown_profiles")
    search_fields = ("name", "items__text")
    detail_template = "deployments/checklist_detail.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ChecklistTemplate]:
        return ChecklistTemplate.objects.annotate(
            item_count=Count("items", distinct=True), profile_count=Count("profiles", distinct=True)
        ).order_by("name")

    def detail_context(self, request: HttpRequest, obj: ChecklistTemplate) -> dict[str, Any]:
        return {
            "items": obj.items.order_by("position", "pk"),
            "profiles": obj.profiles.select_related("environment__service"),
        }

    @admin.display(description="Items", ordering="item_count")
    def shown_items(self, obj: Any) -> int:
        return int(obj.item_count)

    @admin.display(description="Used by environments", ordering="profile_count")
    def shown_profiles(self, obj: Any) -> int:
        return int(obj.profile_count)


@register(FreezeWindow)
class FreezeWindowAdmin(CatalogAdmin):
    """Times in which nothing is deployed."""

    nav, nav_label, nav_icon = ("Configure", 64), "Freeze windows", "lock"
    list_help = "Times in which nothing is deployed. Rollbacks and emergencies pass."
    list_empty = "Nothing is frozen. Add a window for the days in which nobody wants a change."
    list_display = ("shown_state", "reason", "shown_service", "shown_kind", "starts", "ends")
    list_display_links = ("reason",)
    phone_columns = ("reason", "shown_state", "starts", "ends")
    list_filter = ("environment_kind", "service")
    list_select_related = ("service",)
    search_fields = ("reason", "service__name")

    def headline(self, request: HttpRequest, obj: FreezeWindow) -> Headline:
        return Headline(*_state_of(obj), f"From {obj.starts_at:%Y-%m-%d %H:%M} to {obj.ends_at:%Y-%m-%d %H:%M} UTC.")

    @admin.display(description="State")
    def shown_state(self, obj: FreezeWindow) -> SafeString:
        return status(*_state_of(obj))

    @admin.display(description="Service", ordering="service__name")
    def shown_service(self, obj: FreezeWindow) -> str:
        return str(obj.service or "every service")

    @admin.display(description="Environments", ordering="environment_kind")
    def shown_kind(self, obj: FreezeWindow) -> str:
        return obj.get_environment_kind_display() or "all"

    @admin.display(description="Starts", ordering="starts_at")
    def starts(self, obj: FreezeWindow) -> SafeString | str:
        return ago(obj.starts_at)

    @admin.display(description="Ends", ordering="ends_at")
    def ends(self, obj: FreezeWindow) -> SafeString | str:
        return ago(obj.ends_at)


def _state_of(window: FreezeWindow) -> tuple[str, str]:
    """Status and word of a window now."""
    now = timezone.now()
    if window.ends_at <= now:
        return "neutral", "Over"
    return ("neutral", "Planned") if window.starts_at > now else ("warn", "Frozen")


@register(ReleaseRules)
class ReleaseRulesAdmin(CatalogAdmin):
    """What the versions of a service look like."""

    nav, nav_label, nav_icon = ("Configure", 65), "Release rules", "flag"
    list_help = "What versions look like, and with which secret CI signs what it reports."
    list_empty = "Versions look like v1.4.0 and no CI reports until you add the rules of a service."
    list_display = ("service", "shown_pattern", "shown_ci")
    list_select_related = ("service",)
    search_fields = ("service__name", "version_pattern")

    @admin.display(description="Versions match", ordering="version_pattern")
    def shown_pattern(self, obj: ReleaseRules) -> SafeString:
        return format_html("<code>{}</code>", obj.version_pattern)

    @admin.display(description="CI webhook", ordering="ci_secret_ref")
    def shown_ci(self, obj: ReleaseRules) -> SafeString:
        return status("ok", "Taken") if obj.ci_secret_ref else status("neutral", "Not taken")
