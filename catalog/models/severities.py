"""The severity schemes of the services."""

from datetime import timedelta

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from catalog import querysets, validators
from catalog.constraints import not_empty
from catalog.models.inventory import Service
from core.links import detail_url


class Severity(models.Model):
    """One grade of a service's own severity scheme.

    The same code means different things to different teams, so severities are compared by rank, never by code.
    """

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="severities")
    code = models.CharField(max_length=20, validators=[validators.validate_printable])
    name = models.CharField(max_length=80, validators=[validators.validate_printable])
    rank = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)], help_text="1 is the worst.")
    definition = models.TextField(blank=True)
    examples = models.TextField(blank=True)
    team = models.CharField(
        "response team",
        max_length=120,
        blank=True,
        validators=[validators.validate_printable],
        help_text="Who comes together, for example: all hands on deck.",
    )
    response_time = models.DurationField(
        null=True, blank=True, help_text="Time until somebody answers, for example 15 min. Empty means not set."
    )
    response_in_business_hours = models.BooleanField(
        "only business hours count", default=False, help_text="The clock of the response time stands still at night."
    )
    response_business_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Instead of a response time: answered by the end of this many business days later. 1 on a Friday "
        "means Monday.",
    )
    update_every = models.DurationField(
        null=True,
        blank=True,
        help_text="How often the people concerned hear of it, for example 1 h; 0 means at once and at every change. "
        "Empty means not set.",
    )
    update_words = models.CharField(
        max_length=80,
        blank=True,
        validators=[validators.validate_printable],
        help_text="A cadence that is no clock time, for example: at sprint planning.",
    )

    objects = querysets.SeverityQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "severities"
        ordering = ("rank",)
        constraints = [
            models.UniqueConstraint(
                fields=["service", "code"],
                name="severity_code_unique",
                violation_error_message="This service has a severity with this code already. Choose another.",
            ),
            models.UniqueConstraint(
                fields=["service", "rank"],
                name="severity_rank_unique",
                violation_error_message="This service has a severity with this rank already. Choose another.",
            ),
            models.CheckConstraint(
                condition=Q(rank__gte=1),
                name="severity_rank_from_one",
                violation_error_message="Ranks begin with 1, the worst.",
            ),
            models.CheckConstraint(
                condition=Q(response_time__isnull=True) | Q(response_time__gt=timedelta(0)),
                name="severity_response_time_positive",
                violation_error_message="The response time must be longer than zero. Leave it empty if it is not set.",
            ),
            models.CheckConstraint(
                condition=Q(response_time__isnull=True) | Q(response_business_days__isnull=True),
                name="severity_one_response",
                violation_error_message="Give a response time or business days, not both.",
            ),
            models.CheckConstraint(
                condition=Q(response_business_days__isnull=True) | Q(response_business_days__gte=1),
                name="severity_business_days_positive",
                violation_error_message="Business days begin with 1. Leave them empty if they are not set.",
            ),
            models.CheckConstraint(
                condition=Q(update_every__isnull=True) | Q(update_every__gte=timedelta(0)),
                name="severity_update_every_not_negative",
                violation_error_message="The time between updates must not be negative.",
            ),
            not_empty("severity", "code"),
            not_empty("severity", "name"),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    def is_worse_than(self, other: "Severity") -> bool:
        """Whether this grade weighs more than another, of whichever service."""
        return self.rank < other.rank
