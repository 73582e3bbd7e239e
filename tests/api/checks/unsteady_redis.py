"""A proxy before the real engine that can be told to swallow, refuse, delay, cut, fail or not answer what it gets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import hiredis
import redis.asyncio

Mood = Literal["steady", "silent", "refusing", "slow", "dropping", "failing", "answerless"]

_DROPS_PER_CHUNK = 0.01


class UnsteadyRedis:
    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = Random(1)
        self.mood: Mood = "steady"
        self.delay_seconds = 1.0

    def change(self, mood: Mood) -> None:
        """Change the mood; open connections are cut, as those of a process that was restarted.

        Of an answerless engine they are when it answers: what was asked is done.
        """
        self.mood = mood
        if mood not in {"silent", "answerless"}:
            for writer in self._writers:
                writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mood == "refusing":
            writer.close()
            return
        if self.mood == "failing":
            await _fail_every_command(reader, writer)
            return
        parts = urlsplit(self._url)
        if parts.scheme == "unix":
            back_reader, back_writer = await asyncio.open_unix_connection(parts.path)
        else:
            back_reader, back_writer = await asyncio.open_connection(parts.hostname, parts.port)
        self._writers |= {writer, back_writer}
        for source, target in ((reader, back_writer), (back_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, target, is_answer=target is writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_answer: bool) -> None:
        with suppress(OSError):
            while chunk := await source.read(65_536):
                if self.mood == "slow":
                    await asyncio.sleep(self.delay_seconds)
                if self.mood == "answerless" and is_answer:
                    break
                if self.mood == "dropping" and self._random.random() < _DROPS_PER_CHUNK:
                    break
                if self.mood != "silent":
                    target.write(chunk)
        target.close()

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _fail_every_command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    commands: Any = hiredis.Reader()
    with suppress(OSError):
        while chunk := await reader.read(65_536):
            commands.feed(chunk)
            while commands.gets() is not False:
                writer.write(b"-ERR this engine fails\r\n")
    writer.close()


@asynccontextmanager
async def unsteady_line(redis_url: str) -> AsyncIterator[tuple[UnsteadyRedis, str]]:
    """Yield the proxy and the address of the engine behind it."""
    proxy = UnsteadyRedis(redis_url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    database = parse_qs(urlsplit(redis_url).query).get("db", ["0"])[0]
    try:
        yield proxy, f"redis://{host}:{port}/{database}"
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()


@asynccontextmanager
async def unsteady_redis(redis_url: str) -> AsyncIterator[tuple[UnsteadyRedis, Any]]:
    """Yield the proxy and a client that goes through it."""
    async with unsteady_line(redis_url) as (proxy, url):
        client = redis.asyncio.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
        try:
            yield proxy, client
        finally:
            await client.aclose()
