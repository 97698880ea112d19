"""Screens of the escalation matrix: one table a service."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone
from django.utils.safestring import SafeString

from contacts import matrix_check, simulate, views_matrix
from contacts.actions import matrix as actions
from contacts.forms_matrix import SimulationForm
from contacts.models import EscalationPolicy, PolicyVersion
from core.admin_site import Headline, MoreLink, PortalAdmin, register
from core.audit import track
from core.links import page_url
from core.templatetags.portal import ago

track(EscalationPolicy)


@register(EscalationPolicy)
class PolicyAdmin(PortalAdmin):
    """Severity down, time across, whom to tell in each cell."""

    nav, nav_label, nav_icon = ("Respond", 45), "Escalation matrix", "layers"
    list_help = "Who is told, in which order, when something is wrong: one table a service."
    list_empty = "Nobody is told of anything yet. Add a matrix for a service, or one for all services."
    list_display = ("name", "shown_fallback", "shown_version", "shown_saved")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_version", "shown_saved")
    search_fields = ("service__name",)
    fields = ("service", "fallback")
    detail_template = "contacts/matrix_detail.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[EscalationPolicy]:
        rows = EscalationPolicy.objects.select_related("service", "fallback")
        return rows.annotate(last_number=Max("versions__number"), last_saved=Max("versions__saved_at"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(actions.EDIT))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(actions.EDIT))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("service",) if obj is not None else ()

    def get_urls(self) -> list[Any]:
        name, wrap = "contacts_escalationpolicy", self.admin_site.admin_view
        return [
            path("<int:pk>/edit/", wrap(self.edit_view), name=f"{name}_edit"),
            path("<int:pk>/versions/", wrap(self.versions_view), name=f"{name}_versions"),
            path("<int:pk>/versions/<int:number>/", wrap(self.version_view), name=f"{name}_version"),
            *super().get_urls(),
        ]

    def edit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return views_matrix.edit(self, request, self.visible_object(request, str(pk)))

    def versions_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return views_matrix.versions(self, request, self.visible_object(request, str(pk)))

    def version_view(self, request: HttpRequest, pk: int, number: int) -> HttpResponse:
        return views_matrix.version(self, request, self.visible_object(request, str(pk)), number)

    def full_context(self, request: HttpRequest, obj: EscalationPolicy) -> dict[str, Any]:
        """The table is read once: the headline counts its problems."""
        version = actions.current(obj)
        table = views_matrix.table_of(version)
        problems = matrix_check.problems(obj, table["rules"])
        return {
            **super().full_context(request, obj),
            **table,
            "headline": _headline(version, problems),
            "version": version,
            "problems": problems,
            "simulation": self._simulation(request, obj, version),
            "matrix_edit_url": page_url(obj, "edit") if request.user.has_perm(actions.EDIT) else "",
        }

    def _simulation(self, request: HttpRequest, obj: EscalationPolicy, version: PolicyVersion | None) -> dict[str, Any]:
        """The form, and what it asks for; reading a page changes nothing."""
        zone = ZoneInfo(obj.service.time_zone if obj.service is not None else "UTC")
        situations = list(dict.fromkeys(rule.situation for rule in _rules(version) if rule.situation))
        with timezone.override(zone):
            asked = request.GET if "moment" in request.GET else None
            form = SimulationForm(asked, matrix=obj, situations=situations, initial={"moment": timezone.now()})
            found: dict[str, Any] = {"form": form, "fields": [_drawn(field) for field in form], "zone": str(zone)}
            if asked is not None and version is not None and form.is_valid():
                data = form.cleaned_data
                found["result"] = simulate.simulate(
                    version, data["moment"], data.get("severity"), data.get("situation", "")
                )
        return found

    def more_links(self, request: HttpRequest, obj: EscalationPolicy) -> list[MoreLink]:
        return [MoreLink("Versions", page_url(obj, "versions"), "history")]

    @admin.display(description="Service", ordering="service__name")
    def name(self, obj: EscalationPolicy) -> str:
        return str(obj)

    @admin.display(description="Fallback", ordering="fallback__name")
    def shown_fallback(self, obj: EscalationPolicy) -> str:
        return str(obj.fallback or "every administrator")

    @admin.display(description="Version", ordering="last_number")
    def shown_version(self, obj: Any) -> str:
        return str(obj.last_number or "not set")

    @admin.display(description="Saved", ordering="last_saved")
    def shown_saved(self, obj: Any) -> SafeString | str:
        return ago(obj.last_saved, "not yet")


def _headline(version: PolicyVersion | None, problems: list[str]) -> Headline:
    if version is None:
        return Headline("bad", "Empty", "Nobody is told by this matrix. Press “Edit the matrix” and add the first row.")
    if problems:
        return Headline("warn", "Has gaps", "Somebody might not be told. The list below says where.")
    return Headline("ok", "Complete", "Every severity has a row, and everybody named can be reached.")


def _rules(version: PolicyVersion | None) -> Any:
    return version.rules.all() if version is not None else ()


def _drawn(field: Any) -> dict[str, Any]:
    """A field, drawn in the zone in which it is read."""
    return {"field": field, "html": str(field), "errors": field.errors}
