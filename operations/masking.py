"""Keeps secrets out of everything a command prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "********"


def variants(secrets: Iterable[str]) -> list[str]:
    """Each secret as it may be written: plain, in a URL and in JSON; longest first, no empty ones."""
    found = set()
    for secret in secrets:
        if secret:
            found |= {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}
    return sorted(found, key=lambda text: (-len(text), text))


class Masker:
    """Replaces secrets in a stream of bytes, also where one is split over several pieces.

    ``feed`` returns what is certain to hold no beginning of a secret and keeps the rest; ``flush`` returns that rest
    at the end of the stream. Fed in any pieces, the whole output is the same.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [text.encode("utf-8", "surrogateescape") for text in variants(secrets)]
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets))) if self._secrets else None
        self._longest = len(self._secrets[0]) if self._secrets else 0
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; returns the masked bytes that are ready to be shown."""
        if self._pattern is None:
            return data
        data = self._kept + data
        shown: list[bytes] = []
        position = 0
        hold = self._hold(data, position)
        while match := self._pattern.search(data, position):
            if match.start() >= hold:
                break
            shown += [data[position : match.start()], MASK.encode()]
            position = match.end()
            if hold < position:
                hold = self._hold(data, position)
        shown.append(data[position:hold])
        self._kept = data[hold:]
        return b"".join(shown)

    def flush(self) -> bytes:
        """The end of the stream: returns what was kept, masked."""
        rest, self._kept = self._kept, b""
        return self._pattern.sub(MASK.encode(), rest) if self._pattern else rest

    def _hold(self, data: bytes, start: int) -> int:
        """The first position from which the end of ``data`` could be the beginning of a (longer) secret."""
        for position in range(max(start, len(data) - self._longest + 1), len(data)):
            tail = data[position:]
            if any(len(tail) < len(secret) and secret.startswith(tail) for secret in self._secrets):
                return position
        return len(data)


def mask(text: str, secrets: Iterable[str]) -> str:
    """``text`` without the secrets."""
    masker = Masker(secrets)
    data = text.encode("utf-8", "surrogateescape")
    return (masker.feed(data) + masker.flush()).decode("utf-8", "replace")
