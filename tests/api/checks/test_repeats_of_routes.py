"""A check sent again, to another replica: what was allowed is, what was denied is not, whatever ways are known then."""

from service.budgets.period import RollingPeriod
from service.kit.clock import utc_now
from tests.api.checks.replica import Replica
from tests.api.checks.test_routes import FULL, MINI, SMART, held, shown, went
from tests.api.checks.world import World

AGAIN = SMART | {"reserve": True, "request_id": "r1"}


async def test_a_way_that_was_denied_is_denied_when_it_is_the_most_used_one_by_now(world: World, replica: Replica):
    for route in (MINI, MINI, FULL):
        await went(world, route)
    await world.put_budget("full", match={"deployment": FULL["deployment"]}, limit_usd="0")
    await world.put_budget("mini", match={"deployment": MINI["deployment"]}, limit_usd="100")
    first = await world.check(**AGAIN)
    assert list(shown(first).items()) == [("openai/gpt-4.1-mini", True), ("azure/gpt-4.1", False)]
    for _ in range(4):
        await went(world, FULL)
    again = await replica.check(**AGAIN)
    assert [(route.served_model, route.allowed) for route in again.routes] == [
        ("azure/gpt-4.1", False),
        ("openai/gpt-4.1-mini", True),
    ]
    assert again.reservation is not None
    assert again.reservation.amount_usd == first["reservation"]["amount_usd"]


async def test_a_call_that_was_allowed_is_allowed_when_its_ways_are_known_by_now(world: World, replica: Replica):
    await world.put_budget("all", match={}, limit_usd="100")
    await world.put_budget("each", match={"deployment": "*"}, limit_usd="100")
    first = await world.check(**AGAIN)
    assert (first["allowed"], first["routes"]) == (True, [])
    await went(world, MINI)
    await went(world, FULL)
    again = await replica.check(**AGAIN)
    assert again.allowed
    assert [route.allowed for route in again.routes] == [True, True]
    assert again.reservation is not None
    assert (again.reservation.id, again.reservation.amount_usd) == ("r1", first["reservation"]["amount_usd"])


async def test_late_events_of_a_rolling_budget_do_not_make_one_counter_two(world: World):
    """What is remembered of the counters of one way may be older than what is remembered of another's."""
    period = {"kind": "rolling", "length_seconds": 86_400}
    await world.put_budget("all", match={}, limit_usd="10", period=period)
    await world.check(**SMART, routes=[MINI])
    now = utc_now().timestamp()
    for buckets_ago in range(1, 6):
        at = now - buckets_ago * RollingPeriod(86_400).bucket_seconds
        await world.post_event(cost="0.001", startTime=at, endTime=at + 1)
    answer = await world.check(**SMART, routes=[MINI, FULL], reserve=True, request_id="r1")
    assert held(answer) == {"all": "2"}
    assert len(answer["budgets"]) == 1
    await world.call("DELETE", "/v1/reservations/r1")
    assert held(await world.check(**SMART, routes=[MINI])) == {"all": "0"}
