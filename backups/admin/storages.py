"""Screens of storages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.contrib import messages
from django.forms import ModelForm
from django.http import HttpRequest

from backups.models import Storage
from catalog.models import Host
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
    detail_fields = ("name", "kind", "host", "root")
    detail_template = "backups/storage_detail.html"
    list_select_related = ("host",)

    def save_model(self, request: HttpRequest, obj: Storage, form: ModelForm, change: bool) -> None:
        """Save, and say at once when this process does not see the folder: most often a typing error."""
        super().save_model(request, obj, form, change)
        if obj.host.kind == Host.Kind.LOCAL and not Path(obj.root).is_dir():
            messages.warning(
                request, f"Saved, but there is no folder {obj.root} on this machine. Create it, or mount its disk."
            )

    def detail_context(self, request: HttpRequest, obj: Storage) -> dict[str, Any]:
        return {"plans": obj.plans.with_place().order_by("name"), "archives": obj.archives.available().count()}
