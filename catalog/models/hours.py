"""When people work: business hours, for response times and for reaching somebody."""

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Q

from catalog import validators
from catalog.constraints import not_empty
from core.links import detail_url
from core.models import validate_time_zone


class BusinessHours(models.Model):
    """A week of opening hours in a time zone, less the holidays. A calendar without hours is never open."""

    name = models.CharField(max_length=80, unique=True, validators=[validators.validate_printable])
    time_zone = models.CharField(
        max_length=64, default="UTC", validators=[validate_time_zone], help_text="For example Europe/Berlin."
    )

    class Meta:
        ordering = ("name",)
        verbose_name = verbose_name_plural = "business hours"
        constraints = [not_empty("businesshours", "name"), not_empty("businesshours", "time_zone")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return detail_url(self)


class OpeningHours(models.Model):
    """One opening on one weekday, in the calendar's zone. `closes` at 00:00 means the end of the day."""

    class Weekday(models.IntegerChoices):
        MONDAY = 0, "Monday"
        TUESDAY = 1, "Tuesday"
        WEDNESDAY = 2, "Wednesday"
        THURSDAY = 3, "Thursday"
        FRIDAY = 4, "Friday"
        SATURDAY = 5, "Saturday"
        SUNDAY = 6, "Sunday"

    calendar = models.ForeignKey(BusinessHours, on_delete=models.CASCADE, related_name="openings")
    weekday = models.PositiveSmallIntegerField(choices=Weekday, validators=[MaxValueValidator(6)])
    opens = models.TimeField()
    closes = models.TimeField(help_text="00:00 means the end of the day.")

    class Meta:
        ordering = ("weekday", "opens")
        verbose_name_plural = "opening hours"
        constraints = [
            models.CheckConstraint(condition=Q(weekday__lte=6), name="openinghours_weekday_known"),
            models.CheckConstraint(
                condition=Q(closes__gt=F("opens")) | Q(closes="00:00"),
                name="openinghours_close_after_open",
                violation_error_message="The closing time must be after the opening time; 00:00 is the end of the day.",
            ),
            models.UniqueConstraint(
                fields=["calendar", "weekday", "opens"],
                name="openinghours_once",
                violation_error_message="This day opens at this time already.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_weekday_display()} {self.opens:%H:%M}–{self.closes:%H:%M}"


class Holiday(models.Model):
    """A day on which the calendar stays closed."""

    calendar = models.ForeignKey(BusinessHours, on_delete=models.CASCADE, related_name="holidays")
    date = models.DateField()
    name = models.CharField(max_length=80, blank=True, validators=[validators.validate_printable])

    class Meta:
        ordering = ("date",)
        constraints = [
            models.UniqueConstraint(
                fields=["calendar", "date"],
                name="holiday_once",
                violation_error_message="This day is a holiday already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.date} {self.name}".strip()
