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
    response_time = models.DurationField(
        null=True, blank=True, help_text="Time until somebody answers, for example 15 min. Empty means not set."
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
