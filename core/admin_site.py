"""The portal's own admin site, mounted at `/`. Apps write:

from core.admin_site import PortalAdmin, register

@register(Plan)
class PlanAdmin(PortalAdmin): ...
"""

from collections.abc import Callable
from typing import Any, cast

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from core.actions import set_time_zone
from core.environments import ALL_ENVIRONMENTS
from core.forms import SignInForm, TimeZoneForm
from core.model_admin import Headline, MoreLink, PortalAdmin, PortalTabularInline, ReadOnlyAdmin
from core.models import User
from core.navigation import navigation_for
from core.panels import tiles_for

__all__ = [
    "Headline",
    "MoreLink",
    "PortalAdmin",
    "PortalSite",
    "PortalTabularInline",
    "ReadOnlyAdmin",
    "register",
    "site",
]


class PortalSite(AdminSite):
    """Everyone with an active account may sign in; what they see depends on their roles."""

    site_title = "Ops Portal"
    site_header = "Ops Portal"
    index_title = "Situation room"
    login_form = SignInForm
    enable_nav_sidebar = False
    empty_value_display = "–"

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active)

    def get_urls(self) -> list[Any]:
        return [path("me/", self.admin_view(self.preferences), name="preferences"), *super().get_urls()]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Context of every page. The stock app list is left out: it costs, and the navigation replaces it."""
        allowed = self.has_permission(request)
        return {
            "site_title": self.site_title,
            "site_header": self.site_header,
            "site_url": "/",
            "has_permission": allowed,
            "is_popup": False,
            "is_nav_sidebar_enabled": False,
            "navigation": navigation_for(request, self) if allowed else [],
            "environment_band": ALL_ENVIRONMENTS,
        }

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The situation room. htmx asks for the tiles alone."""
        request.current_app = self.name
        context = {"tiles": tiles_for(request), "title": self.index_title}
        if getattr(request, "htmx", False):
            return TemplateResponse(request, "core/partials/tiles.html", context)
        return TemplateResponse(
            request, "core/home.html", {**self.each_context(request), **context, **(extra_context or {})}
        )

    def app_index(  # type: ignore[override]
        self, request: HttpRequest, app_label: str, extra_context: Any = None
    ) -> HttpResponse:
        """Stock pages link here; the navigation is by job and not by app."""
        return HttpResponseRedirect(reverse("admin:index", current_app=self.name))

    def preferences(self, request: HttpRequest) -> HttpResponse:
        """A person's own settings."""
        user = cast(User, request.user)  # admin_view let nobody else in
        form = TimeZoneForm(request.POST or None, initial={"time_zone": user.time_zone})
        if request.method == "POST" and form.is_valid():
            set_time_zone(user, time_zone=form.cleaned_data["time_zone"])
            messages.success(request, "Saved. Times are now shown in your zone.")
            return HttpResponseRedirect(reverse("admin:preferences", current_app=self.name))
        context = {**self.each_context(request), "title": "Your settings", "form": form}
        return TemplateResponse(request, "core/preferences.html", context)


site = PortalSite()


def register(*models: type[Model]) -> Callable[[type[PortalAdmin]], type[PortalAdmin]]:
    """Class decorator: put these models on the portal's site with the decorated admin."""

    def decorate(admin_class: type[PortalAdmin]) -> type[PortalAdmin]:
        site.register(models, admin_class)
        return admin_class

    return decorate
