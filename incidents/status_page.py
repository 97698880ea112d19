"""What people without an account are told: components, disturbances, maintenance. Built from public words only.

Nothing here reads a title, a description, a note, a name or a number of an incident: what leaves the portal is the
public title, the texts of public updates and the public names of components. It is read from the database at most
every few seconds a process, however many ask, and the last answer is given while the database does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, models, transaction
from django.db.models import Exists, OuterRef, Prefetch, Q
from django.utils import timezone

from catalog.models import Component
from core.recent import Recent
from incidents.models import Audience, CoreState, Incident, Maintenance, PublicComponent, PublicStatus, Update

HISTORY_DAYS = 90
AHEAD = timedelta(days=14)
KEPT_S = 5.0
MOST = 300


class State(models.TextChoices):
    """How a component is, the worst last."""

    OPERATIONAL = "operational", "Operational"
    MAINTENANCE = "maintenance", "Maintenance"
    DEGRADED = "degraded", "Degraded"
    DOWN = "down", "Down"

    @property
    def status(self) -> str:
        """How the portal draws it."""
        return {"operational": "ok", "maintenance": "running", "degraded": "warn", "down": "bad"}[self.value]

    @property
    def weight(self) -> int:
        return list(State).index(self)


SENTENCES = {
    State.OPERATIONAL: "Everything works",
    State.MAINTENANCE: "Maintenance is going on",
    State.DEGRADED: "Something is disturbed",
    State.DOWN: "Something does not work",
}


@dataclass(frozen=True)
class Word:
    """One public update."""

    pk: int
    at: datetime
    status: str
    text: str


@dataclass(frozen=True)
class Disturbance:
    """An incident as the public sees it."""

    pk: int
    title: str
    status: str
    state: State
    components: list[str]
    component_ids: frozenset[int]
    words: list[Word]  # the newest first
    started_at: datetime
    last_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Window:
    """A planned window."""

    pk: int
    title: str
    text: str
    starts_at: datetime
    ends_at: datetime
    component_ids: frozenset[int]
    components: list[str]
    is_running: bool


@dataclass(frozen=True)
class Part:
    """A component with its last days, the oldest first."""

    name: str
    state: State
    days: list[tuple[date, State]]

    @property
    def bars(self) -> list[tuple[str, str, str]]:
        return [(f"{day:%Y-%m-%d}", state.status, state.label.lower()) for day, state in self.days]


@dataclass(frozen=True)
class Snapshot:
    """The page as it is now."""

    at: datetime
    state: State
    parts: list[Part]
    current: list[Disturbance] = field(default_factory=list)
    past: list[Disturbance] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        return SENTENCES[self.state]

    @property
    def icon(self) -> str:
        return f"status-{self.state.status}"


def read(now: datetime | None = None) -> Snapshot:
    """The page from the database: six queries, whatever there is to show."""
    now = now or timezone.now()
    listed = list(PublicComponent.objects.select_related("component__environment"))
    found = [_disturbance(row) for row in _incidents(now - timedelta(days=HISTORY_DAYS))]
    current = [each for each in found if each.ended_at is None]
    windows = _windows(now, listed)
    parts = [_part(each, found, windows, now) for each in listed]
    worst = max([part.state for part in parts] + [each.state for each in current], key=lambda s: s.weight, default=None)
    return Snapshot(
        at=now,
        state=worst or State.OPERATIONAL,
        parts=parts,
        current=current,
        past=sorted((each for each in found if each.ended_at is not None), key=lambda each: each.last_at, reverse=True),
        windows=windows,
    )


def say_resolved(row: Incident) -> str:
    """It is over inside, so the public does not read otherwise. Not saved. Returns what they read until now, or ""."""
    if not row.public or row.public_status == PublicStatus.RESOLVED:
        return ""
    before = str(PublicStatus(row.public_status or PublicStatus.INVESTIGATING).label)
    row.public_status = PublicStatus.RESOLVED
    transaction.on_commit(lately.forget)
    return before


def _incidents(since: datetime) -> Iterable[Incident]:
    told = Update.objects.filter(audience=Audience.PUBLIC)
    recent = Exists(told.filter(incident=OuterRef("pk"), at__gte=since))
    running = ~Q(public_status=PublicStatus.RESOLVED) & ~Q(state=CoreState.CLOSED)
    return (
        Incident.objects.filter(public=True, confidential=False)
        .filter(Q(recent) | running)
        .only("pk", "public_title", "public_status", "state", "rank", "declared_at", "resolved_at")
        .prefetch_related(
            Prefetch("updates", queryset=told.only("pk", "incident_id", "at", "public_status", "text"), to_attr="told"),
            Prefetch("components", queryset=_public_components(), to_attr="shown_components"),
        )
        .order_by("-pk")[:MOST]
    )


def _public_components() -> Any:
    return Component.objects.filter(public__isnull=False).select_related("public").order_by("public__order")


def _disturbance(row: Any) -> Disturbance:
    words = [Word(u.pk, u.at, PublicStatus(u.public_status).label, u.text) for u in row.told]
    over = row.public_status == PublicStatus.RESOLVED or row.state == CoreState.CLOSED
    first, last = (words[-1].at, words[0].at) if words else (row.declared_at, row.declared_at)
    return Disturbance(
        pk=row.pk,
        title=row.public_title or "Disturbance",
        status="Resolved" if over else PublicStatus(row.public_status or PublicStatus.INVESTIGATING).label,
        state=State.DOWN if row.rank == 1 else State.DEGRADED,
        components=[component.public.name for component in row.shown_components],
        component_ids=frozenset(component.pk for component in row.shown_components),
        words=words,
        started_at=first,
        last_at=last,
        ended_at=(last if words and words[0].status == PublicStatus.RESOLVED.label else row.resolved_at or last)
        if over
        else None,
    )


def _windows(now: datetime, listed: list[PublicComponent]) -> list[Window]:
    rows = (
        Maintenance.objects.filter(public=True, ends_at__gt=now, starts_at__lt=now + AHEAD)
        .prefetch_related("components")
        .order_by("starts_at")
    )
    return [_window(row, now, listed) for row in rows]


def _window(row: Maintenance, now: datetime, listed: list[PublicComponent]) -> Window:
    """Without components it is of all of its service; without a service too, of all."""
    named = {component.pk for component in row.components.all()}
    touched = [
        each
        for each in listed
        if each.component_id in named or (not named and row.service_id in (None, each.component.environment.service_id))
    ]
    return Window(
        pk=row.pk,
        title=row.title,
        text=row.text,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        component_ids=frozenset(each.component_id for each in touched),
        components=[each.name for each in touched],
        is_running=row.starts_at <= now,
    )


def _part(listed: PublicComponent, found: list[Disturbance], windows: list[Window], now: datetime) -> Part:
    pk = listed.component_id
    mine = [each for each in found if pk in each.component_ids]
    states = [each.state for each in mine if each.ended_at is None]
    states += [State.MAINTENANCE for window in windows if window.is_running and pk in window.component_ids]
    worst: dict[date, State] = defaultdict(lambda: State.OPERATIONAL)
    for each in mine:
        day, last = _day(each.started_at), _day(each.ended_at or now)
        while day <= last:
            worst[day] = max(worst[day], each.state, key=lambda state: state.weight)
            day += timedelta(days=1)
    days = [_day(now) - timedelta(days=back) for back in reversed(range(HISTORY_DAYS))]
    return Part(
        name=listed.name,
        state=max(states, key=lambda state: state.weight, default=State.OPERATIONAL),
        days=[(day, worst[day]) for day in days],
    )


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


# -- for programs -----------------------------------------------------------------------------------------------------


def as_json(shot: Snapshot, title: str) -> dict[str, Any]:
    """The page for programs."""
    return {
        "title": title,
        "at": _iso(shot.at),
        "status": {"state": shot.state.value, "sentence": shot.sentence},
        "components": [{"name": part.name, "state": part.state.value} for part in shot.parts],
        "incidents": [_incident_json(each) for each in shot.current],
        "maintenance": [
            {
                "title": window.title,
                "text": window.text,
                "starts_at": _iso(window.starts_at),
                "ends_at": _iso(window.ends_at),
                "components": window.components,
                "running": window.is_running,
            }
            for window in shot.windows
        ],
        "history": [_incident_json(each) for each in shot.past],
    }


def _incident_json(each: Disturbance) -> dict[str, Any]:
    return {
        "title": each.title,
        "status": each.status.lower(),
        "impact": each.state.value,
        "components": each.components,
        "started_at": _iso(each.started_at),
        "resolved_at": _iso(each.ended_at) if each.ended_at else None,
        "updates": [{"at": _iso(w.at), "status": w.status.lower(), "text": w.text} for w in each.words],
    }


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def news(shot: Snapshot) -> list[tuple[Disturbance, Word]]:
    """Every public update, the newest first."""
    rows = [(each, word) for each in (*shot.current, *shot.past) for word in each.words]
    return sorted(rows, key=lambda row: (row[1].at, row[1].pk), reverse=True)


lately: Recent[Snapshot] = Recent(lambda: read(), KEPT_S, outages=(OperationalError, InterfaceError))
"""The page as visitors get it; the last one while the database does not answer."""
