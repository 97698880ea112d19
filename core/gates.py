"""The gates port: a higher room says yes or no to what a lower room is about to do, with a reason.

    def no_grave_incident(question: Question) -> Answer | None: ...
    gates.register("incidents", no_grave_incident)

The lower room asks before it begins and again at the moment that counts. Whoever answers reads and writes nothing but
its own rows, and knows what is asked about by ids only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """A change of one environment. `incident`: the number of the incident that it is meant to fix, or empty.

    `limit` is what the asking room has been told to be strict about, such as the gravest rank that stops it.
    """

    environment: int
    service: int
    incident: str = ""
    limit: int | None = None


@dataclass(frozen=True)
class Answer:
    """`sentence` says why; where it is no, also what to do about it. `url` leads to the evidence."""

    good: bool
    sentence: str
    url: str = ""


Provider = Callable[[Question], Answer | None]
_providers: dict[str, Provider] = {}


def register(name: str, provider: Provider) -> None:
    """Make a provider known; a known name is replaced."""
    _providers[name] = provider


def unregister(name: str) -> None:
    """Take back what `register` offered."""
    _providers.pop(name, None)


def ask(question: Question) -> list[Answer]:
    """What every provider that has something to say answers. One that fails says no: nobody knows what it would say."""
    answers = []
    for name, provider in _providers.items():
        try:
            answer = provider(question)
        except Exception:
            logger.exception("The gate %s could not be asked", name)
            answer = Answer(False, f"The gate “{name}” could not be asked. Look at the log of the portal.")
        if answer is not None:
            answers.append(answer)
    return answers
