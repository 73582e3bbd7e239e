"""Downloads a cost map from an address somebody named, and never from where only this server can reach.

Names are resolved here, each address is judged, and the connection goes to the very address that was judged: a name
that means something else a moment later leads nowhere else. Bounded in bytes, time and redirects; no proxy is used.
"""

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpcore

from service.errors import BodyTooLarge, InvalidInput, MalformedBody
from service.kit.body import BodyCollector, is_gzip
from service.settings import PricesSettings

MAX_URL_CHARACTERS: Final = 2048

_MAX_REDIRECTS: Final = 5
_CONNECT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 20.0
_TIMEOUTS: Final = {"connect": _CONNECT_SECONDS, "read": _SILENCE_SECONDS, "write": _SILENCE_SECONDS}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OK: Final = 200
_HEADERS: Final = (
    (b"user-agent", b"tallygate"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip"),
    (b"connection", b"close"),
)

Address = IPv4Address | IPv6Address


class MapDownloader:
    """Downloads maps within the limits of the settings."""

    def __init__(self, settings: PricesSettings) -> None:
        self.limit_bytes = settings.max_map_bytes
        self._timeout_seconds = settings.download_timeout_seconds
        self._allow_private = settings.allow_private_addresses

    async def fetch(self, url: str) -> bytes:
        """Return what is at the address.

        Raises InvalidInput: `url_not_allowed` for an address of a kind that is not asked, else `download_failed`.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for _ in range(_MAX_REDIRECTS + 1):
                    answer = await self._get(url)
                    if isinstance(answer, bytes):
                        return answer
                    url = urljoin(url, answer)
        except TimeoutError as error:
            raise _failed(f"it took longer than {self._timeout_seconds} s") from error
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _failed(f"{type(error).__name__} while talking to {urlsplit(url).hostname}") from error
        raise _failed(f"more than {_MAX_REDIRECTS} redirects")

    async def _get(self, url: str) -> bytes | str:
        """Return what is there, or where it is instead."""
        check_url(url, allow_http=self._allow_private)
        backend = _JudgedAddresses(allow_private=self._allow_private)
        async with (
            httpcore.AsyncConnectionPool(network_backend=backend) as pool,
            pool.stream("GET", url, headers=list(_HEADERS), extensions={"timeout": _TIMEOUTS}) as response,
        ):
            headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in headers:
                return headers[b"location"]
            if response.status != _OK:
                raise _failed(f"{urlsplit(url).hostname} answered with status {response.status}")
            return await self._read(response, headers)

    async def _read(self, response: httpcore.Response, headers: dict[bytes, str]) -> bytes:
        try:
            is_packed = is_gzip(headers.get(b"content-encoding", ""))
            collector = BodyCollector(self.limit_bytes, is_gzip=is_packed)
            async for chunk in response.aiter_stream():
                for _ in collector.add(chunk):
                    await asyncio.sleep(0)
            return bytes(collector.content())
        except (BodyTooLarge, MalformedBody) as error:
            raise _failed(error.detail) from error


def check_url(url: str, *, allow_http: bool) -> None:
    """Refuse what is no plain web address. Raises InvalidInput (`url_not_allowed`)."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError as error:
        raise _not_allowed("it is no web address") from error
    if parts.scheme not in (("https", "http") if allow_http else ("https",)):
        raise _not_allowed("only https is asked, http only with TALLYGATE_PRICES_ALLOW_PRIVATE_ADDRESSES")
    if (
        not parts.hostname
        or not has_port
        or len(url) > MAX_URL_CHARACTERS
        or not url.isascii()
        or not url.isprintable()
    ):
        raise _not_allowed(f"it is no web address of at most {MAX_URL_CHARACTERS} ASCII characters")
    if parts.username is not None or parts.password is not None:
        raise _not_allowed("leave out user and password: addresses are kept and shown")


def shown_url(url: str) -> str:
    """Return the address without what may be a secret in it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_public(address: Address) -> bool:
    """Tell whether everybody reaches the same machine there, and no other address hides in this one."""
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address.sixtofour or address.teredo):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_never_asked(address: Address) -> bool:
    """Tell whether no cost map is there whatever is allowed: clouds hand out credentials on link-local addresses."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(each.is_link_local or each.is_multicast or each.is_unspecified for each in (address, mapped) if each)


class _JudgedAddresses(httpcore.AsyncNetworkBackend):
    """Connects to addresses that may be asked, and to no other."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of the name that answers."""
        addresses = await self._judged(host, port)
        for address in addresses:
            try:
                return await self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise _failed(f"{host} has no address")

    async def _judged(self, host: str, port: int) -> list[Address]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _failed(f"the name {host} is not known") from error
        addresses = list(dict.fromkeys(ip_address(str(each[4][0]).partition("%")[0]) for each in found))
        if any(is_never_asked(address) or not (self._allow_private or is_public(address)) for address in addresses):
            raise _not_allowed(f"{host} is inside a private network (TALLYGATE_PRICES_ALLOW_PRIVATE_ADDRESSES)")
        return addresses


def _failed(reason: str) -> InvalidInput:
    return InvalidInput(f"The cost map cannot be downloaded: {reason}.", code="download_failed", field="url")


def _not_allowed(reason: str) -> InvalidInput:
    return InvalidInput(f"This address is not asked: {reason}.", code="url_not_allowed", field="url")
