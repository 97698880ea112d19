"""What the page of an incident shows, read with few queries: ten thousand entries cost what ten do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Extract, JSONObject
from django.urls import reverse
from django.utils import timezone

from backups.models import Restore
from contacts.models import Contact, Escalation, StepRun
from core.links import page_url
from core.templatetags.portal import human_duration
from incidents import access, gates, shown
from incidents.actions import work
from incidents.models import (
    ActionItem,
    Assignment,
    ChecklistTick,
    CoreState,
    Incident,
    IncidentOperation,
    IncidentRole,
    Stage,
    TimelineEntry,
    Update,
)
from operations.models import Operation

if TYPE_CHECKING:
    from django.http import HttpRequest

    from core.models import User

ENTRIES_A_PAGE = 30
MOST_PINNED = 20
MOST_RUNS = 6
MOST_ACTIONS = 12
STATES = (CoreState.OPEN, CoreState.ACKNOWLEDGED, CoreState.MITIGATED, CoreState.RESOLVED, CoreState.CLOSED)


# -- reading ----------------------------------------------------------------------------------------------------------


def for_page(user: User) -> QuerySet[Incident]:
    """The incidents this person may see, each with everything its page names, in two queries.

    What hangs on it comes as arrays of objects: a query each would be a dozen.
    """
    pk = OuterRef("pk")
    visible = Incident.objects.visible_to(user)
    brief = JSONObject(pk="pk", number="number", title="title", state="state")
    last_sequence = TimelineEntry.objects.filter(incident=pk).order_by("-sequence").values("sequence")[:1]
    return (
        visible.select_related("service", "environment__service", "severity", "stage", "declared_by", "review")
        .prefetch_related(Prefetch("assignments", Assignment.objects.select_related("primary", "backup")))
        .annotate(
            entry_count=Coalesce(Subquery(last_sequence), 0),
            page_actions=ArraySubquery(
                ActionItem.objects.filter(incident=pk).values(
                    json=JSONObject(
                        pk="pk", text="text", owner="owner__name", due_on="due_on", done=Q(done_at__isnull=False)
                    )
                )[:MOST_ACTIONS]
            ),
            page_stages=ArraySubquery(
                Stage.objects.filter(workflow=OuterRef("stage__workflow"))
                .order_by("order")
                .values(
                    json=JSONObject(pk="pk", name="name", core_state="core_state", limit_s=Extract(F("limit"), "epoch"))
                )
            ),
            page_ticks=ArraySubquery(
                ChecklistTick.objects.filter(incident=pk).values(json=JSONObject(text="text", gate="gate"))
            ),
            page_components=ArraySubquery(
                Incident.components.through.objects.filter(incident=pk).values(
                    json=JSONObject(pk="component_id", name="component__name")
                )
            ),
            page_operations=ArraySubquery(
                IncidentOperation.objects.filter(incident=pk)
                .order_by("-operation_id")
                .values(
                    json=JSONObject(
                        pk="operation_id",
                        title="operation__title",
                        state="operation__state",
                        restore="operation__restore__pk",
                        safety_copy="operation__restore__safety_copy",
                        undoing="operation__restore__undo_operation__state",
                    )
                )[:8]
            ),
            page_updates=ArraySubquery(
                Update.objects.filter(incident=pk)
                .order_by("-at")
                .values(json=JSONObject(text="text", audience="audience", at=_epoch("at")))[:3]
            ),
            page_parent=ArraySubquery(visible.filter(pk=OuterRef("parent_id")).values(json=brief)),
            page_merged_into=ArraySubquery(visible.filter(pk=OuterRef("merged_into_id")).values(json=brief)),
            page_merged=ArraySubquery(visible.filter(merged_into=pk).values(json=brief)[:20]),
            page_children=ArraySubquery(visible.filter(parent=pk).values(json=brief)[:20]),
            page_related=ArraySubquery(visible.filter(related=pk).values(json=brief)[:20]),
        )
    )


def load_escalation(incident: Incident) -> Escalation | None:
    """The latest escalation with what it did, kept on the row: buttons ask for it too."""
    if "page_escalation" not in incident.__dict__:
        runs = StepRun.objects.filter(escalation=OuterRef("pk")).order_by("-pk")
        found = (
            Escalation.objects.of(incident)
            .select_related("acknowledged_by", "acknowledged_by_user")
            .annotate(
                page_runs=ArraySubquery(
                    runs.values(
                        json=JSONObject(
                            pk="pk",
                            position="position",
                            sentence="sentence",
                            outcome="outcome",
                            at=_epoch("at"),
                        )
                    )[:MOST_RUNS]
                )
            )
            .order_by("-pk")
            .first()
        )
        incident.__dict__["page_escalation"] = found
    return incident.__dict__["page_escalation"]


def _epoch(field: str) -> Extract:
    """A moment inside an object of JSON. Without the zone Django counts from 1970 as the reader's clock had it."""
    return Extract(field, "epoch", tzinfo=UTC)


