"""Questions about the portal's own backups and break-glass links, in plain words."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

if TYPE_CHECKING:
    from survival.models import BreakGlass, PortalBackup  # noqa: F401  named in the strings below

# So long everybody is told that the glass was broken.
ANNOUNCED_FOR = timedelta(days=7)


class PortalBackupQuerySet(models.QuerySet["PortalBackup"]):
    def there(self) -> PortalBackupQuerySet:
        """Those that lie in the second place."""
        return self.filter(state=self.model.State.AVAILABLE)

    def good(self) -> PortalBackupQuerySet:
        """There, and read back by one of the two ways."""
        return self.there().filter(verification__in=self.model.GOOD)

    def newest_first(self) -> PortalBackupQuerySet:
        return self.order_by("-made_at", "-pk")


class BreakGlassQuerySet(models.QuerySet["BreakGlass"]):
    def usable(self) -> BreakGlassQuerySet:
        """Links that nobody has used yet and that have not run out."""
        return self.filter(used_at__isnull=True, ended_at__isnull=True, link_expires_at__gt=Now())

    def open_sessions(self) -> BreakGlassQuerySet:
        return self.filter(used_at__isnull=False, ended_at__isnull=True, expires_at__gt=Now())

    def to_announce(self) -> BreakGlassQuerySet:
        """Everything of the last week, and what is open now."""
        return self.filter(issued_at__gt=timezone.now() - ANNOUNCED_FOR).order_by("-issued_at")
