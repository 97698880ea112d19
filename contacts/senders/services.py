"""Slack, Teams, PagerDuty, SMS, calls, push, chat: through apprise, which knows some hundred services by a URL."""

from __future__ import annotations

import sys
from enum import Enum
from urllib.parse import quote

import apprise
import requests
from apprise.common import NotifyFormat, PersistentStoreMode
from apprise.plugins.base import NotifyBase

from contacts.senders.base import TIMEOUT_S, Message, NotTaken, Sender, Unreachable, parts_of
from contacts.senders.guard import Watch, guarded
from core.addresses import Network
from core.outbound import Allowed
from operations.masking import mask

PLACE = "{to}"
# These open connections of their own beside `requests`, so that nobody could judge where they lead.
NOT_GUARDED = ("apprise.plugins.nostr",)
UNKNOWN = (
    "The URL that its reference leads to is none that a known service reads. Compare it with the guide, and mind that "
    "special characters in it are percent-encoded."
)


class Length(Enum):
    """`SHORT` is a line and a link, as SMS want it; `SPOKEN` a line alone."""

    FULL = "full"
    SHORT = "short"
    SPOKEN = "spoken"


class Service(Sender):
    """One service, named by an apprise URL. `length` is how much of a message it carries."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        networks: tuple[Network, ...] = (),
        length: Length = Length.FULL,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.through = name
        self._url = url.strip()
        self._networks = networks
        self._length = length
        self._timeout_s = timeout_s

    def send(self, message: Message, to: str) -> str:
        url = self._url.replace(PLACE, quote(to, safe=""))
        plugin = self._plugin(url)
        title, body = self._said(message)
        with guarded(Allowed(networks=self._networks), self._timeout_s) as watch:
            try:
                taken = plugin.notify(
                    body=body,
                    title=title,
                    notify_type=apprise.NotifyType.FAILURE if message.urgent else apprise.NotifyType.INFO,
                    body_format=NotifyFormat.TEXT,
                )
            except Exception as error:
                # What it says may hold the URL; the kind of error is all that may be told.
                raise NotTaken(f"{self.through} broke off ({type(error).__name__}).") from None
        if not taken:
            self._refuse(watch, url, to)
        if not watch.requests:
            raise NotTaken(f"{self.through} sent nothing. {UNKNOWN}")
        return f"Taken by {self.through}."

    def _said(self, message: Message) -> tuple[str, str]:
        """Title and body."""
        if self._length is Length.FULL:
            return message.subject, message.text
        return "", message.short if self._length is Length.SPOKEN else f"{message.short} {message.link}".strip()

    def _plugin(self, url: str) -> NotifyBase:
        """The service behind the URL, if it is one whose every connection can be judged."""
        asset = apprise.AppriseAsset(
            app_id="Ops Portal",
            app_desc="Ops Portal",
            app_url="",
            async_mode=False,
            secure_logging=True,
            storage_mode=PersistentStoreMode.MEMORY,
        )
        try:
            plugin = apprise.Apprise.instantiate(url, asset=asset)
        except Exception:
            plugin = None
        if plugin is None:
            raise NotTaken(UNKNOWN)
        name = type(plugin).__module__
        if name.startswith(NOT_GUARDED) or getattr(sys.modules[name], "requests", None) is not requests:
            raise NotTaken(
                "This kind of service does not speak HTTP, so the portal cannot see where it leads, and does not use "
                "it. Email goes by EMAIL_HOST; for others choose a service with an HTTP interface."
            )
        plugin.request_rate_per_sec = 0  # how much goes out is limited by the portal
        return plugin

    def _refuse(self, watch: Watch, url: str, to: str) -> None:
        sentence = watch.trouble
        if not sentence and watch.answer is not None:
            said = " ".join(watch.answer.body[:400].decode("utf-8", "replace").split())
            sentence = f"{self.through} answered {watch.answer.status}" + (f" and said: {said}." if said else ".")
        sentence = sentence or f"{self.through} did not take it. {UNKNOWN}"
        kept = {*watch.hosts, to, quote(to, safe="")}
        clean = mask(sentence, [part for part in parts_of(url) if part not in kept]).replace("\0", "")
        raise (Unreachable if watch.unreachable else NotTaken)(clean)
