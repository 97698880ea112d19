"""From an event to its deliveries, in the transaction of the event."""

from __future__ import annotations

from collections.abc import Sequence

from operations import events
from operations.models import Event
from webhooks.models import Delivery, Webhook

TEST = events.declare("webhook.test", "Somebody tried a webhook")


@events.receiver()
def fill(event: Event) -> None:
    """A delivery for every webhook that wants this event. Trying one webhook is no news for the others."""
    fill_many([event])


@events.takes_many(fill)
def fill_many(news: Sequence[Event]) -> None:
    on = list(Webhook.objects.filter(enabled=True))
    Delivery.objects.bulk_create(
        Delivery(webhook=webhook, event=event) for event in news for webhook in on if _wants(webhook, event)
    )


def _wants(webhook: Webhook, event: Event) -> bool:
    if event.name == TEST:
        return webhook.pk == event.subject_id
    return not webhook.events or event.name in webhook.events
