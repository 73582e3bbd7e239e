"""Tokens made the short way, and a directory whose clock stands still until a test turns it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from service.access import repository
from service.access.directory import CallerDirectory
from service.access.service import NewToken, TokenService
from service.access.tokens import TokenTerms
from service.db.pools import Pools, PostgresPool


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tenant(pools: Pools, tenant_id: str) -> str:
    async with pools.postgres.connection() as connection:
        await repository.insert_tenant(connection, tenant_id, tenant_id)
    return tenant_id


MakeToken = Callable[..., Awaitable[NewToken]]


@pytest.fixture
def make_token(pools: Pools, tenant: str) -> MakeToken:
    async def make(**changed: Any) -> NewToken:
        terms = TokenTerms(**{"name": "gateway", "roles": ("check", "ingest")} | changed)
        return await TokenService(pools.postgres).create(tenant, terms, None)

    return make


@pytest.fixture
async def directory(pools: Pools, clock: Clock) -> AsyncIterator[CallerDirectory]:
    """A directory that hears no news."""
    opened = CallerDirectory(pools.postgres, clock=clock)
    yield opened
    await opened.close()


OpenDirectory = Callable[[PostgresPool, str], AbstractAsyncContextManager[CallerDirectory]]


@pytest.fixture
def listening_directory(clock: Clock) -> OpenDirectory:
    """Opens a directory as a server does, following what others change."""

    @asynccontextmanager
    async def listening(pool: PostgresPool, database_url: str) -> AsyncIterator[CallerDirectory]:
        opened = CallerDirectory(pool, clock=clock)
        opened.start(database_url)
        try:
            yield opened
        finally:
            await opened.close()

    return listening
