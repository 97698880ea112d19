"""The record of an incident, and who does what in it."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from catalog.constraints import not_empty
from catalog.models import Component, Environment, Service, Severity
from catalog.validators import validate_printable
from contacts.models import Contact
from core.environments import EnvironmentBand
from core.links import detail_url
from incidents.models.settings import CoreState, IncidentRole, PublicStatus, Stage
from incidents.querysets import IncidentQuerySet
from operations.models import Event, Operation


class NumberCounter(models.Model):
    """The last number given for a pattern with everything but the count filled in."""

    scope = models.CharField(max_length=120, primary_key=True)
    last = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.scope}: {self.last}"


class Incident(models.Model):
    """Something that is wrong, from its declaration to its closing.

    ::

        OPEN --> ACKNOWLEDGED --> MITIGATED --> RESOLVED --> CLOSED
          \\___________\\______________\\______^      |
                 any but CLOSED <---- reopened ----+

    A later state may be reached at once, and a resolved one be reopened. One that was merged is closed and says where
    it went. Times a team has not set stay NULL.
    """

    class Door(models.TextChoices):
        CLICK = "click", "A person"
        API = "api", "The API"
        RULE = "rule", "A rule"

    class DataLoss(models.TextChoices):
        NONE = "none", "No"
        SOME = "some", "Yes"

    ENDED = (CoreState.RESOLVED, CoreState.CLOSED)

    number = models.CharField(max_length=120, unique=True)
    title = models.CharField(max_length=200, validators=[validate_printable])
    service = models.ForeignKey(Service, null=True, blank=True, on_delete=models.PROTECT, related_name="incidents")
    environment = models.ForeignKey(
        Environment, null=True, blank=True, on_delete=models.PROTECT, related_name="incidents"
    )
    severity = models.ForeignKey(Severity, null=True, blank=True, on_delete=models.PROTECT, related_name="incidents")
    rank = models.PositiveSmallIntegerField(null=True, help_text="Of the severity, for comparing across services.")
    situation = models.CharField(max_length=80, blank=True, help_text="One of those in the escalation matrix.")
    state = models.CharField(max_length=12, choices=CoreState, default=CoreState.OPEN)
    stage = models.ForeignKey(Stage, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    stage_since = models.DateTimeField(null=True)
    stage_due_at = models.DateTimeField(null=True)
    stage_told = models.BooleanField(default=False, help_text="Somebody was told that the stage takes too long.")

    door = models.CharField(max_length=5, choices=Door, default=Door.CLICK)
    declared_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    declared_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(help_text="When it began, as far as known.")
    acknowledged_at = models.DateTimeField(null=True)
    mitigated_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    response_due_at = models.DateTimeField(null=True, help_text="Until when somebody should have answered.")
    update_due_at = models.DateTimeField(null=True, help_text="When the next update should go out.")
    update_told_at = models.DateTimeField(null=True)
    response_told = models.BooleanField(default=False, help_text="That nobody answered in time stands on the timeline.")
    idempotency_key = models.CharField(max_length=200, null=True, blank=True, unique=True, editable=False)

    description = models.TextField(blank=True)
    components = models.ManyToManyField(Component, blank=True, related_name="incidents")
    impacts = ArrayField(models.CharField(max_length=80), default=list, blank=True)
    impact_words = models.TextField("impact", blank=True)
    users_affected = models.PositiveIntegerField(null=True, blank=True)
    data_loss = models.CharField(max_length=4, choices=DataLoss, blank=True)
    cost = models.CharField(max_length=120, blank=True, help_text="Financial impact, an estimate in words.")
    workaround = models.TextField(blank=True)
    root_cause = models.TextField(blank=True)
    resolution = models.TextField("resolution actions", blank=True)
    eta = models.CharField("ETA", max_length=80, blank=True, help_text="Such as: about 30 minutes.")

    confidential = models.BooleanField(default=False, help_text="Only people named in it and administrators see it.")
    solo = models.BooleanField("solo mode", default=False, help_text="Whoever declared it works alone and commands.")
    solo_review = models.BooleanField(default=False, help_text="To be looked at afterwards: it was worked on alone.")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    merged_into = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="merged")
    related = models.ManyToManyField("self", blank=True)

    public = models.BooleanField(default=False, help_text="Shown on the status page.")
    public_status = models.CharField(max_length=14, choices=PublicStatus, blank=True)
    public_title = models.CharField(max_length=200, blank=True)
    channel_name = models.CharField(max_length=120, blank=True)
    search = SearchVectorField(null=True, editable=False)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        permissions = (
            ("declare_incident", "Can declare incidents"),
            ("respond_incident", "Can work on incidents: acknowledge, note, move on, resolve"),
            ("command_incident", "Can command every incident: severity, roles, merging, closing"),
            ("publish_update", "Can send updates"),
            ("see_confidential", "Can see every confidential incident"),
        )
        indexes = (
            models.Index(fields=("state", "-id"), name="incident_state"),
            models.Index(fields=("service", "-id"), name="incident_service"),
            models.Index(fields=("-declared_at",), name="incident_declared"),
            models.Index(fields=("rank", "-id"), name="incident_rank"),
            models.Index(
                fields=("update_due_at",), condition=Q(update_due_at__isnull=False), name="incident_update_due"
            ),
            models.Index(fields=("stage_due_at",), condition=Q(stage_due_at__isnull=False), name="incident_stage_due"),
            models.Index(fields=("-id",), condition=Q(public=True), name="incident_public"),
            models.Index(fields=("-id",), condition=Q(solo_review=True), name="incident_solo"),
            GinIndex(fields=("search",), name="incident_search"),
        )
        constraints = (
            not_empty("incident", "title"),
            models.CheckConstraint(
                condition=Q(state__in=["open", "acknowledged", "mitigated", "resolved", "closed"]),
                name="incident_state_known",
            ),
            models.CheckConstraint(
                name="incident_resolved_has_time",
                condition=Q(state__in=["resolved", "closed"], resolved_at__isnull=False)
                | ~Q(state__in=["resolved", "closed"]) & Q(resolved_at__isnull=True),
            ),
            models.CheckConstraint(
                name="incident_closed_has_time",
                condition=Q(state="closed", closed_at__isnull=False) | ~Q(state="closed") & Q(closed_at__isnull=True),
            ),
            models.CheckConstraint(
                name="incident_rank_of_severity",
                condition=Q(severity__isnull=True, rank__isnull=True) | Q(severity__isnull=False, rank__isnull=False),
            ),
            models.CheckConstraint(
                name="incident_ended_waits_for_nothing",
                condition=~Q(state__in=["resolved", "closed"]) | Q(update_due_at__isnull=True),
            ),
            models.CheckConstraint(
                name="incident_confidential_not_public",
                condition=~Q(confidential=True, public=True),
                violation_error_message="A confidential incident cannot be on the status page.",
            ),
            models.CheckConstraint(
                name="incident_merged_is_closed", condition=Q(merged_into__isnull=True) | Q(state="closed")
            ),
            models.CheckConstraint(name="incident_not_its_own_parent", condition=~Q(parent=F("pk"))),
        )

    def __str__(self) -> str:
        return f"{self.number} {self.shown_title}"

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def shown_title(self) -> str:
        """The title where others than those involved may read it."""
        return "Confidential incident" if self.confidential else self.title

    @property
    def environment_band(self) -> EnvironmentBand | None:
        return self.environment.environment_band if self.environment else None

    @property
    def is_ended(self) -> bool:
        return self.state in self.ENDED

    @property
    def status(self) -> str:
        return {"open": "bad", "acknowledged": "warn", "mitigated": "warn", "resolved": "ok", "closed": "neutral"}[
            self.state
        ]

    @property
    def state_word(self) -> str:
        return "Merged" if self.merged_into_id else self.get_state_display()


class Assignment(models.Model):
    """Who has a role in an incident, and who stands in."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="assignments")
    role = models.CharField(max_length=16, choices=IncidentRole)
    primary = models.ForeignKey(Contact, null=True, on_delete=models.PROTECT, related_name="+")
    backup = models.ForeignKey(Contact, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("pk",)
        constraints = (
            models.UniqueConstraint(fields=("incident", "role"), name="assignment_once"),
            models.CheckConstraint(
                condition=Q(role__in=["commander", "technical", "communications", "support"]),
                name="assignment_role_known",
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_role_display()}: {self.primary or 'nobody'}"


class Cause(models.Model):
    """What a rule has seen going wrong, once per thing: the open trouble that several events belong to."""

    key = models.CharField(max_length=200, unique=True, help_text="Such as backup-failed:plan:7.")
    rule = models.ForeignKey("incidents.CauseRule", null=True, on_delete=models.SET_NULL, related_name="causes")
    incident = models.ForeignKey(Incident, null=True, on_delete=models.SET_NULL, related_name="causes")
    sentence = models.TextField(blank=True)
    in_a_row = models.PositiveIntegerField(default=0)
    seen = models.PositiveIntegerField(default=0)
    first_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now)
    gone_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-last_at",)

    def __str__(self) -> str:
        return self.key


class CauseNews(models.Model):
    """A piece of news that may be a cause, until the rules have looked at it."""

    event = models.OneToOneField(Event, on_delete=models.CASCADE, primary_key=True, related_name="+")
    tries = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now, help_text="When it is tried.")

    def __str__(self) -> str:
        return f"{self.event} for the rules"


class IncidentOperation(models.Model):
    """An operation that was started from an incident. It is kept as long as the incident is."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="operations")
    operation = models.ForeignKey(Operation, on_delete=models.PROTECT, related_name="incidents")
    noted = models.BooleanField(default=False, help_text="Its end stands on the timeline.")

    class Meta:
        ordering = ("pk",)
        constraints = (models.UniqueConstraint(fields=("incident", "operation"), name="incidentoperation_once"),)

    def __str__(self) -> str:
        return f"{self.operation} for {self.incident}"
