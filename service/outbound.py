"""Requests to addresses somebody named: what may be asked, and connections to the very address that was judged.

Names are resolved here and each of their addresses is judged, at every connection: a name that means something else a
moment later leads nowhere else. Link-local addresses and those where clouds hand out credentials are never asked;
private and loopback ones, and plain http, only where a setting allows them. No proxy is used.
"""

import asyncio
import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpcore

MAX_URL_CHARACTERS: Final = 2048

# Beside the link-local ones. The last is a public address that answers inside Azure only.
_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
        ),
    )
)
# Nobody's machines, which not every release of Python knows of; of the new kind nothing else is routed yet.
_RESERVED: Final = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))
_ROUTED: Final = IPv6Network("2000::/3")
# NAT64, SIIT and the compatible addresses of old have the other kind's address in their last bits.
_EMBEDDING_NETWORKS: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("::ffff:0:0:0/96"), IPv6Network("::/96"))
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")

Address = IPv4Address | IPv6Address


class AddressRefused(Exception):
    """The address is of a kind that is not asked; the text says why, in the middle of a sentence."""


class AddressUnknown(Exception):
    """The name leads to no address at the moment; the text says so, in the middle of a sentence."""


class AddressJudge:
    """Decides what may be asked; `setting` is the variable that would allow more."""

    def __init__(self, *, allow_private: bool, setting: str) -> None:
        self._allow_private = allow_private
        self._setting = setting

    def check_url(self, url: str) -> None:
        """Refuse what is no plain web address. Raises AddressRefused."""
        try:
            parts = urlsplit(url)
            has_port = parts.port is None or parts.port > 0
        except ValueError as error:
            raise AddressRefused("it is no web address") from error
        if parts.scheme not in (("https", "http") if self._allow_private else ("https",)):
            raise AddressRefused(f"only https is asked, http only with {self._setting}")
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if not parts.hostname or not has_port or len(url) > MAX_URL_CHARACTERS or not is_plain:
            raise AddressRefused(f"it is no web address of at most {MAX_URL_CHARACTERS} ASCII characters")
        if parts.username is not None or parts.password is not None:
            raise AddressRefused("leave out user and password: addresses are kept and shown")

    async def find_addresses(self, host: str, port: int) -> list[Address]:
        """Return where a name leads to. Raises AddressRefused if any of it may not be asked, AddressUnknown."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise AddressUnknown(f"the name {host} is not known") from error
        addresses = list(dict.fromkeys(ip_address(str(each[4][0]).partition("%")[0]) for each in found))
        if any(map(is_never_asked, addresses)):
            raise AddressRefused(f"{host} is link-local or the like, where clouds hand out credentials: never asked")
        if not self._allow_private and not all(map(is_public, addresses)):
            raise AddressRefused(f"{host} is inside a private network ({self._setting})")
        if not addresses:
            raise AddressUnknown(f"{host} has no address")
        return addresses


class JudgedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that may be asked, and to no other."""

    def __init__(self, judge: AddressJudge) -> None:
        self._judge = judge
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of the name that answers. Raises AddressRefused, AddressUnknown."""
        addresses = await self._judge.find_addresses(host, port)
        for address in addresses:
            try:
                return await self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise AssertionError("a name leads somewhere or is refused")


def shown_url(url: str) -> str:
    """Return the address without what may be a secret in it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_public(address: Address) -> bool:
    """Tell whether everybody reaches the same machine there, and no other address hides in this one."""
    if any(True for _ in _hidden(address)) or (isinstance(address, IPv6Address) and address not in _ROUTED):
        return False
    if any(address in network for network in _RESERVED):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _METADATA


def is_never_asked(address: Address) -> bool:
    """Tell whether nothing is asked there whatever is allowed: clouds hand out credentials on such addresses."""
    return any(
        each.is_link_local or each.is_multicast or each.is_unspecified or each in _METADATA
        for each in (address, *_hidden(address))
    )


def _hidden(address: Address) -> Iterator[IPv4Address]:
    """Yield the addresses of the old kind that one of the new kind leads to."""
    if not isinstance(address, IPv6Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield address.teredo[1]
    if any(address in network for network in _EMBEDDING_NETWORKS) and int(address) > 1:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _LOCAL_NAT64:
        yield from _translated(int(address))


def _translated(address: int) -> Iterator[IPv4Address]:
    """Yield what prefixes of 48, 56, 64 and 96 bits lead to (RFC 6052): which one a network has, nobody tells."""
    # Bits 64 to 71 are left out of the shorter ones.
    packed = (address >> 64 << 56) | (address & 0xFF_FFFF_FFFF_FFFF)
    for shift in (40, 32, 24):
        if hidden := packed >> shift & 0xFFFF_FFFF:
            yield IPv4Address(hidden)
    yield IPv4Address(address & 0xFFFF_FFFF)
