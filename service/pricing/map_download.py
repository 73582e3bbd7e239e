"""Downloads a cost map from an address somebody named, and never from where only this server can reach.

Which addresses may be asked is for service/outbound.py to say. Bounded in bytes, time and redirects.
"""

import asyncio
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpcore

from service.errors import BodyTooLarge, InvalidInput, MalformedBody
from service.kit.body import BodyCollector, is_gzip
from service.outbound import AddressJudge, AddressRefused, AddressUnknown, JudgedBackend
from service.settings import PricesSettings

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


class MapDownloader:
    """Downloads maps within the limits of the settings."""

    def __init__(self, settings: PricesSettings) -> None:
        self.limit_bytes = settings.max_map_bytes
        self._timeout_seconds = settings.download_timeout_seconds
        self._judge = AddressJudge(
            allow_private=settings.allow_private_addresses, setting="TALLYGATE_PRICES_ALLOW_PRIVATE_ADDRESSES"
        )

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
        except AddressUnknown as error:
            raise _failed(str(error)) from error
        except AddressRefused as error:
            raise _not_allowed(str(error)) from error
        raise _failed(f"more than {_MAX_REDIRECTS} redirects")

    async def _get(self, url: str) -> bytes | str:
        """Return what is there, or where it is instead."""
        self._judge.check_url(url)
        async with (
            httpcore.AsyncConnectionPool(network_backend=JudgedBackend(self._judge)) as pool,
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


def _failed(reason: str) -> InvalidInput:
    return InvalidInput(f"The cost map cannot be downloaded: {reason}.", code="download_failed", field="url")


def _not_allowed(reason: str) -> InvalidInput:
    return InvalidInput(f"This address is not asked: {reason}.", code="url_not_allowed", field="url")
