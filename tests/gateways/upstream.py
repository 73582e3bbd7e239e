"""What a gateway forwards to: answers with what it was sent, and streams as slowly as a test wants."""

import asyncio
import json
from dataclasses import dataclass, field


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Upstream:
    """An HTTP/1.1 server of one connection per request."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await read_request(reader)
            self.seen.append(request)
            await (self._stream(writer) if request.path.endswith("/stream") else self._answer(writer, request))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, request: Seen) -> None:
        body = json.dumps({"path": request.path, "bytes": len(request.body)}).encode()
        writer.write(head_of("content-type: application/json", f"content-length: {len(body)}") + body)
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        """Send one event, and the second only when the test has seen the first."""
        head = head_of("content-type: text/event-stream", "transfer-encoding: chunked")
        writer.write(head + _chunk(b"data: first\n\n"))
        await writer.drain()
        await self.may_go_on.wait()
        writer.write(_chunk(b"data: second\n\n") + b"0\r\n\r\n")
        await writer.drain()


def head_of(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "connection: close", "\r\n"]).encode()


def _chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


async def read_request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
    told = dict(headers)
    if told.get("transfer-encoding") == "chunked":
        return Seen(method, path, headers, await _read_chunks(reader))
    return Seen(method, path, headers, await reader.readexactly(int(told.get("content-length", "0"))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
