"""Which network addresses the portal may talk to on somebody's behalf.

Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries; RFC 6052 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo)
and RFC 5214 (ISATAP). `ipaddress.is_global` alone is not enough: it takes NAT64 and multicast for global.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Where clouds keep the credentials of a machine, and what is never a server: refused whatever anybody allows.
NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local; the metadata services of most clouds
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
        "fe80::/10",
        "0.0.0.0/8",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "ff00::/8",
    )
)
_V4_NOT_PUBLIC = tuple(IPv4Network(text) for text in ("192.0.0.0/24", "192.88.99.0/24"))
_V6_PUBLIC = IPv6Network("2000::/3")
_V6_NOT_PUBLIC = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")


def embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a packet to an IPv6 address may end at."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    isatap = (int(address) >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE)
    if isatap or address in _COMPATIBLE or any(address in network for network in _NAT64):
        yield last


def is_public(address: Address) -> bool:
    """A host of the open internet, and nothing that leads anywhere else."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _V4_NOT_PUBLIC)
    return (
        address in _V6_PUBLIC
        and address.is_global
        and not any(address in network for network in _V6_NOT_PUBLIC)
        and not any(embedded(address))
    )


def is_within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def why_refused(address: Address, allowed: tuple[Network, ...]) -> str:
    """Why the address may not be talked to, in half a sentence; empty when it may."""
    inner = [*embedded(address)]
    if any(is_within(one, NEVER) for one in (address, *inner)):
        return "is an address of cloud metadata, of a whole network or of nobody, which is never asked"
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return why_refused(address.ipv4_mapped, allowed)
    if is_public(address):
        return ""
    if is_within(address, allowed) and all(is_public(one) or is_within(one, allowed) for one in inner):
        return ""
    return "is an internal address that this environment does not allow"


def parse_networks(texts: list[str]) -> tuple[Network, ...]:
    """Networks as people write them: 10.0.0.0/8, fd00::/8 or a single address. Raises ValueError with the text."""
    networks = []
    for text in texts:
        try:
            networks.append(ip_network(text.strip()))
        except ValueError as error:
            raise ValueError(f"“{text}” is not a network such as 10.0.0.0/8: {error}.") from None
    return tuple(networks)


__all__ = ["NEVER", "Address", "Network", "embedded", "ip_address", "is_public", "parse_networks", "why_refused"]
