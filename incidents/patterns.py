"""Patterns of incident numbers and of chat rooms: plain text with a few placeholders."""

from __future__ import annotations

import re
from datetime import date

from django.core.exceptions import ValidationError

COUNT = re.compile(r"\{n:0([1-9])\}")
PLACEHOLDER = re.compile(r"\{[^{}]*\}")
LEAST_DIGITS = 3
# So that a number fits into its field whatever the service is called.
LONGEST_SLUG = 40


def validate_number_pattern(value: str) -> None:
    """Refuse a pattern whose numbers would not be unique, or would not be numbers."""
    counts = COUNT.findall(value)
    if len(counts) != 1:
        raise ValidationError("Write {n:03} once: it counts the incidents, with at least three digits.")
    if int(counts[0]) < LEAST_DIGITS:
        raise ValidationError("Numbers have at least three digits: write {n:03}, {n:04} or more.")
    rest = PLACEHOLDER.sub("", COUNT.sub("", value).replace("{date}", "").replace("{yyyymmdd}", ""))
    unknown = set(PLACEHOLDER.findall(COUNT.sub("", value))) - {"{date}", "{yyyymmdd}", "{service}"}
    if unknown or "{" in rest or "}" in rest:
        named = ", ".join(sorted(unknown)) or "a brace without its partner"
        raise ValidationError(f"This is not known: {named}. Use {{date}}, {{yyyymmdd}}, {{service}} and {{n:03}}.")
    if not value.isprintable() or "/" in value:
        raise ValidationError("A number has neither line breaks nor slashes in it.")


def scope_of(pattern: str, day: date, slug: str) -> str:
    """The pattern with everything but the count filled in; incidents with the same scope are counted together."""
    return _dated(COUNT.sub("{n}", pattern), day).replace("{service}", slug[:LONGEST_SLUG])


def number_of(pattern: str, scope: str, count: int) -> str:
    """The number itself. `scope` is of the same pattern."""
    found = COUNT.search(pattern)
    width = int(found[1]) if found else LEAST_DIGITS
    return scope.replace("{n}", f"{count:0{width}}")


def room_of(pattern: str, day: date, slug: str, severity: str, number: str) -> str:
    """The name of the chat room, such as #incident-shop-20260131-P0. A severity that is not set leaves no gap."""
    name = _dated(pattern, day).replace("{service}", slug[:LONGEST_SLUG]).replace("{number}", number)
    name = name.replace("{severity}", severity) if severity else re.sub(r"[-_ ]?\{severity\}", "", name)
    return name[:120]


def _dated(text: str, day: date) -> str:
    return text.replace("{date}", f"{day:%Y-%m-%d}").replace("{yyyymmdd}", f"{day:%Y%m%d}")
