"""Budgets over the last minute: what was spent counts, falls out in time, and is the same in both engines."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from service.budgets.period import RollingPeriod, shown_window
from service.kit.clock import monotonic, utc_now
from tests import oracle
from tests.api.checks.world import World, until

MINUTE = {"kind": "rolling", "length_seconds": 60}
BUCKET_SECONDS = 2


async def _spend(world: World, cost: str, seconds_ago: float) -> None:
    now = utc_now().timestamp()
    await world.post_event(cost=cost, startTime=now - seconds_ago, endTime=now)


async def _posted(world: World) -> Any:
    (standing,) = (await world.check())["budgets"]
    return standing["posted_usd"]


async def test_what_was_spent_within_the_length_counts_and_what_was_before_does_not(world: World):
    await world.put_budget(period=MINUTE, limit_usd="10")
    for cost, seconds_ago in (("0.001", 0), ("0.02", 30), ("0.3", 50), ("4", 60 + 2 * BUCKET_SECONDS), ("50", 3000)):
        await _spend(world, cost, seconds_ago)
    answer = await world.check()
    assert answer["allowed"] is True
    assert answer["budgets"][0]["posted_usd"] == "0.321"
    await oracle.assert_sound(world.services.pools, world.tenant_id)


async def test_a_denied_call_is_told_when_enough_falls_out_and_then_passes(world: World):
    await world.put_budget(period=MINUTE, limit_usd="1")
    await _spend(world, "0.9", 57)
    await _spend(world, "0.5", 1)
    denied = await world.check()
    assert (denied["allowed"], denied["code"]) == (False, "budget_exceeded")
    resets_at = datetime.fromisoformat(denied["budgets"][0]["resets_at"])
    assert utc_now() - timedelta(seconds=1) < resets_at <= utc_now() + timedelta(seconds=3 + 2 * BUCKET_SECONDS)
    give_up_at = monotonic() + 20
    while not (answer := await world.check())["allowed"]:
        assert monotonic() < give_up_at
        assert datetime.fromisoformat(answer["budgets"][0]["resets_at"]) == resets_at
        await asyncio.sleep(0.05)
    assert utc_now() >= resets_at - timedelta(milliseconds=50), "not before it was said"
    assert answer["budgets"][0]["posted_usd"] == "0.5"
    assert answer["budgets"][0]["resets_at"] is None
    await oracle.assert_sound(world.services.pools, world.tenant_id)


async def test_the_window_shown_is_all_that_is_counted(world: World):
    await world.put_budget(period=MINUTE, limit_usd="1")
    await _spend(world, "0.25", 20)
    before, answer, after = utc_now(), await world.check(), utc_now()
    window = answer["budgets"][0]["window"]
    period = RollingPeriod(60)
    possible = [shown_window(period, instant) for instant in (before, after)]
    assert datetime.fromisoformat(window["start"]) in [each.start for each in possible]
    assert datetime.fromisoformat(window["end"]) in [each.end for each in possible]
    (shown,) = (await world.call("GET", "/v1/budgets/b/windows"))["windows"]
    assert (shown["posted_usd"], shown["is_present"]) == ("0.25", True)


async def test_a_hold_counts_however_many_buckets_begin_and_settles_where_its_call_began(world: World):
    await world.put_budget(period=MINUTE, limit_usd="1", match={"team": "core"})
    dimensions = {"team": "core"}
    await world.check(dimensions=dimensions, estimated_cost_usd="0.7", reserve=True, request_id="call-1")
    first = await world.check(dimensions=dimensions, estimated_cost_usd="0.4")
    assert first["allowed"] is False
    start = shown_window(RollingPeriod(60), utc_now()).start

    async def has_moved_on() -> bool:
        return shown_window(RollingPeriod(60), utc_now()).start > start

    await until(has_moved_on)
    again = await world.check(dimensions=dimensions, estimated_cost_usd="0.4")
    assert (again["allowed"], again["budgets"][0]["held_usd"]) == (False, "0.7")
    (shown,) = (await world.call("GET", "/v1/budgets/b/windows"))["windows"]
    assert shown["held_usd"] == "0.7"
    metadata = {"user_api_key_team_id": "core"}
    await world.post_event(cost="0.2", litellm_call_id="call-1", metadata=metadata)
    settled = await world.check(dimensions=dimensions)
    assert (settled["budgets"][0]["posted_usd"], settled["budgets"][0]["held_usd"]) == ("0.2", "0")
    await oracle.assert_sound(world.services.pools, world.tenant_id)


async def test_each_value_has_a_rolling_counter_of_its_own(world: World):
    await world.put_budget(period=MINUTE, limit_usd="0.05", match={"user": "*"})
    for user in ("u1", "u2"):
        await world.post_event(cost="0.03", metadata={"user_api_key_user_id": user})
    await world.post_event(cost="0.03", metadata={"user_api_key_user_id": "u1"})
    assert (await world.check(dimensions={"user": "u1"}))["allowed"] is False
    assert (await world.check(dimensions={"user": "u2"}))["allowed"] is True


async def test_a_budget_created_now_counts_the_time_before_it(world: World):
    for cost, seconds_ago in (("0.25", 10), ("0.5", 50), ("4", 3000)):
        await _spend(world, cost, seconds_ago)
    budget = await world.put_budget(period=MINUTE, limit_usd="1")
    created = datetime.fromisoformat(budget["created_at"])
    assert datetime.fromisoformat(budget["counts_from"]) == shown_window(RollingPeriod(60), created).start
    assert await _posted(world) == "0.75"
    await oracle.assert_sound(world.services.pools, world.tenant_id)


async def test_wiped_counters_are_what_they_were(world: World):
    await world.put_budget(period=MINUTE, limit_usd="1")
    for cost, seconds_ago in (("0.25", 5), ("0.125", 40)):
        await _spend(world, cost, seconds_ago)
    assert await _posted(world) == "0.375"
    redis = world.services.pools.redis
    keys = [key async for key in redis.scan_iter(match=f"{{{world.tenant_id}}}:*")]
    await redis.delete(*keys)
    assert await _posted(world) == "0.375"


async def test_a_gateway_whose_clock_is_ahead_gets_no_more_than_the_limit(world: World):
    """Its charges count at once: booked in a bucket of later they would free their holds and deny nobody."""
    await world.put_budget(period=MINUTE, limit_usd="1")
    first = await world.check(estimated_cost_usd="0.9", reserve=True)
    began_at = utc_now().timestamp() + 20
    reservation = {"reservation_id": first["reservation"]["id"]}
    await world.post_event(cost="0.9", startTime=began_at, endTime=began_at + 1, tallygate=reservation)

    second = await world.check(estimated_cost_usd="0.9", reserve=True)

    assert (first["allowed"], second["allowed"]) == (True, False)
    assert (second["budgets"][0]["posted_usd"], second["budgets"][0]["held_usd"]) == ("0.9", "0")
    await oracle.assert_sound(world.services.pools, world.tenant_id)


async def test_the_rate_limit_says_when_enough_falls_out_and_nothing_while_the_call_passes(world: World):
    await world.call("PATCH", "/v1/settings", json={"deny_detail": "full"})
    await world.put_budget(period=MINUTE | {"length_seconds": 3600}, limit_usd="1")
    gateway = {"x-tallygate-token": world.headers["authorization"].removeprefix("Bearer "), "authorization": "Bearer k"}
    passing = await world.client.post("/v1/check/authz/v1/chat/completions", headers=gateway, json={"model": "m"})
    assert (passing.status_code, passing.headers["ratelimit"]) == (200, '"budget";r=1000000')
    bucket_seconds = RollingPeriod(3600).bucket_seconds
    assert passing.headers["ratelimit-policy"] == f'"budget";q=1000000;w={60 * bucket_seconds}'
    await _spend(world, "1.5", 1)
    denied = await world.client.post(
        "/v1/check?enforce=true", headers=world.headers, json={"model": "m", "estimated_cost_usd": "0.1"}
    )
    assert denied.status_code == 402
    seconds = int(denied.headers["ratelimit"].partition(";t=")[2])
    assert 3600 - bucket_seconds < seconds <= 3600 + 2 * bucket_seconds
    assert str(seconds) == denied.headers["retry-after"]
