"""A proxy before the real engine that can be told to swallow, to refuse, or to delay what passes through it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import redis.asyncio

Mood = Literal["steady", "silent", "refusing", "slow"]


class UnsteadyRedis:
    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.mood: Mood = "steady"
        self.delay_seconds = 1.0

    def change(self, mood: Mood) -> None:
        """Change the mood; open connections are cut, as those of a process that was restarted."""
        self.mood = mood
        if mood != "silent":
            for writer in self._writers:
                writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mood == "refusing":
            writer.close()
            return
        parts = urlsplit(self._url)
        if parts.scheme == "unix":
            back_reader, back_writer = await asyncio.open_unix_connection(parts.path)
        else:
            back_reader, back_writer = await asyncio.open_connection(parts.hostname, parts.port)
        self._writers |= {writer, back_writer}
        for source, target in ((reader, back_writer), (back_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await source.read(65_536):
                if self.mood == "slow":
                    await asyncio.sleep(self.delay_seconds)
                if self.mood != "silent":
                    target.write(chunk)
        target.close()

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def unsteady_redis(redis_url: str) -> AsyncIterator[tuple[UnsteadyRedis, Any]]:
    """Yield the proxy and a client that goes through it."""
    proxy = UnsteadyRedis(redis_url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    database = int(parse_qs(urlsplit(redis_url).query).get("db", ["0"])[0])
    client = redis.asyncio.Redis(host=host, port=port, db=database, socket_timeout=1, socket_connect_timeout=1)
    try:
        yield proxy, client
    finally:
        await client.aclose()
        server.close()
        await proxy.close()
        await server.wait_closed()
