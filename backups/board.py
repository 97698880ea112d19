"""Recovery targets against what was measured: the RTO and RPO board."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import OuterRef, Subquery
from django.utils import timezone

from backups.models import Archive, Restore
from catalog.models import DatabaseTarget


@dataclass(frozen=True)
class Line:
    """One database: the age of its newest restore point against the RPO, its last restore against the RTO."""

    target: DatabaseTarget
    newest_id: int | None
    newest_at: datetime | None
    restore_id: int | None
    measured: timedelta | None
    now: datetime

    @property
    def rpo(self) -> timedelta | None:
        return self.target.component.rpo

    @property
    def rto(self) -> timedelta | None:
        return self.target.component.rto

    @property
    def age(self) -> timedelta | None:
        return self.now - self.newest_at if self.newest_at else None

    @property
    def rpo_status(self) -> tuple[str, str]:
        """Status colour and word."""
        if self.age is None:
            return "bad", "No restore point"
        if self.rpo is None:
            return "neutral", "No target"
        return ("ok", "Met") if self.age < self.rpo else ("bad", "Missed")

    @property
    def rto_status(self) -> tuple[str, str]:
        if self.measured is None:
            return "neutral", "Never measured"
        if self.rto is None:
            return "neutral", "No target"
        return ("ok", "Met") if self.measured <= self.rto else ("bad", "Missed")


def lines(now: datetime | None = None) -> list[Line]:
    """A line for every database in the catalog, those that miss their RPO first. Two queries."""
    now = now or timezone.now()
    newest = Archive.objects.restore_points().filter(target=OuterRef("pk")).best_first()
    last = Restore.objects.done().filter(target=OuterRef("pk"), into_database=OuterRef("database")).order_by("-pk")
    targets = DatabaseTarget.objects.select_related("component__environment__service").annotate(
        newest_id=Subquery(newest.values("pk")[:1]),
        newest_at=Subquery(newest.values("snapshot_at")[:1]),
        restore_id=Subquery(last.values("pk")[:1]),
        measured=Subquery(last.values("measured")[:1]),
    )
    board = [
        Line(target, target.newest_id, target.newest_at, target.restore_id, target.measured, now) for target in targets
    ]
    order = {"bad": 0, "ok": 1, "neutral": 2}
    return sorted(board, key=lambda line: (order[line.rpo_status[0]], str(line.target)))
