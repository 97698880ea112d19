"""Who is on call: rotations in layers, overrides, and what was true at the time."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from catalog.constraints import not_empty
from catalog.models import OpeningHours, Service
from catalog.validators import validate_printable
from contacts.models.people import Contact
from core.links import detail_url
from core.models import validate_time_zone


class Level(models.IntegerChoices):
    """The places of an on-call schedule. Each is answered on its own."""

    PRIMARY = 1, "Primary"
    SECONDARY = 2, "Secondary"
    ESCALATION = 3, "Escalation"


class OnCallSchedule(models.Model):
    """Who answers now, for each level: a stack of layers, of which the highest rank that names somebody counts, and
    overrides above them all."""

    name = models.CharField(max_length=80, unique=True, validators=[validate_printable])
    service = models.ForeignKey(
        Service, null=True, blank=True, on_delete=models.PROTECT, related_name="oncall_schedules"
    )
    time_zone = models.CharField(
        max_length=64, default="UTC", validators=[validate_time_zone], help_text="Handoffs happen in this zone."
    )
    alarm_gaps = models.BooleanField(
        default=True, help_text="Tell administrators when nobody is on call, or will be within a day."
    )
    recorded_until = models.DateTimeField(
        null=True, editable=False, help_text="Up to here who was on call is kept as fact."
    )
    gaps_told = ArrayField(
        models.CharField(max_length=60),
        default=list,
        blank=True,
        editable=False,
        help_text="The gaps there are and that administrators were told of, each by its level and beginning.",
    )

    class Meta:
        ordering = ("name",)
        verbose_name = "on-call schedule"
        constraints = (not_empty("oncallschedule", "name"), not_empty("oncallschedule", "time_zone"))

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class Layer(models.Model):
    """A rotation: its members follow each other, a shift each, handing over at a local time.

    Shift k begins `starts_on` + k shifts at `handoff`, in the schedule's zone; shifts of hours are of elapsed time. The
    layer begins with the first handoff and ends with the one of `ends_on`.
    With windows, a layer names somebody only within them.
    """

    class Unit(models.TextChoices):
        HOURS = "hours", "hours"
        DAYS = "days", "days"
        WEEKS = "weeks", "weeks"

    schedule = models.ForeignKey(OnCallSchedule, on_delete=models.CASCADE, related_name="layers")
    level = models.PositiveSmallIntegerField(choices=Level, default=Level.PRIMARY)
    rank = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1)],
        help_text="Where several layers of a level apply, the highest counts.",
    )
    name = models.CharField(max_length=80, blank=True, validators=[validate_printable])
    starts_on = models.DateField(help_text="The day of the first handoff.")
    ends_on = models.DateField(null=True, blank=True, help_text="The day whose handoff ends it. Empty means for good.")
    handoff = models.TimeField(default="09:00")
    shift_length = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    shift_unit = models.CharField(max_length=5, choices=Unit, default=Unit.WEEKS)

    class Meta:
        ordering = ("level", "-rank", "pk")
        constraints = (
            models.CheckConstraint(condition=Q(level__in=[1, 2, 3]), name="layer_level_known"),
            models.CheckConstraint(condition=Q(shift_unit__in=["hours", "days", "weeks"]), name="layer_unit_known"),
            models.CheckConstraint(
                condition=Q(shift_length__gte=1, rank__gte=1),
                name="layer_numbers_from_one",
                violation_error_message="Shift length and rank begin with 1.",
            ),
            models.CheckConstraint(
                condition=Q(ends_on__isnull=True) | Q(ends_on__gt=F("starts_on")),
                name="layer_ends_after_start",
                violation_error_message="A layer ends after it starts.",
            ),
            models.UniqueConstraint(
                fields=("schedule", "level", "rank"),
                name="layer_rank_once",
                violation_error_message="This level has a layer with this rank already. Choose another.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_level_display()} {self.name or self.rank}"


class LayerMember(models.Model):
    """Somebody's turn in a rotation; a person may have several."""

    layer = models.ForeignKey(Layer, on_delete=models.CASCADE, related_name="members")
    position = models.PositiveSmallIntegerField()
    contact = models.ForeignKey(Contact, on_delete=models.PROTECT, related_name="turns")

    class Meta:
        ordering = ("position",)
        constraints = (
            models.UniqueConstraint(
                fields=("layer", "position"), name="layermember_position_once", deferrable=models.Deferrable.DEFERRED
            ),
        )

    def __str__(self) -> str:
        return f"{self.position}. {self.contact}"


