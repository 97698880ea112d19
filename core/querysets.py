"""Questions about people and their tokens, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models.functions import Now

if TYPE_CHECKING:
    from core.models import ApiToken, User  # noqa: F401  named in the string below


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> ApiTokenQuerySet:
        """Neither expired nor revoked, and the owner may sign in. By the database's clock."""
        return self.filter(revoked_at__isnull=True, expires_at__gt=Now(), owner__is_active=True)

    def visible_to(self, user: User) -> ApiTokenQuerySet:
        """A person's own; everybody's for those who may revoke them."""
        return self if user.has_perm("core.change_apitoken") else self.filter(owner=user)
