"""People inside and outside, the ways to reach them, the teams and roles they are in."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.constraints import not_empty
from catalog.models import BusinessHours
from catalog.validators import validate_printable
from contacts.querysets import ContactQuerySet
from core.links import detail_url
from core.models import validate_time_zone


class Contact(models.Model):
    """Somebody who can be reached when something is wrong: a colleague, a vendor, a provider.

    Contacts are switched off and not deleted: who was told at what time stays on record.
    """

    class Kind(models.TextChoices):
        INTERNAL = "internal", "Colleague"
        VENDOR = "vendor", "Vendor"
        PROVIDER = "provider", "Provider"

    name = models.CharField(max_length=120, unique=True, validators=[validate_printable])
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.INTERNAL)
    title = models.CharField(
        max_length=120, blank=True, validators=[validate_printable], help_text="Job title, for example: VP Engineering."
    )
    organisation = models.CharField(max_length=120, blank=True, validators=[validate_printable])
    support_tier = models.CharField(
        max_length=80,
        blank=True,
        validators=[validate_printable],
        help_text="What was agreed with a vendor or provider, for example: Premium, contract 4711.",
    )
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="contact",
        help_text="The portal account of this person.",
    )
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    business_hours = models.ForeignKey(
        BusinessHours,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="contacts",
        help_text="When this contact can be reached. Empty means at any time.",
    )
    notes = models.TextField(blank=True, help_text="What to say first: customer number, escalation phrase, language.")
    active = models.BooleanField(default=True, help_text="Off: nobody is told through this contact any more.")
    confirmed_at = models.DateTimeField(null=True, blank=True, editable=False)
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    reminded_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ContactQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        permissions = (
            ("confirm_contact", "Can confirm that a contact is right"),
            ("test_pager", "Can send a test message to a contact"),
        )
        constraints = (
            models.CheckConstraint(condition=Q(kind__in=["internal", "vendor", "provider"]), name="contact_kind_known"),
            not_empty("contact", "name"),
            not_empty("contact", "time_zone"),
        )

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class Way(models.Model):
    """One way to reach a contact. Ways are tried in the order of their rank.

    An address that nobody has filled in yet stays empty and is shown as missing.
    """

    class Kind(models.TextChoices):
        EMAIL = "email", "Email"
        SMS = "sms", "SMS"
        PHONE = "phone", "Phone call"
        PUSH = "push", "Push"
        CHAT = "chat", "Chat message"

    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="ways")
    kind = models.CharField(max_length=10, choices=Kind)
    address = models.CharField(
        max_length=254,
        blank=True,
        validators=[validate_printable],
        help_text="Email address, number such as +49 40 123456, or user name. Empty is shown as missing.",
    )
    label = models.CharField(max_length=60, blank=True, validators=[validate_printable], help_text="Such as: private.")
    rank = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)], help_text="1 is tried first.")

    class Meta:
        ordering = ("rank", "pk")
        verbose_name = "way to reach"
        verbose_name_plural = "ways to reach"
        constraints = (
            models.CheckConstraint(
                condition=Q(kind__in=["email", "sms", "phone", "push", "chat"]), name="way_kind_known"
            ),
            models.CheckConstraint(condition=Q(rank__gte=1), name="way_rank_from_one"),
            models.UniqueConstraint(
                fields=("contact", "kind", "address"),
                name="way_once",
                violation_error_message="This contact has this way already.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.address or 'missing'}"

    @property
    def is_missing(self) -> bool:
        return not self.address


class Team(models.Model):
    """People who answer for something together."""

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable])
    description = models.TextField(blank=True)

    class Meta:
        ordering = ("name",)
        constraints = (not_empty("team", "name"),)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class Role(models.Model):
    """What somebody is to the organisation, in its own words: Technical Lead, VP Engineering, Database Specialist."""

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable])
    description = models.TextField(blank=True)

    class Meta:
        ordering = ("name",)
        constraints = (not_empty("role", "name"),)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class Place(models.Model):
    """Base of a contact's place in a team or a role: 1 is the primary, 2 the backup, and so on."""

    rank = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="1 is the primary, 2 the backup."
    )

    class Meta:
        abstract = True

    @property
    def rank_word(self) -> str:
        return {1: "Primary", 2: "Backup"}.get(self.rank, f"{self.rank}th")


class TeamMember(Place):
    """A contact in a team. Several may have the same rank."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="members")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="memberships")

    class Meta:
        ordering = ("rank", "contact__name")
        constraints = (
            models.UniqueConstraint(
                fields=("team", "contact"),
                name="teammember_once",
                violation_error_message="This contact is in the team already.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.contact} in {self.team}"


class RoleHolder(Place):
    """A contact who holds a role."""

    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="holders")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="roles")

    class Meta:
        ordering = ("rank", "contact__name")
        constraints = (
            models.UniqueConstraint(
                fields=("role", "contact"),
                name="roleholder_once",
                violation_error_message="This contact holds the role already.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.contact} as {self.role}"


class Queue(models.Model):
    """A list that somebody works through later, such as the backlog. An escalation may end in it."""

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable])
    description = models.TextField(blank=True)

    class Meta:
        ordering = ("name",)
        constraints = (not_empty("queue", "name"),)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class QueueEntry(models.Model):
    """Something that an escalation has put into a queue, until somebody takes it out."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, related_name="entries")
    escalation = models.ForeignKey("contacts.Escalation", on_delete=models.CASCADE, related_name="queued")
    at = models.DateTimeField(default=timezone.now)
    taken_at = models.DateTimeField(null=True)
    taken_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        ordering = ("at",)
        verbose_name_plural = "queue entries"
        constraints = (models.UniqueConstraint(fields=("queue", "escalation"), name="queueentry_once"),)

    def __str__(self) -> str:
        return f"{self.escalation} in {self.queue}"
