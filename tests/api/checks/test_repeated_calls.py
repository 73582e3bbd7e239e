"""Gateways that hold, and ids that end clients choose: each call holds for itself, each event ends one."""

import asyncio
from decimal import Decimal

from service.checks.repeats import MOST_REPEATS
from service.kit.ids import new_id
from tests.api.checks.gateways import AS_CLIENT, Gateway, open_gateway
from tests.api.checks.world import World

# gpt-4.1-mini at most: 4096 tokens at 1.6 USD per million and a short prompt.
CALL = b'{"model": "gpt-4.1-mini", "max_tokens": 62500}'
HELD = Decimal("0.1")


async def call(gateway: Gateway, call_id: str) -> tuple[int, str | None]:
    answer = await gateway.authz(headers=AS_CLIENT | {"x-request-id": call_id}, body=CALL)
    return answer.status_code, answer.headers.get("x-tallygate-reservation")


async def held(world: World) -> Decimal:
    return Decimal((await world.check())["budgets"][0]["held_usd"])


async def test_each_call_under_one_id_holds_for_itself_and_each_event_ends_one(world: World):
    await world.put_budget(limit_usd="100")
    gateway = await open_gateway(world, reserve=True)
    call_id = str(new_id())
    for number in (1, 2, 3):
        name = call_id if number == 1 else f"{call_id}#{number}"
        assert await call(gateway, call_id) == (200, name)
        assert await held(world) >= HELD * number
    shown = await world.call("GET", f"/v1/reservations/{call_id}")
    assert shown["state"] == "live"
    for left in (2, 1, 0, 0):
        await world.post_event(litellm_call_id=call_id)
        assert HELD * left <= await held(world) < HELD * (left + 1) + Decimal("0.001") * (left > 0)
    assert (await world.call("GET", f"/v1/reservations/{call_id}"))["state"] == "settled"
    assert await call(gateway, call_id) == (200, call_id)


async def test_one_id_for_all_calls_lets_no_more_through_than_there_is_room_for(world: World):
    await world.put_budget(limit_usd="1.05")
    gateway = await open_gateway(world, reserve=True)
    answers = await asyncio.gather(*[call(gateway, "the-same") for _ in range(60)])
    statuses = [status for status, _ in answers]
    assert statuses.count(200) == 10
    assert statuses.count(429) == 50
    names = [name for _, name in answers if name]
    assert len(set(names)) == 10


async def test_more_calls_under_one_id_than_are_counted_still_hold_each(world: World):
    await world.put_budget(limit_usd="100")
    gateway = await open_gateway(world, reserve=True)
    names = [(await call(gateway, "busy"))[1] for _ in range(MOST_REPEATS + 2)]
    assert len(set(names)) == MOST_REPEATS + 2
    assert await held(world) >= HELD * (MOST_REPEATS + 2)


async def test_without_reserve_nothing_is_held(world: World):
    await world.put_budget(limit_usd="100")
    assert await call(await open_gateway(world), "r1") == (200, None)
    assert await held(world) == 0


async def test_holds_of_gateways_end_after_a_minute(world: World):
    await world.put_budget(limit_usd="100")
    await call(await open_gateway(world, reserve=True), "r1")
    (expiry,) = [
        score
        async for key in world.services.pools.redis.scan_iter(match=f"{{{world.tenant_id}}}:c:*:z")
        for _, score in await world.services.pools.redis.zrange(key, 0, -1, withscores=True)
    ]
    seconds, microseconds = await world.services.pools.redis.time()
    assert 0 < expiry - (seconds * 1000 + microseconds / 1000) <= 60_000


async def test_a_litellm_proxys_hold_is_ended_by_its_event(world: World):
    await world.put_budget(limit_usd="100")
    gateway = await open_gateway(world, reserve=True)
    call_id = str(new_id())
    for _ in range(2):
        await gateway.guardrail(texts=["hello"], model="gpt-4.1-mini", litellm_call_id=call_id)
    once = await held(world) / 2
    await world.post_event(litellm_call_id=call_id)
    assert await held(world) == once
    await world.post_event(litellm_call_id=call_id)
    assert await held(world) == 0
