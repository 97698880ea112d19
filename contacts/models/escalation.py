"""Escalations that run: a ladder of the matrix, climbed until somebody answers."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.models import Service
from contacts.models.people import Contact
from contacts.models.policy import PolicyVersion, Rule
from contacts.querysets import EscalationQuerySet
from core.links import detail_url


class Escalation(models.Model):
    """Somebody must hear of a subject, step by step, until somebody answers.

    ::

        ACTIVE --last timed step, untimed ones left--> WAITING --Escalate--> ...
        ACTIVE --last step and repeats unanswered----> EXHAUSTED
        ACTIVE | WAITING | EXHAUSTED --acknowledge--> ACKNOWLEDGED --resolved, reassigned, replaced--> STOPPED
        any but STOPPED ----------------------------> STOPPED

    The subject is opaque: another room's row, by type and number. `version` and `rule` are frozen at the start.
    `position` is the order of the next step, `round` counts how often the ladder began again, from 0.
    """

    class State(models.TextChoices):
        ACTIVE = "active", "Climbing"
        WAITING = "waiting", "Waiting for a person"
        EXHAUSTED = "exhausted", "Unanswered"
        ACKNOWLEDGED = "acknowledged", "Acknowledged"
        STOPPED = "stopped", "Stopped"

    class Ending(models.TextChoices):
        RESOLVED = "resolved", "Resolved"
        REASSIGNED = "reassigned", "Given to somebody"
        REPLACED = "replaced", "Replaced by another escalation"
        WITHDRAWN = "withdrawn", "Withdrawn"

    OPEN = (State.ACTIVE, State.WAITING, State.EXHAUSTED)

    subject_type = models.CharField(max_length=80, help_text="A model such as incidents.incident.")
    subject_id = models.BigIntegerField()
    title = models.CharField(max_length=300, help_text="What is wrong, as messages say it.")
    url = models.CharField(max_length=300, blank=True, help_text="The page of the subject, below the portal's address.")
    service = models.ForeignKey(Service, null=True, on_delete=models.PROTECT, related_name="escalations")
    severity_words = models.CharField(max_length=120, blank=True)
    severity_rank = models.PositiveSmallIntegerField(null=True, help_text="Which message goes first; not shown.")
    situation = models.CharField(max_length=80, blank=True)
    version = models.ForeignKey(PolicyVersion, null=True, on_delete=models.PROTECT, related_name="escalations")
    rule = models.ForeignKey(Rule, null=True, on_delete=models.PROTECT, related_name="escalations")
    fallback = models.ForeignKey(
        Contact, null=True, on_delete=models.PROTECT, related_name="+", help_text="As the matrix named it at the start."
    )

    state = models.CharField(max_length=12, choices=State, default=State.ACTIVE)
    given_to = models.ForeignKey(
        Contact, null=True, on_delete=models.PROTECT, related_name="+", help_text="By name, in place of a ladder."
    )
    started_at = models.DateTimeField(default=timezone.now)
    round_at = models.DateTimeField(default=timezone.now, help_text="Since when the times of this round count.")
    round = models.PositiveSmallIntegerField(default=0)
    position = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(null=True, help_text="When the next step is due; exactly the climbing ones have it.")
    again_at = models.DateTimeField(null=True, help_text="When it is said again that nobody has answered.")
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.ForeignKey(
        Contact, null=True, on_delete=models.PROTECT, related_name="+", help_text="By the link in a message."
    )
    acknowledged_by_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    ended_at = models.DateTimeField(null=True)
    ending = models.CharField(max_length=10, choices=Ending, blank=True)

    objects = EscalationQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        permissions = (("answer_escalation", "Can acknowledge, escalate and reassign"),)
        indexes = (
            models.Index(fields=("due_at",), condition=Q(state="active"), name="escalation_due"),
            models.Index(fields=("again_at",), condition=Q(state="exhausted"), name="escalation_again"),
            models.Index(fields=("subject_type", "subject_id"), name="escalation_subject"),
        )
        constraints = (
            models.CheckConstraint(
                name="escalation_climbing_is_due",
                condition=Q(state="active", due_at__isnull=False) | Q(~Q(state="active"), due_at__isnull=True),
            ),
            models.CheckConstraint(
                name="escalation_stopped_has_end",
                condition=Q(state="stopped", ended_at__isnull=False) & ~Q(ending="")
                | Q(~Q(state="stopped"), ended_at__isnull=True, ending=""),
            ),
            models.CheckConstraint(
                name="escalation_acknowledged_has_time",
                condition=~Q(state="acknowledged") | Q(acknowledged_at__isnull=False),
            ),
            models.UniqueConstraint(
                fields=("subject_type", "subject_id"),
                condition=~Q(state="stopped"),
                name="escalation_one_per_subject",
            ),
        )

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return detail_url(self)

    @property
    def is_open(self) -> bool:
        """Nobody has answered yet."""
        return self.state in self.OPEN

    @property
    def status(self) -> str:
        return {
            self.State.ACTIVE: "running",
            self.State.WAITING: "warn",
            self.State.EXHAUSTED: "bad",
            self.State.ACKNOWLEDGED: "ok",
            self.State.STOPPED: "neutral",
        }[self.State(self.state)]

    @property
    def state_word(self) -> str:
        return self.get_ending_display() if self.state == self.State.STOPPED else self.get_state_display()


class StepRun(models.Model):
    """A step that was taken, once: who was to be told, and what came of it."""

    class Outcome(models.TextChoices):
        TOLD = "told", "Told"
        QUEUED = "queued", "Put into a queue"
        NOBODY = "nobody", "Reached nobody"

    escalation = models.ForeignKey(Escalation, on_delete=models.CASCADE, related_name="runs")
    round = models.PositiveSmallIntegerField()
    position = models.PositiveSmallIntegerField()
    due_at = models.DateTimeField(help_text="When it should have been.")
    at = models.DateTimeField(default=timezone.now)
    outcome = models.CharField(max_length=8, choices=Outcome)
    sentence = models.TextField(help_text="Whom, in words.")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", help_text="Escalated by hand."
    )

    class Meta:
        ordering = ("pk",)
        constraints = (models.UniqueConstraint(fields=("escalation", "round", "position"), name="steprun_once"),)

    def __str__(self) -> str:
        return f"Step {self.position + 1} of {self.escalation}"
