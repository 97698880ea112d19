"""Roll a release back from an incident: to the one before, or to another that is named; the reason is the incident."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from catalog.models import Environment
from core.buttons import signed_in
from core.forms import OptionalReasonForm
from deployments.feasibility import live_of, way_back_to
from deployments.models import LiveState, Release
from incidents import access
from incidents.actions import joined
from incidents.models import Incident
from incidents.views import context_of, visible
from incidents.views_restore import confirmed

MOST_RELEASES = 10


class RollbackForm(OptionalReasonForm):
    """To which release, and whether the backup taken before the live one is put back too."""

    to = forms.ModelChoiceField(Release.objects.none(), label="To release", empty_label=None)
    restores = forms.BooleanField(
        label="Also put back the backup that was taken before it",
        required=False,
        help_text="What was written since is lost. Without it only the code goes back.",
    )
    field_order = ("to", "restores", "reason")

    def __init__(self, *args: Any, live: LiveState, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ran = Release.objects.filter(
            deployments__environment=live.environment, deployments__switched_at__isnull=False
        ).exclude(pk=live.release.pk if live.release else 0)
        field: Any = self.fields["to"]
        field.queryset = ran.distinct().select_related("service").order_by("-created_at", "-pk")
        field.initial = live.previous_id
        field.label_from_instance = lambda release: release.version
        if live.deployment is None or live.deployment.archive_id is None:
            del self.fields["restores"]


@require_http_methods(["GET", "HEAD", "POST"])
def roll_back(request: HttpRequest, pk: int, environment: int) -> HttpResponse:
    """What is live in an environment of the incident's service goes back."""
    incident = visible(request, pk)
    found = Environment.objects.select_related("service").filter(pk=environment).first()
    if found is None:
        raise Http404("There is no such environment.")
    if not access.may_roll_back_from(signed_in(request), incident, found.service_id):
        raise PermissionDenied("You may not roll back from this incident. Ask an operator.")
    live = (
        LiveState.objects.select_related("environment", "release", "previous", "deployment")
        .filter(environment=found, release__isnull=False)
        .first()
    )
    if live is None or live.release is None:
        raise Http404("The portal has deployed nothing there.")
    form = RollbackForm(request.POST or None, live=live)
    return confirmed(
        request,
        form,
        lambda key, error="": _page(request, incident, found, live, form, key, error),
        lambda key: joined.roll_back(
            incident,
            found,
            by=signed_in(request),
            reason=form.cleaned_data["reason"],
            to=form.cleaned_data["to"],
            restores=form.cleaned_data.get("restores", False),
            key=key,
        ),
    )


def _page(
    request: HttpRequest,
    incident: Incident,
    environment: Environment,
    live: LiveState,
    form: RollbackForm,
    key: str,
    error: str,
) -> HttpResponse:
    assert live.release is not None
    way = way_back_to(live.previous, live_of(environment), timezone.now()).sentence if live.previous else ""
    more = {
        "title": "Roll back",
        "button": {"label": "Roll back", "icon": "undo", "danger": True},
        "environment_band": environment.environment_band,
        "consequence": f"{live.release.version} is live in {environment}. Traffic goes to the release chosen here as "
        f"soon as it is ready. {way} It stands on the timeline of {incident.number}.",
        "form": form,
        "request_key": key,
        "error": error,
    }
    return TemplateResponse(request, "core/confirm.html", context_of(request, incident, **more))
