"""Limits that change with time: an increase is in force exactly until it is over; what was left is carried over."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from service.config.window_matcher import ConfigWindowMatcher
from service.kit.clock import monotonic, to_unix_ms, utc_now
from service.ledger.service import LedgerRecorder
from tests import oracle
from tests.api.checks.replica import Replica
from tests.api.checks.world import World
from tests.drafts import a_draft
from tests.integration.budgets.conftest import NotingPublisher

DAY_SECONDS = 86_400


async def _grant(world: World, **body: Any) -> Any:
    return await world.call("POST", "/v1/budgets/b/increases", expect=201, json={"reason": "a test"} | body)


async def _server_ms(world: World) -> float:
    seconds, microseconds = await world.services.pools.redis.time()  # type: ignore[misc]
    return float(seconds * 1000 + microseconds / 1000)


async def test_an_increase_is_in_force_exactly_until_it_is_over_by_the_clock_of_the_counters(world: World):
    """No check is allowed at or after its end, none denied before: not by a cached limit, not by another clock."""
    await world.put_budget(limit_usd="1")
    await world.post_event(cost="1")
    assert (await world.check())["allowed"] is False
    over_at = utc_now() + timedelta(seconds=1.2)
    await _grant(world, amount_usd="5", until=over_at.isoformat())
    end_ms, answers = over_at.timestamp() * 1000, {True: 0, False: 0}
    give_up_at = monotonic() + 20
    while not answers[False]:
        assert monotonic() < give_up_at
        before = await _server_ms(world)
        answer = await world.check()
        after = await _server_ms(world)
        answers[answer["allowed"]] += 1
        if answer["allowed"]:
            assert before < end_ms + 1
            assert answer["budgets"][0]["limit_usd"] == "6"
        else:
            assert after > end_ms - 1
            assert answer["budgets"][0]["limit_usd"] == "1"
    assert answers[True] > 0


async def test_a_question_put_before_an_increase_ended_is_put_anew(world: World, replica: Replica):
    """What a process asks is valid until the limit changes; the counters say so when it comes too late."""
    await world.put_budget(limit_usd="1")
    over_at = utc_now() + timedelta(milliseconds=400)
    await _grant(world, amount_usd="5", until=over_at.isoformat())
    answer = await replica.check(estimated_cost_usd="3")
    if utc_now() < over_at:
        assert answer.allowed
    give_up_at = monotonic() + 10
    while await _server_ms(world) < to_unix_ms(over_at) + 1:
        assert monotonic() < give_up_at
        await asyncio.sleep(0.02)
    assert not (await replica.check(estimated_cost_usd="3")).allowed


async def test_an_increase_of_one_counter_is_no_other_s(world: World):
    await world.put_budget(limit_usd="1", match={"user": "*"})
    later = (utc_now() + timedelta(hours=1)).isoformat()
    await _grant(world, amount_usd="5", until=later, subject={"user": "u1"})
    asked = [(await world.check(dimensions={"user": user}, estimated_cost_usd="2"))["allowed"] for user in ("u1", "u2")]
    assert asked == [True, False]


async def test_increases_count_without_the_counters_too(world: World, replica: Replica):
    await world.put_budget(limit_usd="1")
    await _grant(world, amount_usd="5", until=(utc_now() + timedelta(hours=1)).isoformat())
    replica.line.change("refusing")
    answer = await replica.check(estimated_cost_usd="5.5")
    assert (answer.allowed, answer.degraded, answer.budgets[0].limit_usd) == (True, True, "6")


async def _carrying_budget(
    world: World, *, closed: timedelta, spent: str, cap: str | None = None, **fields: Any
) -> UUID:
    """Make a budget of days, the present one of which began so long ago, and let it have spent in the one before."""
    anchor = datetime.fromtimestamp(int((utc_now() - closed).timestamp()), UTC)
    period = {"kind": "fixed", "length_seconds": DAY_SECONDS, "anchor": anchor.isoformat()}
    budget = await world.put_budget(period=period, limit_usd="10", rollover={"cap_usd": cap}, **fields)
    budget_id = UUID(budget["budget_id"])
    configs = world.services.config_store
    async with configs.change(world.tenant_id) as (connection, version):
        await connection.execute(
            "UPDATE budget SET counts_from = %s, changed_version = %s WHERE budget_id = %s",
            (anchor - timedelta(days=1), version, budget_id),
        )
    recorder = LedgerRecorder(
        world.services.pools.postgres,
        ConfigWindowMatcher(configs),
        NotingPublisher(),
        max_batch_charges=100,
        batch_wait_ms=1,
    )
    await recorder.record([a_draft(world.tenant_id, cost=spent, effective_at=anchor - timedelta(hours=1))])
    await recorder.close()
    return budget_id


async def test_what_the_day_before_left_can_be_spent_today(world: World):
    await _carrying_budget(world, closed=timedelta(hours=2), spent="7.5")
    answer = await world.check(estimated_cost_usd="12.5")
    assert answer["allowed"] is True
    assert answer["budgets"][0]["limit_usd"] == "12.5"
    assert (await world.check(estimated_cost_usd="12.500001"))["allowed"] is False
    (shown,) = [each for each in (await world.call("GET", "/v1/budgets/b/windows"))["windows"] if each["is_present"]]
    assert (shown["carried_in_usd"], shown["limit_usd"]) == ("2.5", "12.5")
    await oracle.assert_sound(world.services.pools, world.tenant_id)


async def test_before_it_is_fixed_nothing_is_carried(world: World):
    await _carrying_budget(world, closed=timedelta(minutes=59), spent="7.5")
    answer = await world.check(estimated_cost_usd="10.1")
    assert (answer["allowed"], answer["budgets"][0]["limit_usd"]) == (False, "10")


async def test_what_was_carried_survives_wiped_counters_and_counts_without_them(world: World, replica: Replica):
    await _carrying_budget(world, closed=timedelta(hours=2), spent="7.5")
    assert (await world.check(estimated_cost_usd="12"))["allowed"] is True
    redis = world.services.pools.redis
    await redis.delete(*[key async for key in redis.scan_iter(match=f"{{{world.tenant_id}}}:*")])
    assert (await world.check(estimated_cost_usd="12"))["allowed"] is True
    replica.line.change("refusing")
    answer = await replica.check(estimated_cost_usd="12")
    assert (answer.allowed, answer.degraded, answer.budgets[0].limit_usd) == (True, True, "12.5")


async def test_a_limit_of_nothing_stops_whatever_was_carried_in_and_an_increase_lets_on(world: World, replica: Replica):
    await _carrying_budget(world, closed=timedelta(hours=2), spent="4", cap="8")
    assert (await world.check(estimated_cost_usd="16"))["allowed"] is True
    await world.call("PATCH", "/v1/budgets/b", json={"limit_usd": "0"})
    answer = await world.check(estimated_cost_usd="1")
    assert (answer["allowed"], answer["budgets"][0]["limit_usd"]) == (False, "0")
    (shown,) = [each for each in (await world.call("GET", "/v1/budgets/b/windows"))["windows"] if each["is_present"]]
    assert [shown[name] for name in ("limit_usd", "carried_in_usd", "available_usd")] == ["0", "0", "0"]
    replica.line.change("refusing")
    answer = await replica.check(estimated_cost_usd="1")
    assert (answer.allowed, answer.degraded, answer.budgets[0].limit_usd) == (False, True, "0")
    await _grant(world, amount_usd="3", until=(utc_now() + timedelta(hours=1)).isoformat())
    answer = await world.check(estimated_cost_usd="9")
    assert (answer["allowed"], answer["budgets"][0]["limit_usd"]) == (True, "9")


@pytest.mark.parametrize("is_asked_before", [True, False])
async def test_a_limit_that_is_changed_changes_nothing_of_what_the_day_before_left(
    world: World, replica: Replica, is_asked_before: bool
):
    """Whoever asks first after the change carries what the others do; and never more than one limit of today."""
    await _carrying_budget(world, closed=timedelta(hours=2), spent="7.5")
    if is_asked_before:
        assert (await world.check())["budgets"][0]["limit_usd"] == "12.5"
    for limit, in_force in (("100", "102.5"), ("1", "2"), ("2.5", "5"), ("10", "12.5")):
        await world.call("PATCH", "/v1/budgets/b", json={"limit_usd": limit})
        assert (await world.check())["budgets"][0]["limit_usd"] == in_force
        windows = (await world.call("GET", "/v1/budgets/b/windows"))["windows"]
        assert [each["limit_usd"] for each in windows if each["is_present"]] == [in_force]
    await world.call("PATCH", "/v1/budgets/b", json={"limit_usd": "1"})
    assert (await world.check(estimated_cost_usd="1.9"))["allowed"] is True
    assert (await world.check(estimated_cost_usd="2.1"))["allowed"] is False
    replica.line.change("refusing")
    answer = await replica.check(estimated_cost_usd="2.1")
    assert (answer.allowed, answer.degraded, answer.budgets[0].limit_usd) == (False, True, "2")


async def test_carried_amounts_and_increases_add_up(world: World):
    await _carrying_budget(world, closed=timedelta(hours=2), spent="4")
    await _grant(world, amount_usd="3", until=(utc_now() + timedelta(hours=1)).isoformat())
    answer = await world.check(estimated_cost_usd="19")
    assert (answer["allowed"], answer["budgets"][0]["limit_usd"]) == (True, "19")
