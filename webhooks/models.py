"""Where the portal's events are sent, and what became of each at each place."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.constraints import not_empty
from catalog.secrets import validate_secret_reference
from catalog.validators import validate_networks, validate_printable
from core.addresses import Network, parse_networks
from core.exceptions import PortalError
from core.links import detail_url
from core.outbound import check_url
from operations.events import NAMES
from operations.models import Event
from webhooks.querysets import DeliveryQuerySet, WebhookQuerySet


def validate_url(url: str) -> None:
    """Raises ValidationError for what could not be asked."""
    try:
        check_url(url)
    except PortalError as error:
        raise ValidationError(error.message) from None


def validate_events(names: list[str]) -> None:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValidationError(f"There are no such events: {', '.join(unknown)}.")


class Webhook(models.Model):
    """An address that is told of events, in signed requests."""

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable])
    url = models.CharField("URL", max_length=500, validators=[validate_url], help_text="Where the requests go.")
    secret_ref = models.CharField(
        "secret reference",
        max_length=500,
        validators=[validate_secret_reference],
        help_text="Where the signing secret is: env:OPS_SECRET_NAME or file:/run/secrets/name. 24 characters or more.",
    )
    events = ArrayField(
        models.CharField(max_length=60),
        default=list,
        blank=True,
        validators=[validate_events],
        help_text="What it is told of. Nothing chosen: everything.",
    )
    allowed_networks = models.TextField(
        blank=True,
        validators=[validate_networks],
        help_text="Internal networks its address may be in, one a line, for example 10.1.0.0/16. Public addresses "
        "always may; cloud metadata and the portal itself never.",
    )
    enabled = models.BooleanField(default=True, help_text="Off: what happens meanwhile is not told later.")

    objects = WebhookQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (not_empty("webhook", "name"), not_empty("webhook", "url"), not_empty("webhook", "secret_ref"))

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def networks(self) -> tuple[Network, ...]:
        return parse_networks(self.allowed_networks.split())

    @property
    def status(self) -> str:
        return "ok" if self.enabled else "neutral"

    @property
    def state_word(self) -> str:
        return "On" if self.enabled else "Off"


class Delivery(models.Model):
    """One event for one webhook: the outbox. `message_id` stays the same over all tries, so that a receiver knows a
    repetition.

    ::

        PENDING --2xx--> DELIVERED
        PENDING --seven tries--> FAILED --try again--> PENDING
    """

    class State(models.TextChoices):
        PENDING = "pending", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Given up"

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries")
    message_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    tries = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True, default=timezone.now)
    tried_at = models.DateTimeField(null=True)
    claimed_until = models.DateTimeField(null=True, help_text="Somebody is sending it, until then at the latest.")
    delivered_at = models.DateTimeField(null=True)
    answer = models.PositiveSmallIntegerField(null=True, help_text="HTTP status of the last answer.")
    message = models.TextField(blank=True, help_text="Why the last try did not do, in a sentence.")

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        verbose_name_plural = "deliveries"
        indexes = (
            models.Index(fields=("due_at",), condition=Q(state="pending"), name="delivery_due"),
            models.Index(fields=("webhook", "-id"), name="delivery_webhook"),
            models.Index(fields=("webhook", "-tried_at"), name="delivery_tried"),
        )
        constraints = (
            models.UniqueConstraint(fields=("webhook", "event"), name="delivery_once"),
            models.CheckConstraint(
                name="delivery_pending_is_due",
                condition=Q(state="pending", due_at__isnull=False) | Q(~Q(state="pending"), due_at__isnull=True),
            ),
            models.CheckConstraint(
                name="delivery_delivered_has_time",
                condition=Q(state="delivered", delivered_at__isnull=False)
                | Q(~Q(state="delivered"), delivered_at__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return f"{self.event.name} to {self.webhook}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def state_word(self) -> str:
        return "Tried, waiting" if self.state == self.State.PENDING and self.tries else self.get_state_display()

    @property
    def status(self) -> str:
        if self.state == self.State.PENDING:
            return "warn" if self.tries else "running"
        return "ok" if self.state == self.State.DELIVERED else "bad"
