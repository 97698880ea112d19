"""What is sent from the page of an incident beside its buttons: notes, ticks, pins, corrections, evidence."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.http import content_disposition_header

from contacts import rota
from core.admin_site import site
from core.buttons import KEY_FIELD, new_key, signed_in
from core.environments import ALL_ENVIRONMENTS
from core.exceptions import PortalError
from core.links import list_url, page_url
from incidents import access, page
from incidents import around as surroundings
from incidents.actions import evidence as evidence_actions
from incidents.actions import work
from incidents.buttons import rights_of
from incidents.forms import CorrectForm, EvidenceForm, NoteForm
from incidents.models import Evidence, Incident, TimelineEntry
from incidents.suspects import suspects

View = Callable[..., HttpResponse]


def visible(request: HttpRequest, pk: int) -> Any:
    """The incident, with all that its page names. Raises Http404 where there is none for this person."""
    if not request.user.has_perm("incidents.view_incident"):
        raise PermissionDenied("Your role does not allow you to see incidents.")
    found = page.for_page(signed_in(request)).filter(pk=pk).first()
    if found is None:
        raise Http404("There is no such incident.")
    return found


def workable(request: HttpRequest, pk: int) -> Any:
    """The same for somebody who writes to it."""
    incident = visible(request, pk)
    if not rights_of(signed_in(request), incident).work:
        raise PermissionDenied("Your role does not allow you to work on incidents. Ask an administrator.")
    return incident


def post_only(view: View) -> View:
    """A view that writes: nothing but POST reaches it."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        return view(request, *args, **kwargs)

    return checked


def context_of(request: HttpRequest, incident: Any, **more: Any) -> dict[str, Any]:
    """What every page about an incident needs."""
    return {
        **site.each_context(request),
        "opts": Incident._meta,
        "incident": incident,
        "object": f"{incident.number} {incident.title}",
        "environment_band": incident.environment_band or ALL_ENVIRONMENTS,
        "list_url": list_url(Incident),
        "list_label": "Incidents",
        "detail_url": incident.get_absolute_url(),
        **more,
    }


def _back(incident: Incident, anchor: str = "") -> HttpResponse:
    return HttpResponseRedirect(incident.get_absolute_url() + anchor)


def _said(request: HttpRequest, act: Callable[[], object]) -> bool:
    """Do it; what cannot be done is said on the next page."""
    try:
        act()
    except PortalError as error:
        messages.error(request, error.message)
        return False
    return True


# -- notes ------------------------------------------------------------------------------------------------------------


@post_only
def note(request: HttpRequest, pk: int) -> HttpResponse:
    """Add to the timeline. htmx gets the form anew and the timeline with it; a browser is led back to the page."""
    incident = workable(request, pk)
    form = NoteForm(request.POST, auto_id="note-%s")
    if form.is_valid():
        try:
            data = form.cleaned_data
            kind, key = data["kind"] or "note", request.POST.get(KEY_FIELD, "")[:100] or None
            work.note(incident, data["text"], by=signed_in(request), kind=kind, at=data["at"], key=key)
        except PortalError as error:
            form.add_error(None, error.message)
    done = form.is_valid()
    if not getattr(request, "htmx", False):
        return _back(incident, "#timeline") if done else _note_page(request, incident, form)
    if done:
        incident, form = visible(request, pk), NoteForm(auto_id="note-%s")
    context = {
        "incident": incident,
        "note_form": form,
        "note_key": new_key() if done else request.POST.get(KEY_FIELD, ""),
        "note_saved": done,
        "timeline": page.timeline_page(incident, 1),
        "rights": rights_of(signed_in(request), incident),
        "out_of_band": done,
    }
    return TemplateResponse(request, "incidents/partials/note_answer.html", context)


def _note_page(request: HttpRequest, incident: Any, form: NoteForm) -> HttpResponse:
    """The form alone, with what was typed and what is wrong with it."""
    context = context_of(request, incident, title="Add to the timeline", form=form, key=request.POST.get(KEY_FIELD, ""))
    return TemplateResponse(request, "incidents/plain_form.html", context)


