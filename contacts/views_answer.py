"""The page behind the link in a page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from contacts import answer
from contacts.actions import escalation as escalations
from contacts.models import Escalation


@never_cache
@csrf_protect
@require_http_methods(["GET", "HEAD", "POST"])
def answer_page(request: HttpRequest, token: str) -> HttpResponse:
    """Shows what is wrong and a button. Only the button acknowledges, and only once."""
    try:
        notification = answer.read(token)
    except answer.Expired:
        return _closed(request, 410, "This link has run out", "It worked for a week. Sign in to see how things are.")
    except answer.Forged:
        sentence = "Copy the whole link from the message, or sign in to see how things are."
        return _closed(request, 404, "This link leads nowhere", sentence)
    escalation = answer.escalation_of(notification)
    if request.method == "POST":
        escalations.acknowledge(escalation, contact=notification.contact)
        return HttpResponseRedirect(request.path)
    context = {
        "title": "Acknowledge",
        "escalation": escalation,
        "contact": notification.contact,
        "stopped": escalation.state == Escalation.State.STOPPED,
        "who": escalation.acknowledged_by or escalation.acknowledged_by_user,
    }
    return _private(TemplateResponse(request, "contacts/answer.html", context))


def _closed(request: HttpRequest, status: int, heading: str, sentence: str) -> HttpResponse:
    context = {"title": heading, "sentence": sentence}
    return _private(TemplateResponse(request, "contacts/answer_closed.html", context, status=status))


def _private(response: TemplateResponse) -> TemplateResponse:
    """The address is a key: it is neither passed on to other pages nor kept by search engines."""
    response["Referrer-Policy"] = "same-origin"
    response["X-Robots-Tag"] = "noindex, nofollow"
    return response
