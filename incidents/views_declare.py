"""Declaring an incident: a page with two fields, reached by a button on top of every page."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse

from contacts import policy
from core.admin_site import site
from core.buttons import KEY_FIELD, new_key, signed_in
from core.exceptions import PortalError
from core.links import list_url
from incidents.actions.declare import declare
from incidents.forms import DeclareForm
from incidents.models import Incident

SHOWN_OPEN = 5
NO_KEY = "This page had lost its one-time key. Nothing was declared; press the button once more."


def page(request: HttpRequest) -> HttpResponse:
    """The form; its POST declares. The one-time key makes a double click one incident."""
    if not request.user.has_perm("incidents.declare_incident"):
        raise PermissionDenied("Your role does not allow you to declare incidents. Tell a responder or an operator.")
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    if request.method != "POST":
        return _form(request, DeclareForm(initial=_initial(request)), new_key())
    form, key = DeclareForm(request.POST), request.POST.get(KEY_FIELD, "")
    if not form.is_valid():
        return _form(request, form, key or new_key())
    if not 16 <= len(key) <= 100:
        form.add_error(None, NO_KEY)
        return _form(request, form, new_key())
    try:
        incident = declare(by=signed_in(request), key=f"page:{request.user.pk}:{key}", **_said(form))
    except PortalError as error:
        form.add_error(None, error.message)
        return _form(request, form, key)
    return HttpResponseRedirect(incident.get_absolute_url())


def _said(form: DeclareForm) -> dict[str, Any]:
    """What the form says, as the action takes it."""
    data = dict(form.cleaned_data)
    data.pop("place")
    return {**data, "components": list(data.get("components", ()))}


def _initial(request: HttpRequest) -> dict[str, Any]:
    """A link may choose the service: `?service=3`."""
    number = request.GET.get("service", "")
    return {"place": f"service-{number}"} if number.isdecimal() else {}


def _form(request: HttpRequest, form: DeclareForm, key: str) -> HttpResponse:
    still_open = Incident.objects.visible_to(signed_in(request)).open().select_related("severity", "service")
    context = {
        **site.each_context(request),
        "title": "Declare an incident",
        "form": form,
        "request_key": key,
        "situations": policy.situations(),
        "schemes": [(service, list(rows)) for service, rows in groupby(form.severities, lambda s: s.service)],
        "still_open": still_open[:SHOWN_OPEN],
        "list_url": list_url(Incident),
    }
    return TemplateResponse(request, "incidents/declare.html", context)
