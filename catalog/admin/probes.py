"""Probes: questions to running things, asked by a click and after a restore."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from catalog import probing
from catalog.admin.check_now import check_button
from catalog.admin.inventory import CatalogAdmin
from catalog.forms import ProbeFields, probe_form
from catalog.models import Probe
from catalog.probes import PROBES
from catalog.probes import Probe as Question
from core.admin_site import Headline, register
from core.audit import track
from core.charts import sparkline_svg
from core.exceptions import PortalError
from core.templatetags.portal import ago, status

track(Probe)
SHOWN_RESULTS = 20


@register(Probe)
class ProbeAdmin(CatalogAdmin):
    """One question, what was answered last, and before."""

    nav, nav_label, nav_icon = ("Watch", 40), "Probes", "eye"
    list_help = "Questions to running things. A restore waits for those marked “ready” and must pass the “smoke tests”."
    list_empty = "Add the first probe, for example the health page of a service."
    list_display = ("shown_state", "name", "environment", "shown_kind", "asks", "asked")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "environment", "asked")
    list_filter = ("state", "use", "environment__kind", "environment__service")
    search_fields = ("name", "environment__name", "environment__service__name")
    detail_template = "catalog/probe_detail.html"
    buttons = [check_button(lambda probe: Probe.objects.filter(pk=probe.pk))]

    def get_queryset(self, request: HttpRequest) -> Any:
        return Probe.objects.with_place()

    # -- forms ----------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Which kind comes first: what a probe needs depends on it."""
        if not self.has_add_permission(request):
            raise PermissionDenied("Your role does not allow you to add probes.")
        if request.GET.get("kind") not in PROBES:
            context = {
                **self.admin_site.each_context(request),
                "title": "Add a probe",
                "kinds": [(kind, probe.label, _first_line(probe)) for kind, probe in PROBES.items()],
                "list_url": self.list_url_of(request),
                "list_label": self.list_label,
            }
            return TemplateResponse(request, "catalog/probe_kinds.html", context)
        return super().add_view(request, form_url, extra_context)

    def _kind(self, request: HttpRequest, obj: Probe | None) -> str:
        kind = obj.kind if obj is not None else request.GET.get("kind", "")
        return kind if kind in PROBES else "http"

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = probe_form(self._kind(request, obj))
        return super().get_form(request, obj, change, **{**kwargs, "form": form, "fields": ProbeFields.Meta.fields})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        kind = self._kind(request, obj)
        return [
            (None, {"fields": ProbeFields.Meta.fields}),
            (PROBES[kind].label, {"fields": tuple(PROBES[kind].form.base_fields)}),
        ]

    # -- pages ----------------------------------------------------------------------------------------------------

    def headline(self, request: HttpRequest, obj: Probe) -> Headline:
        return Headline(obj.status, obj.state_word, obj.sentence or "Press “Check now”.")

    def detail_context(self, request: HttpRequest, obj: Probe) -> dict[str, Any]:
        results = list(obj.results.all())
        latencies = [result.latency_s for result in reversed(results)]
        return {
            "asks": self.asks(obj),
            "kind": PROBES[obj.kind].label if obj.kind in PROBES else obj.kind,
            "parameters": _shown_parameters(obj),
            "results": results[:SHOWN_RESULTS],
            "latency": sparkline_svg(latencies, label="Seconds per answer", width=240, height=40),
        }

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Probe) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Kind", ordering="kind")
    def shown_kind(self, obj: Probe) -> str:
        return PROBES[obj.kind].label if obj.kind in PROBES else obj.kind

    @admin.display(description="Asks")
    def asks(self, obj: Probe) -> str:
        try:
            return probing.question_of(obj).shown()
        except PortalError as error:
            return error.message

    @admin.display(description="Asked", ordering="asked_at")
    def asked(self, obj: Probe) -> SafeString | str:
        return ago(obj.asked_at) if obj.asked_at else "never"


def _first_line(probe: type[Question]) -> str:
    return (probe.__doc__ or "").strip().splitlines()[0]


def _shown_parameters(probe: Probe) -> list[tuple[str, str]]:
    """Label and value, in the order of the form."""
    if probe.kind not in PROBES:
        return []
    shown = []
    for name, field in PROBES[probe.kind].form.base_fields.items():
        value = probe.parameters.get(name)
        text = "\n".join(value) if isinstance(value, list) else "not set" if value is None else str(value)
        shown.append((str(field.label or name.replace("_", " ").capitalize()), text))
    return shown
