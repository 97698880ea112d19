"""Field validators: the storages' and names' own rules, as form errors."""

from __future__ import annotations

from pathlib import PurePosixPath

from django.core.exceptions import ValidationError

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
