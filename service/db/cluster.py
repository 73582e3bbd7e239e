"""A Redis or Valkey Cluster: which primary serves which slot, and single commands to the primary of a key.

The map of slots is asked for when it is first needed, and again, in the background, whenever somebody was redirected or
not answered: until then it may be out of date, so whoever uses it must be ready to be redirected.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import structlog
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from service.kit.clock import monotonic
from service.kit.stopping import stop

_log = structlog.get_logger(__name__)

SLOTS = 16_384
# Somebody who was not answered asks again and again; the map changes by failovers, which take seconds.
_PAUSE_BETWEEN_READINGS_SECONDS = 0.1
_READING_SECONDS = 1.0
_MOST_REDIRECTIONS = 40
_REDIRECTION_PAUSE_SECONDS = 0.05

T = TypeVar("T")


class Address(NamedTuple):
    """Where a node of the cluster listens."""

    host: str
    port: int


class ClusterUnknown(RedisError):
    """No node told which primary serves a slot."""


class SlotMap:
    """Knows the primary of every slot, and has a plain client of each. One instance per process."""

    def __init__(self, seeds: Sequence[Address], make_client: Callable[[Address], Redis]) -> None:
        self.seeds = tuple(seeds)
        self._make_client = make_client
        self._clients: dict[Address, Redis] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._reading: asyncio.Task[None] | None = None
        self._next_reading_at = 0.0

    async def primaries(self) -> list[Address]:
        """Return the nodes that serve slots, having asked for them if need be; none when no node tells."""
        if not self.known_primaries:
            await self._read_once()
        return self.known_primaries

    async def primary_of(self, slot: int) -> Address:
        """Return the primary of a slot, as far as is known. Raises ClusterUnknown."""
        owner = self._owners[slot]
        if owner is None:
            await self._read_once()
            owner = self._owners[slot]
        if owner is None:
            raise ClusterUnknown(f"no node of the cluster serves slot {slot}")
        return owner

    @property
    def known_primaries(self) -> list[Address]:
        """Return the nodes that serve slots, as far as is known."""
        return sorted({owner for owner in self._owners if owner is not None})

    def client_of(self, address: Address) -> Redis:
        """Return a client that speaks with this node alone; it follows no redirection."""
        if address not in self._clients:
            self._clients[address] = self._make_client(address)
        return self._clients[address]

    def note_moved(self, slot: int, address: Address) -> None:
        """Remember what a node said of a slot; others may have moved along with it."""
        self._owners[slot] = address
        self.note_doubt()

    def note_doubt(self) -> None:
        """Read the map again, in the background."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Close the clients of the nodes."""
        await stop(self._reading)
        for client in self._clients.values():
            await client.aclose()

    async def _read_once(self) -> None:
        self.note_doubt()
        assert self._reading is not None
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        """Take the map of the first node that tells one; those that serve slots are asked before the seeds."""
        await asyncio.sleep(self._next_reading_at - monotonic())
        self._next_reading_at = monotonic() + _PAUSE_BETWEEN_READINGS_SECONDS
        for address in dict.fromkeys((*self.known_primaries, *self.seeds)):
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_READING_SECONDS):
                    client: Any = self.client_of(address)
                    told = await client.execute_command("CLUSTER", "SLOTS")
                self._owners = _owners(told, address)
                return
        _log.warning("cluster_unknown", nodes=len(self._clients))


class ClusterClient:
    """Single commands to a cluster; pipelines find their way by `slots`.

    The client's own cluster does not come up while the primary it happens to ask first is away.
    """

    def __init__(self, slots: SlotMap) -> None:
        self.slots = slots

    async def at(self, key: str, ask: Callable[[Redis], Awaitable[T]]) -> T:
        """Ask the primary of a key, following it when its slot moves. Raises what the client raises."""
        slot = slot_of(key)
        for _ in range(_MOST_REDIRECTIONS):
            asked = await self.slots.primary_of(slot)
            try:
                return await ask(self.slots.client_of(asked))
            except MovedError as moved:
                self.slots.note_moved(slot, redirection_of(moved, asked))
            except (AskError, TryAgainError, ClusterDownError):
                # Under way, or nobody's for a moment.
                self.slots.note_doubt()
                await asyncio.sleep(_REDIRECTION_PAUSE_SECONDS)
            except RedisConnectionError:
                self.slots.note_doubt()
                raise
        raise ClusterUnknown(f"slot {slot} did not come to rest")

    async def aclose(self) -> None:
        """Close the connections to all nodes."""
        await self.slots.close()


def slot_of(key: str) -> int:
    """Return the slot of a key: of its hash tag, when it has one."""
    return int(key_slot(key.encode()))


def redirection_of(refusal: AskError, asked: Address) -> Address:
    """Return where a node sends whoever asked it: one that knows no name of the other means the same machine."""
    return Address(refusal.host or asked.host, refusal.port)


def _owners(told: Sequence[Any], asked: Address) -> list[Address | None]:
    """Read the answer to CLUSTER SLOTS: first slot, last slot, [host, port, …] of the primary, its replicas."""
    owners: list[Address | None] = [None] * SLOTS
    for first, last, (host, port, *_), *_ in told:
        # A node that knows no name of its own leaves it to the asker.
        owner = Address((host or b"").decode() or asked.host, int(port))
        owners[first : last + 1] = [owner] * (last - first + 1)
    return owners
