"""Recover from an incident: take a backup, restore by choosing an archive and typing the database's name, undo. The
incident is the reason, and what came of it stands on its timeline."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods

from backups import loss
from backups.forms import RestoreForm
from backups.models import Archive, Plan, Restore
from catalog.models import DatabaseTarget
from core.buttons import KEY_FIELD, new_key, signed_in
from core.exceptions import PortalError
from core.forms import OptionalReasonForm
from core.templatetags.portal import absolute_time
from incidents import access
from incidents.actions import joined
from incidents.forms_recover import BackupForm
from incidents.models import Incident
from incidents.views import context_of, visible
from operations.models import Operation

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


@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest, pk: int, archive: int) -> HttpResponse:
    """What will be replaced and lost; the database's name is typed by hand."""
    incident = restorable(request, pk)
    found = Archive.objects.available().with_place().filter(pk=archive).first()
    if found is None:
        raise Http404("There is no such archive.")
    if not access.may_restore(signed_in(request), incident, found):
        raise PermissionDenied("Working alone on an incident, you may restore databases of its service only.")
    initial = {"reason": f"{incident.number} {incident.shown_title}"}
    form = RestoreForm(request.POST or None, archive=found, initial=initial)
    return confirmed(
        request,
        form,
        lambda key, error="": _page(request, incident, found, form, key, error),
        lambda key: joined.start_restore(incident, found, by=signed_in(request), key=key, **_said(form)),
    )


def confirmed(
    request: HttpRequest, form: Form, page: Callable[..., HttpResponse], start: Callable[[str], Operation]
) -> HttpResponse:
    """One key, one operation. What is wrong comes back on the page, with what was typed."""
    if request.method != "POST":
        return page(new_key())
    try:
        key = str(uuid.UUID(request.POST.get(KEY_FIELD, "")))
    except ValueError:
        return page(new_key(), NO_KEY)
    if not form.is_valid():
        return page(key)
    try:
        operation = start(key)
    except PortalError as error:
        return page(key, error.message)
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


# -- a backup, and undoing ---------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def back_up(request: HttpRequest, pk: int) -> HttpResponse:
    """Back up before anything is changed: the plan is chosen, the reason may be left out."""
    incident = visible(request, pk)
    if not access.may_back_up_from(signed_in(request), incident):
        raise PermissionDenied("You may not take a backup from this incident. Ask an operator.")
    form = BackupForm(request.POST or None, plans=_plans(request, incident))
    more = {
        "title": "Take a backup",
        "button": {"label": "Take a backup", "icon": "archive", "danger": False},
        "consequence": "The database is read and nothing in it is changed. The archive stands on the timeline of "
        f"{incident.number}.",
    }
    return confirmed(
        request,
        form,
        lambda key, error="": _plain(request, incident, form, key, error, **more),
        lambda key: joined.take_backup(
            incident, form.cleaned_data["plan"], by=signed_in(request), reason=form.cleaned_data["reason"], key=key
        ),
    )


def _plans(request: HttpRequest, incident: Incident) -> QuerySet[Plan]:
    """The plans of its service; every plan where it has none and the person runs plans anyway."""
    everything = Plan.objects.with_place().order_by("target__component__environment__service__name", "pk")
    if incident.service_id:
        return everything.filter(target__component__environment__service=incident.service_id)
    return everything if request.user.has_perm("backups.run_plan") else everything.none()


@require_http_methods(["GET", "HEAD", "POST"])
def undo(request: HttpRequest, pk: int, restore: int) -> HttpResponse:
    """Put back what a restore of this incident replaced."""
    incident = visible(request, pk)
    found = Restore.objects.with_place().filter(operation__incidents__incident=incident, pk=restore).first()
    if found is None:
        raise Http404("There is no such restore in this incident.")
    if not access.may_undo(signed_in(request), incident, found):
        raise PermissionDenied("You may not undo this restore. Ask an operator.")
    form = OptionalReasonForm(request.POST or None)
    more = {
        "title": "Undo restore",
        "button": {"label": "Undo restore", "icon": "undo", "danger": True},
        "environment_band": found.environment_band,
        "consequence": f"{found.into_database} becomes again what it was before “{found}”. What was written since is "
        f"no longer in it; the restored database is kept aside. It stands on the timeline of {incident.number}.",
    }
    return confirmed(
        request,
        form,
        lambda key, error="": _plain(request, incident, form, key, error, **more),
        lambda key: joined.undo_restore(
            incident, found, by=signed_in(request), reason=form.cleaned_data["reason"], key=key
        ),
    )


def _plain(request: HttpRequest, incident: Any, form: Form, key: str, error: str, **more: Any) -> HttpResponse:
    """The confirm page that every button has."""
    more = {"form": form, "request_key": key, "error": error, **more}
    return TemplateResponse(request, "core/confirm.html", context_of(request, incident, **more))
