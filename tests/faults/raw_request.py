"""Requests written byte by byte, over connections that are cut before the answer."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.faults.replica import Replica


def http_request(replica: Replica, token: str, path: str, body: Any) -> bytes:
    """Return a POST; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{replica.process.port}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def send_and_cut(replica: Replica, request: bytes, *, with_reset: bool = False, pause_seconds: float = 0) -> None:
    """Send the bytes, and after a pause cut the connection without reading a byte of the answer."""
    async with cut_afterwards(replica, request, with_reset=with_reset):
        await asyncio.sleep(pause_seconds)


@asynccontextmanager
async def cut_afterwards(replica: Replica, request: bytes, *, with_reset: bool = False) -> AsyncIterator[None]:
    """Send the bytes, and cut the connection at the end of the block without reading a byte of the answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", replica.process.port)
    writer.write(request)
    await writer.drain()
    yield
    if with_reset:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
