"""A running application beside which imports are made, and a LiteLLM database of the test's own."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.app import create_app
from service.settings import CheckSettings, Settings
from tests import oracle
from tests.api.checks.world import World
from tests.app_client import running_client
from tests.conftest import EngineUrls
from tests.litellm_source import LiteLLMDatabase, litellm_database


@pytest.fixture(scope="session")
async def app_and_client(settings: Settings) -> AsyncIterator[tuple[Litestar, httpx.AsyncClient]]:
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
    await oracle.assert_sound(opened.services.pools, tenant_id, may_hold=True)


@pytest.fixture
def database(engines: EngineUrls) -> Iterator[LiteLLMDatabase]:
    with litellm_database(engines) as opened:
        yield opened
