"""Pages of deployments beside the admin's: the calendar of changes."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from core.admin_site import site
from core.links import list_url
from deployments import calendar
from deployments.models import Deployment

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@require_safe
def calendar_page(request: HttpRequest) -> HttpResponse:
    """What was and will be changed in a month. `?month=2026-03` names another than this."""
    if not request.user.has_perm("deployments.view_deployment"):
        raise PermissionDenied("Your role does not allow you to see deployments.")
    now, zone = timezone.now(), timezone.get_current_timezone()
    try:
        first = calendar.first_of(request.GET.get("month", ""), now.astimezone(zone).date())
    except ValueError as error:
        raise Http404("There is no such month. Write it as 2026-03.") from error
    sees_changes = request.user.has_perm("deployments.view_configurationchange")
    context = {
        **site.each_context(request),
        "title": f"Changes in {first:%B %Y}",
        "month": calendar.of(first, now, zone, changes=sees_changes),
        "zone": zone,
        "weekdays": WEEKDAYS,
        "list_url": list_url(Deployment),
    }
    return TemplateResponse(request, "deployments/calendar.html", context)
