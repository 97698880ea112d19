"""What every adapter is: it takes a message and an address, and either hands it over or says why not."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from core.exceptions import PortalError

TIMEOUT_S = 10.0
"""So long one try may take: whoever does not answer by then is passed over for the next."""
SHORTEST_SECRET = 6


class NotTaken(PortalError):
    """The other side did not take the message, and why. Nothing in the sentence is a secret."""


class Unreachable(NotTaken):
    """Nobody answered at all, so that the next message would wait as long in vain."""


@dataclass(frozen=True)
class Item:
    """One thing that a message says. `answer_url` leads to the page with the button that acknowledges."""

    subject: str
    body: str = ""
    url: str = ""
    answer_url: str = ""


@dataclass(frozen=True)
class Message:
    """What is sent, in the forms that different ways need.

    reference    the same at every try, so that a receiver can tell a message that comes twice
    short        fits into an SMS, the link not counted
    link         the one link for a phone: to acknowledge, else to read more
    """

    reference: str
    subject: str
    text: str
    short: str
    link: str = ""
    urgent: bool = False
    items: tuple[Item, ...] = ()


class Sender(ABC):
    """One place that takes messages. Not to be shared between threads; closed when a batch is over."""

    through: str
    """Its name in the send log."""

    @abstractmethod
    def send(self, message: Message, to: str) -> str:
        """Hand it over; returns what the other side said. Raises NotTaken."""

    def close(self) -> None:  # noqa: B027  most keep nothing open
        """Let go of the connection, if there is one."""


def parts_of(url: str) -> Iterator[str]:
    """Whatever in a URL may be a secret: all of it, user, password, host, pieces of the path, values of the query."""
    yield url
    _, _, rest = url.partition("://")
    for text in (rest, unquote(rest)):
        for part in re.split(r"[/?&=@:#]", text):
            if len(part) >= SHORTEST_SECRET:
                yield part
    try:
        parts = urlsplit(url)
        yield from (part for part in (parts.username, parts.password) if part)
    except ValueError:
        return
