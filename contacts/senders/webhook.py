"""A message as JSON to an address."""

from __future__ import annotations

import json
from dataclasses import asdict

from contacts.senders.base import TIMEOUT_S, Message, NotTaken, Sender, Unreachable, parts_of
from core import outbound
from core.addresses import Network
from operations.masking import mask

MAX_ANSWER_BYTES = 16 * 1024


class Webhook(Sender):
    """One address that takes JSON. The same `reference` comes with every try of a message."""

    def __init__(
        self, name: str, url: str, *, networks: tuple[Network, ...] = (), timeout_s: float = TIMEOUT_S
    ) -> None:
        self.through = name
        self._url = url.strip()
        self._allow = outbound.Allowed(networks=networks)
        self._timeout_s = timeout_s

    def send(self, message: Message, to: str) -> str:
        try:
            answer = outbound.fetch(
                "POST",
                self._url,
                allow=self._allow,
                headers={"Content-Type": "application/json"},
                body=json.dumps(asdict(message)).encode(),
                timeout_s=self._timeout_s,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except outbound.OutboundFailed as error:
            raise Unreachable(self._clean(error.message)) from None
        except outbound.OutboundRefused as error:
            raise NotTaken(self._clean(error.message)) from None
        if 200 <= answer.status < 300:
            return f"It answered {answer.status}."
        if answer.is_redirect:
            raise NotTaken(f"It answered {answer.status} and leads elsewhere, which is not followed.")
        said = " ".join(answer.body[:200].decode("utf-8", "replace").split())
        raise NotTaken(self._clean(f"It answered {answer.status}" + (f" and said: {said}." if said else ".")))

    def _clean(self, sentence: str) -> str:
        """Without what the URL holds beside the host's name, which whoever mends it has to know."""
        host = self._url.partition("://")[2].partition("/")[0].rpartition("@")[2].rpartition(":")[0]
        kept = {host, self._url.partition("://")[2].partition("/")[0]}
        return mask(sentence, [part for part in parts_of(self._url) if part not in kept]).replace("\0", "")
