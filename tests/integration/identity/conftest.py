"""A key registry whose clock stands still until a test turns it, and what tests wait with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from service.db.pools import Pools
from service.identity.dimensions import Dimensions
from service.identity.known_key import KeyFacts, KeyLesson
from service.identity.registry import KeyRegistry
from service.identity.service import KeyService

KEY = "a" * 64
NOW = datetime(2026, 11, 6, 12, tzinfo=UTC)


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def registry(pools: Pools, clock: Clock) -> AsyncIterator[KeyRegistry]:
    """A registry that hears no news."""
    opened = KeyRegistry(pools.postgres, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def declare(pools: Pools, tenant_id: str) -> Callable[..., Awaitable[Any]]:
    """Declares a key as another process would."""
    elsewhere = KeyService(pools.postgres, KeyRegistry(pools.postgres))

    async def declare_key(api_key: str = KEY, *, blocked: bool = False, **facts: str) -> Any:
        return await elsewhere.declare(tenant_id, api_key, KeyFacts(**facts), is_blocked=blocked)

    return declare_key


OpenRegistry = Callable[[], AbstractAsyncContextManager[KeyRegistry]]


@pytest.fixture
def listening_registry(pools: Pools, database_url: str, clock: Clock) -> OpenRegistry:
    """Opens a registry as a server does, following what others change."""

    @asynccontextmanager
    async def listening() -> AsyncIterator[KeyRegistry]:
        opened = KeyRegistry(pools.postgres, clock=clock, beat_seconds=0.05)
        opened.start(database_url)
        try:
            yield opened
        finally:
            await opened.close()

    return listening


def a_lesson(*, minute: int = 0, api_key: str = KEY, alias: str | None = None, **values: Any) -> KeyLesson:
    dimensions = Dimensions(api_key=api_key, **values)
    return KeyLesson(dimensions=dimensions, occurred_at=NOW + timedelta(minutes=minute), alias=alias)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    give_up_at = monotonic() + 10
    while not await condition():
        assert monotonic() < give_up_at, "the condition did not come true in time"
        await asyncio.sleep(0)
