"""The lane scripts travel on: many calls, one round trip, a deadline, a circuit breaker.

Every script may be sent again: after a lost connection a call is repeated once.
"""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import hiredis
import structlog
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from service.checks.breaker import CircuitBreaker
from service.checks.lua_scripts import SCRIPTS, Command, Reply
from service.db.pools import RedisClient
from service.kit.batching import MicroBatcher
from service.kit.clock import monotonic
from service.kit.patience import patience

_log = structlog.get_logger(__name__)

# A pipeline of more keeps Redis from everybody else for more than a few milliseconds, and gains nothing.
_MOST_COMMANDS_AT_ONCE = 32

# In C; the client's own packing, in Python, costs as much as all the rest of a check.
_pack: Any = hiredis.pack_command  # typed as if it took one argument


class CountersUnavailable(Exception):
    """Redis did not answer, not in time, or not usefully."""


class ScriptLane:
    """Sends the commands of one kind of caller in pipelines, over a connection of its own, one pipeline at a time.

    A caller puts its own deadline around `run` and may leave at any time; the pipeline's deadline is `timeout_ms`.
    `keeps_order`: commands run in their order in a cluster too, one after the other.
    """

    def __init__(self, client: RedisClient, *, timeout_ms: float, keeps_order: bool = False) -> None:
        self._client = client
        self._keeps_order = keeps_order
        self._batcher: MicroBatcher[Command, Reply | ResponseError] = MicroBatcher(
            self._send, max_items=_MOST_COMMANDS_AT_ONCE, max_wait_ms=0
        )
        self._timeout_seconds = timeout_ms / 1000
        self._connection: Any = None
        self._connecting: asyncio.Task[Any] | None = None
        # One pipeline without an answer is enough: whoever is queued behind it has waited already.
        self.breaker = CircuitBreaker(monotonic, failures_to_open=1, first_pause_seconds=0.05)
        self._warm_up: asyncio.Task[None] | None = None

    async def call(self, command: Command) -> Reply:
        """Return the reply to one command. Raises CountersUnavailable."""
        reply = await self._batcher.submit(command)
        if isinstance(reply, ResponseError):
            raise _refused(reply) from reply
        return reply

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """Return the replies to commands. Raises CountersUnavailable, if one fails for all."""
        replies = []
        for reply in await self._batcher.submit_many(commands):
            if isinstance(reply, ResponseError):
                raise _refused(reply) from reply
            replies.append(reply)
        return replies

    def start(self) -> None:
        """Connect and load the scripts, so that the first caller need not wait for it."""
        self._warm_up = asyncio.create_task(self._load_scripts())

    async def close(self) -> None:
        """Finish what is under way and give the connection back."""
        if self._warm_up is not None:
            await self._warm_up
        await self._batcher.close()
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(RedisError, OSError, asyncio.CancelledError):
                self._connection = await self._connecting
        await self._hang_up()

    async def _load_scripts(self) -> None:
        with suppress(CountersUnavailable):
            await self.run([("SCRIPT", "LOAD", script.text) for script in SCRIPTS])

    async def _send(self, commands: list[Command]) -> list[Reply | ResponseError]:
        if not self.breaker.admits():
            raise CountersUnavailable("the circuit breaker is open")
        try:
            async with patience(self._timeout_seconds):
                replies = await self._send_known(commands)
            demoted = next((reply for reply in replies if isinstance(reply, ReadOnlyError)), None)
            if demoted is not None:
                raise demoted  # noqa: TRY301 — it stays so on this connection; the next one finds the new primary
        except (RedisError, OSError, TimeoutError) as error:
            await self._hang_up()
            self.breaker.failed()
            _log.warning("counters_unavailable", error=type(error).__name__)
            raise CountersUnavailable(type(error).__name__) from error
        except BaseException:
            await self._hang_up()
            raise
        self.breaker.succeeded()
        return replies

    async def _send_known(self, commands: Sequence[Command]) -> list[Reply | ResponseError]:
        """Send the commands; from the first of a script Redis does not know yet once more, after loading them all."""
        replies = await self._exchange(commands)
        unknown = next((i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)), None)
        if unknown is not None:
            await self._exchange([("SCRIPT", "LOAD", script.text) for script in SCRIPTS])
            replies[unknown:] = await self._exchange(commands[unknown:])
        return replies

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        if isinstance(self._client, RedisCluster):
            return await self._exchange_in_cluster(self._client, commands)
        try:
            return await self._exchange_once(self._client, commands)
        except (RedisConnectionError, OSError):
            # Most often a connection that was closed while nobody used it.
            await self._hang_up()
            return await self._exchange_once(self._client, commands)

    async def _exchange_once(self, client: Redis, commands: Sequence[Command]) -> list[Any]:
        """Write all commands at once and read as many replies. The client's own pipeline costs three times the time."""
        connection = self._connection or await self._connect(client)
        await connection.send_packed_command(b"".join([_pack(command) for command in commands]), check_health=False)
        replies = []
        for _ in commands:
            try:
                replies.append(await connection.read_response(timeout=math.inf))
            except ResponseError as error:
                replies.append(error)
        return replies

    async def _connect(self, client: Redis) -> Any:
        """Return a connection. Connecting takes several round trips: it goes on when a deadline ends the wait."""
        if self._connecting is None:
            pool: Any = client.connection_pool
            self._connecting = asyncio.create_task(pool.get_connection())
        connecting = self._connecting
        await asyncio.wait([connecting])
        self._connecting = None
        self._connection = connecting.result()
        return self._connection

    async def _exchange_in_cluster(self, client: RedisCluster, commands: Sequence[Command]) -> list[Any]:
        """A cluster's pipeline refuses EVALSHA; single commands are routed, redirected and repeated by the client."""
        if commands and commands[0][0] == "SCRIPT":
            await asyncio.gather(*[client.script_load(script.text) for script in SCRIPTS])
            return []
        if self._keeps_order:
            return [await _reply(client, command) for command in commands]
        return list(await asyncio.gather(*[_reply(client, command) for command in commands]))

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            assert isinstance(self._client, Redis)
            await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)


async def _reply(client: RedisCluster, command: Command) -> Any:
    try:
        return await client.execute_command(*command)
    except ResponseError as error:
        return error


def _refused(error: ResponseError) -> CountersUnavailable:
    _log.error("counters_refused", error=str(error))
    return CountersUnavailable(str(error))
