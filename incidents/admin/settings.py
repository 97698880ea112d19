"""Screens of how incidents are handled: profiles, workflows, rules for causes, the status page's parts, maintenance."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString

from catalog.admin.inventory import CatalogAdmin
from catalog.models import Component
from core.admin_site import Headline, PortalTabularInline, register
from core.audit import track
from core.templatetags.portal import ago, human_duration, status
from incidents import banner
from incidents.forms_settings import ProfileForm, StageForm, WorkflowForm
from incidents.models import (
    CauseRule,
    IncidentProfile,
    Maintenance,
    ProfileRole,
    PublicComponent,
    Stage,
    Workflow,
)

for model in (IncidentProfile, ProfileRole, Workflow, Stage, CauseRule, PublicComponent):
    track(model)
track(Maintenance, m2m=("components",))


class ProfileRoleInline(PortalTabularInline):
    model = ProfileRole
    fields = ("role", "primary_role", "primary", "backup_role", "backup", "duties")


@register(IncidentProfile)
class IncidentProfileAdmin(CatalogAdmin):
    """How incidents of a service are called and worked on."""

    nav, nav_label, nav_icon = ("Configure", 72), "Incident profiles", "flag"
    list_help = "How incidents are numbered, worked on and closed, for one service or for all that have no own profile."
    list_empty = "Incidents use the defaults until you add a profile: leave the service empty to set them for all."
    form = ProfileForm
    inlines = (ProfileRoleInline,)
    list_display = ("shown_name", "workflow", "number_pattern", "shown_gates", "shown_review")
    list_display_links = ("shown_name",)
    phone_columns = ("shown_name", "workflow", "number_pattern")
    list_select_related = ("service", "workflow")
    search_fields = ("service__name", "number_pattern")
    detail_template = "incidents/profile_detail.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[IncidentProfile]:
        return IncidentProfile.objects.select_related("service", "workflow").order_by("service__name")

    def detail_context(self, request: HttpRequest, obj: IncidentProfile) -> dict[str, Any]:
        roles = obj.roles.select_related("primary_role", "primary", "backup_role", "backup")
        return {"profile": obj, "roles": roles}

    @admin.display(description="For", ordering="service__name")
    def shown_name(self, obj: IncidentProfile) -> str:
        return str(obj.service or "All other services")

    @admin.display(description="Closing gates")
    def shown_gates(self, obj: IncidentProfile) -> str:
        return str(len(obj.gates)) if obj.gates else "none"

    @admin.display(description="Review up to rank", ordering="review_from_rank")
    def shown_review(self, obj: IncidentProfile) -> str:
        return "not needed" if obj.review_from_rank is None else str(obj.review_from_rank)


class StageInline(PortalTabularInline):
    model = Stage
    form = StageForm
    fields = ("order", "name", "core_state", "limit", "checklist")


@register(Workflow)
class WorkflowAdmin(CatalogAdmin):
    """The stages of an incident."""

    nav, nav_label, nav_icon = ("Configure", 73), "Incident workflows", "layers"
    list_help = "Stages with their time boxes and checklists. A profile says which workflow a service uses."
    list_empty = "Add the stages of your runbook, such as Detection, Investigation, Recovery, each with its time box."
    form = WorkflowForm
    inlines = (StageInline,)
    list_display = ("name", "shown_stages", "shown_profiles")
    search_fields = ("name",)
    detail_template = "incidents/workflow_detail.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        return Workflow.objects.annotate(
            stage_count=Count("stages", distinct=True), profile_count=Count("profiles", distinct=True)
        ).order_by("name")

    def detail_context(self, request: HttpRequest, obj: Workflow) -> dict[str, Any]:
        return {
            "workflow": obj,
            "stages": obj.stages.order_by("order"),
            "profiles": obj.profiles.select_related("service"),
        }

    @admin.display(description="Stages", ordering="stage_count")
    def shown_stages(self, obj: Any) -> int:
        return int(obj.stage_count)

    @admin.display(description="Used by profiles", ordering="profile_count")
    def shown_profiles(self, obj: Any) -> int:
        return int(obj.profile_count)


@register(CauseRule)
class CauseRuleAdmin(CatalogAdmin):
    """What opens an incident by itself."""

    nav, nav_label, nav_icon = ("Configure", 75), "Incident rules", "zap"
    list_help = "What opens an incident by itself: one for each cause, quiet again when it has recovered."
    list_empty = "No incident is opened by itself. Add a rule, such as: a backup failed."
    list_display = ("cause", "shown_service", "shown_enabled", "rank", "after", "shown_pages", "shown_quiet")
    list_display_links = ("cause",)
    phone_columns = ("cause", "shown_service", "shown_enabled", "rank")
    list_filter = ("enabled", "cause")
    list_select_related = ("service",)
    search_fields = ("service__name",)

    def headline(self, request: HttpRequest, obj: CauseRule) -> Headline | None:
        return None if obj.enabled else Headline("neutral", "Switched off", "It opens nothing.")

    @admin.display(description="Service", ordering="service__name")
    def shown_service(self, obj: CauseRule) -> str:
        return str(obj.service or "all others")

    @admin.display(description="State", ordering="enabled")
    def shown_enabled(self, obj: CauseRule) -> SafeString:
        return status("ok", "On") if obj.enabled else status("neutral", "Off")

    @admin.display(description="Pages people", ordering="escalate")
    def shown_pages(self, obj: CauseRule) -> str:
        return "yes" if obj.escalate else "no"

    @admin.display(description="Quiet for", ordering="quiet_for")
    def shown_quiet(self, obj: CauseRule) -> str:
        return human_duration(obj.quiet_for)


@register(PublicComponent)
class PublicComponentAdmin(CatalogAdmin):
    """Components as the status page names them."""

    nav, nav_label, nav_icon = ("Configure", 76), "Public components", "globe"
    list_help = "What the status page lists, under names that people outside understand."
    list_empty = "The status page lists no component yet. Add one under the name that your users know."
    list_display = ("name", "component", "order")
    search_fields = ("name", "component__name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[PublicComponent]:
        return PublicComponent.objects.select_related("component__environment__service")


@register(Maintenance)
class MaintenanceAdmin(CatalogAdmin):
    """Planned windows, shown on every page while they last."""

    nav, nav_label, nav_icon = ("Configure", 77), "Maintenance", "wrench"
    list_help = "Planned windows. One that is running stands on top of every page; a public one on the status page too."
    list_empty = "Nothing is planned. Add a window, and everybody sees it on every page while it lasts."
    list_display = ("shown_state", "title", "shown_service", "starts", "ends", "public")
    list_display_links = ("title",)
    phone_columns = ("title", "shown_state", "starts", "ends")
    list_filter = ("public", "service")
    list_select_related = ("service",)
    search_fields = ("title", "text")

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "components":
            kwargs["queryset"] = Component.objects.named()
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def headline(self, request: HttpRequest, obj: Maintenance) -> Headline:
        return Headline(*state_of(obj), obj.text)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        banner.lately.forget()

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        super().delete_model(request, obj)
        banner.lately.forget()

    @admin.display(description="State")
    def shown_state(self, obj: Maintenance) -> SafeString:
        return status(*state_of(obj))

    @admin.display(description="Service", ordering="service__name")
    def shown_service(self, obj: Maintenance) -> str:
        return str(obj.service or "all")

    @admin.display(description="Starts", ordering="starts_at")
    def starts(self, obj: Maintenance) -> SafeString | str:
        return ago(obj.starts_at)

    @admin.display(description="Ends", ordering="ends_at")
    def ends(self, obj: Maintenance) -> SafeString | str:
        return ago(obj.ends_at)


def state_of(window: Maintenance) -> tuple[str, str]:
    """Status and word of a window now."""
    now = timezone.now()
    if window.ends_at <= now:
        return "neutral", "Over"
    return ("neutral", "Planned") if window.starts_at > now else ("warn", "Running")
