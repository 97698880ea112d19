"""Filters of the list of operations. Their choices are known without a look at the rows, of which there may be many."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from core.environments import KINDS
from operations import procedures
from operations.models import Operation


class WentWrongFilter(admin.SimpleListFilter):
    """Failed and errored together: to whoever looks for what went wrong they are one."""

    title, parameter_name = "went wrong", "went_wrong"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("7", "In the last 7 days"), ("ever", "Ever")]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Operation]:
        within = {"7": timedelta(days=7), "ever": None}
        value = self.value()
        return queryset.went_wrong(within[value]) if value in within else queryset


class ProcedureFilter(admin.SimpleListFilter):
    """Which kind of work it was."""

    title, parameter_name = "procedure", "procedure"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted((name, kind.title) for name, kind in procedures.registered().items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Operation]) -> QuerySet[Operation]:
        return queryset.filter(procedure=self.value()) if self.value() else queryset


class EnvironmentKindFilter(admin.SimpleListFilter):
    """Which kind of environment it touched."""

    title, parameter_name = "environment", "environment_kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind.capitalize()) for kind in KINDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Operation]) -> QuerySet[Operation]:
        return queryset.filter(environment_kind=self.value()) if self.value() else queryset
