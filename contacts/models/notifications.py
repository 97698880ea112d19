"""What the portal sends to people and rooms: channels, providers, the outbox and its log."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.constraints import not_empty
from catalog.models import Service
from catalog.secrets import validate_secret_reference
from catalog.validators import validate_networks, validate_printable
from contacts.models.people import Contact, Way
from contacts.querysets import NotificationQuerySet
from core.addresses import Network, parse_networks
from core.links import detail_url

NETWORKS_HELP = (
    "Internal networks its address may be in, one a line, for example 10.1.0.0/16. Public addresses always may; cloud "
    "metadata and the portal itself never."
)


class Outlet(models.Model):
    """Base of what messages leave through: an address that may hold a password, so only a reference to it is kept."""

    url_ref = models.CharField(
        "reference to its URL",
        max_length=500,
        blank=True,
        validators=[validate_secret_reference],
        help_text="Where its URL is: env:OPS_SECRET_NAME or file:/run/secrets/name. See the guide for how URLs look.",
    )
    allowed_networks = models.TextField(blank=True, validators=[validate_networks], help_text=NETWORKS_HELP)
    enabled = models.BooleanField(default=True)

    class Meta:
        abstract = True

    @property
    def networks(self) -> tuple[Network, ...]:
        return parse_networks(self.allowed_networks.split())


class Provider(Outlet):
    """Through which service the portal reaches people by SMS, call, push or chat. `{to}` in the URL is the person's
    address. Email needs none: it goes by SMTP."""

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable])
    kind = models.CharField(max_length=10, choices=[c for c in Way.Kind.choices if c[0] != "email"])
    rank = models.PositiveSmallIntegerField(default=1, help_text="1 is tried first, the next when it fails.")

    class Meta:
        ordering = ("kind", "rank", "name")
        constraints = (
            not_empty("provider", "name"),
            models.CheckConstraint(
                condition=~Q(url_ref=""),
                name="provider_url_ref",
                violation_error_message="Give the reference to its URL.",
            ),
            models.CheckConstraint(condition=Q(kind__in=["sms", "phone", "push", "chat"]), name="provider_kind_known"),
        )

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class Channel(Outlet):
    """A place where many read: a chat room, a mailing list, a pager service, a webhook."""

    class Kind(models.TextChoices):
        EMAIL = "email", "Mailing list"
        SLACK = "slack", "Slack"
        TEAMS = "teams", "Microsoft Teams"
        PAGERDUTY = "pagerduty", "PagerDuty"
        WEBHOOK = "webhook", "Webhook (JSON)"
        OTHER = "other", "Other service"
        HAND = "hand", "By hand"

    class Purpose(models.TextChoices):
        INCIDENT = "incident", "Incidents"
        ALERTS = "alerts", "Alerts"
        ENGINEERING = "engineering", "Engineering"
        SUPPORT = "support", "Support"
        STAKEHOLDERS = "stakeholders", "Stakeholders"
        PUBLIC = "public", "The public"

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable], help_text="Such as #alerts.")
    kind = models.CharField(max_length=10, choices=Kind)
    service = models.ForeignKey(
        Service,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="channels",
        help_text="Empty: for every service.",
    )
    purposes = ArrayField(models.CharField(max_length=12, choices=Purpose), default=list, blank=True)
    address = models.CharField(
        max_length=254,
        blank=True,
        validators=[validate_printable],
        help_text="Of a mailing list: its email address. By hand: a number or page to be used by a person. Empty is "
        "shown as missing.",
    )

    class Meta:
        ordering = ("name",)
        constraints = (
            not_empty("channel", "name"),
            models.CheckConstraint(
                condition=Q(kind__in=["email", "slack", "teams", "pagerduty", "webhook", "other", "hand"]),
                name="channel_kind_known",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def is_missing(self) -> bool:
        """Nothing can be sent there yet."""
        return not (self.address if self.kind in (self.Kind.EMAIL, self.Kind.HAND) else self.url_ref)


class Notification(models.Model):
    """A message for one contact or one channel: the outbox. The key makes sure that it is written once.

    ::

        PENDING --taken--> SENT
        PENDING --every way failed, again and again--> FAILED --try again--> PENDING
        PENDING --answered or withdrawn before it went out--> CANCELLED
    """

    class State(models.TextChoices):
        PENDING = "pending", "Waiting"
        SENT = "sent", "Sent"
        FAILED = "failed", "Given up"
        CANCELLED = "cancelled", "Not needed any more"

    class Urgency(models.TextChoices):
        PAGE = "page", "Page"
        NEWS = "news", "News"

    key = models.CharField(max_length=200, unique=True)
    contact = models.ForeignKey(Contact, null=True, on_delete=models.PROTECT, related_name="notifications")
    channel = models.ForeignKey(Channel, null=True, on_delete=models.CASCADE, related_name="notifications")
    way = models.CharField(
        max_length=10, choices=Way.Kind, blank=True, help_text="The way that was asked for. Empty: whichever works."
    )
    only_way = models.ForeignKey(
        Way, null=True, on_delete=models.SET_NULL, related_name="+", help_text="Through this way alone: a test of it."
    )
    urgency = models.CharField(max_length=5, choices=Urgency, default=Urgency.NEWS)
    subject = models.CharField(max_length=300)
    body = models.TextField(blank=True)
    url = models.CharField(max_length=300, blank=True, help_text="Page below the portal's address.")
    escalation = models.ForeignKey(
        "contacts.Escalation", null=True, on_delete=models.CASCADE, related_name="notifications"
    )
    created_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    due_at = models.DateTimeField(null=True, default=timezone.now)
    tries = models.PositiveSmallIntegerField(default=0)
    claimed_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    sent_with = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="carried", help_text="The message that carried it."
    )
    message = models.TextField(blank=True, help_text="How it went last, in a sentence.")

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        permissions = (("resend_notification", "Can send a message again"),)
        indexes = (
            models.Index(fields=("due_at",), condition=Q(state="pending"), name="notification_due"),
            models.Index(fields=("contact", "-sent_at"), name="notification_contact_sent"),
            models.Index(fields=("channel", "-sent_at"), name="notification_channel_sent"),
            models.Index(fields=("created_at",), name="notification_created"),
        )
        constraints = (
            models.CheckConstraint(
                name="notification_for_one",
                condition=Q(contact__isnull=False, channel__isnull=True)
                | Q(contact__isnull=True, channel__isnull=False),
            ),
            models.CheckConstraint(
                name="notification_pending_is_due",
                condition=Q(state="pending", due_at__isnull=False) | Q(~Q(state="pending"), due_at__isnull=True),
            ),
            models.CheckConstraint(
                name="notification_sent_has_time",
                condition=Q(state="sent", sent_at__isnull=False) | Q(~Q(state="sent"), sent_at__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return f"{self.subject} to {self.contact or self.channel}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def state_word(self) -> str:
        return "Tried, waiting" if self.state == self.State.PENDING and self.tries else self.get_state_display()

    @property
    def status(self) -> str:
        if self.state == self.State.PENDING:
            return "warn" if self.tries else "running"
        return {"sent": "ok", "failed": "bad", "cancelled": "neutral"}[self.state]


class Attempt(models.Model):
    """One try to send: the send log."""

    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField(default=timezone.now)
    way = models.CharField(max_length=10, blank=True, help_text="Email, SMS, call, push, chat, or the channel's kind.")
    through = models.CharField(max_length=120, help_text="The provider or server it was handed to.")
    address = models.CharField(max_length=254, blank=True)
    taken = models.BooleanField(help_text="Whether the other side took it.")
    message = models.TextField(blank=True, help_text="What it said, in a sentence.")
    seconds = models.FloatField(help_text="How long it took.")

    class Meta:
        ordering = ("pk",)
        indexes = (models.Index(fields=("at",), name="attempt_at"),)

    def __str__(self) -> str:
        return f"{self.through}: {'taken' if self.taken else 'not taken'}"
