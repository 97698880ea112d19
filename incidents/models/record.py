"""What happened in an incident: the timeline with its hash chain, evidence, updates, the review, action items."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from catalog.constraints import not_empty
from catalog.validators import validate_printable
from contacts.models import Channel, Contact
from core.links import detail_url
from incidents.models.incidents import Incident
from incidents.models.settings import Audience, MessageTemplate, PublicStatus


class TimelineEntry(models.Model):
    """One event, written once. A correction is another entry that names the one it corrects.

    `hash` is the SHA-256 over the hash before and this entry (see incidents.chain), so a change in the middle shows.
    """

    class Kind(models.TextChoices):
        NOTE = "note", "Note"
        STATE = "state", "State"
        SEVERITY = "severity", "Severity"
        ROLE = "role", "Role"
        DECISION = "decision", "Decision"
        ESCALATION = "escalation", "Escalation"
        UPDATE = "update", "Update"
        OPERATION = "operation", "Operation"
        EVIDENCE = "evidence", "Evidence"
        CORRECTION = "correction", "Correction"
        CAUSE = "cause", "Cause"
        ROOT_CAUSE = "root-cause", "Root cause identified"
        FIX = "fix", "Resolution implemented"

    class Source(models.TextChoices):
        PERSON = "person", "Person"
        PORTAL = "portal", "Portal"
        API = "api", "API"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="timeline")
    sequence = models.PositiveIntegerField()
    at = models.DateTimeField(help_text="When it happened.")
    recorded_at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.NOTE)
    source = models.CharField(max_length=6, choices=Source)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    actor = models.CharField(max_length=160, help_text="Who, in words, as it was then.")
    text = models.TextField()
    url = models.CharField(max_length=300, blank=True)
    data = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    corrects = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="corrections")
    previous_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering = ("sequence",)
        verbose_name_plural = "timeline entries"
        indexes = (models.Index(fields=("incident", "-at"), name="timeline_incident_at"),)
        constraints = (
            models.UniqueConstraint(fields=("incident", "sequence"), name="timeline_sequence_once"),
            models.CheckConstraint(condition=Q(hash__regex=r"^[0-9a-f]{64}$"), name="timeline_hash"),
            not_empty("timelineentry", "text"),
        )

    def __str__(self) -> str:
        return f"{self.incident.number} #{self.sequence}"


class Pin(models.Model):
    """An entry that stands on top. Apart from the entry, which is never changed."""

    entry = models.OneToOneField(TimelineEntry, on_delete=models.CASCADE, related_name="pin")
    at = models.DateTimeField(default=timezone.now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")

    def __str__(self) -> str:
        return f"Pin on {self.entry}"


class Evidence(models.Model):
    """A file that shows what was seen, with its SHA-256. Its bytes are in EvidenceContent."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="evidence")
    entry = models.OneToOneField(TimelineEntry, on_delete=models.PROTECT, related_name="evidence")
    name = models.CharField(max_length=200, validators=[validate_printable])
    content_type = models.CharField(max_length=120)
    size_bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    added_at = models.DateTimeField(default=timezone.now)
    added_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("pk",)
        verbose_name_plural = "evidence"
        constraints = (
            not_empty("evidence", "name"),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="evidence_sha256"),
        )

    def __str__(self) -> str:
        return self.name


class EvidenceContent(models.Model):
    """The bytes of a file, apart so that lists do not load them."""

    evidence = models.OneToOneField(Evidence, on_delete=models.CASCADE, primary_key=True, related_name="content")
    data = models.BinaryField()

    def __str__(self) -> str:
        return str(self.evidence)


