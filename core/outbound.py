"""Every request that the portal sends out on somebody's behalf goes through here.

The name is resolved once, every address it has is judged, and the connection is made to one of exactly these: a name
server that answers differently the second time changes nothing. Redirects are reported and not followed. Size and time
are bounded over the whole exchange, so that a server that answers drop by drop holds nobody up.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from django.conf import settings

from core.addresses import Address, Network, ip_address, why_refused
from core.exceptions import PortalError

DNS_TIMEOUT_S = 5.0
PIECE_BYTES = 64 * 1024
MAX_HEADER_VALUE = 8 * 1024
LOOPBACK_NAMES = ("localhost", "ip6-localhost", "ip6-loopback")
_NUMBERS = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.IGNORECASE)


class OutboundRefused(PortalError):
    """The portal may not talk to that address. Nothing was sent."""


class OutboundFailed(PortalError):
    """The other side did not answer, or not as it should."""


Dial = Callable[[str, int], socket.socket]


@dataclass(frozen=True)
class Allowed:
    """Internal networks that may be talked to. Public addresses always may; metadata and the portal itself never."""

    networks: tuple[Network, ...] = ()


@dataclass(frozen=True)
class Response:
    """What came back. `seconds` is from the first packet to the last byte that was kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    seconds: float
    address: str
    truncated: bool = False
    certificate_ends: datetime | None = None

    @property
    def is_redirect(self) -> bool:
        return self.status in (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str

    @property
    def header(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"


def plain_host(text: str) -> str:
    """A host as it is compared and resolved: lower case, ASCII, no closing dot. Raises OutboundRefused."""
    host = text.strip().rstrip(".").lower()
    if "%" in host:
        raise OutboundRefused(f"“{text}” names a network interface. Write the address without “%”.")
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        host = host.encode("idna").decode("ascii").rstrip(".")
    except UnicodeError:
        raise OutboundRefused(f"“{text}” is not a host name. Correct the address.") from None
    if _NUMBERS.fullmatch(host) or host.rpartition(".")[2].isdigit():
        try:
            return str(ip_address(host))
        except ValueError:
            raise OutboundRefused(f"“{text}” is a disguised address. Write it in its usual form.") from None
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise OutboundRefused(f"“{text}” is not a host name. Correct the address.")
    return host


def check_url(url: str) -> None:
    """Raises OutboundRefused for what is no URL that could be asked. Where its name leads is judged when it is."""
    _parse(url)


def _parse(url: str) -> _Target:
    if any(ord(char) <= 32 or ord(char) == 127 or char == "\\" for char in url):
        raise OutboundRefused("The URL contains spaces, line breaks or a backslash. Correct it.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OutboundRefused(f"This is not a URL ({error}). Write one such as https://example.org/health.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OutboundRefused("Write a URL that begins with https:// or http:// and a host name.")
    if "@" in parts.netloc:
        raise OutboundRefused("A URL must not contain a user or a password. Give a token by its reference.")
    if port == 0:
        raise OutboundRefused("There is no port 0. Correct the URL.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii():
        raise OutboundRefused("Write the path of the URL percent-encoded, in ASCII.")
    return _Target(parts.scheme, plain_host(parts.hostname), port or {"http": 80, "https": 443}[parts.scheme], path)


def resolve(host: str, port: int, allow: Allowed, *, timeout_s: float = DNS_TIMEOUT_S) -> list[Address]:
    """The addresses to connect to, every one of which may be talked to.

    Raises OutboundRefused when any address may not, OutboundFailed when there is none.
    """
    host = plain_host(host)
    if host in _own_names():
        raise OutboundRefused(f"{host} is the portal itself, which does not ask itself.")
    addresses = _look_up(host, port, timeout_s)
    for address in addresses:
        if why := why_refused(address, allow.networks):
            shown = host if str(address) == host else f"{host} ({address})"
            raise OutboundRefused(f"{shown} {why}. Correct the address, or have the environment allow its network.")
        if port in _own_ports() and _is_here(address):
            raise OutboundRefused(f"{host}, port {port}, is the portal itself, which does not ask itself.")
    return addresses


def judge_from_afar(host: str, allow: Allowed) -> str:
    """A host as another machine is to see it: that machine itself, or an address that may be asked.

    Names are refused: whatever they mean over there cannot be judged here. Raises OutboundRefused.
    """
    host = plain_host(host)
    if host in LOOPBACK_NAMES:
        return "127.0.0.1"
    try:
        address = ip_address(host)
    except ValueError:
        raise OutboundRefused(
            f"{host} is a name, and what it means on another host cannot be judged. Write its address, or localhost."
        ) from None
    if not address.is_loopback and (why := why_refused(address, allow.networks)):
        raise OutboundRefused(f"{host} {why}. Correct the address, or have the environment allow its network.")
    return host


def _look_up(host: str, port: int, timeout_s: float) -> list[Address]:
    """Ask the name service once, for a bounded time."""
    found: list[Address] = []
    trouble: list[str] = []

    def ask() -> None:
        try:
            for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append(ip_address(str(place[0]).partition("%")[0]))
        except (OSError, UnicodeError, ValueError) as error:
            trouble.append(getattr(error, "strerror", None) or str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise OutboundFailed(f"The name service did not answer for {host} within {timeout_s:g} s.")
    if not found:
        raise OutboundFailed(f"The name {host} is not known here ({trouble[0] if trouble else 'no address'}).")
    return list(dict.fromkeys(found))


def _own_names() -> set[str]:
    """Names under which browsers reach the portal. Loopback is told from the rest by its port."""
    names = {name.strip("[].").lower() for name in settings.ALLOWED_HOSTS}
    return {name for name in names if name and name not in (*LOOPBACK_NAMES, "127.0.0.1", "::1", "*")}


def _own_ports() -> set[int]:
    return {settings.PORTAL_PORT} if settings.PORTAL_PORT else set()


def _is_here(address: Address) -> bool:
    """Whether the address is one of this machine."""
    if address.is_loopback:
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def connect(host: str, port: int, *, allow: Allowed, timeout_s: float) -> tuple[socket.socket, str]:
    """A connection to one of the host's addresses, and which. Raises OutboundRefused or OutboundFailed."""
    give_up = time.monotonic() + timeout_s
    said = ""
    for address in resolve(host, port, allow, timeout_s=min(timeout_s, DNS_TIMEOUT_S)):
        left = give_up - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection((str(address), port), timeout=left), str(address)
        except OSError as error:
            said = error.strerror or str(error)
    raise OutboundFailed(f"Nothing answers at {host}, port {port}: {said or f'no answer within {timeout_s:g} s'}.")


def fetch(
    method: str,
    url: str,
    *,
    allow: Allowed,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = 10,
    max_bytes: int = 1_000_000,
    dial: Dial | None = None,
) -> Response:
    """One request. Raises OutboundRefused before anything is sent, OutboundFailed when no whole answer came.

    `dial(host, port)` opens the connection where it leads over another host; it judges the address itself.
    """
    target = _parse(url)
    began = time.monotonic()
    if dial is not None:
        sock, address = dial(target.host, target.port), target.host
    else:
        sock, address = connect(target.host, target.port, allow=allow, timeout_s=timeout_s)
    end = _Deadline(sock, began + timeout_s)
    try:
        with end:
            sent = {"Host": target.header, "User-Agent": "opsportal", "Connection": "close", **(headers or {})}
            return _exchange(sock, target, address, method, sent, body, max_bytes, began, end)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if end.over or isinstance(error, TimeoutError):  # a handshake has a clock of its own, which may be faster
            raise OutboundFailed(f"{target.host} did not answer completely within {timeout_s:g} s.") from error
        raise OutboundFailed(_sentence(target, error)) from error


def _exchange(
    sock: socket.socket,
    target: _Target,
    address: str,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    max_bytes: int,
    began: float,
    end: _Deadline,
) -> Response:
    certificate_ends = None
    if target.scheme == "https":
        tls = ssl.create_default_context().wrap_socket(sock, server_hostname=target.host)
        end.replace(tls)  # the timer may have cut the bare socket in vain, while the handshake had it
        sock = tls
        if end.over:
            raise TimeoutError
        not_after = (tls.getpeercert() or {}).get("notAfter")
        if not_after:
            certificate_ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(not_after)), UTC)
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = sock
    connection.request(method, target.path, body=body, headers=dict(headers))
    answer = connection.getresponse()
    kept = bytearray()
    while len(kept) <= max_bytes and not end.over and (piece := answer.read1(PIECE_BYTES)):
        kept += piece
    if end.over:
        raise TimeoutError
    return Response(
        status=answer.status,
        headers={name.lower(): value[:MAX_HEADER_VALUE] for name, value in answer.getheaders()},
        body=bytes(kept[:max_bytes]),
        seconds=time.monotonic() - began,
        address=address,
        truncated=len(kept) > max_bytes,
        certificate_ends=certificate_ends,
    )


class _Deadline:
    """Cuts the connection when the time is over, whatever the other side is in the middle of."""

    def __init__(self, sock: socket.socket, at: float) -> None:
        self._sock, self.over = sock, False
        self._timer = threading.Timer(max(0.0, at - time.monotonic()), self._cut)
        self._timer.daemon = True

    def replace(self, sock: socket.socket) -> None:
        """From now on it is this socket that stands for the connection."""
        self._sock = sock

    def _cut(self) -> None:
        self.over = True
        _quietly(lambda: self._sock.shutdown(socket.SHUT_RDWR))

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        _quietly(self._sock.close)


def _quietly(close: Callable[[], object]) -> None:
    try:
        close()
    except OSError:
        pass


def _sentence(target: _Target, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"The certificate of {target.host} is not accepted: {error.verify_message}. Renew it, or trust its issuer."
        )
    if isinstance(error, ssl.SSLError):
        return f"{target.host}, port {target.port}, does not speak TLS as it should ({error.reason or error})."
    if isinstance(error, http.client.HTTPException):
        return f"{target.host} answered with something that is not HTTP ({type(error).__name__})."
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"The connection to {target.host} broke off: {said}."
