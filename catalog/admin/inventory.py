"""Services, environments, components, databases, service control and severities."""

import shlex
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from catalog import actions
from catalog.admin.check_now import check_button, probes_of_environment, probes_of_service
from catalog.exceptions import CatalogError
from catalog.forms import EnvironmentForm, HumanDurationField, ServiceControlForm, ServiceForm
from catalog.models import (
    Component,
    DatabaseTarget,
    Environment,
    Service,
    ServiceControlCommands,
    Severity,
)
from catalog.secrets import SecretReference
from core.admin_site import Headline, PortalAdmin, PortalTabularInline, register
from core.audit import track
from core.buttons import Button
from core.forms import FIELD_OVERRIDES
from core.templatetags.portal import human_duration, status
from core.words import counted

for model in (Service, Environment, Component, DatabaseTarget, ServiceControlCommands, Severity):
    track(model)

COMMANDS = ("start", "stop", "status")
DURATIONS: dict[Any, dict[str, Any]] = {**FIELD_OVERRIDES, models.DurationField: {"form_class": HumanDurationField}}


def kind_chip(environment: Environment) -> SafeString:
    """The kind of an environment as the coloured word the band shows too."""
    return format_html('<span class="chip chip-{}">{}</span>', environment.kind, environment.get_kind_display())


class EnvironmentKind(admin.ChoicesFieldListFilter):
    """The filter of a list whose rows have a kind of their own too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "environment"


def command_text(argv: list[str]) -> SafeString:
    """An argument vector as a person would type it."""
    return format_html("<code>{}</code>", shlex.join(map(str, argv)))


def _lines(text: str) -> SafeString | str:
    """A text as it was typed, line by line."""
    return format_html_join("", "<p>{}</p>", ((line,) for line in text.splitlines())) or "not set"


class NamedChoices:
    """Selects of related rows load what their names are made of, in one query."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        manager = db_field.remote_field.model._default_manager
        if hasattr(manager, "named"):
            kwargs.setdefault("queryset", manager.named())
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]


class CatalogAdmin(NamedChoices, PortalAdmin):
    """Base of the screens below. Durations read "15 min" or "not set"."""

    formfield_overrides = DURATIONS  # type: ignore[misc]  # the stubs see a class variable here

    def facts(self, request: HttpRequest, obj: Any) -> list[tuple[str, Any]]:
        durations = {
            capfirst(field.verbose_name): human_duration(getattr(obj, field.attname))
            for field in obj._meta.concrete_fields
            if isinstance(field, models.DurationField)
        }
        return [(label, durations.get(label, value)) for label, value in super().facts(request, obj)]


class EnvironmentInline(NamedChoices, PortalTabularInline):
    model = Environment
    form = EnvironmentForm
    fields = ("name", "slug", "kind")


class ComponentInline(NamedChoices, PortalTabularInline):
    model = Component
    formfield_overrides = DURATIONS  # type: ignore[misc]  # the stubs see a class variable here
    fields = ("name", "kind", "rto", "rpo")


@register(Service)
class ServiceAdmin(CatalogAdmin):
    """A service with everything that belongs to it on one page."""

    nav, nav_label, nav_icon = ("Configure", 10), "Services", "layers"
    list_empty = "Add the first service: what it is called and which team answers for it."
    form = ServiceForm
    inlines = (EnvironmentInline,)
    list_display = ("name", "owner_team", "environment_count", "database_count", "time_zone")
    phone_columns = ("name", "owner_team", "environment_count")
    search_fields = ("name", "slug", "owner_team", "description")
    detail_template = "catalog/service_detail.html"
    buttons = [check_button(probes_of_service)]
    list_help = "What the organisation runs, with one team that answers for it."

    def get_queryset(self, request: HttpRequest) -> Any:
        return Service.objects.counted()

    def detail_context(self, request: HttpRequest, obj: Service) -> dict[str, Any]:
        return {"service": Service.objects.with_inventory().get(pk=obj.pk)}

    def headline(self, request: HttpRequest, obj: Service) -> Headline | None:
        if obj.owner_team:
            return None
        return Headline("warn", "No owner", "No team answers for this service. Edit it and name one.")

    @admin.display(description="Environments", ordering="environment_count")
    def environment_count(self, service: Any) -> int:
        return int(service.environment_count)

    @admin.display(description="Databases", ordering="database_count")
    def database_count(self, service: Any) -> int:
        return int(service.database_count)


