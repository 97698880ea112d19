"""Pages beside the admin's: health for people and programs, figures, the offline card, the break-glass link."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from core.admin_site import site
from core.exceptions import PortalError
from survival import breakglass, health, metrics
from survival.access import may_read_figures
from survival.card import content, page
from survival.models import CardCopy


@never_cache
@require_safe
def status(request: HttpRequest) -> HttpResponse:
    """Every item. Programs get JSON with 200, or 503 when one is bad; strangers a word per item; people a page."""
    signed_in = request.user.is_authenticated and request.user.is_active
    whole = signed_in or may_read_figures(request)
    items = health.look() if whole else health.lately()
    well = health.is_well(items)
    if signed_in and request.accepts("text/html") and "format" not in request.GET:
        context = {**site.each_context(request), "title": "Health of the portal", "items": items, "well": well}
        return TemplateResponse(request, "survival/health.html", context)
    answer: dict[str, Any] = {"status": "ok" if well else "bad"}
    answer["items"] = {each.name: each.as_json(whole=whole) for each in items}
    return JsonResponse(answer, status=200 if well else 503)


@never_cache
@require_safe
def figures(request: HttpRequest) -> HttpResponse:
    """For Prometheus: by token, or from this machine."""
    if not may_read_figures(request):
        return HttpResponse(
            "Send the token: Authorization: Bearer … (METRICS_TOKEN).\n", status=403, content_type="text/plain"
        )
    return HttpResponse(metrics.text(), content_type=metrics.CONTENT_TYPE)


@never_cache
@require_safe
@login_required
@permission_required("survival.view_cardcopy", raise_exception=True)
def offline_card(request: HttpRequest) -> HttpResponse:
    """The card as it would be written now, and where it lies."""
    found = content.gather()
    context = {
        **site.each_context(request),
        "title": "Offline card",
        "card": found,
        "copies": CardCopy.objects.all(),
    }
    if request.GET.get("format") == "json":
        return JsonResponse(found)
    if request.GET.get("format") == "html":
        answer = HttpResponse(page.as_html(found), content_type="text/html; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="offline-card.html"'
        return answer
    return TemplateResponse(request, "survival/offline_card.html", context)


@never_cache
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def break_glass(request: HttpRequest, token: str) -> HttpResponse:
    """The page behind a link. Only its button signs in."""
    row = breakglass.find(token)
    if row is None:
        raise Http404("This link was used before or has run out. Make a new one on the portal's host.")
    if request.method == "POST":
        try:
            breakglass.sign_in(request, token)
        except PortalError as error:
            raise Http404(error.message) from error
        messages.warning(request, f"You are signed in by break-glass for {row.minutes} minutes. Everybody can see it.")
        return HttpResponseRedirect(reverse("admin:index"))
    return TemplateResponse(request, "survival/breakglass.html", {"title": "Break-glass", "access": row})
