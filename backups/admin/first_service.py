"""The page that leads from an empty portal to the first verified backup."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse

from backups import first_service
from backups.first_service import Invalid, Wish
from backups.forms import FirstServiceForm
from backups.models import Plan
from core.admin_site import site
from core.buttons import KEY_FIELD, new_key, signed_in
from core.exceptions import PortalError

NEEDED = (
    "catalog.add_service",
    "catalog.add_environment",
    "catalog.add_component",
    "catalog.add_databasetarget",
    "backups.add_plan",
    "backups.run_plan",
)
PAUSE_S = 0.5  # between two looks of one person


def may(request: HttpRequest) -> bool:
    return bool(request.user.has_perms(NEEDED))


def _demand(request: HttpRequest) -> None:
    if not may(request):
        raise PermissionDenied("Your role does not allow you to add a service. Ask an administrator.")


def page(request: HttpRequest) -> HttpResponse:
    """The form; its POST tests the connection (button *Test*) or creates everything and starts the backup."""
    _demand(request)
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    if request.method != "POST":
        return _form(request, FirstServiceForm(), new_key())
    form, key = FirstServiceForm(request.POST), request.POST.get(KEY_FIELD, "")
    if "test" in request.POST:
        finding = _finding(form)
        return _form(request, form, key, finding=finding)
    if not form.is_valid():
        return _form(request, form, key)
    try:
        operation = first_service.create(Wish(**form.cleaned_data), by=signed_in(request), key=key)
    except Invalid as error:
        for name, sentences in error.errors.items():
            form.add_error(name or None, sentences)
        return _form(request, form, key)
    except PortalError as error:
        return _form(request, form, key, finding=("bad", error.message))
    messages.success(request, "Everything is set up, and the first backup has begun.")
    return HttpResponseRedirect(operation.get_absolute_url())


def test(request: HttpRequest) -> HttpResponse:
    """What a look at the server finds, while the form is filled in. Writes nothing."""
    _demand(request)
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not cache.add(f"first-service-look:{request.user.pk}", True, PAUSE_S):
        finding = ("neutral", "One moment; this is asked again when you go on.")
    else:
        finding = _finding(FirstServiceForm(request.POST))
    return TemplateResponse(request, "backups/partials/finding.html", {"finding": finding})


def _finding(form: FirstServiceForm) -> tuple[str, str]:
    """Status and sentence about the connection, from what is filled in so far."""
    form.is_valid()
    values = getattr(form, "cleaned_data", {})
    missing = [name for name in ("host", "port", "database", "user") if not values.get(name)]
    if missing:
        return "neutral", f"Fill in {', '.join(missing)} and the connection is tested here."
    defaults: dict[str, Any] = {"service": "", "kind": "", "password": "", "folder": "", "at": None, "keep_days": None}
    try:
        return first_service.tell(first_service.look(Wish(**{**defaults, **values})))
    except PortalError as error:
        return "bad", error.message


def _form(
    request: HttpRequest, form: FirstServiceForm, key: str, *, finding: tuple[str, str] | None = None
) -> HttpResponse:
    context = {
        **site.each_context(request),
        "title": "Back up a database" if Plan.objects.exists() else "Back up my first database",
        "retype": request.method == "POST" and bool(request.POST.get("password")),
        "form": form,
        "request_key": key,
        "finding": finding or ("neutral", "Fill in host, database and user and the connection is tested here."),
    }
    return TemplateResponse(request, "backups/first_service.html", context)
