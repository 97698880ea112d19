"""The people of the portal."""

import zoneinfo
from functools import cache

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models

from core.links import detail_url


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