class LayerWindow(models.Model):
    """Hours of a weekday in which the layer applies, in the schedule's zone. `ends` at 00:00 is the end of the day."""

    layer = models.ForeignKey(Layer, on_delete=models.CASCADE, related_name="windows")
    weekday = models.PositiveSmallIntegerField(choices=OpeningHours.Weekday)
    begins = models.TimeField()
    ends = models.TimeField(help_text="00:00 means the end of the day.")

    class Meta:
        ordering = ("weekday", "begins")
        constraints = (
            models.CheckConstraint(condition=Q(weekday__lte=6), name="layerwindow_weekday_known"),
            models.CheckConstraint(
                condition=Q(ends__gt=F("begins")) | Q(ends="00:00"),
                name="layerwindow_ends_after_begin",
                violation_error_message="A window ends after it begins; 00:00 is the end of the day.",
            ),
        )

    def __str__(self) -> str:
        return f"{OpeningHours.Weekday(self.weekday).label} {self.begins:%H:%M}–{self.ends:%H:%M}"


class Override(models.Model):
    """Somebody stands in for whoever the layers name. Where overrides overlap, the latest made counts."""

    schedule = models.ForeignKey(OnCallSchedule, on_delete=models.CASCADE, related_name="overrides")
    level = models.PositiveSmallIntegerField(choices=Level, default=Level.PRIMARY)
    contact = models.ForeignKey(Contact, on_delete=models.PROTECT, related_name="overrides")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True, validators=[validate_printable])
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )

    class Meta:
        ordering = ("-starts_at", "-pk")
        indexes = (models.Index(fields=("schedule", "ends_at"), name="override_schedule"),)
        constraints = (
            models.CheckConstraint(condition=Q(level__in=[1, 2, 3]), name="override_level_known"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")),
                name="override_ends_after_start",
                violation_error_message="An override ends after it starts.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.contact} for {self.get_level_display().lower()} of {self.schedule}"


class OnCallRecord(models.Model):
    """Who was on call, as it was at the time: later edits of a schedule do not change it. No contact is a gap."""

    schedule = models.ForeignKey(OnCallSchedule, on_delete=models.CASCADE, related_name="records")
    level = models.PositiveSmallIntegerField(choices=Level)
    contact = models.ForeignKey(Contact, null=True, on_delete=models.PROTECT, related_name="oncall_records")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()

    class Meta:
        ordering = ("-starts_at", "level")
        indexes = (models.Index(fields=("schedule", "level", "-ends_at"), name="oncallrecord_lookup"),)
        constraints = (
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="oncallrecord_ends_after_start"),
            models.UniqueConstraint(fields=("schedule", "level", "starts_at"), name="oncallrecord_once"),
        )

    def __str__(self) -> str:
        return f"{self.contact or 'Nobody'}, {self.get_level_display().lower()} of {self.schedule}"


class CalendarFeed(models.Model):
    """A secret address under which a calendar program reads a schedule, or the shifts of one contact.

    Only the SHA-256 of the secret is kept.
    """

    schedule = models.ForeignKey(OnCallSchedule, null=True, blank=True, on_delete=models.CASCADE, related_name="feeds")
    contact = models.ForeignKey(Contact, null=True, blank=True, on_delete=models.CASCADE, related_name="feeds")
    sha256 = models.CharField(max_length=64, unique=True, editable=False)
    made_at = models.DateTimeField(default=timezone.now, editable=False)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("-pk",)
        constraints = (
            models.CheckConstraint(
                condition=Q(schedule__isnull=False, contact__isnull=True)
                | Q(schedule__isnull=True, contact__isnull=False),
                name="calendarfeed_of_one_thing",
            ),
        )

    def __str__(self) -> str:
        return f"Calendar of {self.schedule or self.contact}"
