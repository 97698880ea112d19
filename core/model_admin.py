"""The base of every admin screen: list, detail page, buttons, live part, edit form, history."""

from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from auditlog.models import LogEntry
from django import forms
from django.contrib import admin
from django.contrib.admin.utils import display_for_field, display_for_value, unquote
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.db.models import Field, Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html
from django.utils.text import capfirst

from core.buttons import Button, button_view, offered
from core.changelist import CappedPaginator, PortalChangeList
from core.environments import ALL_ENVIRONMENTS, EnvironmentBand
from core.export import csv_response
from core.forms import FIELD_OVERRIDES
from core.links import detail_url, list_url, page_url

STOP_POLLING = 286  # htmx: take this answer in and ask no more


@dataclass(frozen=True)
class Headline:
    """What a detail page leads with. `status`: ok, warn, bad, neutral or running; `word` names the state."""

    status: str
    word: str
    sentence: str = ""


@dataclass(frozen=True)
class MoreLink:
    """A link in the menu of a detail page."""

    label: str
    url: str
    icon: str = "arrow-right"


class PortalMixin:
    """What lists, forms and inlines share: native widgets and none of the stock scripts."""

    formfield_overrides: Any = FIELD_OVERRIDES

    @property
    def media(self) -> forms.Media:
        return forms.Media()

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """The stock field without the pop-up links around related fields, which need jQuery."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field


class PortalTabularInline(PortalMixin, admin.TabularInline):
    """Rows of a child model in the edit form. Rows are added by static/ops/forms.js."""

    extra = 0


class PortalAdmin(PortalMixin, admin.ModelAdmin):
    """Screens of one model.

    nav, nav_label, nav_icon   place in the navigation: (group, order); None leaves the model out
    phone_columns              the list columns a phone shows; default the first four
    detail_template            extends core/detail.html
    buttons                    list of core.buttons.Button
    live_template              partial polled once a second on the detail page until `is_final(obj)`. Where its context
                               says `out_of_band`, it may add cards of main, aside and raw, to be swapped by their id
    detail_fields              fields of the default facts; default all
    list_help, list_empty      one sentence beside the list's title; what to do next when the list is empty
    """

    nav: ClassVar[tuple[str, int] | None] = None
    nav_label: ClassVar[str] = ""
    nav_icon: ClassVar[str] = ""
    phone_columns: ClassVar[tuple[str, ...]] = ()
    detail_template: ClassVar[str] = "core/detail.html"
    detail_fields: ClassVar[tuple[str, ...]] = ()
    live_template: ClassVar[str] = ""
    buttons: ClassVar[list[Button]] = []
    list_help: ClassVar[str] = ""
    list_empty: ClassVar[str] = ""

    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator
    save_on_top = False

    # --- what an app overrides ---------------------------------------------------------------------------------------

    def get_buttons(self, request: HttpRequest, obj: Model) -> list[Button]:
        """The buttons that exist for `obj`; permission and visibility are checked elsewhere."""
        return list(self.buttons)

    def headline(self, request: HttpRequest, obj: Any) -> Headline | None:
        """State of `obj` for the top of its page; None shows the name alone."""
        return None

    def detail_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """More context for the detail page and its live part."""
        return {}

    def facts(self, request: HttpRequest, obj: Any) -> list[tuple[str, Any]]:
        """(label, value) pairs for the default body of the detail page."""
        fields = [f for f in obj._meta.concrete_fields if not self.detail_fields or f.name in self.detail_fields]
        return [(capfirst(f.verbose_name), _shown(f, obj)) for f in fields if f.name != "password"]

    def more_links(self, request: HttpRequest, obj: Any) -> list["MoreLink"]:
        """Links for the menu of the detail page, for pages that no button covers."""
        return []

    def is_final(self, obj: Any) -> bool:
        """True when nothing more will change, so that polling stops."""
        return True

    def environment_of(self, obj: Any) -> EnvironmentBand | None:
        """The environment that `obj` touches; by default its `environment_band`."""
        return getattr(obj, "environment_band", None)

    # --- pages -------------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        meta = self.opts
        name = f"{meta.app_label}_{meta.model_name}"
        wrap = self.admin_site.admin_view
        stock = [url for url in super().get_urls() if str(url.pattern) != "<path:object_id>/"]
        return [
            path("export/", wrap(self.export_view), name=f"{name}_export"),
            path("<path:object_id>/do/<slug:button>/", wrap(self.do_view), name=f"{name}_do"),
            path("<path:object_id>/live/", wrap(self.live_view), name=f"{name}_live"),
            *stock,
            path("<path:object_id>/", wrap(self.detail_view), name=f"{name}_detail"),
        ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PortalChangeList]:
        return PortalChangeList

    def visible_object(self, request: HttpRequest, object_id: str) -> Any:
        """The object of a page. Raises Http404 if there is none, PermissionDenied if this person may not see it."""
        obj = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, obj):
            raise PermissionDenied(f"Your role does not allow you to see {self.opts.verbose_name_plural}.")
        if obj is None:
            raise Http404(f"There is no {self.opts.verbose_name} with the number {object_id}.")
        return obj

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """What every page about one object needs."""
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "object": obj,
            "original": obj,
            "title": str(obj),
            "environment_band": self.environment_of(obj) or ALL_ENVIRONMENTS,
            "list_url": self.list_url_of(request),
            "list_label": self.list_label,
            "detail_url": detail_url(obj),
        }

    @property
    def list_label(self) -> str:
        """What the list of this model is called."""
        return self.nav_label or str(capfirst(self.opts.verbose_name_plural))

    def list_url_of(self, request: HttpRequest) -> str:
        """The list this person came from, with its filters."""
        return list_url(self.model, dict(parse_qsl(self.get_preserved_filters(request))).get("_changelist_filters", ""))

    def full_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Context of the detail page and of its live part."""
        editable = self.has_change_permission(request, obj)
        return {
            **self.page_context(request, obj),
            "headline": self.headline(request, obj),
            "facts": self.facts(request, obj) if self.detail_template == PortalAdmin.detail_template else [],
            "buttons": offered(self.get_buttons(request, obj), request, obj),
            "edit_url": page_url(obj, "change") if editable else "",
            "delete_url": page_url(obj, "delete") if self.has_delete_permission(request, obj) else "",
            "history_url": page_url(obj, "history"),
            "more_links": self.more_links(request, obj),
            "live_url": page_url(obj, "live"),
            "live_template": self.live_template,
            "is_final": self.is_final(obj),
            **self.detail_context(request, obj),
        }

    def detail_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        obj = self.visible_object(request, object_id)
        return TemplateResponse(request, self.detail_template, self.full_context(request, obj))

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.live_template:
            raise Http404("This page has no live part.")
        obj = self.visible_object(request, object_id)
        status = STOP_POLLING if self.is_final(obj) else 200
        # A card elsewhere on the page has an id and, in this answer, takes the place of the one that is shown.
        context = {**self.full_context(request, obj), "out_of_band": bool(getattr(request, "htmx", False))}
        return TemplateResponse(request, self.live_template, context, status=status)

    def do_view(self, request: HttpRequest, object_id: str, button: str) -> HttpResponse:
        return button_view(self, request, self.visible_object(request, object_id), button)

    def export_view(self, request: HttpRequest) -> StreamingHttpResponse:
        """The filtered list as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied(f"Your role does not allow you to see {self.opts.verbose_name_plural}.")
        return csv_response(self.get_changelist_instance(request))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Who changed this object, from the audit trail."""
        obj = self.visible_object(request, object_id)
        entries = LogEntry.objects.get_for_object(obj).select_related("actor")[:200]
        context = {**self.page_context(request, obj), "title": f"History of {obj}", "entries": entries}
        return TemplateResponse(request, "core/history.html", {**context, **(extra_context or {})})

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        extra = {"title": self.list_label, "list_help": self.list_help}
        return super().changelist_view(request, {**extra, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Who may only look is led to the detail page; a form that cannot be sent helps nobody."""
        if not self.has_change_permission(request) and request.method in ("GET", "HEAD"):
            return HttpResponseRedirect(detail_url(self.visible_object(request, object_id)))
        return super().change_view(request, object_id, form_url, extra_context)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        obj = kwargs.get("obj")
        context["list_url"], context["list_label"] = self.list_url_of(request), self.list_label
        if obj is not None:
            context["environment_band"] = self.environment_of(obj) or ALL_ENVIRONMENTS
            context["detail_url"] = detail_url(obj)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], list[Any]]:
        """What hangs on it goes along, or holds it back, also where nobody deletes it by hand."""
        going, counts, lacking, protected = super().get_deleted_objects(objs, request)
        theirs = {
            str(model._meta.verbose_name)
            for model in self.admin_site._registry
            if request.user.has_perm(f"{model._meta.app_label}.delete_{model._meta.model_name}")
        }
        return going, counts, {name for name in lacking if str(name) not in theirs}, protected

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        obj = context["object"]
        context["environment_band"] = self.environment_of(obj) or ALL_ENVIRONMENTS
        context["list_url"], context["list_label"] = self.list_url_of(request), self.list_label
        context["detail_url"] = detail_url(obj)
        return super().render_delete_form(request, context)

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(detail_url(obj))

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(detail_url(obj))

    def get_action_choices(self, request: HttpRequest, default_choices: Any = ()) -> list[tuple[str, str]]:
        return super().get_action_choices(request, [("", "Choose what to do")])

    # The audit trail is auditlog's: it also sees edits that pass no form, and masks secrets. Two trails would differ.

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return None

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        return None


class ReadOnlyAdmin(PortalAdmin):
    """Screens of a model that only the engine writes: no add, no edit form, no delete. Also works as a mixin."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _shown(field: Field, obj: Any) -> Any:
    """A field's value as the default facts show it."""
    if field.is_relation:
        related = getattr(obj, field.name)
        if related is None:
            return "–"
        if hasattr(related, "get_absolute_url"):
            return format_html('<a href="{}">{}</a>', related.get_absolute_url(), related)
        return display_for_value(related, "–")
    return display_for_field(getattr(obj, field.attname), field, "–")
