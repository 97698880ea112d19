"""What a probe is: one question to a running thing, answered with a state, a latency and a sentence.

A probe knows nothing of the portal's tables. A new one is one new module with a subclass of `Probe` and one line in
`catalog.probes.PROBES`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from django import forms

from catalog.connectors import Connector, Endpoint
from core.outbound import Allowed
from operations.commands import Command, Result


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """The answer. `latency_s` is how long the thing itself took; figures are numbers with their unit in the name."""

    state: State
    sentence: str
    latency_s: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return self.state in (State.OK, State.WARN)


class Run(Protocol):
    """Runs a command to its end; raises `CommandFailed` unless it ends with 0."""

    def __call__(self, command: Command) -> Result: ...


@dataclass(frozen=True)
class Surroundings:
    """What a probe may use.

    `connector` reaches the place it looks from, `allow` says which internal addresses it may ask, `secret` resolves a
    reference, `forward` opens a way to a port there (None: the port is reached directly).
    """

    connector: Connector
    allow: Allowed
    run: Run
    secret: Callable[[str], str]
    forward: Callable[[str, int], AbstractContextManager[Endpoint]] | None = None
    timeout_s: float = 10


class Probe(ABC):
    """One kind of question. `form` describes its parameters and judges them; `ask` may raise PortalError."""

    kind: ClassVar[str]
    label: ClassVar[str]
    form: ClassVar[type[forms.Form]]

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters

    @abstractmethod
    def ask(self, around: Surroundings) -> Finding:
        """Look, and say what was found. Raises PortalError with a sentence when it could not look."""

    @abstractmethod
    def shown(self) -> str:
        """What is asked, in short, for lists."""


def bounded(finding: Finding, limit_s: float | None) -> Finding:
    """A good answer that took too long is a warning."""
    if finding.state == State.OK and limit_s and finding.latency_s is not None and finding.latency_s > limit_s:
        sentence = f"{finding.sentence} It took {finding.latency_s:.2f} s; the limit is {limit_s:g} s."
        return replace(finding, state=State.WARN, sentence=sentence)
    return finding


UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class PlainField(forms.CharField):
    """One line of text without invisible characters."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if UNPRINTABLE.search(text):
            raise forms.ValidationError("Remove the line breaks or invisible control characters.")
        return text


class PathField(PlainField):
    """An absolute path without a way up."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if text and (not text.startswith("/") or ".." in Path(text).parts):
            raise forms.ValidationError("Write an absolute path without “..”.")
        return text
