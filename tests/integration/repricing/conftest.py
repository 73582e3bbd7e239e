"""The whole application on real engines; every tenant a test makes must satisfy every oracle when the test is over."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from service.access.service import TenantService
from service.app import create_app
from service.db.pools import Pools
from service.kit.ids import new_id
from service.settings import Settings
from tests.app_client import running_client
from tests.integration.repricing.world import World
from tests.oracle import assert_sound

MakeWorld = Callable[[], Awaitable[World]]


@pytest.fixture(scope="package")
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running_client(create_app(settings)) as opened:
        yield opened


@pytest.fixture
async def make_world(client: httpx.AsyncClient, pools: Pools) -> AsyncIterator[MakeWorld]:
    made: list[World] = []

    async def make() -> World:
        tenant_id = f"t-{new_id().hex}"
        _, token = await TenantService(pools.postgres).create(tenant_id, None)
        made.append(World(client, pools, tenant_id, token.text))
        return made[-1]

    yield make
    for world in made:
        await assert_sound(pools, world.tenant_id, may_hold=True)


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world()
