"""An address where somebody accepts connections and never says a word: what a black hole looks like to a client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio


@asynccontextmanager
async def silent_redis() -> AsyncIterator[Any]:
    """Yield a client of it."""
    writers: list[asyncio.StreamWriter] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    client = redis.asyncio.Redis(host=host, port=port, socket_connect_timeout=1, socket_timeout=1)
    try:
        yield client
    finally:
        await client.aclose()
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()