@register(Environment)
class EnvironmentAdmin(CatalogAdmin):
    """One place where a service runs."""

    nav, nav_label, nav_icon = ("Configure", 20), "Environments", "globe"
    list_empty = "Add the places where a service runs, production first."
    form = EnvironmentForm
    inlines = (ComponentInline,)
    list_display = ("name", "service", "kind_chip", "slug")
    list_filter = ("kind", "service")
    list_select_related = ("service",)
    search_fields = ("name", "slug", "service__name")
    detail_template = "catalog/environment_detail.html"
    buttons = [check_button(probes_of_environment)]

    def detail_context(self, request: HttpRequest, obj: Environment) -> dict[str, Any]:
        control = ServiceControlCommands.objects.filter(environment=obj).first()
        return {
            "components": obj.components.prefetch_related("databases"),
            "control": control,
            "probes": obj.probes.order_by("name"),
        }

    @admin.display(description="Kind", ordering="kind")
    def kind_chip(self, environment: Environment) -> SafeString:
        return kind_chip(environment)


@register(Component)
class ComponentAdmin(CatalogAdmin):
    """A part of a service with its recovery targets."""

    nav, nav_label, nav_icon = ("Configure", 30), "Components", "box"
    list_empty = "Add the parts of an environment, each with its recovery targets."
    list_display = ("name", "environment", "kind", "rto_text", "rpo_text")
    phone_columns = ("name", "environment", "rto_text", "rpo_text")
    list_filter = ("kind", ("environment__kind", EnvironmentKind), "environment__service")
    list_select_related = ("environment__service",)
    search_fields = ("name", "environment__name", "environment__service__name")
    detail_fields = ("environment", "name", "kind", "rto", "rpo")
    list_help = "RTO: the longest outage. RPO: how much recent work may be lost. Empty targets read “not set”."

    @admin.display(description="RTO", ordering="rto")
    def rto_text(self, component: Component) -> str:
        return human_duration(component.rto)

    @admin.display(description="RPO", ordering="rpo")
    def rpo_text(self, component: Component) -> str:
        return human_duration(component.rpo)


@register(DatabaseTarget)
class DatabaseTargetAdmin(CatalogAdmin):
    """A database, how to reach it, and which server it is known to be."""

    nav, nav_label, nav_icon = ("Configure", 50), "Databases", "database"
    list_empty = "Add a database: where it is, who connects, and where its password is kept."
    list_display = ("name", "environment", "kind_chip", "place", "server_version", "identity")
    phone_columns = ("name", "environment", "kind_chip", "identity")
    list_filter = ("component__environment__kind", "component__environment__service")
    list_select_related = ("component__environment__service",)
    search_fields = ("name", "host", "database", "component__environment__service__name")
    detail_template = "catalog/databasetarget_detail.html"
    list_help = "Databases that the portal backs up and restores. Passwords are references, never values."
    fieldsets = (
        (None, {"fields": ("component", "name", "engine")}),
        (
            "Where it is",
            {
                "fields": ("via", "host", "port", "database", "maintenance_database", "sslmode"),
                "description": "Of a SQLite file only folder (as host) and name (as database) count.",
            },
        ),
        ("Who connects", {"fields": ("user", "password_ref"), "description": "A SQLite file has neither."}),
        ("Safety", {"fields": ("system_identifier", "smoke_test")}),
    )

    def check_connection(self, request: HttpRequest, target: Any, data: dict[str, Any], key: str) -> None:
        """Run of the button: the finding is the message."""
        messages.success(request, actions.check_connection(target, by=request.user))  # type: ignore[arg-type]

    def get_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        return [
            Button(
                "check_connection",
                "Check connection",
                permission="catalog.check_databasetarget",
                run=self.check_connection,
                confirm=False,
                icon="zap",
            )
        ]

    def headline(self, request: HttpRequest, obj: DatabaseTarget) -> Headline:
        if obj.system_identifier:
            return Headline("ok", "Identity pinned", f"{obj.address}, {obj.get_engine_display()} {obj.server_version}")
        return Headline("neutral", "Never contacted", f"{obj.address}. Check the connection to pin its identity.")

    def get_queryset(self, request: HttpRequest) -> Any:
        return DatabaseTarget.objects.named()

    def save_model(self, request: HttpRequest, obj: DatabaseTarget, form: forms.ModelForm, change: bool) -> None:
        """Save, and say at once when this process does not find the password: most often a typing error."""
        super().save_model(request, obj, form, change)
        if not obj.password_ref:
            return
        try:
            SecretReference.parse(obj.password_ref).resolve()
        except CatalogError as error:
            messages.warning(request, f"Saved, but the password was not found here: {error.message}")

    @admin.display(description="Environment", ordering="component__environment__service__name")
    def environment(self, target: DatabaseTarget) -> str:
        return str(target.component.environment)

    @admin.display(description="Kind", ordering="component__environment__kind")
    def kind_chip(self, target: DatabaseTarget) -> SafeString:
        return kind_chip(target.component.environment)

    @admin.display(description="Address", ordering="host")
    def place(self, target: DatabaseTarget) -> str:
        return target.address

    @admin.display(description="Identity", ordering="system_identifier")
    def identity(self, target: DatabaseTarget) -> SafeString:
        return status("ok", "Pinned") if target.system_identifier else status("neutral", "Never contacted")