class ChecklistTick(models.Model):
    """Something on a stage's checklist, or a closing gate, that was done."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="ticks")
    gate = models.BooleanField(default=False)
    text = models.CharField(max_length=200)
    at = models.DateTimeField(default=timezone.now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("pk",)
        constraints = (models.UniqueConstraint(fields=("incident", "gate", "text"), name="checklisttick_once"),)

    def __str__(self) -> str:
        return self.text


class Update(models.Model):
    """What the people concerned were told."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="updates")
    at = models.DateTimeField(default=timezone.now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    audience = models.CharField(max_length=8, choices=Audience)
    public_status = models.CharField(max_length=14, choices=PublicStatus, blank=True)
    template = models.ForeignKey(MessageTemplate, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    text = models.TextField()
    channels = models.ManyToManyField(Channel, blank=True, related_name="+")
    key = models.CharField(
        max_length=200, null=True, blank=True, unique=True, editable=False, help_text="Makes a second click one."
    )

    class Meta:
        ordering = ("-at", "-pk")
        constraints = (
            not_empty("update", "text"),
            models.CheckConstraint(
                condition=Q(audience="public") & ~Q(public_status="") | Q(audience="internal"),
                name="update_public_has_status",
            ),
        )

    def __str__(self) -> str:
        return f"Update on {self.incident.number}"


def review_words() -> SearchVector:
    """What a search over reviews looks at; the index and the search must say the same."""
    return SearchVector("title", "summary", "impact", "root_cause", "resolution", "lessons", config="english")


class Review(models.Model):
    """What was learnt. Drafted when the incident is resolved; edited until it is published."""

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        PUBLISHED = "published", "Published"

    incident = models.OneToOneField(Incident, on_delete=models.CASCADE, related_name="review")
    state = models.CharField(max_length=9, choices=State, default=State.DRAFT)
    title = models.CharField(max_length=200)
    summary = models.TextField(blank=True)
    impact = models.TextField(blank=True)
    root_cause = models.TextField(blank=True)
    resolution = models.TextField(blank=True)
    lessons = models.TextField("lessons learned", blank=True)
    attendees = models.ManyToManyField(Contact, blank=True, related_name="+")
    meeting_at = models.DateTimeField(null=True, blank=True)
    owner = models.ForeignKey(Contact, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    review_on = models.DateField("follow-up on", null=True, blank=True)
    drafted_at = models.DateTimeField(default=timezone.now)
    drafted = models.JSONField(default=dict, editable=False, help_text="What the portal wrote, field by field.")
    version = models.PositiveIntegerField(default=0, editable=False, help_text="Counts every change of the text.")
    published_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-pk",)
        indexes = (GinIndex(review_words(), name="review_search"),)
        constraints = (
            models.CheckConstraint(
                condition=Q(state="published", published_at__isnull=False)
                | ~Q(state="published") & Q(published_at__isnull=True),
                name="review_published_has_time",
            ),
        )

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return detail_url(self)


class ActionItem(models.Model):
    """Something to be done so that it does not happen again."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="actions")
    text = models.CharField(max_length=300, validators=[validate_printable])
    owner = models.ForeignKey(Contact, null=True, blank=True, on_delete=models.PROTECT, related_name="actions")
    due_on = models.DateField(null=True, blank=True)
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    done_at = models.DateTimeField(null=True, editable=False)
    done_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+", editable=False
    )
    reminded_on = models.DateField(null=True, editable=False)

    class Meta:
        ordering = (F("done_at").asc(nulls_first=True), "due_on", "pk")
        constraints = (not_empty("actionitem", "text"),)

    def __str__(self) -> str:
        return self.text

    def get_absolute_url(self) -> str:
        return detail_url(self)


class ChainDigest(models.Model):
    """The hash over the ends of all timelines on a day, as it left the portal: what a later look is compared with."""

    day = models.DateField(unique=True)
    made_at = models.DateTimeField(default=timezone.now)
    sha256 = models.CharField(max_length=64)
    entries = models.PositiveBigIntegerField(help_text="How many entries it covers.")
    heads = models.JSONField(default=dict, help_text="Number of the incident -> [entries, hash of the last].")
    sent_to = ArrayField(models.CharField(max_length=300), default=list, help_text="Where it left for.")

    class Meta:
        ordering = ("-day",)

    def __str__(self) -> str:
        return f"Digest of {self.day}"

    def get_absolute_url(self) -> str:
        return detail_url(self)
