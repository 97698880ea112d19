"""Field validators: the storages' and names' own rules, as form errors."""

from __future__ import annotations

from pathlib import PurePosixPath

from django.core.exceptions import ValidationError
from django_celery_beat.models import CrontabSchedule

from backups import naming
from core.exceptions import PortalError


def validate_pattern_field(value: str) -> None:
    try:
        naming.validate_pattern(value)
    except PortalError as error:
        raise ValidationError(error.message) from error


def validate_folder(value: str) -> None:
    """A relative folder that stays below its storage."""
    path = PurePosixPath(value)
    if path.is_absolute() or not path.parts or any(part in ("..", ".") or part.startswith(".") for part in path.parts):
        raise ValidationError(
            "Write a folder below the storage's, such as erp-postgres, without “..” or a leading dot."
        )
    if any(ord(character) < 32 for character in value):
        raise ValidationError("A folder has no control characters.")


def validate_storage_root(value: str) -> None:
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise ValidationError("Write an absolute folder, such as /backups.")
    if any(ord(character) < 32 for character in value):
        raise ValidationError("A folder has no control characters.")


def validate_cron(value: str) -> None:
    """Five fields, each one that the scheduler can read, and a moment that ever comes."""
    fields = value.split()
    if len(fields) != 5:
        raise ValidationError("Write five fields: minute, hour, day of month, month, day of week; 0 2 * * *.")
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    crontab = CrontabSchedule(**dict(zip(names, fields, strict=True)))
    try:
        crontab.full_clean(validate_unique=False)
        crontab.schedule  # noqa: B018  parses the fields together
    except ValidationError as error:
        raise ValidationError(f"“{value}” is not a schedule: {'; '.join(error.messages)}.") from error
    except ValueError as error:
        raise ValidationError(f"“{value}” is not a schedule: {error}") from error
