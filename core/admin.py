"""Screens of people, roles, the audit trail, sign-in failures and, for superusers, the tables of beat."""

import json
from typing import Any

from auditlog.models import LogEntry
from axes.models import AccessAttempt
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as StockUserAdmin
from django.contrib.auth.forms import UserCreationForm as StockUserCreationForm
from django.contrib.auth.models import Group
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat import admin as beat
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from core import token_screens  # noqa: F401  (importing registers the screens of tokens)
from core.admin_site import Headline, MoreLink, PortalAdmin, ReadOnlyAdmin, register
from core.audit import track
from core.models import User
from core.templatetags.portal import ago, status

track(User, mask=("password",), exclude=("last_login",), m2m=("groups",))


class UserCreationForm(StockUserCreationForm):
    class Meta(StockUserCreationForm.Meta):
        model = User
        fields = ("username",)


@register(User)
class UserAdmin(PortalAdmin, StockUserAdmin):
    """People. Rights come from roles only. Accounts are switched off, not deleted: the trail keeps their names."""

    nav, nav_label, nav_icon = ("Configure", 80), "People", "users"
    add_form = UserCreationForm
    list_display = ("username", "full_name", "role_names", "active", "time_zone", "seen")
    list_filter = ("groups", "is_active")
    search_fields = ("username", "first_name", "last_name", "email")
    list_select_related = ()
    phone_columns = ("username", "role_names", "active")
    filter_horizontal = ()
    detail_fields = ("username", "first_name", "last_name", "email", "time_zone", "date_joined", "last_login")
    fieldsets = (
        (None, {"fields": ("username", "first_name", "last_name", "email", "time_zone")}),
        ("Rights", {"fields": ("is_active", "groups", "is_superuser")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "password1", "password2")}),)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if request.user.is_superuser else ("is_superuser",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """An administrator must not take over a superuser's account by giving it a new password."""
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["widget"] = forms.CheckboxSelectMultiple()
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.name == "groups":
            field.label, field.help_text = "Roles", "What each role may do is fixed in the portal."
        return field

    def more_links(self, request: HttpRequest, obj: User) -> list[MoreLink]:
        if not self.has_change_permission(request, obj):
            return []
        return [MoreLink("Set password", reverse("admin:auth_user_password_change", args=(obj.pk,)), "lock")]

    def headline(self, request: HttpRequest, obj: User) -> Headline:
        roles = ", ".join(group.name for group in obj.groups.all()) or "No role: sees nothing but the empty home page"
        if obj.is_superuser:
            roles = "Superuser: may do everything"
        return Headline("ok", "Active", roles) if obj.is_active else Headline("neutral", "Switched off", roles)

    @admin.display(description="Name", ordering="first_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @admin.display(description="Roles")
    def role_names(self, user: User) -> str:
        names = [group.name for group in user.groups.all()]
        return ", ".join((["Superuser"] if user.is_superuser else []) + names)

    @admin.display(description="State", ordering="is_active")
    def active(self, user: User) -> SafeString:
        return status("ok", "Active") if user.is_active else status("neutral", "Switched off")

    @admin.display(description="Last sign-in", ordering="last_login")
    def seen(self, user: User) -> str:
        return ago(user.last_login, "never")


@register(Group)
class RoleAdmin(ReadOnlyAdmin):
    """Roles, to read: the table in core/roles.py makes them, and every migration sets them right again."""

    nav, nav_label, nav_icon = ("Configure", 81), "Roles", "shield"
    list_display = ("name", "people")
    search_fields = ("name",)
    detail_template = "core/role_detail.html"
    list_help = "What each role may do is part of the product and the same in every installation."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).annotate(members=Count("user"))

    def detail_context(self, request: HttpRequest, obj: Group) -> dict[str, Any]:
        codes = obj.permissions.select_related("content_type").order_by("content_type__app_label", "codename")
        return {"permissions": codes, "people": obj.user_set.order_by("username")}

    @admin.display(description="People", ordering="members")
    def people(self, group: Group) -> int:
        return int(getattr(group, "members", 0))  # annotated by the queryset


@register(LogEntry)
class AuditAdmin(ReadOnlyAdmin):
    """Every edit of a watched model: who, when, what."""

    nav, nav_label, nav_icon = ("Configure", 90), "Audit trail", "history"
    list_display = ("what", "kind", "action_word", "who", "when")
    list_filter = ("action", "content_type")
    list_select_related = ("content_type", "actor")
    search_fields = ("object_repr", "actor__username")
    phone_columns = ("what", "action_word", "who", "when")
    date_hierarchy = "timestamp"
    detail_template = "core/audit_detail.html"

    def detail_context(self, request: HttpRequest, obj: LogEntry) -> dict[str, Any]:
        changes = obj.changes_dict if isinstance(obj.changes_dict, dict) else json.loads(obj.changes or "{}")
        return {"changes": changes_table(changes)}

    @admin.display(description="Object", ordering="object_repr")
    def what(self, entry: LogEntry) -> str:
        return entry.object_repr

    @admin.display(description="Kind", ordering="content_type")
    def kind(self, entry: LogEntry) -> str:
        return entry.content_type.name if entry.content_type else ""

    @admin.display(description="Action", ordering="action")
    def action_word(self, entry: LogEntry) -> str:
        return {0: "Created", 1: "Changed", 2: "Deleted"}.get(entry.action, "Read")

    @admin.display(description="Who", ordering="actor")
    def who(self, entry: LogEntry) -> str:
        return str(entry.actor or "The portal")

    @admin.display(description="When", ordering="timestamp")
    def when(self, entry: LogEntry) -> str:
        return ago(entry.timestamp)


M2M_WORDS = {"add": "added", "delete": "removed"}


def changes_table(changes: dict[str, Any]) -> list[tuple[str, str, str]]:
    """auditlog's changes as (field, before, after). Many-to-many changes name what was added or removed."""
    rows = []
    for name, change in sorted(changes.items()):
        if isinstance(change, dict):
            word = M2M_WORDS.get(change.get("operation", ""), "set")
            rows.append((name, "", f"{word} {', '.join(map(str, change.get('objects', [])))}"))
        else:
            before, after = ("" if value in (None, "None") else str(value) for value in change)
            rows.append((name, before, after))
    return rows


@register(AccessAttempt)
class SignInFailureAdmin(ReadOnlyAdmin):
    """Failed sign-ins that are still counted."""

    nav, nav_label, nav_icon = ("Configure", 91), "Failed sign-ins", "lock"
    list_display = ("username", "ip_address", "failures_since_start", "when")
    search_fields = ("username", "ip_address")
    detail_fields = ("username", "ip_address", "user_agent", "path_info", "failures_since_start", "attempt_time")
    list_empty = "Wrong passwords of the last days appear here."
    list_help = "After five failures from one address an account is locked for a quarter of an hour."

    @admin.display(description="When", ordering="attempt_time")
    def when(self, attempt: AccessAttempt) -> str:
        return ago(attempt.attempt_time)


class SuperusersOnly:
    """The raw tables of beat. Plans own their schedules; an edit here goes past every check."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


@register(PeriodicTask)
class BeatTaskAdmin(SuperusersOnly, PortalAdmin, beat.PeriodicTaskAdmin):
    """Beat's own rows, without the stock form's inline script and without running tasks past the engine."""

    nav, nav_label, nav_icon = ("Configure", 95), "Beat: tasks", "calendar"
    change_form_template = "admin/change_form.html"
    change_list_template = "admin/change_list.html"
    list_display = ("name", "on", "scheduler", "last_run")
    list_filter = ("enabled", "one_off")
    date_hierarchy = None
    actions = ("enable_tasks", "disable_tasks")
    list_help = "Raw rows of the scheduler. Schedules belong to their plans; change them there."
    detail_fields = ("name", "task", "crontab", "interval", "enabled", "args", "kwargs", "queue", "last_run_at")

    @admin.display(description="State", ordering="enabled")
    def on(self, task: PeriodicTask) -> SafeString:
        return status("ok", "Enabled") if task.enabled else status("neutral", "Disabled")

    @admin.display(description="Last run", ordering="last_run_at")
    def last_run(self, task: PeriodicTask) -> str:
        return ago(task.last_run_at, "never")


class BeatScheduleAdmin(SuperusersOnly, PortalAdmin):
    list_help = BeatTaskAdmin.list_help


@register(CrontabSchedule)
class BeatCrontabAdmin(BeatScheduleAdmin):
    nav, nav_label, nav_icon = ("Configure", 96), "Beat: crontabs", "calendar"
    list_display = ("expression", "human_readable", "timezone")
    fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")

    @admin.display(description="Crontab")
    def expression(self, row: CrontabSchedule) -> SafeString:
        parts = (row.minute, row.hour, row.day_of_month, row.month_of_year, row.day_of_week)
        return format_html("<code>{}</code>", " ".join(parts))


@register(IntervalSchedule)
class BeatIntervalAdmin(BeatScheduleAdmin):
    nav, nav_label, nav_icon = ("Configure", 97), "Beat: intervals", "calendar"


@register(ClockedSchedule)
class BeatClockedAdmin(BeatScheduleAdmin):
    nav, nav_label, nav_icon = ("Configure", 98), "Beat: clocked", "calendar"


@register(SolarSchedule)
class BeatSolarAdmin(BeatScheduleAdmin):
    nav, nav_label, nav_icon = ("Configure", 99), "Beat: solar", "calendar"
