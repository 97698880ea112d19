"""Pages of on-call beside the admin's: the month of a schedule, and the calendar behind a secret link."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required, permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from contacts import ical, month
from contacts.actions.oncall import digest
from contacts.models import CalendarFeed, OnCallSchedule
from core.admin_site import site
from core.links import list_url


@never_cache
@require_safe
@login_required
@permission_required("contacts.view_oncallschedule", raise_exception=True)
def month_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Who is on call in a month, level by level. `?month=2026-03` names another than this."""
    schedule = get_object_or_404(OnCallSchedule, pk=pk)
    now = timezone.now()
    try:
        first = month.first_of(request.GET.get("month", ""), month.today_in(schedule, now))
    except ValueError as error:
        raise Http404("There is no such month. Write it as 2026-03.") from error
    shown = month.of(schedule, first, now)
    context = {
        **site.each_context(request),
        "title": f"{schedule}: {first:%B %Y}",
        "schedule": schedule,
        "month": shown,
        "weekdays": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        "list_url": list_url(OnCallSchedule),
    }
    return TemplateResponse(request, "contacts/oncall_month.html", context)


@never_cache
@require_safe
def feed(request: HttpRequest, secret: str) -> HttpResponse:
    """The calendar, for whoever knows the secret. It ends when it is revoked or its maker may not sign in any more."""
    rows = CalendarFeed.objects.filter(sha256=digest(secret), revoked_at=None, made_by__is_active=True)
    row = rows.select_related("schedule", "contact").first()
    if row is None:
        raise Http404("There is no calendar under this link, or it was revoked. Make a new link in the portal.")
    answer = HttpResponse(ical.of_feed(row), content_type="text/calendar; charset=utf-8")
    answer["Content-Disposition"] = 'inline; filename="on-call.ics"'
    return answer
