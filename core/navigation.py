"""The left navigation, grouped by the job people come to do."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.utils.text import capfirst

from core.links import list_url

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

GROUPS = ("Respond", "Recover", "Release", "Watch", "Prepare", "Configure")


@dataclass(frozen=True)
class NavItem:
    """One link. `is_current` marks the section that the page belongs to."""

    label: str
    url: str
    icon: str
    order: int
    is_current: bool


@dataclass
class NavGroup:
    """One job with its links."""

    name: str
    items: list[NavItem] = field(default_factory=list)


def navigation_for(request: HttpRequest, site: "AdminSite") -> list[NavGroup]:
    """The groups this person sees: models they may view whose admin declares `nav = (group, order)`."""
    groups = {name: NavGroup(name) for name in GROUPS}
    for model, model_admin in site._registry.items():
        nav = getattr(model_admin, "nav", None)
        if not nav or not model_admin.has_view_permission(request):
            continue
        group, order = nav
        url = list_url(model)
        label = getattr(model_admin, "nav_label", "") or str(capfirst(model._meta.verbose_name_plural))
        icon = getattr(model_admin, "nav_icon", "") or "circle"
        groups[group].items.append(NavItem(label, url, icon, order, request.path.startswith(url)))
    for group in groups.values():
        group.items.sort(key=lambda item: (item.order, item.label))
    return [group for group in groups.values() if group.items]
