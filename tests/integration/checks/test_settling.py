"""How events consume holds, and how states reach the counters, on a real engine."""

import asyncio
from itertools import permutations

import pytest

from service.checks.hold import Decision, MissingCounters, RouteAsk, SettleCounts
from service.checks.keys import key_of
from service.checks.publishing import publish_commands
from tests.integration.checks.gate import PLENTY, Gate, figures


async def test_the_final_event_posts_its_amount_and_releases_the_rest(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=100)
    counts = await gate.post("r1", 30, counter)
    assert counts == SettleCounts(states_applied=1, holds_settled=1)
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(30, 0),)
    assert (await gate.store.find(gate.tenant_id, "r1")).state == "settled"
    await gate.assert_sound(counter)


async def test_events_that_are_not_final_lower_the_hold_by_what_they_post(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=100)
    for total in (30, 50, 95):
        await gate.post("r1", total - await gate.posted(counter), counter, is_final=False)
        assert await gate.posted(counter) + await gate.held(counter) == 100
    reservation = await gate.store.find(gate.tenant_id, "r1")
    assert (reservation.state, reservation.consumed_micro_usd) == ("live", 95)
    await gate.post("r1", 5, counter)
    assert await gate.held(counter) == 0
    await gate.assert_sound(counter)


async def test_an_event_lowers_the_hold_only_where_it_was_posted_and_the_final_one_ends_it_everywhere(gate: Gate):
    matched, missed = gate.counter(0), gate.counter(1)
    await gate.seed(matched, missed)
    await gate.decide(matched, missed, reservation_id="r1", amount_micro_usd=100)
    await gate.post("r1", 30, matched, is_final=False)
    assert (await gate.held(matched), await gate.held(missed)) == (70, 100)
    await gate.post("r1", 5, matched)
    assert (await gate.held(matched), await gate.held(missed)) == (0, 0)
    await gate.assert_sound(matched, missed)


@pytest.mark.parametrize("factor", range(1, 11))
async def test_actual_cost_above_the_hold_is_recorded_in_full_and_counted_as_overshoot(gate: Gate, factor: int):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=100)
    first = await gate.post("r1", 60 * factor, counter, is_final=False)
    last = await gate.post("r1", 40 * factor, counter)
    assert first.overshoot_micro_usd + last.overshoot_micro_usd == 100 * factor - 100
    assert await gate.posted(counter) == 100 * factor
    assert await gate.held(counter) == 0
    await gate.assert_sound(counter)


