"""Questions about contacts, escalations and messages, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

if TYPE_CHECKING:
    from contacts.models import Contact, Escalation, Notification  # noqa: F401  named in the strings below


class ContactQuerySet(models.QuerySet["Contact"]):
    def active(self) -> Self:
        return self.filter(active=True)

    def with_ways(self) -> Self:
        """With the ways to reach each, in order."""
        return self.prefetch_related("ways")

    def unreachable(self) -> Self:
        """Active, and without any address: what is still a placeholder."""
        from contacts.models import Way

        return self.active().exclude(Exists(Way.objects.filter(contact=OuterRef("pk")).exclude(address="")))


class EscalationQuerySet(models.QuerySet["Escalation"]):
    def due(self) -> Self:
        """With a step to be taken now, the longest overdue first."""
        return self.filter(state="active", due_at__lte=Now()).order_by("due_at", "pk")

    def open(self) -> Self:
        """Nobody has answered yet."""
        return self.filter(state__in=["active", "waiting", "exhausted"])

    def of(self, subject: models.Model) -> Self:
        return self.filter(subject_type=subject._meta.label_lower, subject_id=subject.pk)


class NotificationQuerySet(models.QuerySet["Notification"]):
    def due(self) -> Self:
        """To be sent now and held by nobody who is at work: pages first, oldest first."""
        free = Q(claimed_until__isnull=True) | Q(claimed_until__lte=Now())
        return self.filter(free, state="pending", due_at__lte=timezone.now()).order_by("-urgency", "due_at", "pk")

    def on_the_way(self) -> Self:
        """Held by somebody who is at work."""
        return self.filter(state="pending", claimed_until__gt=Now())

    def with_names(self) -> Self:
        """With what a page about a message names."""
        return self.select_related("contact", "channel", "escalation")
