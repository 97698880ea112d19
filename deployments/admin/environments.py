"""The environment board, and the page of one environment."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from catalog.models import Environment
from core.admin_site import Headline, MoreLink, ReadOnlyAdmin, register
from core.buttons import Button, signed_in
from core.exceptions import PortalError
from core.forms import ReasonForm
from core.links import list_url
from core.templatetags.portal import ago, status
from deployments import board, feasibility, reach, shown
from deployments.actions import changing, requesting
from deployments.admin.going_back import may_go_back, pinned, roll_back_button, running_in
from deployments.drivers import DRIVERS
from deployments.drivers.base import PortHolder
from deployments.forms import DeployForm, FreePortForm, RestartForm, ScaleForm, SettingForm
from deployments.models import ChecklistItem, Deployment, DeploymentProfile, FreezeWindow, LiveState
from deployments.procedures.control import kept_versions

LATEST = 8


def profile_of(live: LiveState) -> DeploymentProfile | None:
    """How it is deployed to, read once a page."""
    if "_profile" not in live.__dict__:
        found = DeploymentProfile.objects.select_related("checklist", "promotes_from", "backup_plan", "host")
        live.__dict__["_profile"] = found.filter(environment=live.environment_id).first()
    profile: DeploymentProfile | None = live.__dict__["_profile"]
    return profile


def _deploy_kwargs(request: HttpRequest, live: LiveState) -> dict[str, Any]:
    asked = request.GET.get("release", "")
    return {"live": live, "profile": profile_of(live), "user": signed_in(request), "asked": asked}


def _deploy(request: HttpRequest, live: LiveState, data: dict[str, Any], key: str) -> Deployment:
    release = shown.asked_release(live.environment, data["release"])
    names = ("reason", "incident", "starts_itself", "not_before", "not_after", "solo", "emergency")
    given = {name: data[name] for name in names if name in data}
    return requesting.request_deployment(live.environment, release, by=signed_in(request), key=key, **given)


def _deploy_context(request: HttpRequest, live: LiveState) -> dict[str, Any]:
    """What is known before anybody asks: the way back, the backup, what it will wait for."""
    profile, now = profile_of(live), timezone.now()
    fresh = feasibility.fresh_backup(profile, now) if profile is not None and profile.backup_plan_id else None
    checklist = profile.checklist_id if profile is not None else None
    return {
        "live": live,
        "profile": profile,
        "way": feasibility.way_back_to(live.release, live, now) if live.release is not None else None,
        "fresh": fresh,
        "items": ChecklistItem.objects.filter(template=checklist) if checklist else [],
        "freezes": FreezeWindow.objects.at(now).for_environment(live.environment),
        "running": running_in(live),
    }


def _cleanup_context(request: HttpRequest, live: LiveState) -> dict[str, Any]:
    try:
        driver = reach.looking_driver(reach.profile_of(live.environment))
        return {"leftovers": driver.leftovers(kept_versions(live.environment_id))}
    except PortalError as error:
        return {"trouble": error.message}


def _look(request: HttpRequest, live: LiveState, data: dict[str, Any], key: str) -> None:
    reality = changing.look_now(live.environment)
    messages.success(request, f"Looked at {live.environment}. {reality.sentence}".strip())


def _can_scale(request: HttpRequest, live: LiveState) -> bool:
    profile = profile_of(live)
    return profile is not None and profile.driver in DRIVERS and DRIVERS[profile.driver].can_scale


def _can_free_ports(request: HttpRequest, live: LiveState) -> bool:
    profile = profile_of(live)
    return profile is not None and profile.driver in DRIVERS and DRIVERS[profile.driver].can_free_ports


def _holders(live: LiveState) -> tuple[list[PortHolder], str]:
    """Who listens on ports of this environment, asked once a page; or why that is not known."""
    if "_holders" not in live.__dict__:
        try:
            found = reach.looking_driver(reach.profile_of(live.environment)).port_holders()
            live.__dict__["_holders"] = (found, "")
        except PortalError as error:
            live.__dict__["_holders"] = ([], error.message)
    holders: tuple[list[PortHolder], str] = live.__dict__["_holders"]
    return holders


def _has_profile(request: HttpRequest, live: LiveState) -> bool:
    return profile_of(live) is not None


def _something_lives(request: HttpRequest, live: LiveState) -> bool:
    return profile_of(live) is not None and live.release_id is not None


BUTTONS = [
    Button(
        "deploy",
        "Deploy …",
        "deployments.request_deployment",
        run=_deploy,
        form=DeployForm,
        form_kwargs=_deploy_kwargs,
        consequence=lambda live: (
            f"A release is asked for in {live.environment}. It starts when nothing keeps it and somebody starts it, or "
            "by itself where you say so. Until its traffic is switched nothing changes for anybody."
        ),
        context=_deploy_context,
        template="deployments/deploy_confirm.html",
        visible=_has_profile,
        primary=True,
        icon="rocket",
    ),
    Button(
        "look",
        "Look now",
        "deployments.look_livestate",
        run=_look,
        visible=_has_profile,
        confirm=False,
        icon="eye",
    ),
    roll_back_button(lambda request, live: _has_profile(request, live) and may_go_back(live)),
    Button(
        "restart",
        "Restart …",
        "deployments.control_service",
        run=lambda request, live, data, key: changing.request_restart(
            live.environment,
            by=signed_in(request),
            reason=data["reason"],
            or_roll_back=data.get("or_roll_back", False),
            key=key,
        ),
        form=RestartForm,
        form_kwargs=lambda request, live: {
            "goes_back": may_go_back(live) and signed_in(request).has_perm("deployments.rollback_deployment")
        },
        consequence=lambda live: f"What is live in {live.environment} is started again, and the change is recorded.",
        visible=_something_lives,
        icon="refresh",
    ),
    Button(
        "scale",
        "Scale …",
        "deployments.control_service",
        run=lambda request, live, data, key: changing.request_scale(
            live.environment, data["count"], by=signed_in(request), reason=data["reason"], key=key
        ),
        form=ScaleForm,
        consequence="Copies are started or stopped until so many run. Old and new number are recorded.",
        visible=lambda request, live: _something_lives(request, live) and _can_scale(request, live),
        icon="scale",
    ),
    Button(
        "set",
        "Set a setting …",
        "deployments.control_service",
        run=lambda request, live, data, key: changing.request_setting(
            live.environment, data["name"], data["value"], by=signed_in(request), reason=data["reason"], key=key
        ),
        form=SettingForm,
        consequence=lambda live: (
            f"{live.environment} is started again with the new value. Old and new value are recorded and shown."
        ),
        context=lambda request, live: {"live": live},
        template="deployments/setting_confirm.html",
        visible=_something_lives,
        icon="edit",
    ),
    Button(
        "free_port",
        "Free a port …",
        "deployments.control_service",
        run=lambda request, live, data, key: changing.request_free_port(
            live.environment, data["holder"], by=signed_in(request), reason=data["reason"], key=key
        ),
        form=FreePortForm,
        form_kwargs=lambda request, live: {"holders": _holders(live)[0]},
        consequence="The program that you choose is ended for good, whatever it does. What the portal started itself "
        "is not listed.",
        context=lambda request, live: dict(zip(("holders", "trouble"), _holders(live), strict=True)),
        template="deployments/port_confirm.html",
        visible=_can_free_ports,
        danger=True,
        icon="stop",
    ),
    Button(
        "clean_up",
        "Clean up …",
        "deployments.control_service",
        run=lambda request, live, data, key: changing.request_cleanup(
            live.environment, by=signed_in(request), reason=data["reason"], key=key
        ),
        form=ReasonForm,
        consequence="What stands below goes for good. What is live and the way back stay. It is decided again when it "
        "runs.",
        context=_cleanup_context,
        template="deployments/cleanup_confirm.html",
        visible=_has_profile,
        danger=True,
        icon="trash",
    ),
]
# These stand in the headline; the others, which nobody needs in a hurry, in the menu beside them.
HEADLINE = ("deploy", "look", "roll_back")


@register(LiveState)
class LiveStateAdmin(ReadOnlyAdmin):
    """What is live where: services down, environments across."""

    nav, nav_label, nav_icon = ("Release", 10), "Environment board", "layers"
    list_help = "What is live where, since when and by whom, and whether that is what runs."
    list_empty = "Nothing is deployed by the portal yet. Say how under Configure, Deployment profiles."
    list_display = ("shown_state", "environment", "version", "live_since", "by", "before", "seen", "drift")
    list_display_links = ("environment",)
    phone_columns = ("environment", "shown_state", "version", "live_since")
    list_filter = ("environment__kind",)
    search_fields = ("environment__name", "environment__service__name", "release__version")
    list_per_page = 200
    detail_template = "deployments/environment_detail.html"
    live_template = "deployments/environment_live.html"
    buttons = BUTTONS

    def get_queryset(self, request: HttpRequest) -> QuerySet[LiveState]:
        return board.states()

    def get_urls(self) -> list[Any]:
        first = self.admin_site.admin_view(self.first_look)
        return [path("first/<int:environment>/", first, name="deployments_first_look"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list is drawn as a board; search, filters and CSV are those of every list."""
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            changes = response.context_data["cl"]
            found = board.lines(changes.result_list)
            unseen = [] if changes.query or changes.has_active_filters else board.never_looked_at()
            kinds, rows = board.matrix(found + unseen)
            response.context_data |= {"kinds": kinds, "board": rows, "unseen": unseen}
        return response

    def first_look(self, request: HttpRequest, environment: int) -> HttpResponse:
        """Look at an environment that has no line yet, which makes one."""
        if not request.user.has_perm("deployments.look_livestate"):
            raise PermissionDenied("Your role does not allow you to look at environments. Ask an operator.")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        found = get_object_or_404(Environment.objects.select_related("service"), pk=environment)
        try:
            reality = changing.look_now(found)
            messages.success(request, f"Looked at {found}. {reality.sentence}".strip())
        except PortalError as error:
            messages.error(request, error.message)
        live = LiveState.objects.filter(environment=found).first()
        return HttpResponseRedirect(live.get_absolute_url() if live is not None else list_url(LiveState))

    # -- page ----------------------------------------------------------------------------------------------------------

    def full_context(self, request: HttpRequest, obj: LiveState) -> dict[str, Any]:
        context = super().full_context(request, obj)
        offered = context["buttons"]
        menu = [MoreLink(each.label, each.url, each.icon) for each in offered if each.name not in HEADLINE]
        return {
            **context,
            "title": str(obj.environment),
            "buttons": [each for each in offered if each.name in HEADLINE],
            "more_links": [*menu, *context["more_links"]],
            "acts": {each.name: each for each in offered},
        }

    def more_links(self, request: HttpRequest, obj: LiveState) -> list[MoreLink]:
        links = [MoreLink("Environment", obj.environment.get_absolute_url(), "globe")]
        profile = profile_of(obj)
        if profile is not None and request.user.has_perm("deployments.view_deploymentprofile"):
            links.append(MoreLink("How it is deployed to", profile.get_absolute_url(), "wrench"))
        return links

    def headline(self, request: HttpRequest, obj: LiveState) -> Headline:
        line = board.Line(obj.environment, obj, running_in(obj))
        sentence = obj.drift or (obj.deployment.message if obj.deployment is not None and line.is_suspect else "")
        if not sentence and obj.release is not None:
            sentence = f"{obj.release.version} is live."
        if profile_of(obj) is None:
            sentence = f"{sentence} Nobody has said how it is deployed to: add a deployment profile.".strip()
        return Headline(line.status, line.word, sentence)

    def is_final(self, obj: LiveState) -> bool:
        return running_in(obj) is None and not _changing(obj)

    def detail_context(self, request: HttpRequest, obj: LiveState) -> dict[str, Any]:
        now, profile = timezone.now(), profile_of(obj)
        deployments = Deployment.objects.to(obj.environment_id).select_related("release", "requested_by", "operation")
        archive = pinned(obj)
        return {
            "live": obj,
            "profile": profile,
            "instances": shown.copies(obj),
            "ways": shown.ways_back(obj, now),
            "pinned": archive,
            "running": running_in(obj),
            "waiting": list(deployments.waiting()[:LATEST]),
            "history": list(deployments.exclude(state=Deployment.State.WAITING)[:LATEST]),
            "changes": list(obj.environment.configuration_changes.select_related("operation", "by")[:LATEST]),
            "all_deployments": list_url(Deployment, f"environment__id__exact={obj.environment_id}"),
            "secrets": sorted((profile.secrets or {}).items()) if profile is not None else [],
            "calendar_url": reverse("deployments-calendar"),
        }

    # -- list ----------------------------------------------------------------------------------------------------------

    @admin.display(description="State")
    def shown_state(self, obj: LiveState) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Live", ordering="release__version")
    def version(self, obj: LiveState) -> str:
        return obj.release.version if obj.release is not None else "–"

    @admin.display(description="Since", ordering="since")
    def live_since(self, obj: LiveState) -> SafeString | str:
        return ago(obj.since)

    @admin.display(description="By")
    def by(self, obj: LiveState) -> str:
        return str((obj.deployment.requested_by if obj.deployment is not None else None) or "–")

    @admin.display(description="Before")
    def before(self, obj: LiveState) -> str:
        return obj.previous.version if obj.previous is not None else "–"

    @admin.display(description="Looked at", ordering="seen_at")
    def seen(self, obj: LiveState) -> SafeString | str:
        return ago(obj.seen_at, "never")


def _changing(live: LiveState) -> bool:
    """Whether a restart, scaling or the like is at work."""
    from operations.models import Operation

    recent = live.environment.configuration_changes.exclude(operation__state__in=Operation.TERMINAL)
    return recent.filter(operation__isnull=False).exists()
