"""A lane to one Redis server: many calls, one round trip, a deadline, a circuit breaker.

Every command may be sent again: after a lost connection a pipeline is repeated once.
"""

import asyncio
import math
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any

import hiredis
import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from service.checks.breaker import CircuitBreaker
from service.checks.lua_scripts import SCRIPTS, Command, Reply
from service.kit.batching import MicroBatcher
from service.kit.clock import monotonic
from service.kit.patience import patience

_log = structlog.get_logger(__name__)

# A pipeline of more keeps Redis from everybody else for more than a few milliseconds, and gains nothing.
_MOST_COMMANDS_AT_ONCE = 32

# In C; the client's own packing, in Python, costs as much as all the rest of a check.
_pack: Any = hiredis.pack_command  # typed as if it took one argument

Answer = Reply | ResponseError


class CountersUnavailable(Exception):
    """Redis did not answer, not in time, or not usefully. What was asked of it may have been done all the same."""


class NothingDone(CountersUnavailable):
    """Redis was not asked, or did nothing."""


class NodeLane:
    """Sends commands in pipelines, in the order they came, over a connection of its own, one pipeline at a time.

    The pipeline's deadline is `timeout_ms`. While the server does not answer, all but single probes fail at once.
    """

    def __init__(self, client: Redis, *, timeout_ms: float) -> None:
        self._client = client
        self._batcher: MicroBatcher[Command, Answer] = MicroBatcher(
            self._send, max_items=_MOST_COMMANDS_AT_ONCE, max_wait_ms=0
        )
        self._timeout_seconds = timeout_ms / 1000
        self._connection: Any = None
        self._connecting: asyncio.Task[Any] | None = None
        # One pipeline without an answer is enough: whoever is queued behind it has waited already.
        self._breaker = CircuitBreaker(monotonic, failures_to_open=1, first_pause_seconds=0.05)
        self._is_probing = False
        self._warm_up: asyncio.Task[None] | None = None

    @property
    def is_down(self) -> bool:
        """Tell whether the server has not answered lately."""
        return self._breaker.is_open

    def call(self, command: Command) -> Awaitable[Answer]:
        """Return the answer to one command, a refusal included. Raises CountersUnavailable."""
        self._refuse_while_probing()
        return self._batcher.submit(command)

    def run(self, commands: Sequence[Command]) -> Awaitable[list[Answer]]:
        """Return the answers to commands, refusals included. Raises CountersUnavailable."""
        self._refuse_while_probing()
        return self._batcher.submit_many(commands)

    async def attempt(self, commands: Sequence[Command]) -> list[Answer | CountersUnavailable]:
        """Return for each command its answer, or why there is none."""
        try:
            return list(await self.run(commands))
        except CountersUnavailable as error:
            return [error] * len(commands)

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

    def _refuse_while_probing(self) -> None:
        """Nobody queues up behind a probe, which waits for a server that most likely stays silent."""
        if self._is_probing:
            raise NothingDone("the circuit breaker is open")

    async def _send(self, commands: list[Command]) -> list[Answer]:
        if not self._breaker.admits():
            raise NothingDone("the circuit breaker is open")
        self._is_probing = self._breaker.is_open
        try:
            async with patience(self._timeout_seconds):
                replies = await self._send_known(commands)
            demoted = next((reply for reply in replies if isinstance(reply, ReadOnlyError)), None)
            if demoted is not None:
                raise demoted  # noqa: TRY301 — it stays so on this connection; the next one finds the new primary
        except (RedisError, OSError, TimeoutError) as error:
            await self._hang_up()
            self._breaker.failed()
            _log.warning("counters_unavailable", error=type(error).__name__)
            raise CountersUnavailable(type(error).__name__) from error
        except BaseException:
            await self._hang_up()
            raise
        finally:
            self._is_probing = False
        self._breaker.succeeded()
        return replies

    async def _send_known(self, commands: Sequence[Command]) -> list[Answer]:
        """Send the commands; from the first of a script Redis does not know yet once more, after loading them all."""
        replies = await self._exchange(commands)
        unknown = next((i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)), None)
        if unknown is not None:
            await self._exchange([("SCRIPT", "LOAD", script.text) for script in SCRIPTS])
            replies[unknown:] = await self._exchange(commands[unknown:])
        return replies

    async def _exchange(self, commands: Sequence[Command]) -> list[Answer]:
        try:
            return await self._exchange_once(commands)
        except (RedisConnectionError, OSError):
            # Most often a connection that was closed while nobody used it.
            await self._hang_up()
            return await self._exchange_once(commands)

    async def _exchange_once(self, commands: Sequence[Command]) -> list[Answer]:
        """Write all commands at once and read as many replies. The client's own pipeline costs three times the time."""
        connection = self._connection or await self._connect()
        await connection.send_packed_command(b"".join([_pack(command) for command in commands]), check_health=False)
        replies: list[Answer] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response(timeout=math.inf))
            except ResponseError as error:
                replies.append(error)
        return replies

    async def _connect(self) -> Any:
        """Return a connection. Connecting takes several round trips: it goes on when a deadline ends the wait."""
        if self._connecting is None:
            pool: Any = self._client.connection_pool
            self._connecting = asyncio.create_task(pool.get_connection())
        connecting = self._connecting
        await asyncio.wait([connecting])
        self._connecting = None
        self._connection = connecting.result()
        # A pipeline has a deadline already; the client's own, around each write, takes a task and a timer.
        self._connection.socket_timeout = None
        return self._connection

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            connection.socket_timeout = self._client.connection_pool.connection_kwargs.get("socket_timeout")
            await self._client.connection_pool.release(connection)
