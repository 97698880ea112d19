"""Questions to running things, and what they answered. Kinds: `catalog.probes`; asking: `catalog.probing`."""

from django.core.serializers.json import DjangoJSONEncoder
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from catalog import querysets, validators
from catalog.constraints import not_empty
from catalog.models.hosts import Host
from catalog.models.inventory import Component, Environment
from core.environments import EnvironmentBand
from core.links import detail_url

STATES = ["ok", "warn", "bad", "unknown"]


class State(models.TextChoices):
    OK = "ok", "Good"
    WARN = "warn", "Warning"
    BAD = "bad", "Bad"
    UNKNOWN = "unknown", "Unknown"

    @property
    def status(self) -> str:
        """One of the status colours."""
        return "neutral" if self == State.UNKNOWN else str(self.value)


class Probe(models.Model):
    """One question to the service of an environment, and its newest answer."""

    class Use(models.TextChoices):
        CHECK = "check", "Check now"
        READY = "ready", "Ready again after a restore"
        SMOKE = "smoke", "Smoke test after a restore"

    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="probes")
    component = models.ForeignKey(Component, null=True, blank=True, on_delete=models.CASCADE, related_name="probes")
    looks_from = models.ForeignKey(
        Host,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="probes",
        help_text="The host from which it looks. Empty: the worker's own machine.",
    )
    name = models.CharField(max_length=80, validators=[validators.validate_printable])
    kind = models.CharField(max_length=16)
    parameters = models.JSONField(default=dict)
    timeout_s = models.PositiveIntegerField(
        "time limit (seconds)", default=10, validators=[MinValueValidator(1), MaxValueValidator(300)]
    )
    use = models.CharField(
        max_length=8,
        choices=Use,
        default=Use.CHECK,
        help_text="A restore waits for “ready” and must pass “smoke”.",
    )

    state = models.CharField(max_length=8, choices=State, default=State.UNKNOWN, editable=False)
    sentence = models.TextField(blank=True, editable=False)
    latency_s = models.FloatField(null=True, editable=False)
    figures = models.JSONField(default=dict, encoder=DjangoJSONEncoder, editable=False)
    asked_at = models.DateTimeField(null=True, editable=False)

    objects = querysets.ProbeQuerySet.as_manager()

    class Meta:
        ordering = ("environment__service__name", "environment__name", "name")
        permissions = [("run_probe", "Can ask probes")]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "name"],
                name="probe_name_unique",
                violation_error_message="This environment has a probe with this name already. Choose another.",
            ),
            models.CheckConstraint(
                condition=Q(timeout_s__gte=1, timeout_s__lte=300),
                name="probe_timeout_range",
                violation_error_message="A time limit is from 1 to 300 seconds.",
            ),
            models.CheckConstraint(condition=Q(state__in=STATES), name="probe_state_known"),
            models.CheckConstraint(condition=Q(use__in=["check", "ready", "smoke"]), name="probe_use_known"),
            not_empty("probe", "name"),
            not_empty("probe", "kind"),
        ]

    def __str__(self) -> str:
        return f"{self.environment} · {self.name}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def environment_band(self) -> EnvironmentBand:
        """What the band of a page about this probe says."""
        return self.environment.environment_band

    @property
    def status(self) -> str:
        return State(self.state).status

    @property
    def state_word(self) -> str:
        return "Never asked" if self.asked_at is None else State(self.state).label


class ProbeResult(models.Model):
    """One earlier answer. The newest few of each probe are kept."""

    KEPT = 50

    probe = models.ForeignKey(Probe, on_delete=models.CASCADE, related_name="results")
    at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State)
    sentence = models.TextField()
    latency_s = models.FloatField(null=True)

    class Meta:
        ordering = ("-pk",)
        indexes = [models.Index(fields=["probe", "-id"], name="proberesult_newest")]

    def __str__(self) -> str:
        return self.sentence

    @property
    def status(self) -> str:
        return State(self.state).status

    @property
    def state_word(self) -> str:
        return State(self.state).label
