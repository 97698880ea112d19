"""Everything that apprise's services send goes through core.outbound, and nothing of it is logged.

The services use `requests`. Whoever is inside `guarded` gets, for every address, an adapter that hands the request to
`core.outbound.fetch`: the name is resolved once and each of its addresses judged, the connection goes to one of these,
proxies and redirects are not followed, time and size are bounded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import BaseAdapter
from requests.models import PreparedRequest, Response
from requests.structures import CaseInsensitiveDict

from core import outbound

MAX_ANSWER_BYTES = 256 * 1024
# Ours to say: the connection is closed after each request, and nothing is compressed.
NOT_PASSED_ON = {"connection", "accept-encoding", "host", "content-length", "transfer-encoding", "proxy-authorization"}


@dataclass
class Watch:
    """What may be talked to until when, and what came of it."""

    allow: outbound.Allowed
    until: float
    hosts: set[str] = field(default_factory=set)
    requests: int = 0
    trouble: str = ""
    unreachable: bool = False
    answer: outbound.Response | None = None


_watch: ContextVar[Watch | None] = ContextVar("guarded_requests", default=None)


@contextmanager
def guarded(allow: outbound.Allowed, timeout_s: float) -> Iterator[Watch]:
    """Until its end, whatever this thread sends with `requests` is judged."""
    watch = Watch(allow, time.monotonic() + timeout_s)
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


class OutboundAdapter(BaseAdapter):
    """Carries one request by core.outbound."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Whatever else is asked for (proxies, a shorter timeout, certificates not checked) is not heeded."""
        watch = self.watch
        url, host = _without_user(request.url or "")
        watch.hosts.add(host)
        watch.requests += 1
        left = watch.until - time.monotonic()
        try:
            if left <= 0:
                raise outbound.OutboundFailed(f"{host} did not answer in time.")
            answer = outbound.fetch(
                request.method or "GET",
                url,
                allow=watch.allow,
                headers=_headers(request.headers),
                body=_body(request.body),
                timeout_s=left,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except (outbound.OutboundRefused, outbound.OutboundFailed) as error:
            watch.trouble = error.message
            watch.unreachable = isinstance(error, outbound.OutboundFailed)
            raise requests.ConnectionError(error.message) from None
        watch.answer = answer
        if answer.is_redirect:
            watch.trouble = f"{host} answered {answer.status} and leads elsewhere, which is not followed."
            raise requests.ConnectionError(watch.trouble)
        return _response(request, answer)

    def close(self) -> None:
        """Nothing is kept open."""


def _without_user(url: str) -> tuple[str, str]:
    """The URL without a user and password, which stand in a header, and its host."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=place)), parts.hostname or ""


def _headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Text or bytes, as the services give them."""
    return {
        str(name): value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for name, value in headers.items()
        if value is not None and str(name).lower() not in NOT_PASSED_ON
    }


def _body(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytearray):
        return bytes(body)
    raise outbound.OutboundRefused("This service sends a stream, which is not supported.")


def _response(request: PreparedRequest, answer: outbound.Response) -> Response:
    response = Response()
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(answer.headers)
    response.raw = BytesIO(answer.body)
    response._content = answer.body  # read already, as requests itself does it
    response._content_consumed = True
    response.encoding = requests.utils.get_encoding_from_headers(response.headers)
    response.url = request.url or ""
    response.request = request
    return response


def _install() -> None:
    """Sessions ask the watch of their thread first. Outside of `guarded` nothing changes."""
    usual = requests.Session.get_adapter

    def get_adapter(self: requests.Session, url: str) -> BaseAdapter:
        watch = _watch.get()
        return OutboundAdapter(watch) if watch is not None else usual(self, url)

    requests.Session.get_adapter = get_adapter  # type: ignore[method-assign]
    # Apprise logs payloads and answers. What is worth knowing stands in the send log of the portal.
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())


_install()
