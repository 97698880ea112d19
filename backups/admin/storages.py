"""Screens of storages."""

from __future__ import annotations

from backups.models import Storage
from core.admin_site import PortalAdmin, register
from core.audit import track

track(Storage)


@register(Storage)
class StorageAdmin(PortalAdmin):
    """Where archives are kept."""

    nav, nav_label, nav_icon = ("Configure", 50), "Storages", "box"
    list_help = "Where archives are kept."
    list_empty = "Add a folder where archives are kept; plans write into it."
    list_display = ("name", "kind", "host", "root")
    list_select_related = ("host",)
