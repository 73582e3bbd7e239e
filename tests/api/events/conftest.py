"""The whole application on real engines, as a server runs it; every test is a tenant of its own."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.access.service import TenantService
from service.app import create_app
from service.db.pools import Pools
from service.settings import Settings
from tests import oracle
from tests.app_client import running_client


@pytest.fixture(scope="session")
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running_client(create_app(settings)) as opened:
        yield opened


@pytest.fixture
async def headers(pools: Pools, tenant_id: str) -> AsyncIterator[dict[str, str]]:
    """Headers of a tenant's first admin; the oracle looks at its ledger afterwards."""
    _, token = await TenantService(pools.postgres).create(tenant_id, None)
    yield {"Authorization": f"Bearer {token.text}"}
    await oracle.assert_totals_equal_charges(pools.postgres, tenant_id)


Answer = dict[str, Any]
