"""Screens of reviews: read by everybody who sees the incident, written until they are published."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.safestring import SafeString

from core.admin_site import Headline, MoreLink, ReadOnlyAdmin, register
from core.buttons import Button, signed_in
from core.environments import EnvironmentBand
from core.links import page_url
from core.templatetags.portal import ago, status
from incidents import review as sheets
from incidents.actions import review as actions
from incidents.exceptions import IncidentError
from incidents.forms_updates import ReviewForm
from incidents.models import Incident, Review


def _writes(request: HttpRequest, review: Review) -> bool:
    return actions.may_write(signed_in(request), review.incident)


def _is_draft(review: Review) -> bool:
    return review.state == Review.State.DRAFT


@register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    """What was learnt. Read only for the audit trail, which everybody reads: who wrote what stands on the timeline of
    the incident, for those who may see it. They come and go with their incident."""

    nav, nav_label, nav_icon = ("Respond", 25), "Reviews", "book"
    list_help = "What was learnt. The search looks in reviews and in their incidents."
    list_empty = "A draft is made when an incident is resolved."
    form = ReviewForm
    list_display = ("title", "shown_state", "shown_incident", "shown_service", "owner", "when")
    phone_columns = ("title", "shown_state", "shown_service", "when")
    list_filter = ("state", "incident__service")
    search_fields = ("title",)
    search_help_text = "Words, “several words”, -without, a or b"
    detail_template = "incidents/review_detail.html"
    buttons = [
        Button(
            "publish",
            "Publish",
            actions.PERMISSION,
            run=lambda request, review, data, key: actions.publish(review, by=signed_in(request)),
            consequence="Everybody who sees the incident reads it as it is now. It is closed to edits until somebody "
            "takes it back.",
            visible=lambda request, review: _is_draft(review) and review.incident.is_ended and _writes(request, review),
            icon="check",
            primary=True,
        ),
        Button(
            "take_back",
            "Back to a draft",
            actions.PERMISSION,
            run=lambda request, review, data, key: actions.take_back(review, by=signed_in(request)),
            consequence="It can be edited again. Where a review is needed, the incident cannot be closed meanwhile.",
            visible=lambda request, review: not _is_draft(review) and _writes(request, review),
            icon="undo",
        ),
        Button(
            "regenerate",
            "Draft anew …",
            actions.PERMISSION,
            run=lambda request, review, data, key: actions.regenerate(review, by=signed_in(request)),
            consequence="Title, summary, impact, root cause, resolution, lessons, owner and attendees are written anew "
            "from the incident. What was written by hand is lost. Meeting and follow-up stay.",
            visible=lambda request, review: _is_draft(review) and _writes(request, review),
            danger=True,
            icon="refresh",
        ),
    ]

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        markdown = path("<path:object_id>/markdown/", wrap(self.markdown_view), name="incidents_review_markdown")
        return [markdown, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Review]:
        rows = Review.objects.select_related(
            "incident__service", "incident__severity", "incident__environment", "incident__stage", "owner"
        )
        return rows.filter(incident__in=Incident.objects.visible_to(signed_in(request)))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Review], search_term: str
    ) -> tuple[QuerySet[Review], bool]:
        """By words, in the language's own forms, in reviews and in their incidents."""
        return (sheets.search(queryset, search_term) if search_term.strip() else queryset), False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A draft, by those who may work on the incident. A form that comes too late is handed back unsaved."""
        if obj is None:
            return bool(request.user.has_perm(actions.PERMISSION))
        return _writes(request, obj) and (_is_draft(obj) or request.method == "POST")

    def environment_of(self, obj: Review) -> EnvironmentBand | None:
        return obj.incident.environment_band

    def save_model(self, request: HttpRequest, obj: Review, form: ModelForm, change: bool) -> None:
        fields = {name: form.cleaned_data[name] for name in actions.EDITABLE if name in form.cleaned_data}
        actions.save(obj, by=signed_in(request), attendees=form.cleaned_data["attendees"], **fields)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Somebody may publish it while another writes."""
        try:
            return super().change_view(request, object_id, form_url, extra_context)
        except IncidentError as error:
            messages.error(request, f"{error.message} What you wrote was not saved.")
            return HttpResponseRedirect(page_url(self.visible_object(request, object_id)))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Who wrote when stands on the timeline."""
        review = self.visible_object(request, object_id)
        return HttpResponseRedirect(review.incident.get_absolute_url() + "#timeline")

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The attendees are saved with the rest."""

    def headline(self, request: HttpRequest, obj: Review) -> Headline:
        if obj.state == Review.State.PUBLISHED:
            return Headline("ok", "Published", "It is closed to edits.")
        ready = "Complete it and publish it." if obj.incident.is_ended else "The incident is still open."
        return Headline("warn", "Draft", f"{ready} Figures and times follow the incident.")

    def more_links(self, request: HttpRequest, obj: Review) -> list[MoreLink]:
        return [MoreLink("Markdown", page_url(obj, "markdown"), "download")]

    def detail_context(self, request: HttpRequest, obj: Review) -> dict[str, Any]:
        data = sheets.sheet(obj)
        add_item = f"{reverse('admin:incidents_actionitem_add')}?incident={obj.incident_id}"
        return {
            "sheet": data,
            "review": obj,
            "marks": [(label, data.moment(at)) for label, at in data.marks],
            "excerpt": [(data.moment(e.at), sheets.current_text(e), e.actor) for e in data.excerpt],
            "follow_up": sheets.follow_up(data),
            "prose": [
                (word, title, getattr(obj, word))
                for word, title in (
                    ("root_cause", "Root cause analysis"),
                    ("resolution", "Resolution steps"),
                    ("lessons", "Lessons learned"),
                )
            ],
            "markdown_url": page_url(obj, "markdown"),
            "add_item_url": add_item if request.user.has_perm("incidents.add_actionitem") else "",
        }

    def markdown_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The review as a file, named by the pattern of the profile."""
        review = self.visible_object(request, object_id)
        response = HttpResponse(sheets.markdown(review), content_type="text/markdown; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{sheets.file_name(review)}"'
        return response

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Review) -> SafeString:
        return status("ok" if obj.state == Review.State.PUBLISHED else "warn", obj.get_state_display())

    @admin.display(description="Incident", ordering="incident__number")
    def shown_incident(self, obj: Review) -> str:
        return obj.incident.number

    @admin.display(description="Service", ordering="incident__service__name")
    def shown_service(self, obj: Review) -> str:
        return str(obj.incident.service or "–")

    @admin.display(description="Drafted", ordering="drafted_at")
    def when(self, obj: Review) -> SafeString | str:
        return ago(obj.drafted_at)
