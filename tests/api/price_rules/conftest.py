from collections.abc import AsyncIterator

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.api.checks.conftest import app_and_client, other_world, world
from tests.app_client import running_client

__all__ = ["app_and_client", "other_world", "world"]


@pytest.fixture(scope="session")
async def deaf_process(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A second application on the same engines that hears no announcement of changed configurations."""
    app = create_app(settings)
    async with running_client(app) as client:
        await app.state.services.config_store.close()
        yield client
