"""Questions about incidents, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.contrib.postgres.search import SearchQuery
from django.db import models
from django.db.models import Exists, OuterRef, Q

if TYPE_CHECKING:
    from core.models import User
    from incidents.models import Incident  # noqa: F401  named in the string below

SEARCH_CONFIG = "english"


class IncidentQuerySet(models.QuerySet["Incident"]):
    def open(self) -> Self:
        """Neither resolved nor closed."""
        return self.filter(state__in=["open", "acknowledged", "mitigated"])

    def visible_to(self, user: User) -> Self:
        """All that are not confidential, and those in which this person is named."""
        from incidents.models import Assignment

        if user.has_perm("incidents.see_confidential"):
            return self
        named = Assignment.objects.filter(incident=OuterRef("pk")).filter(Q(primary__user=user) | Q(backup__user=user))
        return self.filter(Q(confidential=False) | Q(declared_by=user) | Exists(named) | _told(user))

    def told(self, user: User) -> Self:
        """Those for which this person was paged, or whose escalation they have answered."""
        return self.filter(_told(user))

    def matching(self, words: str) -> Self:
        """With these words in number, title, description, root cause or resolution; as people write to a search
        engine."""
        return self.filter(search=SearchQuery(words, config=SEARCH_CONFIG, search_type="websearch"))

    def with_names(self) -> Self:
        """With what a list or a page about an incident names."""
        return self.select_related("service", "environment__service", "severity", "stage", "declared_by")


def _told(user: User) -> Q:
    """As `told` has it. A message that was withdrawn before it went out has told nobody."""
    from contacts.models import Escalation, Notification

    about = {"subject_type": "incidents.incident", "subject_id": OuterRef("pk")}
    answered = Q(acknowledged_by__user=user) | Q(acknowledged_by_user=user)
    paged = Notification.objects.filter(contact__user=user, **{f"escalation__{key}": of for key, of in about.items()})
    paged = paged.exclude(state=Notification.State.CANCELLED)
    return Q(Exists(paged)) | Q(Exists(Escalation.objects.filter(answered, **about)))
