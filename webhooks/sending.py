"""The outbox is emptied by the control worker: each webhook in its own order, a slow one holds up no other for long.

A claim moves the due time ahead and counts the try, in one UPDATE. Whoever dies between sending and writing down leaves
a delivery that is due again a minute later and goes out a second time under the same id.
"""

from __future__ import annotations

import json
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from catalog.secrets import SecretReference
from core import outbound
from core.exceptions import PortalError
from operations.duties import declare
from operations.masking import mask
from operations.models import Event
from webhooks import signing
from webhooks.models import Delivery, Webhook

logger = logging.getLogger(__name__)

EVERY_S = 1.0
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16_384
CLAIM = timedelta(seconds=60)
ROUND_S = 20.0  # one webhook's share of a round
AT_ONCE = 4
MOST_A_MINUTE = 60
# Pauses after a try that failed, in seconds; after the last it is given up: some nine hours in all.
PAUSES = (10, 60, 300, 1800, 7200, 21600)
JITTER = 0.1

State = Delivery.State


@dataclass(frozen=True)
class Outcome:
    """What a try came to: `trouble` empty means delivered."""

    answer: int | None
    trouble: str = ""


def send_due() -> None:
    """One round: everything that is due."""
    webhooks = list(Webhook.objects.with_work())
    if not webhooks:
        return
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(webhooks)), thread_name_prefix="webhook") as pool:
        list(pool.map(_in_thread, webhooks))


def _in_thread(webhook: Webhook) -> None:
    close_old_connections()
    try:
        send_for(webhook)
    finally:
        connection.close()


def send_for(webhook: Webhook) -> int:
    """Send what is due to one webhook, until one fails, its minute is full, or its share of the round is over."""
    until = time.monotonic() + ROUND_S
    sent = 0
    while time.monotonic() < until and (delivery := _claim(webhook)) is not None:
        outcome = _try(webhook, delivery)
        _write_down(delivery, outcome)
        if outcome.trouble:
            break
        sent += 1
    return sent


def _claim(webhook: Webhook) -> Delivery | None:
    """The oldest that is due, counted as tried; None while there is none, or others hold this webhook, or its minute
    is full."""
    with transaction.atomic():
        # The row of the webhook is the lock: two control workers send to one webhook in turns, so its order holds.
        # It lets pass whoever is just filling the outbox.
        if (
            Webhook.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=webhook.pk, enabled=True).first()
            is None
        ):
            return None
        lately = Delivery.objects.filter(webhook=webhook, tried_at__gt=Now() - timedelta(minutes=1))
        if lately.count() >= MOST_A_MINUTE or _is_being_sent(webhook):
            return None
        found = Delivery.objects.due().filter(webhook=webhook).select_related("event").first()
        if found is not None:
            Delivery.objects.filter(pk=found.pk).update(due_at=Now() + CLAIM, tried_at=Now(), tries=F("tries") + 1)
            found.tries += 1
    return found


def _is_being_sent(webhook: Webhook) -> bool:
    """Whether somebody else has claimed one and not written down yet how it went."""
    recently = Now() - timedelta(seconds=TIMEOUT_S + 5)
    claimed = Delivery.objects.filter(webhook=webhook, state=State.PENDING, tried_at__gt=recently)
    return claimed.filter(due_at__gte=F("tried_at") + CLAIM).exists()


def body_of(event: Event) -> bytes:
    """What is sent of an event; the same at every try."""
    url = f"{settings.PORTAL_URL}{event.url}" if event.url else None
    subject = {"type": event.subject_type, "id": event.subject_id, "url": url} if event.subject_type else None
    data = {"event": event.pk, "sentence": event.sentence, "subject": subject, **event.data}
    return json.dumps({"type": event.name, "timestamp": event.at.isoformat(), "data": data}).encode()


def _try(webhook: Webhook, delivery: Delivery) -> Outcome:
    try:
        body = body_of(delivery.event)
        secret = SecretReference.parse(webhook.secret_ref).resolve()
        headers = signing.headers(secret, str(delivery.message_id), int(time.time()), body)
        answer = outbound.fetch(
            "POST",
            webhook.url,
            allow=outbound.Allowed(networks=webhook.networks),
            headers={"Content-Type": "application/json", **headers},
            body=body,
            timeout_s=TIMEOUT_S,
            max_bytes=MAX_ANSWER_BYTES,
        )
    except PortalError as error:
        return Outcome(None, error.message)
    except Exception:
        logger.exception("%s could not be sent", delivery)
        return Outcome(None, "It could not be sent, for a reason that the log of the control worker tells.")
    if 200 <= answer.status < 300:
        return Outcome(answer.status)
    said = " ".join(mask(answer.body[:200].decode("utf-8", "replace"), [secret]).split())
    what = (
        "leads elsewhere, which is not followed" if answer.is_redirect else f"said: {said}" if said else "said no more"
    )
    return Outcome(answer.status, f"It answered {answer.status} and {what}.".replace("\0", ""))


def _write_down(delivery: Delivery, outcome: Outcome) -> None:
    """Only if nobody has claimed it since."""
    row = Delivery.objects.filter(pk=delivery.pk, state=State.PENDING, tries=delivery.tries)
    if not outcome.trouble:
        row.update(state=State.DELIVERED, due_at=None, delivered_at=timezone.now(), answer=outcome.answer, message="")
    elif delivery.tries > len(PAUSES):
        row.update(state=State.FAILED, due_at=None, answer=outcome.answer, message=outcome.trouble)
    else:
        pause_s = PAUSES[delivery.tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  no secret
        due_at = timezone.now() + timedelta(seconds=pause_s)
        row.update(due_at=due_at, answer=outcome.answer, message=outcome.trouble)


declare("webhooks", lambda: EVERY_S, lambda: send_due())
