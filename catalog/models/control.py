"""How the service of an environment is started, stopped and asked for. `catalog.service_control` runs it."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from catalog import validators
from catalog.constraints import is_list
from catalog.models.hosts import Host
from catalog.models.inventory import Environment
from core.environments import EnvironmentBand
from core.links import detail_url


class ServiceControlCommands(models.Model):
    """The commands that start, stop and ask for the service of one environment.

    Each is an argument vector run without a shell, so whoever edits this row runs commands: administrators only.
    """

    environment = models.OneToOneField(Environment, on_delete=models.CASCADE, related_name="service_control")
    host = models.ForeignKey(
        Host,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Where the commands run. Empty: on the worker's own machine.",
    )
    start = models.JSONField("start command", validators=[validators.validate_argument_vector])
    stop = models.JSONField("stop command", validators=[validators.validate_argument_vector])
    status = models.JSONField(
        "status command",
        validators=[validators.validate_argument_vector],
        help_text="Ends with 0 when the service is ready and with 3 when it is stopped, as “systemctl status” does.",
    )
    timeout_s = models.PositiveIntegerField(
        "time limit of a command (seconds)", default=60, validators=[MinValueValidator(1), MaxValueValidator(3600)]
    )
    ready_timeout_s = models.PositiveIntegerField(
        "time limit until ready (seconds)", default=120, validators=[MinValueValidator(1), MaxValueValidator(3600)]
    )

    class Meta:
        verbose_name = "service control"
        verbose_name_plural = "service control"
        ordering = ("environment__service__name", "environment__name")
        constraints = [
            is_list("start"),
            is_list("stop"),
            is_list("status"),
            models.CheckConstraint(
                condition=Q(timeout_s__gte=1, timeout_s__lte=3600, ready_timeout_s__gte=1, ready_timeout_s__lte=3600),
                name="servicecontrol_timeouts_range",
                violation_error_message="A time limit is from 1 to 3600 seconds.",
            ),
        ]

    def __str__(self) -> str:
        return str(self.environment)

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about these commands says."""
        return self.environment.environment_band
