"""The people of the portal, and the tokens by which programs act for them."""

import zoneinfo
from functools import cache

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from core.links import detail_url
from core.querysets import ApiTokenQuerySet
from core.scopes import validate_scopes


@cache
def time_zone_names() -> frozenset[str]:
    """Every IANA zone name this machine knows. Reading the zone database is slow, so it happens once."""
    return frozenset(zoneinfo.available_timezones())


def validate_time_zone(value: str) -> None:
    """Refuse a name that is not an IANA time zone."""
    if value not in time_zone_names():
        raise ValidationError(
            "“%(value)s” is not a time zone. Choose a name such as Europe/Berlin.", params={"value": value}
        )


class User(AbstractUser):
    """A person who signs in. What they may do comes from the roles (groups) of `core.roles`.

    `time_zone` is for display only: schedules run in the zone of the service they belong to.
    """

    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Times are shown in this zone, for example Europe/Berlin.",
    )

    class Meta(AbstractUser.Meta):
        ordering = ("username",)
        verbose_name = "person"
        verbose_name_plural = "people"

    @property
    def display_name(self) -> str:
        """Full name where one is known, else the user name."""
        return self.get_full_name() or self.username

    def get_absolute_url(self) -> str:
        return detail_url(self)


class ApiToken(models.Model):
    """A secret by which a program acts for a person: with that person's rights, within the scopes, until it expires.

    Only the SHA-256 of the secret is kept. It has 256 random bits, so a slow hash would add nothing.
    """

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=80, help_text="What uses it, for example: GitLab CI of the web shop.")
    scopes = ArrayField(models.CharField(max_length=20), validators=[validate_scopes])
    hint = models.CharField(max_length=12, editable=False, help_text="How it begins.")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+", editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="Within a minute.")

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        verbose_name = "API token"
        permissions = (("issue_apitoken", "Can make API tokens for themselves"),)
        constraints = (
            models.CheckConstraint(name="apitoken_has_scope", condition=Q(scopes__len__gt=0)),
            models.CheckConstraint(name="apitoken_sha256", condition=Q(sha256__regex=r"^[0-9a-f]{64}$")),
            models.CheckConstraint(name="apitoken_expires_later", condition=Q(expires_at__gt=F("created_at"))),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def is_usable(self) -> bool:
        return self.revoked_at is None and self.expires_at > timezone.now() and self.owner.is_active

    @property
    def state_word(self) -> str:
        if self.revoked_at is not None:
            return "Revoked"
        if self.expires_at <= timezone.now():
            return "Expired"
        return "Usable" if self.owner.is_active else "Owner switched off"

    @property
    def status(self) -> str:
        return "ok" if self.is_usable else "neutral"
