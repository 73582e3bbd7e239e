"""The whole application on a database of its own: the installation's prices are imported here."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from service.access.repository import insert_tenant
from service.access.service import TokenService
from service.access.tokens import ROLES, TokenTerms
from service.app import create_app
from service.db import migrator
from service.db.embedded import EngineUrls
from service.db.pools import PostgresPool, make_postgres_pool
from service.settings import PostgresSettings, PricesSettings, Settings
from tests.app_client import running_client
from tests.conftest import fresh_database
from tests.map_server import MapServer

Headers = dict[str, str]
MakeHeaders = Callable[..., Awaitable[Headers]]


@pytest.fixture(scope="module")
def prices_settings(engines: EngineUrls, redis_url: str) -> Iterator[Settings]:
    with fresh_database(engines) as url:
        migrator.upgrade(url)
        prices = PricesSettings(allow_private_addresses=True, max_map_mib=4)
        yield Settings(prices=prices).with_engines(database_url=url, redis_url=redis_url)


@pytest.fixture(scope="module")
async def clients(prices_settings: Settings) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two servers of one installation."""
    async with (
        running_client(create_app(prices_settings)) as one,
        running_client(create_app(prices_settings)) as other,
    ):
        yield [one, other]


@pytest.fixture
def client(clients: list[httpx.AsyncClient]) -> httpx.AsyncClient:
    return clients[0]


@pytest.fixture(scope="module")
async def prices_pool(prices_settings: Settings) -> AsyncIterator[PostgresPool]:
    pool = make_postgres_pool(prices_settings.database_url, PostgresSettings())
    await pool.open(wait=False)
    yield pool
    await pool.close()


@pytest.fixture
def make_headers(prices_pool: PostgresPool, tenant_id: str) -> MakeHeaders:
    """Makes a token of the test's tenant, or of another one, and returns the headers that carry it."""

    async def make(tenant: str = tenant_id, roles: tuple[Any, ...] = ROLES, *, is_operator: bool = False) -> Headers:
        async with prices_pool.connection() as connection:
            await insert_tenant(connection, tenant, tenant)
        terms = TokenTerms(name="test", roles=roles, is_operator=is_operator)
        created = await TokenService(prices_pool).create(tenant, terms, None)
        return {"authorization": f"Bearer {created.text}"}

    return make


@pytest.fixture
async def admin(make_headers: MakeHeaders) -> Headers:
    return await make_headers()


@pytest.fixture
def map_server() -> Iterator[MapServer]:
    with MapServer().running() as running:
        yield running
