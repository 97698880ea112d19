"""Filters of the list of incidents. Their choices are known without a look at the rows, of which there may be many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest

from core.buttons import signed_in
from incidents import gates, page
from incidents.models import ChecklistTick, CoreState, Incident

ALL = "all"
MILDEST_NAMED = 5


class StateFilter(admin.SimpleListFilter):
    """What is open, unless asked for something else."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            (CoreState.OPEN.value, "Not acknowledged"),
            (CoreState.ACKNOWLEDGED.value, "Acknowledged"),
            (CoreState.MITIGATED.value, "Mitigated"),
            (CoreState.RESOLVED.value, "Resolved, not closed"),
            (CoreState.CLOSED.value, "Closed"),
            (ALL, "All"),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Incident]:
        if self.value() in CoreState.values:
            return queryset.filter(state=self.value())
        return queryset if self.value() == ALL or SoloFilter.parameter_name in request.GET else queryset.open()

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """The first choice is what is shown without a filter."""
        choices = super().choices(changelist)
        yield {**next(choices), "display": "Any" if SoloFilter.parameter_name in changelist.params else "Open"}
        yield from choices


class RankFilter(admin.SimpleListFilter):
    """By rank: a code means different things to different teams."""

    title, parameter_name = "severity", "rank"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        named = [(str(rank), f"Rank {rank}") for rank in range(1, MILDEST_NAMED + 1)]
        return [("1", "Rank 1, the worst"), *named[1:], ("milder", "Milder"), ("none", "Not decided")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        value = self.value()
        if value == "none":
            return queryset.filter(rank=None)
        if value == "milder":
            return queryset.filter(rank__gt=MILDEST_NAMED)
        return queryset.filter(rank=int(value)) if value and value.isdecimal() and len(value) < 4 else queryset


class MineFilter(admin.SimpleListFilter):
    """Declared by me, or with a role for me."""

    title, parameter_name = "who", "who"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("me", "Mine")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        return queryset.filter(pk__in=page.mine(signed_in(request))) if self.value() == "me" else queryset


class SoloFilter(admin.SimpleListFilter):
    """What was worked on alone, whatever its state: until somebody else has looked at it, and afterwards."""

    title, parameter_name = "worked on alone", "alone"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("flagged", "Flagged for review"), ("looked-at", "Looked at by another")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        looked_at = Exists(ChecklistTick.objects.filter(incident=OuterRef("pk"), gate=True, text=gates.LOOKED_AT))
        if self.value() == "flagged":
            return queryset.filter(~looked_at, solo_review=True)
        return queryset.filter(looked_at, solo_review=True) if self.value() == "looked-at" else queryset