def moment(seconds: float | None) -> datetime | None:
    """A time that came out of the database inside an object."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


# -- timeline ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TimelinePage:
    """One page of entries, the newest first; those that are pinned stand on the first page."""

    entries: list[Any]
    pinned: list[Any]
    number: int
    pages: int
    count: int
    seen: str  # what a browser sends back: while it is the same, the timeline is not drawn anew
    is_news: bool = True

    @property
    def newer(self) -> int | None:
        return self.number - 1 if self.number > 1 else None

    @property
    def older(self) -> int | None:
        return self.number + 1 if self.number < self.pages else None


def timeline_page(incident: Any, number: int, *, seen: str = "") -> TimelinePage:
    """Read it: two queries on the first page, one on the others, none where the browser has it already.

    The minute is a part of what was seen, since the entries say how long ago they were.
    """
    pages = max(1, math.ceil(incident.entry_count / ENTRIES_A_PAGE))
    number = min(max(number, 1), pages)
    now = f"{incident.entry_count}-{timezone.now():%H%M}"
    if seen == now:
        return TimelinePage([], [], number, pages, incident.entry_count, now, is_news=False)
    corrections = TimelineEntry.objects.filter(corrects=OuterRef("pk")).order_by("sequence")
    base = (
        TimelineEntry.objects.filter(incident=incident)
        .select_related("pin", "evidence", "corrects")
        .annotate(corrected=ArraySubquery(corrections.values(json=JSONObject(text="text", actor="actor", pk="pk"))))
    )
    start = (number - 1) * ENTRIES_A_PAGE
    order = ("-at", "-sequence")
    # Which entries, before what hangs on them: else that would be read for all that are skipped too.
    numbers = TimelineEntry.objects.filter(incident=incident).order_by(*order).values("pk")
    entries = list(base.filter(pk__in=numbers[start : start + ENTRIES_A_PAGE]).order_by(*order))
    pinned = list(base.filter(pin__isnull=False).order_by("-at")[:MOST_PINNED]) if number == 1 else []
    return TimelinePage(entries, pinned, number, pages, incident.entry_count, now)


# -- what stands on the page -------------------------------------------------------------------------------------------


def stages_of(incident: Any) -> list[dict[str, Any]]:
    """The stages for the row of steps: done, now or to come. Without a workflow, the core states."""
    if not incident.page_stages:
        at = STATES.index(CoreState(incident.state))
        return [_stage(str(state.label), index, at, None) for index, state in enumerate(STATES)]
    order = [stage["pk"] for stage in incident.page_stages]
    at = order.index(incident.stage_id) if incident.stage_id in order else 0
    if incident.state == CoreState.CLOSED:
        at = max(at, len(order) - 1)
    return [_stage(s["name"], index, at, s["limit_s"]) for index, s in enumerate(incident.page_stages)]


def _stage(name: str, index: int, at: int, limit_s: float | None) -> dict[str, Any]:
    place = "done" if index < at else "now" if index == at else "later"
    limit = human_duration(timedelta(seconds=float(limit_s))) if limit_s else ""
    return {"name": name, "place": place, "number": index + 1, "limit": limit}


def closers_of(incident: Incident) -> str:
    """Who may close it, where that is what comes next."""
    if incident.state != CoreState.RESOLVED:
        return ""
    named = [contact.name for contact in access.commanders_of(incident)]
    if incident.solo and incident.declared_by and incident.declared_by.display_name not in named:
        named.append(incident.declared_by.display_name)
    who = f"Its commander ({', '.join(named)}) or an administrator" if named else "An administrator"
    more = "" if named else " Whoever takes the role of commander may as well."
    return f"{who} closes it.{more}"


def checklist_of(incident: Any) -> list[dict[str, Any]]:
    """What is to be done in this stage, with what was ticked."""
    texts = work.checklist(incident.stage) if incident.stage else []
    ticked = {tick["text"] for tick in incident.page_ticks if not tick["gate"]}
    return [{"text": text, "done": text in ticked} for text in dict.fromkeys(texts)]


def gates_of(incident: Any) -> list[dict[str, Any]]:
    """What must be done before it is closed, once that is what comes next."""
    if incident.state != CoreState.RESOLVED:
        return []
    ticked = {tick["text"] for tick in incident.page_ticks if tick["gate"]}
    return [{"text": text, "done": text in ticked} for text in gates.asked(incident, gates.profile_of(incident))]


def clocks_of(incident: Any) -> list[dict[str, Any]]:
    """The figures on top: response, next update, time box, how long it lasts."""
    over = incident.is_ended
    lasting = (incident.resolved_at or timezone.now()) - incident.started_at
    rows: list[tuple[str, str]] = [("Response", shown.response_clock(incident).html)]
    if not over:
        rows.append(("Next update", shown.deadline(incident.update_due_at).html))
        if incident.stage_id:
            rows.append((f"Stage: {incident.stage.name}", shown.deadline(incident.stage_due_at).html))
    rows.append(("Lasted" if over else "Lasting", human_duration(round(max(lasting.total_seconds(), 0)))))
    return [{"label": label, "value": value} for label, value in rows]


def roles_of(incident: Incident) -> list[dict[str, Any]]:
    """Every role with primary and backup; a role that nobody has is shown too."""
    held = {each.role: each for each in incident.assignments.all()}
    return [
        {
            "role": role.value,
            "label": role.label,
            "primary": _person(held, role, "primary"),
            "backup": _person(held, role, "backup"),
        }
        for role in IncidentRole
    ]


def _person(held: dict[str, Assignment], role: str, place: str) -> Contact | None:
    return getattr(held[role], place) if role in held else None


def facts_of(incident: Any) -> list[tuple[str, str]]:
    """What is known, in the order people ask. What was not filled in is left out, but for what people look for."""
    users = "not set" if incident.users_affected is None else f"{incident.users_affected:,}"
    who = incident.declared_by.display_name if incident.declared_by else incident.get_door_display()
    known = [
        ("Impact", ", ".join(incident.impacts) or "not set"),
        ("Users affected", users),
        ("Workaround", incident.workaround or "none known"),
        ("Expected to be over", incident.eta),
        ("Impact in words", incident.impact_words),
        ("Description", incident.description),
        ("Root cause", incident.root_cause),
        ("Resolution", incident.resolution),
        ("Data loss", incident.get_data_loss_display()),
        ("Financial impact", incident.cost),
        ("Components", ", ".join(component["name"] for component in incident.page_components)),
        ("Chat room", incident.channel_name),
        ("Declared by", who),
    ]
    return [(label, value) for label, value in known if value]


def operations_of(incident: Any) -> list[Any]:
    """The operations that were started from here, as rows that know their status, each with the `undoable` restore."""
    return [_operation(row) for row in incident.page_operations]


def _operation(row: dict[str, Any]) -> Any:
    found: Any = Operation(pk=row["pk"], title=row["title"], state=row["state"])
    undoing = row["undoing"] is not None and row["undoing"] not in Operation.TERMINAL
    can_be = row["safety_copy"] == Restore.SafetyCopy.KEPT and found.is_final and not undoing
    found.undoable = row["restore"] if can_be else None
    return found


def updates_of(incident: Any) -> list[dict[str, Any]]:
    return [{**update, "at": moment(update["at"])} for update in incident.page_updates]


def actions_of(incident: Any) -> list[dict[str, Any]]:
    """Action items, the open ones first."""
    rows = [{**row, "url": page_url(ActionItem(pk=row["pk"]))} for row in incident.page_actions]
    return sorted(rows, key=lambda row: (row["done"], row["due_on"] or "9999", row["pk"]))


def add_action_url(request: HttpRequest, incident: Any) -> str:
    """Where an action item is added; "" for whoever may not."""
    may = request.user.has_perm("incidents.add_actionitem")
    return f"{reverse('admin:incidents_actionitem_add')}?incident={incident.pk}" if may else ""


def runs_of(escalation: Any) -> list[dict[str, Any]]:
    return [{**run, "at": moment(run["at"]), "level": run["position"] + 1} for run in escalation.page_runs]


def relations_of(incident: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    """Other incidents, by what they are to this one."""
    named = [
        ("Part of", incident.page_parent),
        ("Merged into", incident.page_merged_into),
        ("Merged into this", incident.page_merged),
        ("Belong to it", incident.page_children),
        ("Related", incident.page_related),
    ]
    return [(label, [_linked(row) for row in rows]) for label, rows in named if rows]


def _linked(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "url": page_url(Incident(pk=row["pk"])), "word": CoreState(row["state"]).label}


def mine(user: User) -> QuerySet[Incident, Any]:
    """The numbers of the incidents that somebody declared or has a role in, each half by its index."""
    named = Assignment.objects.filter(Q(primary__user=user) | Q(backup__user=user)).order_by()
    declared = Incident.objects.filter(declared_by=user).order_by()
    return declared.values_list("pk").union(named.values_list("incident"))
