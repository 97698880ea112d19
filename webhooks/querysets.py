"""Questions about webhooks and deliveries, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Count, Q
from django.db.models.functions import Now

if TYPE_CHECKING:
    from webhooks.models import Delivery, Webhook  # noqa: F401  named in the strings below


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def with_work(self) -> WebhookQuerySet:
        """Those with something to be sent now."""
        return self.filter(enabled=True, deliveries__state="pending", deliveries__due_at__lte=Now()).distinct()

    def counted(self) -> WebhookQuerySet:
        """With `waiting` and `given_up`, how many deliveries."""
        return self.annotate(
            waiting=Count("deliveries", filter=Q(deliveries__state="pending")),
            given_up=Count("deliveries", filter=Q(deliveries__state="failed")),
        )


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> DeliveryQuerySet:
        """To be sent now, oldest first."""
        return self.filter(state="pending", due_at__lte=Now()).order_by("pk")

    def with_names(self) -> DeliveryQuerySet:
        """With what a page about a delivery names."""
        return self.select_related("webhook", "event")