@register(ServiceControlCommands)
class ServiceControlAdmin(CatalogAdmin):
    """Commands that workers run: whoever edits them runs programs."""

    nav, nav_label, nav_icon = ("Configure", 60), "Service control", "terminal"
    list_empty = "Say how an environment is started, stopped and asked for; a restore stops it during the swap."
    form = ServiceControlForm
    list_display = ("environment", "kind_chip", "start_text", "stop_text", "status_text")
    phone_columns = ("environment", "kind_chip", "start_text")
    list_select_related = ("environment__service",)
    search_fields = ("environment__name", "environment__service__name")
    list_help = "How workers start, stop and ask for a service. Commands run without a shell."

    def facts(self, request: HttpRequest, obj: ServiceControlCommands) -> list[tuple[str, Any]]:
        return [
            ("Environment", obj.environment),
            *((f"{action.capitalize()} command", command_text(getattr(obj, action))) for action in COMMANDS),
            ("Time limit of a command", human_duration(obj.timeout_s)),
            ("Time limit until ready", human_duration(obj.ready_timeout_s)),
        ]

    @admin.display(description="Kind", ordering="environment__kind")
    def kind_chip(self, row: ServiceControlCommands) -> SafeString:
        return kind_chip(row.environment)

    @admin.display(description="Start")
    def start_text(self, row: ServiceControlCommands) -> SafeString:
        return command_text(row.start)

    @admin.display(description="Stop")
    def stop_text(self, row: ServiceControlCommands) -> SafeString:
        return command_text(row.stop)

    @admin.display(description="Status")
    def status_text(self, row: ServiceControlCommands) -> SafeString:
        return command_text(row.status)


@register(Severity)
class SeverityAdmin(CatalogAdmin):
    """The grades of each service's own scheme."""

    nav, nav_label, nav_icon = ("Configure", 70), "Severities", "flag"
    list_empty = "Add the grades by which a service judges its incidents."
    list_display = ("code", "name", "service", "rank", "response_text", "updates_text")
    phone_columns = ("code", "name", "service", "response_text")
    list_filter = ("service",)
    list_select_related = ("service",)
    search_fields = ("code", "name", "definition", "service__name")
    ordering = ("service__name", "rank")
    list_help = (
        "Each service has its own scheme. Grades are compared by rank: “P1” means different things to two teams."
    )
    fieldsets = (
        (None, {"fields": ("service", "code", "name", "rank", "definition", "examples", "team")}),
        (
            "Response",
            {"fields": ("response_time", "response_in_business_hours", "response_business_days")},
        ),
        ("Updates", {"fields": ("update_every", "update_words")}),
    )

    def facts(self, request: HttpRequest, obj: Severity) -> list[tuple[str, Any]]:
        service = format_html('<a href="{}">{}</a>', obj.service.get_absolute_url(), obj.service)
        return [
            ("Service", service),
            ("Code", obj.code),
            ("Name", obj.name),
            ("Rank", f"{obj.rank} (1 is the worst)"),
            ("Definition", _lines(obj.definition)),
            ("Examples", _lines(obj.examples)),
            ("Response team", obj.team or "not set"),
            ("Response time", self.response_text(obj)),
            ("Updates", self.updates_text(obj)),
        ]

    @admin.display(description="Response time", ordering="response_time")
    def response_text(self, severity: Severity) -> str:
        if severity.response_business_days is not None:
            return counted(severity.response_business_days, "business day")
        within = " in business hours" if severity.response_time and severity.response_in_business_hours else ""
        return human_duration(severity.response_time) + within

    @admin.display(description="Updates", ordering="update_every")
    def updates_text(self, severity: Severity) -> str:
        """How often people hear of it."""
        words = [severity.update_words] if severity.update_words else []
        if severity.update_every is not None:
            every = f"every {human_duration(severity.update_every)}" if severity.update_every else "at every change"
            words.insert(0, every)
        return ", ".join(words) or "not set"
