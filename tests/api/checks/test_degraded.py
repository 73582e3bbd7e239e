"""Checks of a replica whose counters or whose ledger cannot be reached: answered by policy, within the deadline."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from service.access.tokens import ROLES, Caller
from service.checks.outcome import Allowed, Denied
from service.errors import Unavailable
from service.kit.clock import monotonic, to_unix_ms, utc_now
from service.kit.ids import new_id
from tests.api.checks.replica import DEADLINE_MS, Replica, open_replica
from tests.api.checks.unsteady_redis import unsteady_redis
from tests.api.checks.world import World, until


async def test_by_ledger_committed_totals_and_the_holds_of_this_process_decide(world: World, replica: Replica):
    await world.put_budget(limit_usd="1")
    await world.post_event(cost="0.5")
    replica.line.change("silent")
    answers = [await replica.check(reserve=True, estimated_cost_usd="0.1") for _ in range(20)]
    assert sum(answer.allowed for answer in answers) == 5
    assert all(answer.degraded for answer in answers)
    last = answers[-1]
    assert (last.code, last.reservation) == ("budget_exceeded", None)
    assert (last.budgets[0].posted_usd, last.budgets[0].held_usd) == ("0.5", "0.5")
    first = answers[0]
    assert first.reservation is not None
    assert first.reservation.amount_usd == "0.1"
    assert Decimal(first.budgets[0].held_usd or "0") == 0


async def test_by_ledger_all_buckets_of_a_rolling_budget_count(world: World, replica: Replica):
    await world.put_budget(period={"kind": "rolling", "length_seconds": 60}, limit_usd="1", on_unavailable="ledger")
    for cost, seconds_ago in (("0.5", 5), ("0.45", 45), ("7", 3000)):
        now = utc_now().timestamp()
        await world.post_event(cost=cost, startTime=now - seconds_ago, endTime=now)
    replica.line.change("refusing")
    allowed = await replica.check(estimated_cost_usd="0.05")
    assert (allowed.allowed, allowed.degraded, allowed.budgets[0].posted_usd) == (True, True, "0.95")
    denied = await replica.check(estimated_cost_usd="0.06")
    assert (denied.allowed, denied.degraded) == (False, True)


async def test_the_strictest_policy_of_the_enforcing_budgets_wins(world: World, replica: Replica):
    await world.put_budget("open", limit_usd="1", on_unavailable="allow", match={"team": "a"})
    await world.put_budget("shut", limit_usd="1", on_unavailable="deny", match={"user": "u"})
    await world.put_budget("shadow", limit_usd="0", on_unavailable="deny", mode="shadow")
    replica.line.change("refusing")
    open_answer = await replica.check(dimensions={"team": "a"}, estimated_cost_usd="50", reserve=True)
    assert (open_answer.allowed, open_answer.degraded) == (True, True)
    assert {standing.posted_usd for standing in open_answer.budgets} == {None}
    shut = await replica.check(dimensions={"team": "a", "user": "u"})
    assert (shut.allowed, shut.code) == (False, "counters_unavailable")
    assert {standing.name: standing.reason for standing in shut.budgets if standing.mode == "enforce"} == {
        "open": None, "shut": "counters_unavailable"
    }  # fmt: skip
    assert len(shut.denied_by) == 1
    assert (await replica.check()).allowed is True


@pytest.mark.parametrize("policy", ["allow", "ledger", "deny"])
async def test_a_limit_of_nothing_denies_by_any_policy_but_in_shadow_mode(world: World, replica: Replica, policy: str):
    await world.put_budget("none", limit_usd="0", on_unavailable=policy, match={"project": "p"})
    await world.put_budget("shadow", limit_usd="0", on_unavailable=policy, match={"project": "q"}, mode="shadow")
    replica.line.change("refusing")
    for cost in ("0", "0.001"):
        answer = await replica.check(dimensions={"project": "p"}, estimated_cost_usd=cost, reserve=True)
        assert (answer.allowed, answer.degraded, answer.reservation) == (False, True, None)
        assert answer.code == ("counters_unavailable" if policy == "deny" else "budget_exceeded")
        assert (await replica.check(dimensions={"project": "q"}, estimated_cost_usd=cost)).allowed


@pytest.mark.parametrize("mood", ["silent", "refusing", "slow"])
async def test_every_answer_comes_within_the_deadline(world: World, replica: Replica, mood: Any):
    await world.put_budget(limit_usd="100")
    await replica.check()
    replica.line.change(mood)
    started = monotonic()
    for _ in range(30):
        async with asyncio.timeout(10 * DEADLINE_MS / 1000):
            assert (await replica.check(reserve=True, estimated_cost_usd="0.01")).allowed
    waited_one_by_one = 30 * DEADLINE_MS / 1000
    assert monotonic() - started < waited_one_by_one, "a breaker keeps most of them from waiting at all"


async def test_when_the_counters_are_back_they_decide_again(world: World, replica: Replica):
    await world.put_budget(limit_usd="1")
    assert (await replica.check()).degraded is False
    for mood in ("silent", "refusing"):
        replica.line.change(mood)
        assert (await replica.check()).degraded is True
        replica.line.change("steady")
        deadline = monotonic() + 10
        while (await replica.check()).degraded:
            assert monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_what_was_held_when_the_counters_fell_silent_still_counts_for_a_moment(world: World, replica: Replica):
    await world.put_budget(limit_usd="1")
    answers = [await replica.check(reserve=True, estimated_cost_usd="0.1") for _ in range(8)]
    assert not any(answer.degraded for answer in answers)
    replica.line.change("silent")
    degraded = [await replica.check(reserve=True, estimated_cost_usd="0.1") for _ in range(8)]
    assert [answer.allowed for answer in degraded] == [True, True] + [False] * 6


async def test_a_repeated_check_holds_once_and_voiding_frees_the_local_hold(world: World, replica: Replica):
    await world.put_budget(limit_usd="1")
    replica.line.change("refusing")
    for _ in range(3):
        assert (await replica.check(request_id="r1", reserve=True, estimated_cost_usd="0.6")).allowed
    assert not (await replica.check(request_id="r2", reserve=True, estimated_cost_usd="0.6")).allowed
    caller = Caller(tenant_id=world.tenant_id, token_id=new_id(), name="replica", roles=frozenset(ROLES))
    with pytest.raises(Unavailable):
        await replica.checks.void(caller, "r1")
    assert (await replica.check(request_id="r2", reserve=True, estimated_cost_usd="0.6")).allowed


async def test_with_neither_counters_nor_ledger_nobody_knows_what_was_spent(world: World, redis_url: str):
    await world.put_budget("known", limit_usd="1", match={"team": "a"})
    await world.put_budget("open", limit_usd="1", on_unavailable="allow", match={"team": "b"})
    dead: Any = AsyncConnectionPool("host=127.0.0.1 port=1 connect_timeout=1", min_size=0, max_size=2, open=False)
    await dead.open(wait=False)
    async with unsteady_redis(redis_url) as (line, client):
        replica = await open_replica(world, line, client, dead)
        line.change("refusing")
        answer = await replica.check(dimensions={"team": "a"})
        assert (answer.allowed, answer.code, answer.degraded) == (False, "counters_unavailable", True)
        assert (await replica.check(dimensions={"team": "b"})).allowed is True
        await replica.checks.close()
        await replica.holds.close()
        await replica.ledger.close()
    await dead.close()


async def test_without_the_ledger_checks_go_on_from_stale_copies(world: World, redis_url: str):
    budget = await world.put_budget(limit_usd="1")
    await world.post_event(cost="0.5")
    await world.check()  # seeds
    dead: Any = AsyncConnectionPool("host=127.0.0.1 port=1 connect_timeout=1", min_size=0, max_size=2, open=False)
    await dead.open(wait=False)
    async with unsteady_redis(redis_url) as (line, client):
        replica = await open_replica(world, line, client, dead)
        keys = [key async for key in client.scan_iter(match=f"{{{world.tenant_id}}}:c:*")]
        assert len(keys) == 1, budget
        await client.hset(keys[0], "f", to_unix_ms(utc_now()) - 60_000)
        deadline = monotonic() + 10
        while (answer := await replica.check(estimated_cost_usd="0.6")).budgets[0].reason != "budget_exceeded":
            assert monotonic() < deadline, answer
        assert (answer.degraded, answer.budgets[0].posted_usd) == (False, "0.5")
        assert (await replica.check(estimated_cost_usd="0.4")).allowed is True
        await replica.checks.close()
        await replica.holds.close()
        await replica.ledger.close()
    await dead.close()


async def test_a_caller_that_goes_away_leaves_a_hold_that_ends(world: World, replica: Replica):
    await world.put_budget(limit_usd="100")
    await replica.check()
    tasks = [
        asyncio.create_task(replica.decide(request_id=f"r{number}", reserve=True, estimated_cost_usd="0.1"))
        for number in range(40)
    ]
    await asyncio.sleep(0)
    for number, task in enumerate(tasks):
        if number % 2:
            task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(outcome, Allowed) for outcome in outcomes) == 20
    assert not any(isinstance(outcome, Denied) for outcome in outcomes)
    held = Decimal((await world.check())["budgets"][0]["held_usd"])
    assert Decimal(2) <= held <= Decimal(4)
    for number in range(40):
        await world.client.delete(f"/v1/reservations/r{number}", headers=world.headers)
    assert (await world.check())["budgets"][0]["held_usd"] == "0"


async def test_what_a_lost_answer_may_have_held_is_taken_back_when_the_call_is_denied(world: World, replica: Replica):
    """The connection is lost after the counters decided, and cannot be made again."""
    await world.put_budget(limit_usd="1", on_unavailable="deny")
    await replica.check()
    replica.line.change("answerless")
    denied = await replica.check(request_id="r1", reserve=True, estimated_cost_usd="0.1")
    assert (denied.allowed, denied.code) == (False, "counters_unavailable")
    assert (await world.check())["budgets"][0]["held_usd"] == "0.1"
    replica.line.change("steady")

    async def is_taken_back() -> bool:
        return bool((await world.check())["budgets"][0]["held_usd"] == "0")

    await until(is_taken_back)
    assert (await world.call("GET", "/v1/reservations/r1"))["state"] == "voided"


async def test_a_fence_of_a_version_the_database_lost_is_taken_back(world: World, replica: Replica):
    await world.put_budget(limit_usd="1")
    await world.check()
    await world.services.pools.redis.set(f"{{{world.tenant_id}}}:cv", 10_000)
    answer = await world.check()
    assert (answer["allowed"], answer["degraded"]) == (True, False)
    assert int(await world.services.pools.redis.get(f"{{{world.tenant_id}}}:cv")) < 10_000


async def test_by_policy_too_a_call_may_go_the_ways_its_budgets_allow(world: World, replica: Replica):
    azure = await world.put_budget("azure", match={"provider": "azure"}, limit_usd="0")
    await world.put_budget("openai", match={"provider": "openai"}, limit_usd="1")
    await world.put_budget("all", match={}, limit_usd="1")
    replica.line.change("refusing")
    routes = [{"provider": "azure", "served_model": "gpt-4.1"}, {"provider": "openai", "served_model": "gpt-4.1-mini"}]
    call: dict[str, Any] = {"model": "smart", "routes": routes, "estimated_cost_usd": "0.4", "reserve": True}
    answers = [await replica.check(**call) for _ in range(3)]
    assert [(answer.allowed, answer.degraded) for answer in answers] == [(True, True), (True, True), (False, True)]
    assert [(route.allowed, len(route.denied_by)) for route in answers[0].routes] == [(False, 1), (True, 0)]
    assert str(answers[0].routes[0].denied_by[0]) == azure["budget_id"]
    # What one way holds is in the budgets of that way, and in none of the other.
    assert {each.name: each.held_usd for each in answers[2].budgets} == {"azure": "0", "openai": "0.8", "all": "0.8"}
    assert [len(route.denied_by) for route in answers[2].routes] == [2, 2]


async def test_where_the_ledger_cannot_say_which_ways_a_call_goes_that_is_said(world: World, redis_url: str):
    await world.put_budget("azure", match={"provider": "azure"}, limit_usd="1")
    await world.put_budget("mini", match={"served_model": "gpt-4.1-mini"}, limit_usd="1")
    dead: Any = AsyncConnectionPool("host=127.0.0.1 port=1 connect_timeout=1", min_size=0, max_size=2, open=False)
    await dead.open(wait=False)
    async with unsteady_redis(redis_url) as (line, client):
        replica = await open_replica(world, line, client, dead)
        answer = await replica.check(model="smart")
        assert (answer.allowed, answer.unresolved, answer.routes) == (True, ["served_model", "provider"], [])
        told = await replica.check(model="smart", routes=[{"provider": "azure", "served_model": "azure/gpt-4.1"}])
        assert told.unresolved == []
        await replica.checks.close()
        await replica.holds.close()
        await replica.ledger.close()
    await dead.close()
