"""What the scripts promise, on a real engine."""

import asyncio

import pytest

from service.checks.hold import IdReused, MissingCounters, StaleConfig, StaleWindow
from service.checks.keys import key_of
from tests.integration.checks.gate import PLENTY, Gate, figures


async def test_a_hold_is_placed_in_every_counter_and_counted(gate: Gate):
    team, user = gate.counter(0), gate.counter(1)
    await gate.seed(team, user, posted=5)
    decision = await gate.decide(team, user, amount_micro_usd=10)
    assert decision.is_allowed
    assert decision.amount_micro_usd == 10
    assert decision.figures == (figures(5, 10), figures(5, 10))
    again = await gate.decide(team, amount_micro_usd=7, wants_hold=False)
    assert again.expires_at_ms == 0
    assert again.figures == (figures(5, 10),)
    await gate.assert_sound(team, user)


async def test_a_counter_without_a_copy_is_reported_missing_by_position_and_nothing_is_held(gate: Gate):
    known, unknown = gate.counter(0), gate.counter(1)
    await gate.seed(known)
    assert await gate.check(known, unknown) == MissingCounters((1,))
    assert await gate.check(unknown, known, gate.counter(2)) == MissingCounters((0, 2))
    assert await gate.held(known) == 0


async def test_a_copy_that_is_no_longer_fresh_is_missing_unless_the_ledger_cannot_be_read(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter, posted=5)
    fresh_until = int(await gate.client.hget(key_of(counter), "f"))
    await gate.client.hset(key_of(counter), "f", fresh_until - 10 * 60_000)
    assert await gate.check(counter) == MissingCounters((0,))
    assert (await gate.decide(counter, is_ledger_down=True)).is_allowed
    await gate.seed(counter, posted=5)
    assert (await gate.decide(counter)).figures[0].held_micro_usd == 20


async def test_a_copy_of_long_ago_is_missing_even_while_the_ledger_cannot_be_read(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter, posted=5)
    fresh_until = int(await gate.client.hget(key_of(counter), "f"))
    await gate.client.hset(key_of(counter), "f", fresh_until - 17 * 60_000)
    assert await gate.check(counter, is_ledger_down=True) == MissingCounters((0,))


