"""Who may read figures without signing in: whoever has the token, or asks from the machine itself."""

from __future__ import annotations

import hmac
import ipaddress

from django.conf import settings
from django.http import HttpRequest

FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_FORWARDED",
    "HTTP_X_REAL_IP",
)


def may_read_figures(request: HttpRequest) -> bool:
    """A bearer token, where METRICS_TOKEN is set; else a request from loopback that no proxy has passed on.

    Behind a proxy everybody comes from loopback, so with BEHIND_PROXY only the token counts.
    """
    if settings.METRICS_TOKEN:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        expected = settings.METRICS_TOKEN.encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), expected)
    return not settings.BEHIND_PROXY and _is_direct(request)


def _is_direct(request: HttpRequest) -> bool:
    if any(name in request.META for name in FORWARDED):
        return False
    host = request.get_host().rpartition(":")[0] if ":" in request.get_host().rpartition("]")[2] else request.get_host()
    return _is_loopback(request.META.get("REMOTE_ADDR", "")) and (host == "localhost" or _is_loopback(host.strip("[]")))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
