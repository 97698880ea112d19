"""The page of the workers: who is there, what they do now, which queues nobody serves."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin_site import Headline, ReadOnlyAdmin, register
from core.templatetags.portal import ago, status
from operations import work_queues
from operations.models import WorkerNode


@register(WorkerNode)
class WorkerNodeAdmin(ReadOnlyAdmin):
    """Who does the work."""

    nav, nav_label, nav_icon = ("Watch", 30), "Workers", "cpu"
    list_help = "Workers report themselves every 5 seconds; after 15 seconds of silence they count as gone."
    list_empty = "No worker has reported. Start one, or nothing that is asked for will run."
    list_display = ("shown_state", "name", "shown_queues", "works_on", "concurrency", "version", "seen", "up")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "works_on", "seen")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerNode]:
        return WorkerNode.objects.with_work()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        extra = {"queues": work_queues.overview()}
        return super().changelist_view(request, {**extra, **(extra_context or {})})

    def headline(self, request: HttpRequest, obj: WorkerNode) -> Headline:
        if obj.is_live:
            return Headline("ok", "Live", "It reports itself every 5 seconds.")
        if obj.stopping:
            return Headline("neutral", "Stopping", "It gives back what it was working on.")
        return Headline("bad", "Silent", "Start it again, or look why it cannot reach the database.")

    @admin.display(description="Works on")
    def works_on(self, obj: WorkerNode) -> SafeString | str:
        running: int = getattr(obj, "running", 0)
        if not running:
            return "–"
        more = f" and {running - 1} more" if running > 1 else ""
        address = reverse("admin:operations_operation_detail", args=[getattr(obj, "work_id", 0)])
        return format_html('<a href="{}">{}</a>{}', address, getattr(obj, "work_title", ""), more)

    @admin.display(description="State")
    def shown_state(self, obj: WorkerNode) -> SafeString:
        if obj.is_live:
            return status("ok", "Live")
        return status("neutral", "Stopping") if obj.stopping else status("bad", "Silent")

    @admin.display(description="Queues")
    def shown_queues(self, obj: WorkerNode) -> str:
        return ", ".join(obj.queues)

    @admin.display(description="Seen", ordering="heartbeat_at")
    def seen(self, obj: WorkerNode) -> SafeString | str:
        return ago(obj.heartbeat_at)

    @admin.display(description="Started", ordering="started_at")
    def up(self, obj: WorkerNode) -> SafeString | str:
        return ago(obj.started_at)
