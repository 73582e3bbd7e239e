"""The counters know a newer configuration, and the database that has it cannot be read."""

import asyncio
from typing import Any

import pytest

from service.checks.keys import fence_key
from service.errors import Unavailable
from tests.api.checks.world import World


@pytest.mark.parametrize("is_slow", [True, False])
async def test_a_check_is_answered_by_policy_when_the_newer_configuration_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch, is_slow: bool
):
    await world.put_budget(limit_usd="1", on_unavailable="allow")
    assert (await world.check())["degraded"] is False

    async def never(tenant_id: str) -> Any:
        if is_slow:
            await asyncio.Event().wait()
        raise Unavailable("The configuration cannot be read at the moment.")

    redis = world.services.pools.redis
    fence = await redis.get(fence_key(world.tenant_id))
    with monkeypatch.context() as patched:
        patched.setattr(world.services.config_store, "reload", never)
        await redis.set(fence_key(world.tenant_id), "1000000")
        async with asyncio.timeout(10):
            answer = await world.check(reserve=True)
        assert (answer["allowed"], answer["degraded"]) == (True, True)
        await redis.set(fence_key(world.tenant_id), fence)
    assert (await world.check())["degraded"] is False
