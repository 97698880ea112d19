"""Fields of the forms of incidents: lists one a line, patterns with placeholders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms


class LinesField(forms.CharField):
    """A list of words, one a line; empty lines are left out."""

    def __init__(self, *args: Any, longest: int = 200, **kwargs: Any) -> None:
        self.longest = longest
        super().__init__(*args, **{"widget": forms.Textarea(attrs={"rows": 5}), **kwargs})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        lines = [" ".join(line.split()) for line in (super().to_python(value) or "").splitlines()]
        return list(dict.fromkeys(line for line in lines if line))

    def validate(self, value: Any) -> None:
        super().validate(value)
        for line in value:
            if len(line) > self.longest:
                raise forms.ValidationError(f"“{line[:40]} …” is longer than {self.longest} characters. Shorten it.")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (initial or []) != self.to_python(data)


def check_pattern(pattern: str, allowed: Iterable[str]) -> None:
    """Raises ValidationError where a pattern cannot be filled in, and says what may stand in it."""
    try:
        pattern.format(**dict.fromkeys(allowed, "x"))
    except (ValueError, KeyError, IndexError, AttributeError):
        names = ", ".join(f"{{{name}}}" for name in allowed)
        raise forms.ValidationError(f"This pattern cannot be filled in. It may hold {names}.") from None
