"""Screens of incidents: the list, and the page from which one is worked on."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin
from django.contrib.postgres.search import SearchQuery, SearchQueryCombinable
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core import icons
from core.admin_site import Headline, MoreLink, ReadOnlyAdmin, register
from core.buttons import Button, new_key, signed_in
from core.links import detail_url
from core.templatetags.portal import ago, status
from incidents import page, shown
from incidents.acts import ACTS
from incidents.admin.changelist import LeanPaginator
from incidents.admin.filters import MineFilter, RankFilter, SoloFilter, StateFilter
from incidents.buttons import HEADLINE, MENU, rights_of
from incidents.forms import NoteForm
from incidents.models import Assignment, CoreState, Incident, IncidentRole
from incidents.querysets import SEARCH_CONFIG

FEW = 2000


@register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    """What is and was wrong. Whoever may not see a confidential one is told that there is none."""

    nav, nav_label, nav_icon = ("Respond", 10), "Incidents", "alert"
    list_help = "What is wrong now. Show all for what was."
    list_empty = "Nothing is wrong. When something is, press “Declare” on top of any page."
    list_display = (
        "shown_state",
        "shown_name",
        "shown_severity",
        "service",
        "shown_response",
        "declared",
        "commander",
        "update_due",
    )
    list_display_links = ("shown_name",)
    phone_columns = ("shown_name", "shown_state", "shown_severity", "shown_response")
    list_filter = (StateFilter, "service", RankFilter, MineFilter, SoloFilter)
    search_fields = ("number",)  # see get_search_results
    search_help_text = "Number or words"
    date_hierarchy = "declared_at"
    csv_more = (
        ("State code", lambda row: row.state),
        ("Severity code", lambda row: row.severity.code if row.severity else ""),
        ("Rank", lambda row: row.rank),
    )
    ordering = ("-pk",)
    paginator = LeanPaginator
    detail_template = "incidents/incident_detail.html"
    live_template = "incidents/incident_live.html"
    buttons = ACTS  # type: ignore[assignment]  # each is a Button

    # -- who sees what -------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        commander = Assignment.objects.filter(incident=OuterRef("pk"), role=IncidentRole.COMMANDER)
        return (
            Incident.objects.visible_to(signed_in(request))
            .select_related("service", "severity")
            .defer("search", "description", "root_cause", "resolution", "workaround", "impact_words")
            .annotate(commander_name=Subquery(commander.values("primary__name")[:1]))
        )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Incident | None:
        """With everything the page names; the list's rows carry less."""
        return page.for_page(signed_in(request)).filter(pk=object_id).first() if object_id.isdecimal() else None

    def do_view(self, request: HttpRequest, object_id: str, button: str) -> HttpResponse:
        """Whoever may not press a button on this incident is refused, whatever state it is in."""
        incident = self.visible_object(request, object_id)
        for act in ACTS:
            if act.name == button:
                act.demand(request, incident)
        return super().do_view(request, object_id, button)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """The timeline is the history; there is no second one."""
        return HttpResponseRedirect(detail_url(self.visible_object(request, object_id)) + "#timeline")

    # -- list ----------------------------------------------------------------------------------------------------------

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Incident], search_term: str
    ) -> tuple[QuerySet[Incident], bool]:
        """The beginning of a number, or words anywhere in the record; both by index."""
        words = search_term.replace("\0", "").strip()
        if not words:
            return queryset, False
        by_number = Q(number__startswith=words) | Q(number__startswith=words.upper())
        matches = by_number | Q(search=words_query(words))
        # Few matches are named to PostgreSQL: by itself it would read the list from its end until a page is full. Of
        # many, a page is full soon.
        few = list(Incident.objects.filter(matches).order_by().values_list("pk", flat=True)[: FEW + 1])
        return queryset.filter(matches if len(few) > FEW else Q(pk__in=few)), False

    @admin.display(description="State", ordering="state")
    def shown_state(self, obj: Incident) -> SafeString:
        return status(obj.status, obj.state_word)

    @admin.display(description="Incident", ordering="pk")
    def shown_name(self, obj: Incident) -> SafeString:
        lock = icons.svg("lock", "small") if obj.confidential else ""  # the page says it in words
        return format_html('<span class="incident-number">{}</span> {} {}', obj.number, obj.title, lock)

    @admin.display(description="Severity", ordering="rank")
    def shown_severity(self, obj: Incident) -> SafeString:
        return shown.severity_chip(obj.severity)

    @admin.display(description="Response", ordering="response_due_at")
    def shown_response(self, obj: Incident) -> SafeString:
        return shown.response_clock(obj).html

    @admin.display(description="Declared", ordering="declared_at")
    def declared(self, obj: Incident) -> SafeString | str:
        return ago(obj.declared_at)

    @admin.display(description="Commander")
    def commander(self, obj: Any) -> str:
        return obj.commander_name or "nobody"

    @admin.display(description="Update due", ordering="update_due_at")
    def update_due(self, obj: Incident) -> SafeString | str:
        if obj.update_due_at is None:
            return "–" if obj.is_ended else "not set"
        return shown.deadline(obj.update_due_at, over=obj.is_ended).html

    # -- page ----------------------------------------------------------------------------------------------------------

    def headline(self, request: HttpRequest, obj: Incident) -> Headline:
        return Headline(obj.status, obj.state_word)

    def is_final(self, obj: Incident) -> bool:
        return obj.state == CoreState.CLOSED

    def get_buttons(self, request: HttpRequest, obj: Any) -> list[Button]:
        return list(ACTS)

    def full_context(self, request: HttpRequest, obj: Incident) -> dict[str, Any]:
        """The buttons go to their places: beside the title, into the menu, onto the card that is about them."""
        page.load_escalation(obj)
        context = super().full_context(request, obj)
        offered = context["buttons"]
        number = page_number(request)
        return {
            **context,
            "title": f"{obj.number} {obj.title}",
            "buttons": [each for each in offered if each.place == HEADLINE],
            "more_links": [
                *(MoreLink(each.label, each.url, each.icon) for each in offered if each.place == MENU),
                *context["more_links"],
            ],
            "acts": {each.name: each for each in offered},
            "history_url": f"{detail_url(obj)}#timeline",
            "live_url": context["live_url"] + (f"?page={number}" if number > 1 else ""),
        }

    def detail_context(self, request: HttpRequest, obj: Incident) -> dict[str, Any]:
        return {
            "incident": obj,
            "rights": rights_of(signed_in(request), obj),
            "stages": page.stages_of(obj),
            "checklist": page.checklist_of(obj),
            "gates": page.gates_of(obj),
            "closers": page.closers_of(obj),
            "clocks": page.clocks_of(obj),
            "roles": page.roles_of(obj),
            "known": page.facts_of(obj),
            "relations": page.relations_of(obj),
            "operations": page.operations_of(obj),
            "updates": page.updates_of(obj),
            "actions": page.actions_of(obj),
            "add_action_url": page.add_action_url(request, obj),
            "escalation": (escalation := page.load_escalation(obj)),
            "runs": page.runs_of(escalation) if escalation else [],
            "timeline": page.timeline_page(obj, page_number(request), seen=request.GET.get("seen", "")),
            "note_form": NoteForm(auto_id="note-%s"),
            "note_key": new_key(),
        }


def words_query(words: str) -> SearchQueryCombinable:
    """As people write to a search engine; the last word may be the beginning of one."""
    whole = SearchQuery(words, config=SEARCH_CONFIG, search_type="websearch")
    found = re.findall(r"\w+", words)
    if not found:
        return whole
    beginning = " & ".join([f"'{word}'" for word in found[:-1]] + [f"'{found[-1]}':*"])
    return whole | SearchQuery(beginning, config=SEARCH_CONFIG, search_type="raw")


def page_number(request: HttpRequest) -> int:
    """The page of the timeline that is asked for."""
    asked = request.GET.get("page", "")
    return int(asked) if asked.isdecimal() and len(asked) < 7 else 1
