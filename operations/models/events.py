"""News of the portal: what has happened, for whoever wants to know."""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils import timezone

from core.links import detail_url
from operations.models.operations import Operation


class Event(models.Model):
    """One piece of news, written by `operations.events.publish` in the transaction of what it reports. Never changed.

    `subject_type` is a model such as `backups.archive`, `url` its page.
    """

    name = models.CharField(max_length=60, help_text="What kind of news, such as operation.ended.")
    at = models.DateTimeField(default=timezone.now)
    sentence = models.TextField(help_text="The news, for a person.")
    subject_type = models.CharField(max_length=80, blank=True)
    subject_id = models.BigIntegerField(null=True, blank=True)
    url = models.CharField(max_length=300, blank=True)
    operation = models.ForeignKey(
        Operation, null=True, blank=True, on_delete=models.SET_NULL, related_name="events", help_text="What led to it."
    )
    data = models.JSONField(default=dict, encoder=DjangoJSONEncoder)

    class Meta:
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("name", "-id"), name="event_name"),
            models.Index(fields=("at",), name="event_at"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("operation",), condition=Q(name="operation.ended"), name="event_operation_ends_once"
            ),
        )

    def __str__(self) -> str:
        return f"#{self.pk} {self.name}"

    def get_absolute_url(self) -> str:
        return detail_url(self)
