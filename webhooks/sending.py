"""The outbox is emptied by the control worker: each webhook in its own order, a slow one holds up no other for long.

A claim moves the due time ahead and counts the try, in one UPDATE. Whoever dies between sending and writing down leaves
a delivery that is due again a minute later and goes out a second time under the same id.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
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
from operations import duties
from operations.masking import mask
from operations.models import Event
from webhooks import signing
from webhooks.models import Delivery, Webhook

logger = logging.getLogger(__name__)

EVERY_S = 1.0
TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16_384
CLAIM = timedelta(seconds=60)
AT_MOST = timedelta(seconds=TIMEOUT_S + 5)  # so long a claim keeps others from sending to the same webhook
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


_pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="webhook")
_at_work: set[int] = set()
_lock = threading.Lock()


def start_due() -> list[Future[None]]:
    """Begin with every webhook for which something is due and nobody here is at work yet. Waits for none of them."""
    begun = []
    for webhook in Webhook.objects.with_work():
        with _lock:
            if webhook.pk in _at_work:
                continue
            _at_work.add(webhook.pk)
        begun.append(_pool.submit(_in_thread, webhook))
    return begun


def _in_thread(webhook: Webhook) -> None:
    close_old_connections()
    try:
        send_for(webhook)
    except Exception:
        logger.exception("sending to %s broke off", webhook)
    finally:
        with _lock:
            _at_work.discard(webhook.pk)
        connection.close()


def send_for(webhook: Webhook) -> None:
    """Send what is due to one webhook, until one fails, its minute is full, or others shall have their turn."""
    until = time.monotonic() + ROUND_S
    while time.monotonic() < until and not duties.stopping.is_set() and (delivery := _claim(webhook)) is not None:
        outcome = _try(webhook, delivery)
        _write_down(delivery, outcome)
        if outcome.trouble:
            break


def _claim(webhook: Webhook) -> Delivery | None:
    """The oldest that is due, counted as tried; None while there is none, or others hold this webhook, or its minute
    is full."""
    with transaction.atomic():
        # The row of the webhook is the lock: two control workers send to one webhook in turns, so its order holds.
        # It lets pass whoever is just filling the outbox.
        rows = Webhook.objects.select_for_update(skip_locked=True, no_key=True)
        if rows.filter(pk=webhook.pk, enabled=True).first() is None:
            return None
        lately = Delivery.objects.filter(webhook=webhook, tried_at__gt=Now() - timedelta(minutes=1))
        if lately.count() >= MOST_A_MINUTE or _is_being_sent(webhook):
            return None
        found = Delivery.objects.due().filter(webhook=webhook).select_related("event").first()
        if found is not None:
            Delivery.objects.filter(pk=found.pk).update(
                due_at=Now() + CLAIM, claimed_until=Now() + AT_MOST, tried_at=Now(), tries=F("tries") + 1
            )
            found.tries += 1
    return found


def _is_being_sent(webhook: Webhook) -> bool:
    """Whether somebody else has claimed one and not written down yet how it went."""
    return Delivery.objects.filter(webhook=webhook, state=State.PENDING, claimed_until__gt=Now()).exists()


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
    values: dict[str, object]
    row = Delivery.objects.filter(pk=delivery.pk, state=State.PENDING, tries=delivery.tries)
    if not outcome.trouble:
        values = {"state": State.DELIVERED, "due_at": None, "delivered_at": timezone.now(), "message": ""}
    elif delivery.tries > len(PAUSES):
        values = {"state": State.FAILED, "due_at": None, "message": outcome.trouble}
    else:
        pause_s = PAUSES[delivery.tries - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  no secret
        values = {"due_at": timezone.now() + timedelta(seconds=pause_s), "message": outcome.trouble}
    row.update(claimed_until=None, answer=outcome.answer, **values)


duties.declare("webhooks", lambda: EVERY_S, lambda: start_due())
