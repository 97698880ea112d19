"""The way from an incident to its review: there, or a page that offers to draft it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from core.buttons import signed_in
from incidents.actions import review as actions
from incidents.models import Review
from incidents.views_updates import page_context, seen


@never_cache
@csrf_protect
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def review_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Leads to the review. Where there is none yet, the button drafts it."""
    incident = seen(request, pk)
    review = Review.objects.filter(incident=incident).first()
    if review is None and request.method == "POST":
        review = actions.draft(incident, by=signed_in(request))
    if review is not None:
        return HttpResponseRedirect(review.get_absolute_url())
    context = {
        **page_context(request, incident, "Review"),
        "may_write": actions.may_write(signed_in(request), incident),
    }
    return TemplateResponse(request, "incidents/review_none.html", context)
