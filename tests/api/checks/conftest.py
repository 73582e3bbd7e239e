"""The whole application on real engines, with a tenant of the test's own; the ledger oracle looks at it afterwards."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import yaml
from litestar import Litestar

from service.app import create_app
from service.kit.ids import new_id
from service.openapi import openapi_yaml
from service.settings import CheckSettings, Settings
from tests.api.checks.replica import Replica, open_replica
from tests.api.checks.unsteady_redis import unsteady_redis
from tests.api.checks.world import World
from tests.app_client import running_client


@pytest.fixture(scope="session")
async def app_and_client(settings: Settings) -> AsyncIterator[tuple[Litestar, httpx.AsyncClient]]:
    # What is promised exactly is promised while the engines answer in time, and these machines are busy.
    app = create_app(settings.model_copy(update={"checks": CheckSettings(deadline_ms=5_000)}))
    async with running_client(app) as client:
        yield app, client


@pytest.fixture
async def world(app_and_client: Any, tenant_id: str) -> AsyncIterator[World]:
    app, client = app_and_client
    opened = World(app.state.services, client, tenant_id)
    await opened.create_tenant()
    yield opened
    await opened.assert_consistent()


@pytest.fixture
async def other_world(app_and_client: Any) -> AsyncIterator[World]:
    """Another tenant of the same application."""
    app, client = app_and_client
    opened = World(app.state.services, client, f"t-{new_id().hex}")
    await opened.create_tenant()
    yield opened
    await opened.assert_consistent()


@pytest.fixture
def openapi(app_and_client: Any) -> Any:
    """The description of the interface."""
    return yaml.safe_load(openapi_yaml(app_and_client[0]))


@pytest.fixture
async def replica(world: World, redis_url: str) -> AsyncIterator[Replica]:
    async with unsteady_redis(redis_url) as (line, client):
        opened = await open_replica(world, line, client, world.services.pools.postgres)
        yield opened
        line.change("steady")
        await opened.checks.close()
        await opened.holds.close()
        await opened.ledger.close()