def correct(request: HttpRequest, pk: int, entry: int) -> HttpResponse:
    """Say what is right. The entry itself stays as it was written."""
    incident = workable(request, pk)
    wrong = _entry(incident, entry)
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    form = CorrectForm(request.POST or None, initial={"text": wrong.text})
    if request.method == "POST" and form.is_valid():
        try:
            work.correct(wrong, form.cleaned_data["text"], by=signed_in(request))
        except PortalError as error:
            form.add_error(None, error.message)
        else:
            return _back(incident, "#timeline")
    context = context_of(request, incident, title="Correct an entry", form=form, entry=wrong)
    return TemplateResponse(request, "incidents/plain_form.html", context)


@post_only
def pin(request: HttpRequest, pk: int, entry: int) -> HttpResponse:
    """Put an entry on top, or back."""
    incident = workable(request, pk)
    chosen = _entry(incident, entry)
    act = work.unpin if "unpin" in request.POST else work.pin
    _said(request, lambda: act(chosen, by=signed_in(request)))
    return _back(incident, "#timeline")


def _entry(incident: Incident, pk: int) -> TimelineEntry:
    found = TimelineEntry.objects.select_related("incident").filter(incident=incident, pk=pk).first()
    if found is None:
        raise Http404("There is no such entry in this incident.")
    return found


# -- ticks ------------------------------------------------------------------------------------------------------------


@post_only
def tick(request: HttpRequest, pk: int) -> HttpResponse:
    """Something on the checklist or a closing gate was done, or was not."""
    incident = workable(request, pk)
    text, gate = request.POST.get("text", ""), "gate" in request.POST
    act = work.untick if "untick" in request.POST else work.tick
    _said(request, lambda: act(incident, text, gate=gate, by=signed_in(request)))
    if gate and "from" not in request.POST:
        return HttpResponseRedirect(page_url(incident, "do", "close"))
    return _back(incident)


# -- evidence ---------------------------------------------------------------------------------------------------------


def upload(request: HttpRequest, pk: int) -> HttpResponse:
    """Keep a file with its SHA-256. The page with the form alone serves those without JavaScript and what is wrong."""
    incident = workable(request, pk)
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    sent = request.method == "POST"
    form = EvidenceForm(request.POST, request.FILES) if sent else EvidenceForm()
    if sent and form.is_valid():
        file = form.cleaned_data["file"]
        try:
            evidence_actions.add(
                incident,
                name=file.name,
                content_type=file.content_type or "application/octet-stream",
                data=file.read(),
                text=form.cleaned_data["text"],
                by=signed_in(request),
            )
        except PortalError as error:
            form.add_error("file", error.message)
        else:
            return _back(incident, "#timeline")
    context = context_of(request, incident, title="Add evidence", form=form, upload=True)
    return TemplateResponse(request, "incidents/plain_form.html", context)


def download(request: HttpRequest, pk: int, evidence: int) -> HttpResponse:
    """The bytes as they were sent, never shown in the browser: a file of strangers could be a page."""
    incident = visible(request, pk)
    found = Evidence.objects.select_related("content").filter(incident=incident, pk=evidence).first()
    if found is None:
        raise Http404("There is no such file in this incident.")
    response = HttpResponse(bytes(found.content.data), content_type="application/octet-stream")
    response["Content-Disposition"] = content_disposition_header(True, found.name)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-store"
    return response


# -- what stands beside it --------------------------------------------------------------------------------------------


MOST_SUSPECTS = 6


def beside(request: HttpRequest, pk: int) -> HttpResponse:
    """Who is on call, and what changed around the start: read apart, so that the page itself comes at once."""
    incident = visible(request, pk)
    found = {"oncall": on_call_for(incident), "around": surroundings.around(incident)}
    found["suspects"] = suspects(incident)[:MOST_SUSPECTS]
    found["may_roll_back"] = access.may_roll_back_from(signed_in(request), incident)
    if getattr(request, "htmx", False):
        return TemplateResponse(request, "incidents/partials/beside.html", {"incident": incident, **found})
    title = "On call, and what changed"
    return TemplateResponse(request, "incidents/beside.html", context_of(request, incident, title=title, **found))


def on_call_for(incident: Incident) -> list[rota.OnCall]:
    """Who answers now for the service; without a schedule of its own, those of the schedules for all."""
    everybody = rota.on_call_now()
    own = [each for each in everybody if incident.service_id and each.schedule.service_id == incident.service_id]
    return own or [each for each in everybody if each.schedule.service_id is None]
