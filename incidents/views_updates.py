"""Writing an update: choose a template, write, look at what goes where, send."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from core.admin_site import site
from core.buttons import KEY_FIELD, new_key, signed_in
from core.exceptions import PortalError
from core.links import list_url
from core.words import counted
from incidents import updates
from incidents.access import may_see
from incidents.actions import updates as actions
from incidents.forms_updates import UpdateForm, initial_for
from incidents.models import Audience, Incident, MessageTemplate, PublicStatus

STEPS = ("Write", "Check", "Sent")


def seen(request: HttpRequest, pk: int) -> Incident:
    """The incident of a page. One that this person may not see does not exist for them."""
    user = signed_in(request)
    if not user.has_perm("incidents.view_incident"):
        raise PermissionDenied("Your role does not allow you to see incidents.")
    incident = Incident.objects.with_names().filter(pk=pk).first()
    if incident is None or not may_see(user, incident):
        raise Http404("There is no incident with this number.")
    return incident


def page_context(request: HttpRequest, incident: Incident, title: str) -> dict[str, Any]:
    """What the pages of an incident beside its own need."""
    return {
        **site.each_context(request),
        "title": title,
        "opts": Incident._meta,
        "incident": incident,
        "object": incident,
        "shown_title": incident.title,
        "environment_band": incident.environment_band,
        "list_url": list_url(Incident),
        "list_label": "Incidents",
        "detail_url": incident.get_absolute_url(),
    }


@never_cache
@csrf_protect
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def update_page(request: HttpRequest, pk: int) -> HttpResponse:
    """GET shows the form, POST without `send` what would go where, POST with `send` sends it once."""
    incident = seen(request, pk)
    if not actions.may_send(signed_in(request), incident):
        raise PermissionDenied("Your role does not allow sending updates on this incident.")
    if "hide" in request.POST:
        actions.hide(incident, by=signed_in(request))
        messages.success(request, "It is off the status page.")
        return HttpResponseRedirect(reverse("incidents-update", args=[pk]))
    if request.method != "POST":
        template = _chosen(request, incident)
        form = UpdateForm(initial=initial_for(incident, template), incident=incident)
        return _form_page(request, incident, form, template)
    form = UpdateForm(request.POST, incident=incident)
    if not form.is_valid() or "back" in request.POST:
        return _form_page(request, incident, form, form.cleaned_data.get("template"))
    if "send" not in request.POST:
        return _check_page(request, incident, form)
    return _send(request, incident, form)


def _chosen(request: HttpRequest, incident: Incident) -> MessageTemplate | None:
    number = request.GET.get("template", "")
    return updates.templates_for(incident).filter(pk=number).first() if number.isdecimal() else None


def _form_page(
    request: HttpRequest, incident: Incident, form: UpdateForm, template: MessageTemplate | None
) -> HttpResponse:
    context = {
        **page_context(request, incident, "Send an update"),
        "form": form,
        "template": template,
        "templates": updates.templates_for(incident).select_related("service"),
        "cadence": updates.cadence_words(incident),
        "last": incident.updates.select_related("by").first(),
        "wizard_steps": STEPS[:2],
        "wizard_current": 1,
    }
    return TemplateResponse(request, "incidents/update.html", context)


def _check_page(request: HttpRequest, incident: Incident, form: UpdateForm, error: str = "") -> HttpResponse:
    said = form.cleaned_data
    context = {
        **page_context(request, incident, "Send an update"),
        "form": form,
        "said": said,
        "is_public": said["audience"] == "public",
        "public_status": dict(PublicStatus.choices).get(said.get("public_status", ""), ""),
        "request_key": new_key(),
        "error": error,
        "wizard_steps": STEPS[:2],
        "wizard_current": 2,
    }
    return TemplateResponse(request, "incidents/update_check.html", context)


def _send(request: HttpRequest, incident: Incident, form: UpdateForm) -> HttpResponse:
    said, key = form.cleaned_data, request.POST.get(KEY_FIELD, "")
    if not key:
        return _check_page(request, incident, form, "This page had lost its one-time key. Check it and send again.")
    channels = list(said["channels"])
    try:
        actions.send(
            incident,
            audience=said["audience"],
            text=said["text"],
            channels=channels,
            public_status=said.get("public_status", ""),
            public_title=said.get("public_title", ""),
            template=said["template"],
            by=signed_in(request),
            key=key[:64],
        )
    except PortalError as error:
        return _check_page(request, incident, form, error.message)
    messages.success(request, _told(incident, said, len(channels)))
    return HttpResponseRedirect(incident.get_absolute_url())


def _told(incident: Incident, said: dict[str, Any], channels: int) -> str:
    """What stands where now."""
    sent = f"sent to {counted(channels, 'channel')}" if channels else "no channel was told"
    if said["audience"] != Audience.PUBLIC:
        return f"{sent[0].upper()}{sent[1:]}." if channels else "Kept with the incident; no channel was told."
    word = PublicStatus(said["public_status"]).label
    if not settings.STATUS_PAGE:
        return f"Kept as “{word}”; the status page is switched off, and {sent}."
    return f"Published on the status page as “{word}”; {sent}."
