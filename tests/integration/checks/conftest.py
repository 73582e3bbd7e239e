from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from service.checks.hold_store import HoldStore
from service.checks.scripts import ScriptLane
from tests.integration.checks.gate import Gate


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Any]:
    async with redis.asyncio.Redis.from_url(redis_url, max_connections=64) as opened:
        yield opened


@pytest.fixture
async def gate(client: Any, tenant_id: str) -> AsyncIterator[Gate]:
    store = HoldStore(client, deadline_ms=5_000)
    lane = ScriptLane(client, timeout_ms=2_000)
    yield Gate(client, tenant_id, store, lane)
    await store.close()
    await lane.close()
