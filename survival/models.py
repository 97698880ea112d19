"""The portal's own backups and who keeps their key, the copies of the offline card, and break-glass links."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from operations.models import Operation
from survival.querysets import BreakGlassQuerySet, PortalBackupQuerySet


class SecondPlace(models.Model):
    """The one record about where the portal's backups go, to which key, and whether the key is kept apart."""

    recipient = models.CharField(
        max_length=200, blank=True, help_text="Public half of the key; backups are sealed to it."
    )
    identity_path = models.CharField(
        max_length=500, blank=True, help_text="Where the portal wrote the key when it made it; it is to be moved away."
    )
    key_since = models.DateTimeField(null=True, blank=True)
    key_kept_where = models.CharField(max_length=300, blank=True, help_text="Printed on the offline card.")
    key_confirmed_at = models.DateTimeField(null=True, blank=True)
    key_confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = verbose_name_plural = "second place"
        permissions = (("confirm_key", "Can confirm that the key of the portal's backups is kept apart"),)
        constraints = (
            models.CheckConstraint(
                name="second_place_is_one", condition=Q(pk=1), violation_error_message="There is one second place."
            ),
            models.CheckConstraint(
                name="second_place_confirmed_says_where",
                condition=Q(key_confirmed_at__isnull=True) | ~Q(key_kept_where=""),
                violation_error_message="Who confirms the key says where it is kept.",
            ),
        )

    def __str__(self) -> str:
        return "Second place"

    def get_absolute_url(self) -> str:
        return reverse("admin:survival_secondplace_detail", args=[self.pk])

    @property
    def key_is_apart(self) -> bool:
        return self.key_confirmed_at is not None


class PortalBackup(models.Model):
    """One backup of the portal itself: one sealed file in the second place.

    ::

        AVAILABLE --> PRUNED (by retention)
        AVAILABLE <--> MISSING (not where it should be)
        verification: UNVERIFIED --> READ | CHECKED | DAMAGED, and again
    """

    class State(models.TextChoices):
        AVAILABLE = "available", "Available"
        PRUNED = "pruned", "Removed"
        MISSING = "missing", "Missing"

    class Verification(models.TextChoices):
        UNVERIFIED = "unverified", "Not verified"
        READ = "read", "Opened and read"
        CHECKED = "checked", "Checksum checked"
        DAMAGED = "damaged", "Damaged"

    GOOD = (Verification.READ, Verification.CHECKED)

    operation = models.OneToOneField(
        Operation,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="portal_backup",
        help_text="Empty for one that was found in the second place, made in an earlier life of this portal.",
    )
    folder = models.CharField(max_length=500)
    name = models.CharField(max_length=200, help_text="File name.")
    state = models.CharField(max_length=10, choices=State, default=State.AVAILABLE)
    verification = models.CharField(max_length=10, choices=Verification, default=Verification.UNVERIFIED)
    verified_at = models.DateTimeField(null=True, blank=True)
    message = models.TextField(blank=True)
    made_at = models.DateTimeField()
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    recipient = models.CharField(max_length=200)
    portal_version = models.CharField(max_length=80, blank=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    objects = PortalBackupQuerySet.as_manager()

    class Meta:
        ordering = ("-made_at", "-pk")
        permissions = (("back_up_portal", "Can back up the portal itself"),)
        constraints = (
            models.UniqueConstraint(
                fields=("folder", "name"),
                condition=Q(state="available"),
                name="portal_backup_place_unique",
                violation_error_message="There is a backup of that name already.",
            ),
            models.CheckConstraint(
                name="portal_backup_verified_has_time",
                condition=Q(verification="unverified") | Q(verified_at__isnull=False),
                violation_error_message="A verification has a time.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("admin:survival_portalbackup_detail", args=[self.pk])

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def status(self) -> str:
        if self.state == self.State.PRUNED:
            return "neutral"
        if self.state == self.State.MISSING or self.verification == self.Verification.DAMAGED:
            return "bad"
        return "ok" if self.verification in self.GOOD else "warn"

    @property
    def state_word(self) -> str:
        if self.state == self.State.AVAILABLE:
            return self.Verification(self.verification).label
        return self.State(self.state).label


class CardCopy(models.Model):
    """One place of the offline card: when it was last written there, with what, and what went wrong since."""

    place = models.CharField(max_length=500, unique=True)
    content_sha256 = models.CharField(max_length=64, blank=True)
    written_at = models.DateTimeField(null=True, blank=True)
    tried_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ("place",)
        verbose_name, verbose_name_plural = "copy of the offline card", "copies of the offline card"

    def __str__(self) -> str:
        return self.place


class Heartbeat(models.Model):
    """The one record about the heartbeat to an address outside. Writing it proves that the database takes writes."""

    tried_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True, help_text="When the address last took a good heartbeat.")
    trouble = models.TextField(blank=True, help_text="Why none is sent, or why it did not arrive.")

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="heartbeat_is_one", condition=Q(pk=1), violation_error_message="There is one heartbeat."
            ),
        )

    def __str__(self) -> str:
        return "Heartbeat"


class BreakGlass(models.Model):
    """A link that signs one person in as an administrator for a short time, made by whoever has a shell on the host.

    ::

        issued --button on its page--> session open --> ended (signed out, time over, or ended by an administrator)
        issued --not used in time--> worthless
    """

    name = models.CharField(max_length=150, help_text="Who asked for it, as they said.")
    account = models.CharField(max_length=150, help_text="Account of the machine in which the command ran.")
    reason = models.TextField()
    minutes = models.PositiveSmallIntegerField()
    token_sha256 = models.CharField(max_length=64, unique=True, editable=False)
    issued_at = models.DateTimeField(default=timezone.now)
    link_expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    used_from = models.GenericIPAddressField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="When the session ends.")
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = BreakGlassQuerySet.as_manager()

    class Meta:
        ordering = ("-issued_at",)
        verbose_name, verbose_name_plural = "break-glass access", "break-glass access"
        permissions = (("end_breakglass", "Can end break-glass sessions"),)
        constraints = (
            models.CheckConstraint(
                name="breakglass_has_reason",
                condition=~Q(reason="") & ~Q(name=""),
                violation_error_message="Say who and why.",
            ),
            models.CheckConstraint(
                name="breakglass_used_has_end",
                condition=Q(used_at__isnull=True, expires_at__isnull=True)
                | Q(used_at__isnull=False, expires_at__gt=F("used_at")),
                violation_error_message="Exactly a used link has a session that ends.",
            ),
        )

    def __str__(self) -> str:
        return f"Break-glass for {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("admin:survival_breakglass_detail", args=[self.pk])

    @property
    def is_open(self) -> bool:
        return self.expires_at is not None and self.ended_at is None and self.expires_at > timezone.now()

    @property
    def status(self) -> str:
        return "bad" if self.is_open else "warn" if self.is_waiting else "neutral"

    @property
    def is_waiting(self) -> bool:
        return self.used_at is None and self.ended_at is None and self.link_expires_at > timezone.now()

    @property
    def state_word(self) -> str:
        if self.is_open:
            return "Signed in"
        if self.is_waiting:
            return "Link not used yet"
        return "Ended" if self.used_at else "Never used"
