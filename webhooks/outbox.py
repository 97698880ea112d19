"""From an event to its deliveries, in the transaction of the event."""

from __future__ import annotations

from operations import events
from operations.models import Event
from webhooks.models import Delivery, Webhook

TEST = events.declare("webhook.test", "Somebody tried a webhook")


@events.receiver
def fill(event: Event) -> None:
    """A delivery for every webhook that wants this event. Trying one webhook is no news for the others."""
    on = Webhook.objects.filter(enabled=True)
    wanted = on.filter(pk=event.subject_id or 0) if event.name == TEST else Webhook.objects.interested_in(event)
    Delivery.objects.bulk_create(Delivery(webhook=webhook, event=event) for webhook in wanted)
