"""The write path of webhooks for people."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from core.models import User
from operations import events
from operations.models import Event
from webhooks.exceptions import WebhookError
from webhooks.models import Delivery, Webhook
from webhooks.outbox import TEST


def send_test(webhook: Webhook, *, by: User) -> Delivery:
    """Tell this webhook, and no other, that somebody tries it."""
    if not webhook.enabled:
        raise WebhookError("This webhook is off. Edit it and switch it on first.")
    with transaction.atomic():
        event: Event = events.publish(TEST, f"{by} tries the webhook “{webhook}”.", subject=webhook)
        delivery = Delivery.objects.filter(event=event).first()
        if delivery is None:
            raise WebhookError("This webhook was switched off meanwhile. Switch it on first.")
        return delivery


def try_again(delivery: Delivery) -> Delivery:
    """Send it again from now on, as often as a new one. The receiver sees the same id."""
    with transaction.atomic():
        row = Delivery.objects.select_for_update(of=("self",)).select_related("webhook", "event").get(pk=delivery.pk)
        if row.state != Delivery.State.FAILED:
            raise WebhookError("Only what was given up can be tried again.")
        if not row.webhook.enabled:
            raise WebhookError("This webhook is off. Edit it and switch it on first.")
        row.state, row.tries, row.due_at = Delivery.State.PENDING, 0, timezone.now()
        row.save(update_fields=["state", "tries", "due_at"])
    return row
