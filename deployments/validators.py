"""Rules for what people and CI write about releases. Everything here stays data: none of it is ever read by a shell."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError

from catalog.secrets import validate_secret_reference
from catalog.validators import validate_printable

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
REVISION = re.compile(r"(?:.*[ @#:/])?[0-9a-f]{7,64}")
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")


def validate_version(value: str) -> None:
    """Letters, digits, “.”, “_”, “+”, “-”: a version is also the name of a folder and a tag."""
    if not VERSION.fullmatch(value) or ".." in value:
        raise ValidationError(
            "A version has letters, digits, “.”, “_”, “+” and “-” only, begins with a letter or digit and is at most "
            "64 characters long.",
            code="version",
        )


def validate_checksum(value: str) -> None:
    if not CHECKSUM.fullmatch(value):
        raise ValidationError("Write a checksum as sha256: and 64 hexadecimal digits.", code="checksum")


def validate_source(value: str) -> None:
    """Text for an argument vector or a path: printable, and never an option."""
    validate_printable(value)
    if value.startswith("-"):
        raise ValidationError("A source does not begin with “-”.", code="source")


def validate_revision(source: str) -> None:
    """A source of git ends with a commit, which cannot change as a branch or a tag can."""
    if not REVISION.fullmatch(source):
        raise ValidationError(
            "Name the commit at the end, by 7 to 64 hexadecimal digits: git@git.example.org:erp 4f1c2aa. A branch or a "
            "tag may be another one tomorrow.",
            code="revision",
        )


def validate_pattern(value: str) -> None:
    """A regular expression that Python can read. Versions are short, so it cannot take long."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValidationError(f"This is no regular expression: {error}.", code="pattern") from None


def validate_variables(value: object) -> None:
    """A list of names of environment variables."""
    if not isinstance(value, list) or not all(isinstance(each, str) and VARIABLE.fullmatch(each) for each in value):
        raise ValidationError("Write names of environment variables: letters, digits and “_”.", code="variables")


def validate_references(value: object) -> None:
    """Environment variable -> where its value is."""
    if not isinstance(value, dict):
        raise ValidationError("Write one variable a line.", code="references")
    validate_variables(list(value))
    for reference in value.values():
        validate_secret_reference(str(reference))
