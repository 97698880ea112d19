"""Old records go: logs, slots, operations, the audit trail, sessions, failed sign-ins. What is referred to stays.

A room with records of its own that grow without end adds a kind:

    housekeeping.add(Kind("deliveries", lambda: settings.KEEP_DELIVERIES_DAYS, old_deliveries))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from auditlog.models import LogEntry
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import IntegrityError
from django.db.models import CASCADE, SET_NULL, Exists, Model, OuterRef, ProtectedError, QuerySet
from django.utils import timezone

from core.models import User
from operations import actions
from operations.context import StepContext
from operations.models import Event, LogLine, Operation, OperationLock, Slot
from operations.procedures import Procedure, Step, register
from operations.standing import Standing, declare

BATCH = 500
# A run ends in good time even after years without one; the next day takes the next part.
MOST_AT_ONCE = 200_000

Doomed = Callable[[datetime], "QuerySet[Any]"]


@dataclass(frozen=True)
class Kind:
    """`title` is a plural, `keep_days` None or 0 keeps for ever, `doomed(before)` what may go of what is older."""

    title: str
    keep_days: Callable[[], int | None]
    doomed: Doomed

    def going(self) -> QuerySet[Any] | None:
        """What would go now; None when this kind is kept for ever."""
        days = self.keep_days()
        return self.doomed(timezone.now() - timedelta(days=days)) if days else None


_kinds: list[Kind] = []


def add(kind: Kind) -> None:
    """Make a kind of record subject to housekeeping. Kinds go in the order in which they were added."""
    if all(known.title != kind.title for known in _kinds):
        _kinds.append(kind)


def unreferenced(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Those rows that no other record holds on to, whichever room that record is in."""
    for relation in rows.model._meta.related_objects:
        if getattr(relation, "on_delete", None) in (CASCADE, SET_NULL):
            continue
        holders = relation.related_model._base_manager.filter(**{relation.field.name: OuterRef("pk")})
        rows = rows.exclude(Exists(holders))
    return rows


def old_operations(before: datetime) -> QuerySet[Operation]:
    """Ended long ago, and neither an archive, a restore, a slot, a child, a retry nor a lock names them."""
    locked = OperationLock.objects.filter(operation=OuterRef("pk"))
    return unreferenced(Operation.objects.ended().filter(ended_at__lt=before).exclude(Exists(locked)))


def old_log_lines(before: datetime) -> QuerySet[LogLine]:
    """Of operations that have ended; what still runs keeps its log, however long it takes."""
    return LogLine.objects.filter(operation__state__in=Operation.TERMINAL, operation__ended_at__lt=before)


def has_lost_log(operation: Operation) -> bool:
    """Whether its log is older than logs are kept."""
    days, ended = settings.KEEP_LOGS_DAYS, operation.ended_at
    return bool(days) and ended is not None and timezone.now() - ended > timedelta(days=days)


def _old(model: type[Model], field: str) -> Doomed:
    return lambda before: model._default_manager.filter(**{f"{field}__lt": before})


add(Kind("log lines", lambda: settings.KEEP_LOGS_DAYS, old_log_lines))
add(Kind("schedule decisions", lambda: settings.KEEP_SLOTS_DAYS, _old(Slot, "at")))
add(Kind("events", lambda: settings.KEEP_EVENTS_DAYS, _old(Event, "at")))
add(Kind("operations", lambda: settings.KEEP_OPERATIONS_DAYS, old_operations))
add(Kind("audit entries", lambda: settings.KEEP_AUDIT_DAYS, _old(LogEntry, "timestamp")))
add(Kind("expired sessions", lambda: 1, _old(Session, "expire_date")))
for attempts in (AccessAttempt, AccessFailureLog, AccessLog):
    title = str(attempts._meta.verbose_name_plural)
    add(Kind(title, lambda: settings.KEEP_ATTEMPTS_DAYS, _old(attempts, "attempt_time")))


def _sentence(counts: dict[str, int], nothing: str) -> str:
    parts = [f"{count:,} {title}" for title, count in counts.items() if count]
    return ", ".join(parts) or nothing


def preview() -> str:
    """What would go now, in a sentence."""
    counts = {kind.title: rows.count() for kind in _kinds if (rows := kind.going()) is not None}
    return f"Would go now: {_sentence(counts, 'nothing')}. What an archive, a restore or a lock refers to stays."


@register
class Housekeeping(Procedure):
    """Remove records that are older than the settings keep them, a batch at a time."""

    name = "operations.housekeeping"
    title = "Housekeeping"
    permission = "operations.housekeep"
    steps = (Step("remove", "Remove records that are older than the settings keep them"),)

    def preview(self) -> dict[str, list[str]]:
        return {"remove": [preview()]}

    def remove(self, ctx: StepContext) -> None:
        counts: dict[str, int] = {}
        for number, kind in enumerate(_kinds):
            ctx.progress(number, len(_kinds), "kinds")
            counts[kind.title] = self._remove_kind(ctx, kind)
        kept = [kind.title for kind in _kinds if not kind.keep_days()]
        tail = f" Kept for ever: {', '.join(kept)}." if kept else ""
        ctx.conclude(f"Removed {_sentence(counts, 'nothing')}.{tail}", removed=counts)

    def _remove_kind(self, ctx: StepContext, kind: Kind) -> int:
        removed = 0
        while (rows := kind.going()) is not None:
            ctx.check()
            keys = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
            if not keys:
                break
            if removed >= MOST_AT_ONCE:
                ctx.log(f"More {kind.title} are old; the next run takes them.")
                break
            try:
                with ctx.fenced():
                    rows.model._default_manager.filter(pk__in=keys).delete()
            except (ProtectedError, IntegrityError):
                ctx.log(f"Some {kind.title} have come into use meanwhile; the next run looks again.")
                break
            removed += len(keys)
        if removed:
            ctx.log(f"Removed {removed:,} {kind.title} older than {kind.keep_days()} days.")
        return removed

    def retry(self, *, by: User | None, reason: str, key: str) -> Operation:
        return request(by=by, trigger=Operation.Trigger.CLICK, key=key or None)


def request(*, by: User | None, trigger: str, key: str | None = None) -> Operation:
    """Ask for a run; a scheduled one waits for the one before."""
    return actions.request_once(
        key,
        lambda: actions.request(
            Housekeeping.name,
            title="Housekeeping",
            params={},
            by=by,
            trigger=trigger,
            lock_keys=["housekeeping"],
            wait_for_locks=trigger == Operation.Trigger.SCHEDULE,
            key=key,
        ),
    )


declare(
    Standing(
        handler=Housekeeping.name,
        name="Housekeeping",
        cron=lambda: settings.HOUSEKEEPING_CRON,
        permission=Housekeeping.permission,
        request=request,
        preview=preview,
    )
)