async def test_a_failure_cuts_the_remaining_life_to_a_minute(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    decision = await gate.decide(counter, reservation_id="r1", amount_micro_usd=100)
    await gate.post("r1", 0, counter, is_final=False, is_failure=True)
    amount, expires = (await gate.members(counter))["r1"]
    assert amount == 100
    assert 830_000 < decision.expires_at_ms - expires < 850_000
    assert int(await gate.client.hget(key_of(counter), "d")) == expires
    await gate.post("r1", 20, counter)
    assert await gate.held(counter) == 0


async def test_a_failure_that_cost_something_consumes_and_cuts(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=100, ttl_ms=30_000)
    before = (await gate.members(counter))["r1"][1]
    await gate.post("r1", 40, counter, is_final=False, is_failure=True)
    assert (await gate.members(counter))["r1"] == (60, before)  # less than a minute was left anyway
    await gate.assert_sound(counter)


async def test_settling_twice_changes_nothing(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=100)
    posts = gate.posts([gate.state(counter, 30, 1)], [gate.settlement("r1", 30, counter, is_final=False)])
    first, second = await gate.publish(posts), await gate.publish(posts)
    assert (first.holds_lowered, second.holds_lowered, second.seen_before) == (1, 0, 1)
    assert await gate.held(counter) == 70


async def test_a_repeated_publishing_does_not_touch_a_later_hold_of_the_same_id(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=100)
    posts = gate.posts([gate.state(counter, 30, 1)], [gate.settlement("r1", 30, counter)])
    await gate.publish(posts)
    again = await gate.decide(counter, reservation_id="r1", fingerprint="other", amount_micro_usd=50)
    assert not again.is_replay
    assert (await gate.publish(posts)).seen_before == 1
    assert await gate.held(counter) == 50


async def test_events_after_the_end_of_a_hold_are_posted_and_change_no_hold(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="voided")
    await gate.store.void(gate.tenant_id, "voided")
    await gate.decide(counter, reservation_id="lapsed")
    await gate.make_due("lapsed", counter)
    await gate.decide(counter, reservation_id="settled")
    await gate.post("settled", 1, counter)
    for reservation_id in ("voided", "lapsed", "settled", "settled"):
        counts = await gate.post(reservation_id, 5, counter)
        assert (counts.came_late, counts.overshoot_micro_usd, counts.states_applied) == (1, 0, 1)
    assert (await gate.post("never seen", 5, counter)).without_reservation == 1
    assert await gate.posted(counter) == 26
    assert await gate.held(counter) == 0
    await gate.assert_sound(counter)


async def test_voiding_after_a_part_was_consumed_frees_what_is_left(gate: Gate):
    counters = [gate.counter(n) for n in range(3)]
    await gate.seed(*counters)
    await gate.decide(*counters, reservation_id="r1", amount_micro_usd=100)
    await gate.post("r1", 30, counters[0], counters[2], is_final=False)
    await gate.store.renew(gate.tenant_id, "r1", 1_000_000)
    assert (await gate.store.void(gate.tenant_id, "r1")).consumed_micro_usd == 30
    assert [await gate.held(counter) for counter in counters] == [0, 0, 0]
    await gate.assert_sound(*counters)


async def test_a_hold_cut_and_consumed_lapses_everywhere(gate: Gate):
    counters = [gate.counter(n) for n in range(2)]
    await gate.seed(*counters)
    await gate.decide(*counters, reservation_id="r1", amount_micro_usd=100)
    await gate.post("r1", 30, counters[0], is_final=False, is_failure=True)
    await gate.make_due("r1", *counters)
    decision = await gate.decide(*counters, limit=PLENTY, wants_hold=False)
    assert [each.held_micro_usd for each in decision.figures] == [0, 0]
    await gate.assert_sound(*counters)


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_states_published_in_any_order_and_twice_end_in_the_newest(gate: Gate, order: tuple[int, ...]):
    counter = gate.counter()
    await gate.seed(counter)
    versions = [gate.posts([gate.state(counter, 10 * n, n)], []) for n in (1, 2, 3)]
    for index in (*order, *reversed(order)):
        await gate.publish(versions[index])
    assert await gate.posted(counter) == 30


async def test_a_higher_epoch_wins_whatever_the_version(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.publish(gate.posts([gate.state(counter, 90, 9)], []))
    await gate.publish(gate.posts([gate.state(counter, 10, 1)], [], epoch=2))
    await gate.publish(gate.posts([gate.state(counter, 95, 10)], []))
    assert await gate.posted(counter) == 10


async def test_a_publishing_that_overtakes_a_seeding_is_not_undone_by_it(gate: Gate):
    counter = gate.counter()
    await gate.publish(gate.posts([gate.state(counter, 60, 6)], []))
    assert await gate.check(counter) == MissingCounters((0,))
    await gate.seed(counter, posted=50, version=5)
    assert (await gate.decide(counter, wants_hold=False)).figures[0].posted_micro_usd == 60


async def test_seeding_never_touches_holds(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=100)
    await gate.seed(counter, posted=7, version=3)
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(7, 100),)


async def test_a_large_batch_is_published_in_portions_states_first(gate: Gate):
    counters = [gate.counter(n) for n in range(450)]
    await gate.seed(*counters)
    for n in range(0, 450, 50):
        await gate.decide(*counters[n : n + 50], reservation_id=f"r{n}")
    settlements = [gate.settlement(f"r{n // 50 * 50}", 1, counters[n], is_final=False) for n in range(450)]
    posts = gate.posts([gate.state(counter, 1, 1) for counter in counters], settlements)
    assert len(publish_commands(posts)) == 5
    counts = await gate.publish(posts)
    assert (counts.states_applied, counts.holds_lowered) == (450, 450)
    assert {await gate.posted(counter) + await gate.held(counter) for counter in counters} == {10}
    await gate.assert_sound(*counters)


async def test_an_amount_never_falls_out_of_posted_plus_held_while_events_settle(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    for n in range(20):
        await gate.decide(counter, reservation_id=f"r{n}", amount_micro_usd=10)
    done = False
    sums: list[int] = []

    async def watch() -> None:
        while not done:
            figures = (await gate.decide(counter, wants_hold=False)).figures[0]
            sums.append(figures.posted_micro_usd + figures.held_micro_usd)

    watcher = asyncio.create_task(watch())
    for n in range(20):
        await gate.post(f"r{n}", 10, counter)
    done = True
    await watcher
    assert set(sums) == {200}


async def test_a_counter_only_ever_published_to_is_gone_after_minutes(gate: Gate):
    counter = gate.counter()
    await gate.publish(gate.posts([gate.state(counter, 1, 1)], []))
    assert 0 < await gate.client.pttl(key_of(counter)) <= 300_000
    await gate.seed(counter)
    assert await gate.client.pttl(key_of(counter)) > 86_400_000


async def test_amounts_beyond_what_can_be_counted_stay_on_the_safe_side(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter, posted=10**18, version=1)
    assert not (await gate.decide(counter, limit=9 * 10**15)).is_allowed
    other = gate.counter(1)
    await gate.seed(other)
    for _ in range(3):
        await gate.decide(other, amount_micro_usd=5 * 10**15, limit=1, shadows=[other])
    assert await gate.held(other) == 5 * 10**15
    await gate.assert_sound(other)


async def test_each_event_of_an_id_ends_one_of_the_holds_under_it(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    for number, name in enumerate(("r1", "r1#2", "r1#3"), start=1):
        await gate.decide(counter, reservation_id=name, amount_micro_usd=10 * number)
    assert await gate.held(counter) == 60
    for left in (50, 30, 0):
        assert (await gate.post("r1", 1, counter)).holds_settled == 1
        assert await gate.held(counter) == left
        await gate.assert_sound(counter)
    late = await gate.post("r1", 1, counter)
    assert (late.holds_settled, late.came_late) == (0, 1)
    assert await gate.posted(counter) == 4


async def test_an_event_published_again_ends_no_second_hold_of_its_id(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    for name in ("r1", "r1#2", "r1#3"):
        await gate.decide(counter, reservation_id=name, amount_micro_usd=10)
    first, second = (gate.posts([], [gate.settlement("r1", 1, counter)]) for _ in range(2))
    for posts in (first, second, second, first, second):
        await gate.publish(posts)
    assert await gate.held(counter) == 10
    # The id itself holds again: what was applied before is still known.
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=10, fingerprint="another")
    counts = await gate.publish(second)
    assert (counts.seen_before, await gate.held(counter)) == (1, 20)
    await gate.assert_sound(counter)


async def test_a_lapsed_hold_under_an_id_leaves_the_event_to_the_next(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    for name in ("r1", "r1#2"):
        await gate.decide(counter, reservation_id=name, amount_micro_usd=10)
    await gate.make_due("r1", counter)
    assert (await gate.post("r1", 1, counter)).holds_settled == 1
    assert (await gate.store.find(gate.tenant_id, "r1#2")).state == "settled"


async def test_what_goes_a_denied_route_is_counted_as_that_and_leaves_no_hold(gate: Gate):
    shared, denied, allowed = gate.counter(0), gate.counter(1), gate.counter(2)
    await gate.seed(shared, denied, allowed)
    routes = (
        RouteAsk(amount_micro_usd=40, is_free=False, counters=(0, 1)),
        RouteAsk(amount_micro_usd=50, is_free=False, counters=(0, 2)),
    )

    async def decide(reservation_id: str) -> Decision:
        return await gate.decide(
            shared, denied, allowed, reservation_id=reservation_id, limits=[PLENTY, 30, PLENTY], routes=routes
        )

    assert (await decide("followed")).routes == (False, True)
    assert [await gate.held(each) for each in (shared, denied, allowed)] == [50, 0, 50]
    followed = await gate.post("followed", 60, shared, allowed)
    assert (followed.overshoot_micro_usd, followed.astray_micro_usd) == (10, 0)
    await decide("ignored")
    lowered = await gate.post("ignored", 30, shared, denied, is_final=False)
    final = await gate.post("ignored", 40, shared, denied)
    assert (lowered.astray_micro_usd, final.astray_micro_usd) == (30, 40)
    assert lowered.overshoot_micro_usd == final.overshoot_micro_usd == 0
    assert [await gate.held(each) for each in (shared, denied, allowed)] == [0, 0, 0]
    await gate.assert_sound(shared, denied, allowed)


async def test_a_call_that_may_go_all_its_routes_can_go_none_it_was_denied(gate: Gate):
    shared, one, other = gate.counter(0), gate.counter(1), gate.counter(2)
    await gate.seed(shared, one, other)
    routes = (
        RouteAsk(amount_micro_usd=40, is_free=False, counters=(0, 1)),
        RouteAsk(amount_micro_usd=50, is_free=False, counters=(0, 2)),
    )
    decision = await gate.decide(shared, one, other, reservation_id="r1", routes=routes)
    assert decision.routes == (True, True)
    posted = await gate.post("r1", 10, shared, one)
    assert posted == SettleCounts(states_applied=2, holds_settled=1)
    assert [await gate.held(each) for each in (shared, one, other)] == [0, 0, 0]


async def test_the_same_id_held_anew_knows_nothing_of_the_routes_it_was_denied_before(gate: Gate):
    one, other = gate.counter(0), gate.counter(1)
    await gate.seed(one, other)
    routes = (
        RouteAsk(amount_micro_usd=40, is_free=False, counters=(0,)),
        RouteAsk(amount_micro_usd=50, is_free=False, counters=(1,)),
    )
    assert (await gate.decide(one, other, reservation_id="r1", limits=[30, PLENTY], routes=routes)).routes[0] is False
    await gate.make_due("r1", other)
    await gate.decide(one, reservation_id="r1", amount_micro_usd=5)
    assert (await gate.post("r1", 5, one)).astray_micro_usd == 0
