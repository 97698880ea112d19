"""Restore from an incident: choose a database and an archive, confirm by typing its name, watch. The incident is the
reason, and what came of it stands on its timeline."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse

from backups import loss
from backups.forms import RestoreForm
from backups.models import Archive
from catalog.models import DatabaseTarget
from core.buttons import KEY_FIELD, new_key, signed_in
from core.exceptions import PortalError
from core.templatetags.portal import absolute_time
from incidents import access
from incidents.actions import joined
from incidents.models import Incident
from incidents.views import context_of, visible

SHOWN_ARCHIVES = 40
STEPS = ["Choose a restore point", "Review and confirm", "Watch"]
NO_KEY = "This page had lost its one-time key. Nothing was done; check what you typed and confirm again."


def restorable(request: HttpRequest, pk: int) -> Any:
    """The incident, for somebody who may restore from it: operators, and whoever works alone on it."""
    incident = visible(request, pk)
    if not access.may_restore_from(signed_in(request), incident):
        raise PermissionDenied("You may not restore from this incident. Ask an operator.")
    return incident


def _targets(request: HttpRequest, incident: Incident) -> QuerySet[DatabaseTarget]:
    """The databases of its service; every database where it has none and the person is an operator."""
    everything = DatabaseTarget.objects.named().order_by("component__environment__service__name", "name")
    if incident.service_id:
        return everything.filter(component__environment__service=incident.service_id)
    return everything if request.user.has_perm("backups.restore_archive") else everything.none()


def pick(request: HttpRequest, pk: int) -> HttpResponse:
    """Which database, which restore point."""
    incident = restorable(request, pk)
    targets = list(_targets(request, incident))
    number = request.GET.get("target", "")
    chosen = next((t for t in targets if str(t.pk) == number), targets[0] if len(targets) == 1 else None)
    archives = Archive.objects.available().of(chosen).newest_first().with_place()[:SHOWN_ARCHIVES] if chosen else []
    more: dict[str, Any] = {
        "title": "Restore",
        "targets": targets,
        "chosen": chosen,
        "archives": archives,
        "wizard_steps": STEPS,
        "wizard_current": 1,
    }
    if chosen is not None:
        more["environment_band"] = chosen.environment_band
    return TemplateResponse(request, "incidents/restore_pick.html", context_of(request, incident, **more))


def confirm(request: HttpRequest, pk: int, archive: int) -> HttpResponse:
    """What will be replaced and lost; the database's name is typed by hand."""
    incident = restorable(request, pk)
    found = Archive.objects.available().with_place().filter(pk=archive).first()
    if found is None:
        raise Http404("There is no such archive.")
    if not access.may_restore(signed_in(request), incident, found):
        raise PermissionDenied("Working alone on an incident, you may restore databases of its service only.")
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    if request.method != "POST":
        form = RestoreForm(archive=found, initial={"reason": f"{incident.number} {incident.shown_title}"})
        return _page(request, incident, found, form, new_key())
    form, key = RestoreForm(request.POST, archive=found), request.POST.get(KEY_FIELD, "")
    try:
        key = str(uuid.UUID(key))
    except ValueError:
        return _page(request, incident, found, form, new_key(), NO_KEY)
    if not form.is_valid():
        return _page(request, incident, found, form, key)
    try:
        operation = joined.start_restore(incident, found, by=signed_in(request), key=key, **_said(form))
    except PortalError as error:
        return _page(request, incident, found, form, key, error.message)
    return HttpResponseRedirect(operation.get_absolute_url())


def _said(form: RestoreForm) -> dict[str, Any]:
    names = ("reason_kind", "reason", "into", "typed_name")
    return {
        **{name: form.cleaned_data[name] for name in names},
        "override_reason": form.cleaned_data.get("override_reason", ""),
    }


def _page(
    request: HttpRequest, incident: Any, archive: Archive, form: RestoreForm, key: str, error: str = ""
) -> HttpResponse:
    target = archive.target
    more = {
        "title": "Restore",
        "archive": archive,
        "environment_band": archive.environment_band,
        "form": form,
        "request_key": key,
        "error": error,
        "loss": loss.preview(archive),
        "consequence": f"{target.database} becomes what it was at {absolute_time(archive.snapshot_at)}. What was "
        "written since is no longer in it; the present database is kept aside, so that one click undoes the restore. "
        f"It stands on the timeline of {incident.number}.",
        "wizard_steps": STEPS,
        "wizard_current": 2,
    }
    return TemplateResponse(request, "incidents/restore_confirm.html", context_of(request, incident, **more))
