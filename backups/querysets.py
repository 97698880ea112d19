"""Questions about plans, archives and restores, in plain words."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from backups.models import Archive, Plan, Restore  # noqa: F401  named in the strings below
    from catalog.models import DatabaseTarget


# Newest first, adopted ones last.
BEST_FIRST = (
    models.Case(models.When(purpose="adopted", then=1), default=0, output_field=models.IntegerField()),
    "-snapshot_at",
    "-pk",
)
TARGET = ("target__component__environment__service", "target__via__via")


class PlanQuerySet(models.QuerySet["Plan"]):
    def with_place(self) -> PlanQuerySet:
        """With everything a page about a plan names."""
        return self.select_related(*TARGET, "storage__host", "schedule__crontab")

    def with_newest(self) -> PlanQuerySet:
        """With `newest_at`, the moment of the newest restore point."""
        from backups.models import Archive

        newest = Archive.objects.restore_points().filter(plan=models.OuterRef("pk")).best_first()
        return self.annotate(newest_at=models.Subquery(newest.values("snapshot_at")[:1]))


class ArchiveQuerySet(models.QuerySet["Archive"]):
    def available(self) -> ArchiveQuerySet:
        return self.filter(state=self.model.State.AVAILABLE)

    def restore_points(self) -> ArchiveQuerySet:
        """Available and verified: what may be restored without a second thought."""
        return self.available().filter(verification=self.model.Verification.VERIFIED)

    def of(self, target: DatabaseTarget) -> ArchiveQuerySet:
        return self.filter(target=target)

    def newest_first(self) -> ArchiveQuerySet:
        return self.order_by("-snapshot_at", "-pk")

    def best_first(self) -> ArchiveQuerySet:
        """Newest first, adopted ones last: the moment of their data is only what a file says."""
        return self.order_by(*BEST_FIRST)

    def older_than(self, moment: datetime) -> ArchiveQuerySet:
        return self.filter(snapshot_at__lt=moment)

    def with_place(self) -> ArchiveQuerySet:
        """With everything a page about an archive names; without the manifest, which may be large."""
        return self.select_related(
            "plan",
            "target__component__environment__service",
            "target__via__via",
            "storage__host",
            "operation__requested_by",
        ).defer("manifest")


class RestoreQuerySet(models.QuerySet["Restore"]):
    def done(self) -> RestoreQuerySet:
        return self.filter(measured__isnull=False)

    def with_place(self) -> RestoreQuerySet:
        """With everything a page about a restore names."""
        return self.select_related(
            "archive",
            "target__component__environment__service",
            "target__via__via",
            "operation",
            "requested_by",
            "undo_operation",
        ).defer("archive__manifest")
