"""A small portal on the models that `core` has: people with buttons, groups that may be edited and deleted."""

from typing import Any

from django import forms
from django.contrib.auth.models import Group
from django.urls import path

from core.admin import AuditAdmin, BeatTaskAdmin, SignInFailureAdmin, UserAdmin
from core.admin_site import Headline, PortalAdmin, PortalSite
from core.buttons import Button
from core.environments import EnvironmentBand
from core.exceptions import PortalError
from core.forms import ReasonForm
from core.models import User

pressed: list[tuple[str, Any, dict[str, Any], str]] = []


def press(request: Any, obj: Any, data: dict[str, Any], key: str) -> Any:
    """Record what reached `run`; refuse the reason "refuse"."""
    if data.get("reason") == "refuse":
        raise PortalError("The database is busy. Wait until operation 12 has ended.")
    pressed.append((request.user.username, obj, data, key))
    return "/core/user/" if data.get("reason") == "elsewhere" else None


class PersonAdmin(UserAdmin):
    live_template = "core/partials/headline.html"
    buttons = [
        Button("poke", "Poke", permission="core.change_user", run=press, form=ReasonForm, danger=True,
               consequence=lambda user: f"{user.username} is poked."),
        Button("wave", "Wave", permission="core.change_user", run=press, confirm=False, done="Waved."),
        Button("hidden", "Hidden", permission="core.change_user", run=press, visible=lambda request, obj: False),
    ]  # fmt: skip

    def environment_of(self, obj: User) -> EnvironmentBand | None:
        return EnvironmentBand("ERP Berlin", obj.last_name) if obj.last_name else None

    def is_final(self, obj: User) -> bool:
        return not obj.is_active

    def headline(self, request: Any, obj: User) -> Headline:
        return Headline("running", "Working")


class GroupAdmin(PortalAdmin):
    nav = ("Prepare", 10)
    list_display = ("name", "size")
    search_fields = ("name",)

    def size(self, group: Group) -> int:
        return group.user_set.count()

    def formfield_for_manytomany(self, *args: Any, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(*args, **{**kwargs, "widget": forms.SelectMultiple()})


site = PortalSite()
site.register(User, PersonAdmin)
site.register(Group, GroupAdmin)
for stock in (AuditAdmin, BeatTaskAdmin, SignInFailureAdmin):
    from core.admin_site import site as real

    model = next(model for model, admin in real._registry.items() if type(admin) is stock)
    site.register(model, stock)

urlpatterns = [path("", site.urls)]
