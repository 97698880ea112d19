"""Screens of business hours."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from catalog import business_time
from catalog.models import BusinessHours, Holiday, OpeningHours
from core.admin_site import Headline, PortalAdmin, PortalTabularInline, register
from core.audit import track
from core.templatetags.portal import status

for model in (BusinessHours, OpeningHours, Holiday):
    track(model)


class OpeningHoursInline(PortalTabularInline):
    model = OpeningHours
    fields = ("weekday", "opens", "closes")


class HolidayInline(PortalTabularInline):
    model = Holiday
    fields = ("date", "name")


def _lines(rows: Any) -> SafeString | str:
    """Rows one below the other."""
    return format_html_join("", "<div>{}</div>", ((row,) for row in rows)) or "none"


def _state(calendar: BusinessHours) -> tuple[str, str]:
    """Its state now, as status and word."""
    if not calendar.openings.all():
        return "warn", "Never open"
    return ("ok", "Open") if business_time.is_open(calendar, timezone.now()) else ("neutral", "Closed")


@register(BusinessHours)
class BusinessHoursAdmin(PortalAdmin):
    """When a team works, less its holidays."""

    nav, nav_label, nav_icon = ("Configure", 75), "Business hours", "clock"
    list_help = "A week of opening hours in a zone, less the holidays. Services and contacts refer to them."
    list_empty = "Add the hours in which a team works, where response times shall count business hours only."
    inlines = (OpeningHoursInline, HolidayInline)
    list_display = ("shown_state", "name", "time_zone", "shown_openings", "shown_holidays")
    list_display_links = ("name",)
    phone_columns = ("name", "shown_state", "time_zone")
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[BusinessHours]:
        return BusinessHours.objects.prefetch_related("openings", "holidays")

    def headline(self, request: HttpRequest, obj: BusinessHours) -> Headline:
        kind, word = _state(obj)
        return Headline(
            kind, word, "" if obj.openings.all() else "Response times cannot be counted. Add opening hours."
        )

    def facts(self, request: HttpRequest, obj: BusinessHours) -> list[tuple[str, Any]]:
        return [
            ("Time zone", obj.time_zone),
            ("Opening hours", _lines(obj.openings.all())),
            ("Holidays", _lines(obj.holidays.all())),
            ("Services", ", ".join(str(service) for service in obj.services.all()) or "none"),
        ]

    @admin.display(description="State")
    def shown_state(self, obj: BusinessHours) -> SafeString:
        return status(*_state(obj))

    @admin.display(description="Openings a week")
    def shown_openings(self, obj: BusinessHours) -> int:
        return len(obj.openings.all())

    @admin.display(description="Holidays")
    def shown_holidays(self, obj: BusinessHours) -> int:
        return len(obj.holidays.all())
