"""Screens of releases: what they consist of, what is known of them, how far they have come."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.admin_site import Headline, PortalAdmin, register
from core.audit import track
from core.buttons import Button, signed_in
from core.exceptions import PortalError
from core.forms import ReasonForm
from core.templatetags.portal import ago, status
from deployments import shown
from deployments.actions import releases
from deployments.forms import MigrationForm, ReleaseForm, ScanForm
from deployments.models import LiveState, Release, Scan

track(Release)
track(Scan, exclude=("report",))

SHOWN_DIGITS = 12


def short_checksum(release: Release) -> SafeString | str:
    """The first digits, the whole of it on hover and for whoever copies."""
    if not release.checksum:
        return "–"
    digits = release.checksum.partition(":")[2]
    return format_html('<code title="{}">{}…</code>', release.checksum, digits[:SHOWN_DIGITS])


def _withdraw(request: HttpRequest, release: Release, data: dict[str, Any], key: str) -> None:
    releases.withdraw_release(release, reason=data["reason"], by=signed_in(request))


def _attach(request: HttpRequest, release: Release, data: dict[str, Any], key: str) -> None:
    releases.attach_scan(release, **data, by=signed_in(request))


def _tested(request: HttpRequest, release: Release, data: dict[str, Any], key: str) -> None:
    releases.note_migrations_tested(release, where=data["where"], by=signed_in(request))


def _usable(request: HttpRequest, release: Release) -> bool:
    return release.withdrawn_at is None


@register(Release)
class ReleaseAdmin(PortalAdmin):
    """One artefact of one version, the same wherever it runs. It is never edited."""

    nav, nav_label, nav_icon = ("Release", 30), "Releases", "box"
    list_help = "One artefact a version, the same in every environment. What changes gets another version."
    list_empty = "No release is known yet. Add the first one, or let CI report it."
    list_display = ("shown_state", "version", "service", "where", "checksum_short", "created", "created_by")
    list_display_links = ("version",)
    phone_columns = ("version", "shown_state", "service", "created")
    list_filter = ("service", "ci", "source_kind", "changes_schema")
    search_fields = ("version", "service__name", "source", "checksum", "notes")
    date_hierarchy = "created_at"
    detail_template = "deployments/release_detail.html"
    buttons = [
        Button(
            "attach_scan",
            "Attach scan …",
            "deployments.promote_release",
            run=_attach,
            form=ScanForm,
            consequence="What the scanner found counts for the gates of every deployment of this release. The newest "
            "of each kind and tool counts.",
            visible=_usable,
            icon="shield",
        ),
        Button(
            "migration_tested",
            "Migration tested …",
            "deployments.promote_release",
            run=_tested,
            form=MigrationForm,
            consequence="The gate for migrations passes for this release.",
            visible=lambda request, release: _usable(request, release) and release.changes_schema,
            icon="check",
        ),
        Button(
            "withdraw",
            "Withdraw …",
            "deployments.add_release",
            run=_withdraw,
            form=ReasonForm,
            consequence="Nothing deploys it any more, also where that was asked for already. Where it is live it "
            "stays.",
            visible=_usable,
            danger=True,
            icon="x-circle",
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Release]:
        return (
            Release.objects.select_related("service", "created_by")
            .prefetch_related(Prefetch("live_in", LiveState.objects.select_related("environment")))
            .order_by("-created_at", "-pk")
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # -- adding --------------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """A second click gives the release of the first: it is the same artefact."""
        if not self.has_add_permission(request):
            raise PermissionDenied("Your role does not allow you to add releases. Ask an operator.")
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
        form = ReleaseForm(request.POST or None, initial={"service": request.GET.get("service", "")})
        if request.method == "POST" and form.is_valid():
            try:
                release = releases.create_release(**form.cleaned_data, by=signed_in(request))
                return HttpResponseRedirect(release.get_absolute_url())
            except PortalError as error:
                form.add_error(None, error.message)
        context = {
            **self.admin_site.each_context(request),
            "title": "Add a release",
            "form": form,
            "list_url": self.list_url_of(request),
            "list_label": self.list_label,
        }
        return TemplateResponse(request, "deployments/release_new.html", context)

    # -- page ----------------------------------------------------------------------------------------------------------

    def headline(self, request: HttpRequest, obj: Release) -> Headline:
        return Headline(obj.status, obj.state_word, obj.withdrawn_reason)

    def detail_context(self, request: HttpRequest, obj: Release) -> dict[str, Any]:
        deployments = obj.deployments.select_related("environment__service", "requested_by", "release")
        return {
            "release": obj,
            "stops": shown.promotion(obj),
            "scans": obj.scans.select_related("by").defer("report"),
            "history": deployments[:12],
            "checksum": short_checksum(obj),
        }

    # -- list ----------------------------------------------------------------------------------------------------------

    @admin.display(description="State", ordering="ci")
    def shown_state(self, obj: Release) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Live in")
    def where(self, obj: Release) -> str:
        return ", ".join(sorted(live.environment.name for live in obj.live_in.all())) or "–"

    @admin.display(description="Checksum", ordering="checksum")
    def checksum_short(self, obj: Release) -> SafeString | str:
        return short_checksum(obj)

    @admin.display(description="Created", ordering="created_at")
    def created(self, obj: Release) -> SafeString | str:
        return ago(obj.created_at)
