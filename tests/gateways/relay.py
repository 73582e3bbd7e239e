"""What stands between a gateway and Tallygate in tests: passes on, or fails as a test wants, per path.

`unavailable` answers 503; `silent` takes a request and answers nothing; `cut` lets Tallygate do what it was asked and
loses the answer. `away()` refuses connections until `back()`.
"""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx

from tests.gateways.upstream import Seen, read_request

_NOT_PASSED_ON = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}


@dataclass
class Relay:
    """An HTTP/1.1 server of one connection per request, on a port of its own for good."""

    target: str
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _client: httpx.AsyncClient = field(init=False)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._client = httpx.AsyncClient(base_url=self.target, timeout=30)

    async def back(self) -> None:
        """Take connections (again)."""
        self.faults.clear()
        self._released.set()
        self._released = asyncio.Event()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def away(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """Go away for good."""
        await self.away()
        await self._client.aclose()

    def asked(self, path: str) -> list[Seen]:
        """Return the requests that came for a path."""
        return [seen for seen in self.seen if seen.path.partition("?")[0] == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await read_request(reader)
            self.seen.append(request)
            await self._answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError, httpx.TransportError, asyncio.CancelledError):
            pass  # cancelled at the end of the tests
        finally:
            writer.close()

    async def _answer(self, request: Seen, writer: asyncio.StreamWriter) -> None:
        fault = self.faults.get(request.path.partition("?")[0])
        if fault == "unavailable":
            _write(writer, HTTPStatus.SERVICE_UNAVAILABLE, [("retry-after", "0")], b'{"code": "unavailable"}')
        elif fault == "silent":
            await self._released.wait()
        else:
            answer = await self._pass_on(request)
            if fault != "cut":
                headers = [pair for pair in answer.headers.items() if pair[0] not in _NOT_PASSED_ON]
                _write(writer, answer.status_code, headers, answer.content)
        await writer.drain()

    async def _pass_on(self, request: Seen) -> httpx.Response:
        headers = [pair for pair in request.headers if pair[0] not in _NOT_PASSED_ON]
        return await self._client.request(request.method, request.path, headers=headers, content=request.body)


def _write(writer: asyncio.StreamWriter, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"content-length: {len(body)}", "connection: close", "\r\n"]
    writer.write("\r\n".join(lines).encode() + body)
