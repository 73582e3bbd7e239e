"""Several routes in one question: each is decided by itself, and the hold covers whichever allowed one is taken."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from service.checks.hold import RouteAsk
from tests.integration.checks.gate import Gate, figures

A, B, C = 0, 1, 2


def route(amount: int, *counters: int, is_free: bool = False) -> RouteAsk:
    return RouteAsk(amount, is_free, counters)


async def _seeded(gate: Gate, count: int = 3, **posted: Any) -> list[Any]:
    counters = [gate.counter(number) for number in range(count)]
    await gate.seed(*counters, **posted)
    return counters


async def _held(gate: Gate, counters: list[Any]) -> list[int]:
    return [await gate.held(counter) for counter in counters]


async def test_a_route_is_denied_by_its_own_counters_only(gate: Gate):
    counters = await _seeded(gate)
    decision = await gate.decide(*counters, limits=[100, 5, 100], routes=(route(10, A, B), route(10, A, C)))
    assert decision.is_allowed
    assert decision.routes == (False, True)
    assert [each.denies for each in decision.figures] == [False, True, False]


async def test_a_call_is_denied_when_all_its_routes_are(gate: Gate):
    counters = await _seeded(gate)
    decision = await gate.decide(*counters, limits=[100, 5, 5], routes=(route(10, A, B), route(10, A, C)))
    assert not decision.is_allowed
    assert decision.routes == (False, False)
    assert await _held(gate, counters) == [0, 0, 0]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
async def test_the_hold_is_the_most_of_the_allowed_routes_through_a_counter(gate: Gate, order: tuple[int, ...]):
    counters = await _seeded(gate)
    routes = (route(10, A, B), route(30, A, C), route(500, A, B, C))
    asked = tuple(routes[number] for number in order)
    decision = await gate.decide(*counters, limits=[100, 100, 100], routes=asked, reservation_id="r1")
    assert decision.routes == tuple(number < 2 for number in order)
    assert decision.amount_micro_usd == 30
    assert await _held(gate, counters) == [30, 10, 30]
    assert [each.held_micro_usd for each in decision.figures] == [30, 10, 30]
    await gate.assert_sound(*counters)


async def test_counters_of_denied_routes_hold_nothing(gate: Gate):
    counters = await _seeded(gate)
    await gate.decide(*counters, limits=[100, 5, 100], routes=(route(10, B), route(10, A, C)), reservation_id="r1")
    assert await _held(gate, counters) == [10, 0, 10]
    await gate.store.void(gate.tenant_id, "r1")
    assert await _held(gate, counters) == [0, 0, 0]


async def test_each_route_is_compared_at_its_own_price(gate: Gate):
    counters = await _seeded(gate, 1)
    decision = await gate.decide(*counters, limit=50, routes=(route(51, A), route(50, A)))
    assert decision.routes == (False, True)
    assert decision.figures[0].denies


async def test_a_free_route_passes_where_others_do_not_unless_the_limit_is_nothing(gate: Gate):
    counters = await _seeded(gate, 2, posted=100, version=1)
    asked = (route(0, A, is_free=True), route(1, A), route(0, B, is_free=True))
    decision = await gate.decide(*counters, limits=[50, 0], routes=asked, reservation_id="r1")
    assert decision.routes == (True, False, False)
    assert (await _held(gate, counters), decision.amount_micro_usd) == ([0, 0], 0)


async def test_what_costs_nothing_but_is_not_free_takes_a_millionth(gate: Gate):
    counters = await _seeded(gate, 1)
    decision = await gate.decide(*counters, limit=1, routes=(route(0, A),))
    assert (decision.routes, await _held(gate, counters)) == ((True,), [1])
    assert (await gate.decide(*counters, limit=1, routes=(route(0, A),))).routes == (False,)


async def test_a_shadow_denies_no_route_and_says_it_would(gate: Gate):
    counters = await _seeded(gate, 2)
    decision = await gate.decide(
        *counters, limits=[5, 100], shadows=[counters[0]], routes=(route(10, A), route(2, A, B))
    )
    assert decision.routes == (True, True)
    assert [each.denies for each in decision.figures] == [True, False]
    assert await _held(gate, counters) == [10, 2]


async def test_events_consume_the_amount_each_counter_holds(gate: Gate):
    counters = await _seeded(gate)
    await gate.decide(*counters, routes=(route(10, A, B), route(30, A, C)), reservation_id="r1")
    counts = await gate.post("r1", 20, counters[A], counters[B], is_final=False)
    assert (counts.holds_lowered, counts.overshoot_micro_usd) == (1, 0)
    assert await _held(gate, counters) == [10, 0, 30]
    await gate.assert_sound(*counters)
    await gate.post("r1", 15, counters[A], counters[C])
    assert await _held(gate, counters) == [0, 0, 0]
    await gate.assert_sound(*counters)


async def test_a_failure_cuts_and_a_renewal_lengthens_every_part_of_the_hold(gate: Gate):
    counters = await _seeded(gate)
    await gate.decide(*counters, routes=(route(10, A, B), route(30, A, C)), reservation_id="r1")
    await gate.post("r1", 1, counters[A], counters[B], is_final=False, is_failure=True)
    ends = {(await gate.members(counter))["r1"][1] for counter in counters}
    assert len(ends) == 1
    renewed = await gate.store.renew(gate.tenant_id, "r1", 3_600_000)
    assert renewed is not None
    assert {(await gate.members(counter))["r1"][1] for counter in counters} == {
        round(renewed.expires_at.timestamp() * 1000)
    }


async def test_a_repeat_gets_the_same_answer_while_its_hold_lives(gate: Gate):
    counters = await _seeded(gate)
    asked = {"routes": (route(10, A, B), route(30, A, C)), "reservation_id": "r1"}
    first = await gate.decide(*counters, limits=[100, 5, 100], **asked)
    await gate.post("other", 60, counters[A])
    repeat = await gate.decide(*counters, limits=[100, 5, 100], **asked)
    assert repeat.is_replay
    assert (repeat.routes, repeat.amount_micro_usd) == (first.routes, first.amount_micro_usd) == ((False, True), 30)
    assert repeat.figures[0] == figures(60, 30, limit=100)
    assert await _held(gate, counters) == [30, 0, 30]


async def test_a_repeat_that_knows_other_routes_may_take_those_its_hold_covers(gate: Gate):
    """The routes a model is known to take may change between a call and its repeat."""
    counters = await _seeded(gate)
    await gate.decide(*counters, limits=[100, 5, 100], routes=(route(10, A, B), route(10, A)), reservation_id="r1")
    asked = (route(10, A), route(10, C), route(10, A, B))
    repeat = await gate.decide(*counters, limits=[100, 5, 100], routes=asked, reservation_id="r1")
    assert repeat.is_replay
    assert repeat.routes == (True, False, False)


async def test_a_hold_by_routes_gives_way_to_one_of_a_single_route_and_back(gate: Gate):
    counters = await _seeded(gate)
    for asked in ({"routes": (route(10, A, B), route(30, A, C))}, {}, {"routes": (route(7, A, B, C),)}):
        await gate.decide(*counters, reservation_id="r1", amount_micro_usd=20, **asked)
        await gate.make_due("r1", *counters)
    await gate.decide(*counters, reservation_id="r1", amount_micro_usd=20)
    assert await _held(gate, counters) == [20, 20, 20]
    await gate.post("r1", 20, *counters)
    assert await _held(gate, counters) == [0, 0, 0]
    await gate.assert_sound(*counters)


async def test_lapsed_holds_are_dropped_before_a_route_is_denied(gate: Gate):
    counters = await _seeded(gate, 1)
    for number in range(250):
        await gate.decide(*counters, limit=250, amount_micro_usd=1, reservation_id=f"r{number}")
    for number in range(250):
        await gate.make_due(f"r{number}", *counters)
    decision = await gate.decide(*counters, limit=250, routes=(route(250, A), route(251, A)))
    assert decision.routes == (True, False)
    assert await _held(gate, counters) == [250]


async def test_routes_go_through_rolling_counters_too(gate: Gate):
    rolling, plain = gate.rolling(0), gate.counter(1)
    await gate.seed_rolling(rolling, 40, 30)
    await gate.seed(plain)
    asked = (route(40, A), route(35, A, B), route(5, B))
    decision = await gate.decide(rolling, plain, limits=[100, 100], routes=asked, reservation_id="r1")
    assert decision.routes == (False, False, True)
    assert decision.figures[0].denies
    start = int(rolling.bucket.timestamp())
    assert decision.figures[0].resets_at_ms == (start + 60) * 1000, "for the cheapest of what it denies"
    assert (await gate.held(rolling), await gate.held(plain)) == (0, 5)


async def test_a_repeat_knows_its_routes_by_name_whatever_their_order_and_amounts_are_by_now(gate: Gate):
    counters = await _seeded(gate, 1)
    small, large = (
        RouteAsk(10, is_free=False, counters=(A,), name="a1"),
        RouteAsk(30, is_free=False, counters=(A,), name="b2"),
    )
    asked = {"limit": 20, "reservation_id": "r1"}
    assert (await gate.decide(*counters, routes=(small, large), **asked)).routes == (True, False)
    dearer = RouteAsk(15, is_free=False, counters=(A,), name="a1")
    repeat = await gate.decide(*counters, routes=(large, dearer), **asked)
    assert (repeat.is_replay, repeat.routes, repeat.amount_micro_usd) == (True, (False, True), 10)


async def test_a_route_nobody_asked_about_then_may_be_taken_as_far_as_the_hold_goes(gate: Gate):
    counters = await _seeded(gate)
    await gate.decide(*counters, limits=[100, 5, 100], routes=(route(10, A, B), route(10, A, C)), reservation_id="r1")
    asked = (route(11, A, C), route(10, C), route(10, A, B))
    repeat = await gate.decide(*counters, limits=[100, 5, 100], routes=asked, reservation_id="r1")
    assert (repeat.is_replay, repeat.routes) == (True, (False, True, False))


async def test_a_repeat_after_routes_came_to_be_known_is_allowed_on_the_hold_as_placed(gate: Gate):
    counters = await _seeded(gate)
    first = await gate.decide(counters[A], amount_micro_usd=10, reservation_id="r1")
    repeat = await gate.decide(*counters, routes=(route(10, A, B), route(30, A, C)), reservation_id="r1")
    assert (repeat.is_replay, repeat.routes, repeat.expires_at_ms) == (True, (True, True), first.expires_at_ms)
    assert await _held(gate, counters) == [10, 0, 0]


async def test_a_hold_covers_the_next_window_too(gate: Gate):
    """A repeat may come after the windows it was asked for first."""
    counters = await _seeded(gate, 2)
    later = [msgspec.structs.replace(each, bucket=each.bucket + timedelta(days=30)) for each in counters]
    await gate.seed(*later)
    await gate.decide(counters[A], amount_micro_usd=10, reservation_id="r1")
    repeat = await gate.decide(*later, routes=(route(10, A), route(10, A, B)), reservation_id="r1")
    assert (repeat.is_replay, repeat.routes) == (True, (True, False))


@pytest.mark.parametrize("limit", [5, 100])
async def test_when_only_denied_routes_are_left_the_call_is_decided_anew(gate: Gate, limit: int):
    counters = await _seeded(gate)
    await gate.decide(*counters, limits=[100, 5, 100], routes=(route(10, A, B), route(10, A, C)), reservation_id="r1")
    again = await gate.decide(counters[A], counters[B], limits=[100, limit], reservation_id="r1")
    assert (again.is_replay, again.is_allowed) == (False, limit == 100)
    assert await _held(gate, counters) == ([10, 10, 0] if limit == 100 else [0, 0, 0])
    reservation = await gate.store.find(gate.tenant_id, "r1")
    assert reservation is not None
    assert reservation.state == ("live" if limit == 100 else "voided")
