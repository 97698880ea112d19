"""Form fields that drivers share."""

from __future__ import annotations

import re
from typing import Any

from django import forms

from catalog.forms import ArgumentVectorField
from catalog.probes.base import PathField, PlainField
from catalog.validators import validate_argument_vector
from core.exceptions import PortalError
from core.outbound import check_url
from deployments.validators import VARIABLE

__all__ = [
    "ArgvField",
    "NameField",
    "PathField",
    "PlainField",
    "PortsField",
    "UrlPatternField",
    "VariableField",
    "VersionInField",
]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class ArgvField(ArgumentVectorField):
    """A program and its arguments, one a line."""

    def clean(self, value: Any) -> Any:
        argv = super().clean(value)
        if argv:
            validate_argument_vector(argv)
        return argv


class NameField(PlainField):
    """The name of a project, service, unit or namespace: it cannot be taken for an option or a path."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if text and not NAME.fullmatch(text):
            raise forms.ValidationError("Use letters, digits, “.”, “_” and “-”; begin with a letter or digit.")
        return text


class VariableField(PlainField):
    """The name of an environment variable."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if text and not VARIABLE.fullmatch(text):
            raise forms.ValidationError("Use letters, digits and “_”; do not begin with a digit.")
        return text


class UrlPatternField(PlainField):
    """An address of a health check. “{port}” stands for the port that is live or asked."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if text:
            try:
                check_url(text.replace("{port}", "80"))
            except PortalError as error:
                raise forms.ValidationError(error.message) from None
        return text


class VersionInField(PlainField):
    """A regular expression with one group, which finds the version in a text."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if text:
            try:
                groups = re.compile(text).groups
            except re.error as error:
                raise forms.ValidationError(f"This is no regular expression: {error}.") from None
            if groups != 1:
                raise forms.ValidationError("Put exactly one pair of parentheses around the version.")
        return text


class PortsField(PlainField):
    """TCP ports, separated by spaces or commas. The value is a list of numbers."""

    def prepare_value(self, value: Any) -> Any:
        return " ".join(map(str, value)) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)

    def clean(self, value: Any) -> Any:
        ports = []
        for word in super().clean(value).replace(",", " ").split():
            if not (word.isascii() and word.isdigit() and len(word) <= 5 and 1 <= int(word) <= 65535):
                raise forms.ValidationError(f"“{word}” is no port. Write numbers from 1 to 65535, as 8001 8002 8003.")
            if int(word) in ports:
                raise forms.ValidationError(f"{word} stands here twice. Each needs a port of its own.")
            ports.append(int(word))
        return ports