async def test_requests_estimated_at_nothing_are_not_admitted_without_limit(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    decisions = [await gate.decide(counter, amount_micro_usd=0, limit=3) for _ in range(5)]
    assert [decision.is_allowed for decision in decisions] == [True, True, True, False, False]
    assert [decision.amount_micro_usd for decision in decisions] == [1, 1, 1, 0, 0]
    assert await gate.held(counter) == 3
    await gate.assert_sound(counter)


@pytest.mark.parametrize(
    ("posted", "amount", "limit", "is_free", "is_allowed"),
    [
        (0, 10, 10, False, True),
        (0, 11, 10, False, False),
        (9, 1, 10, False, True),
        (10, 0, 10, False, False),  # an estimate of nothing is taken for one micro-USD
        (9, 0, 10, False, True),
        (0, 0, 0, False, False),
        (0, 0, 0, True, False),  # a limit of 0 admits nothing, not even what is free
        (500, 0, 10, True, True),
        (10, 1, 10, False, False),
    ],
)
async def test_the_operator(gate: Gate, posted: int, amount: int, limit: int, is_free: bool, is_allowed: bool):
    counter = gate.counter()
    await gate.seed(counter, posted=posted, version=1)
    decision = await gate.decide(counter, amount_micro_usd=amount, limit=limit, is_free=is_free)
    assert decision.is_allowed is is_allowed
    assert decision.figures[0].denies is not is_allowed
    await gate.assert_sound(counter)


async def test_of_200_concurrent_checks_with_room_for_10_exactly_10_are_allowed(gate: Gate):
    counters = [gate.counter(n) for n in range(4)]
    await gate.seed(*counters, posted=900, version=1)
    decisions = await asyncio.gather(
        *[gate.decide(*counters, amount_micro_usd=10, limits=[PLENTY, PLENTY, 1000, PLENTY]) for _ in range(200)]
    )
    assert sum(decision.is_allowed for decision in decisions) == 10
    assert await gate.held(counters[2]) == 100
    await gate.assert_sound(*counters)


async def test_six_counters_the_last_denies_and_the_first_five_stay_as_they_were(gate: Gate):
    counters = [gate.counter(n) for n in range(6)]
    await gate.seed(*counters)
    before = [await gate.client.hgetall(key_of(counter)) for counter in counters]
    decision = await gate.decide(*counters, limits=[PLENTY] * 5 + [9])
    assert not decision.is_allowed
    assert [each.denies for each in decision.figures] == [False] * 5 + [True]
    assert [await gate.client.hgetall(key_of(counter)) for counter in counters] == before
    assert await gate.client.keys(f"{{{gate.tenant_id}}}:*:z") == []


async def test_a_denial_names_every_counter_that_denies(gate: Gate):
    counters = [gate.counter(n) for n in range(4)]
    await gate.seed(*counters, posted=95, version=1)
    decision = await gate.decide(*counters, limits=[100, PLENTY, 104, 105])
    assert [each.denies for each in decision.figures] == [True, False, True, False]
    assert [each.posted_micro_usd for each in decision.figures] == [95] * 4


async def test_a_shadow_counts_and_says_it_would_deny_but_lets_through(gate: Gate):
    shadow, real = gate.counter(0), gate.counter(1)
    await gate.seed(shadow, real)
    decision = await gate.decide(shadow, real, limits=[5, PLENTY], shadows=[shadow])
    assert decision.is_allowed
    assert decision.figures[0] == figures(0, 10, denies=True, limit=5)
    assert await gate.held(shadow) == 10


async def test_the_same_id_and_request_gets_the_same_answer_with_current_figures(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    first = await gate.decide(counter, reservation_id="r1", limit=25)
    other = await gate.decide(counter, reservation_id="r2", limit=25)
    assert other.is_allowed
    repeats = await asyncio.gather(*[gate.decide(counter, reservation_id="r1", limit=25) for _ in range(20)])
    assert all(repeat.is_replay and repeat.is_allowed for repeat in repeats)
    assert {repeat.expires_at_ms for repeat in repeats} == {first.expires_at_ms}
    assert {repeat.amount_micro_usd for repeat in repeats} == {10}
    assert {repeat.figures for repeat in repeats} == {(figures(0, 20, limit=25),)}
    assert await gate.held(counter) == 20


async def test_200_concurrent_checks_under_one_id_hold_once(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    decisions = await asyncio.gather(*[gate.decide(counter, reservation_id="one", limit=100) for _ in range(200)])
    assert sum(not decision.is_replay for decision in decisions) == 1
    assert await gate.held(counter) == 10


async def test_the_same_id_with_another_request_is_refused_while_its_hold_is_live(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", fingerprint="a")
    assert await gate.check(counter, reservation_id="r1", fingerprint="b") == IdReused()
    await gate.store.void(gate.tenant_id, "r1")
    assert (await gate.decide(counter, reservation_id="r1", fingerprint="b")).is_allowed
    await gate.assert_sound(counter)


async def test_after_a_denial_the_same_id_is_decided_afresh(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter, posted=95, version=1)
    assert not (await gate.decide(counter, reservation_id="r1", limit=100)).is_allowed
    again = await gate.decide(counter, reservation_id="r1", fingerprint="other", limit=200)
    assert again.is_allowed
    assert not again.is_replay


async def test_without_a_hold_the_same_id_is_decided_afresh_each_time(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    for fingerprint in ("a", "b"):
        decision = await gate.decide(counter, reservation_id="r1", fingerprint=fingerprint, wants_hold=False)
        assert decision.is_allowed
        assert not decision.is_replay
    assert await gate.store.find(gate.tenant_id, "r1") is None


async def test_after_its_end_by_time_the_same_id_is_decided_afresh_and_held_once(gate: Gate):
    counter, former = gate.counter(0), gate.counter(1)
    await gate.seed(counter, former)
    await gate.decide(counter, former, reservation_id="r1")
    await gate.make_due("r1", counter, former)
    again = await gate.decide(counter, reservation_id="r1", fingerprint="other", limit=10)
    assert again.is_allowed
    assert not again.is_replay
    assert await gate.held(counter) == 10
    assert await gate.held(former) == 0
    await gate.assert_sound(counter, former)


async def test_a_newer_configuration_anywhere_makes_older_ones_reload(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    assert (await gate.decide(counter, config_version=3)).is_allowed
    assert await gate.check(counter, config_version=2) == StaleConfig(3)
    await gate.client.set(f"{{{gate.tenant_id}}}:cv", 7)
    assert await gate.check(counter, config_version=3) == StaleConfig(7)
    assert await gate.held(counter) == 10


async def test_the_clock_of_the_counters_decides_in_which_window_a_check_is(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    early = await gate.check(counter, valid_until_ms=1_000)
    late = await gate.check(counter, valid_from_ms=2**52)
    assert isinstance(early, StaleWindow)
    assert isinstance(late, StaleWindow)
    assert abs(early.now_ms - late.now_ms) < 10_000
    assert await gate.held(counter) == 0


async def test_due_holds_are_dropped_before_deciding(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="gone", limit=10)
    assert not (await gate.decide(counter, limit=10)).is_allowed
    await gate.make_due("gone", counter)
    decision = await gate.decide(counter, limit=10)
    assert decision.is_allowed
    assert decision.lapsed_holds == 1
    await gate.assert_sound(counter)


async def test_a_denying_counter_is_read_again_until_none_of_its_holds_is_due(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await asyncio.gather(*[gate.decide(counter, reservation_id=f"old-{n}", limit=3_500) for n in range(350)])
    members = await gate.client.zrange(f"{key_of(counter)}:z", 0, -1)
    await gate.client.zadd(f"{key_of(counter)}:z", dict.fromkeys(members, 1_000))
    await gate.client.hset(key_of(counter), "d", 1_000)
    decision = await gate.decide(counter, limit=10)
    assert decision.is_allowed
    assert decision.lapsed_holds == 350
    assert await gate.held(counter) == 10
    await gate.assert_sound(counter)


async def test_no_hold_lapses_while_the_ledger_cannot_be_read(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="old")
    await gate.make_due("old", counter)
    assert not (await gate.decide(counter, limit=10, is_ledger_down=True)).is_allowed
    assert (await gate.decide(counter, limit=10)).is_allowed


async def test_voiding_frees_the_hold_once_and_only_for_its_own_tenant(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1")
    assert await gate.store.void("another-tenant", "r1") is None
    assert await gate.held(counter) == 10
    states = [(await gate.store.void(gate.tenant_id, "r1")).state for _ in range(3)]
    assert states == ["voided"] * 3
    assert await gate.held(counter) == 0
    assert await gate.store.void(gate.tenant_id, "unknown") is None
    await gate.assert_sound(counter)


async def test_a_check_can_take_back_its_own_hold_and_no_other_of_the_same_id(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", placed_by="first")
    assert (await gate.decide(counter, reservation_id="r1", placed_by="second")).is_replay
    assert (await gate.store.void(gate.tenant_id, "r1", placed_by="second")).state == "live"
    assert await gate.held(counter) == 10
    assert (await gate.store.void(gate.tenant_id, "r1", placed_by="first")).state == "voided"
    assert await gate.held(counter) == 0


async def test_renewing_lets_a_hold_last_longer_and_never_shorter(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    decision = await gate.decide(counter, reservation_id="r1", ttl_ms=60_000)
    longer = await gate.store.renew(gate.tenant_id, "r1", 86_400_000)
    assert longer.state == "live"
    assert (await gate.members(counter))["r1"][1] > decision.expires_at_ms + 86_000_000
    same = await gate.store.renew(gate.tenant_id, "r1", 5_000)
    assert same.expires_at == longer.expires_at
    assert await gate.client.pttl(key_of(counter)) > 86_400_000
    assert await gate.client.pttl(f"{key_of(counter)}:z") > 86_400_000


async def test_a_hold_that_ended_cannot_be_renewed(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="late")
    await gate.make_due("late", counter)
    assert (await gate.store.renew(gate.tenant_id, "late", 60_000)).state == "expired"
    await gate.decide(counter, reservation_id="void")
    await gate.store.void(gate.tenant_id, "void")
    assert (await gate.store.renew(gate.tenant_id, "void", 60_000)).state == "voided"
    assert await gate.store.renew(gate.tenant_id, "unknown", 60_000) is None


async def test_a_reservation_remembers_what_was_asked_for(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", requested_model="smart-s")
    await gate.decide(counter, reservation_id="r2", requested_model="")
    await gate.store.void(gate.tenant_id, "r1")
    found = await gate.store.find_reservations(gate.tenant_id, ["r1", "r2", "r3", "r1"])
    assert found == {"r1": "smart-s", "r2": None}
    assert await gate.store.find_reservations("another-tenant", ["r1"]) == {}
    many = [f"none-{number}" for number in range(450)] + ["r1"]
    assert await gate.store.find_reservations(gate.tenant_id, many) == {"r1": "smart-s"}
    assert await gate.store.find_reservations(gate.tenant_id, []) == {}
    reservation = await gate.store.find(gate.tenant_id, "r1")
    assert (reservation.state, reservation.amount_micro_usd, reservation.requested_model) == ("voided", 10, "smart-s")


async def test_a_hold_of_what_is_free_takes_no_place(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    assert (await gate.decide(counter, reservation_id="r1", amount_micro_usd=0, is_free=True)).expires_at_ms > 0
    assert await gate.members(counter) == {}
    assert (await gate.post("r1", 3, counter)).holds_settled == 1
    await gate.assert_sound(counter)


async def test_held_amounts_can_be_read_for_several_counters(gate: Gate):
    counter, other = gate.counter(0), gate.counter(1)
    await gate.seed(counter)
    await gate.decide(counter, amount_micro_usd=1_500_000, limit=10**9)
    held = await gate.store.read_held(
        gate.tenant_id, [(each.budget_id, each.subject, each.bucket) for each in (other, counter)]
    )
    assert [str(amount) for amount in held] == ["0", "1.500000"]


async def test_a_wiped_engine_knows_the_scripts_and_the_counters_again_after_one_try(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.client.script_flush()
    assert (await gate.decide(counter)).is_allowed
    await gate.client.delete(*[name async for name in gate.client.scan_iter(match=f"{{{gate.tenant_id}}}:*")])
    assert await gate.check(counter) == MissingCounters((0,))
    await gate.seed(counter)
    assert (await gate.decide(counter)).figures[0].held_micro_usd == 10


async def test_ids_may_be_any_text(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    for reservation_id in ("with space", "{other}:c:x", "a:b:c", "ümläut \u202e", "*" * 256, "%s"):
        await gate.decide(counter, reservation_id=reservation_id)
        assert await gate.held(counter) == 10
        counts = await gate.post(reservation_id, 1, counter)
        assert counts.holds_settled == 1
        assert await gate.held(counter) == 0
