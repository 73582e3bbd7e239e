"""Rolling counters: several buckets are one sum, and none of them is taken for known that may be old."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from service.checks.counter_reading import CounterReading
from service.checks.freshness import CounterSeeder
from service.checks.hold import LARGEST_MICRO_USD, Decision, MissingCounters
from service.checks.keys import CounterRef, key_of
from service.checks.ledger_reader import LedgerReader
from service.checks.publishing import seed_commands
from service.checks.sweep import Sweep
from service.db.pools import Pools
from tests.integration.checks.gate import BUCKETS, PLENTY, STEP_SECONDS, WINDOW_START, Gate, figures

_START_MS = int(WINDOW_START.timestamp()) * 1000


async def test_the_buckets_that_are_counted_are_one_sum(gate: Gate):
    counter = gate.rolling()
    await gate.seed_rolling(counter, 1, 20, 300, 4_000, 50_000, 600_000)
    decision = await gate.decide(counter, amount_micro_usd=10, limit=PLENTY)
    assert decision.figures == (figures(654_321, 10),)
    later = await gate.decide(gate.rolling(first=0), wants_hold=False)
    assert later.figures[0].held_micro_usd == 10


async def test_a_bucket_nobody_posted_to_counts_nothing(gate: Gate):
    counter = gate.rolling()
    await gate.seed_rolling(counter)
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(0, 0),)
    await gate.publish(gate.posts([gate.bucket_state(counter, 3, 7, 1)], []))
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(7, 0),)


async def test_as_time_goes_on_the_oldest_bucket_falls_out_and_holds_stay(gate: Gate):
    """The same key, whatever the time; only what is asked for moves on."""
    now, later = gate.rolling(first=0), gate.rolling(first=1)
    await gate.seed_rolling(now, 100, 1)
    assert (await gate.decide(now, amount_micro_usd=10)).figures == (figures(101, 10),)
    await gate.publish(gate.posts([gate.bucket_state(now, 6, 5, 1)], []))
    assert (await gate.decide(later, wants_hold=False)).figures == (figures(6, 10),)


async def test_a_denial_says_when_enough_falls_out_for_the_amount(gate: Gate):
    counter = gate.rolling()
    await gate.seed_rolling(counter, 10, 10, 0, 0, 30)

    async def resets_at(amount: int, limit: int) -> int | None:
        decision = await gate.decide(counter, amount_micro_usd=amount, limit=limit, wants_hold=False)
        return decision.figures[0].resets_at_ms

    def start_of_bucket(number: int) -> int:
        return _START_MS + number * STEP_SECONDS * 1000

    assert await resets_at(5, 55) is None
    # The first bucket is not counted any more when the seventh begins, and so on.
    assert await resets_at(6, 55) == start_of_bucket(6)
    assert await resets_at(15, 55) == start_of_bucket(6)
    assert await resets_at(16, 55) == start_of_bucket(7)
    assert await resets_at(26, 55) == start_of_bucket(10)
    assert await resets_at(55, 55) == start_of_bucket(10)
    assert await resets_at(56, 55) is None
    assert await resets_at(1, 0) is None
    await gate.decide(counter, amount_micro_usd=5, limit=55)
    assert await resets_at(51, 55) is None, "what is held does not fall out"


async def test_publishing_a_bucket_never_makes_the_others_fresh(gate: Gate):
    counter = gate.rolling()
    await gate.seed_rolling(counter, 10)
    await gate.client.hset(key_of(counter), "f", 1_000)
    await gate.publish(gate.posts([gate.bucket_state(counter, 1, 7, 1)], []))
    assert await gate.check(counter) == MissingCounters((0,))
    await gate.seed_rolling(counter, 10)
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(17, 0),)


async def test_a_counter_seeded_for_later_buckets_only_tells_nothing_of_earlier_ones(gate: Gate):
    await gate.seed_rolling(gate.rolling(first=2), 5)
    assert await gate.check(gate.rolling(first=1)) == MissingCounters((0,))
    assert (await gate.decide(gate.rolling(first=3))).is_allowed


async def test_seeding_drops_what_is_counted_no_more_and_keeps_what_was_published_meanwhile(gate: Gate):
    await gate.seed_rolling(gate.rolling(first=0), 1, 2, 3)
    await gate.publish(gate.posts([gate.bucket_state(gate.rolling(), 8, 80, 1)], []))
    await gate.seed_rolling(gate.rolling(first=2), 3)
    assert await gate.buckets(gate.rolling()) == {2: 3, 8: 80}


async def test_seeding_drops_what_a_ledger_before_a_restore_had(gate: Gate):
    counter = gate.rolling()
    await gate.seed_rolling(counter, 1, 2, 3, version=9)
    await gate.publish(gate.posts([gate.bucket_state(counter, 4, 40, 1)], [], epoch=2))
    await gate.seed_rolling(counter, 1, epoch=2)
    assert await gate.buckets(counter) == {0: 1, 4: 40}


async def test_a_seeding_that_comes_late_never_undoes_a_newer_publishing(gate: Gate):
    counter = gate.rolling()
    await gate.publish(gate.posts([gate.bucket_state(counter, 1, 50, 5)], []))
    await gate.seed_rolling(counter, 1, 20, version=4)
    assert await gate.buckets(counter) == {0: 1, 1: 50}


async def test_old_buckets_of_a_counter_nobody_checks_do_not_pile_up(gate: Gate):
    counter = msgspec.structs.replace(gate.rolling(), bucket=datetime(2001, 1, 1, tzinfo=UTC))
    await gate.seed_rolling(counter, 1)
    decision = await gate.decide(counter, reservation_id="r1", amount_micro_usd=9)
    for number in range(400):
        await gate.publish(gate.posts([gate.bucket_state(counter, number, 1, 1)], []))
    assert await gate.client.hlen(key_of(counter)) <= 1_010
    assert decision.is_allowed
    assert await gate.held(counter) == 9
    await gate.assert_sound(counter)


async def test_holds_of_rolling_counters_are_consumed_settled_and_voided(gate: Gate):
    rolling, plain = gate.rolling(0), gate.counter(1)
    await gate.seed_rolling(rolling, 5)
    await gate.seed(plain)
    await gate.decide(rolling, plain, reservation_id="r1", amount_micro_usd=100)
    await gate.decide(rolling, plain, reservation_id="r2", amount_micro_usd=7)
    state = gate.bucket_state(rolling, 1, 30, 1)
    await gate.publish(gate.posts([state], [gate.settlement("r1", 30, rolling, plain, is_final=False)]))
    assert (await gate.held(rolling), await gate.held(plain)) == (77, 77)
    await gate.store.void(gate.tenant_id, "r2")
    await gate.publish(gate.posts([], [gate.settlement("r1", 10, rolling, plain)]))
    assert (await gate.held(rolling), await gate.held(plain)) == (0, 0)
    await gate.assert_sound(rolling, plain)


async def test_held_amounts_of_rolling_counters_can_be_read(gate: Gate):
    counter = gate.rolling()
    await gate.seed_rolling(counter, 5)
    await gate.decide(counter, amount_micro_usd=2_000_000, limit=9 * PLENTY)
    held = await gate.store.read_held(gate.tenant_id, [(counter.budget_id, "{}", None)])
    assert held is not None
    assert [str(amount) for amount in held] == ["2.000000"]


async def _write_bucket(pools: Pools, counter: CounterRef, number: int, micro_usd: int, version: int) -> None:
    async with pools.postgres.connection() as connection:
        await connection.execute(
            "INSERT INTO budget_window (tenant_id, budget_id, subject, bucket, enforced, version)"
            " VALUES (%s, %s, %s, %s::timestamptz + make_interval(secs => %s), %s::numeric / 1000000, %s)"
            " ON CONFLICT (tenant_id, budget_id, subject, bucket)"
            " DO UPDATE SET enforced = excluded.enforced, version = excluded.version",
            (
                counter.tenant_id,
                counter.budget_id,
                counter.subject,
                counter.bucket,
                number * STEP_SECONDS,
                micro_usd,
                version,
            ),
        )


@pytest.fixture
async def ledger(pools: Pools):
    reader = LedgerReader(pools.postgres)
    yield reader
    await reader.close()


async def _seed_from(ledger: LedgerReader, gate: Gate, counter: CounterRef) -> CounterReading:
    (reading,) = await ledger.read([counter])
    await gate.lane.run(seed_commands([reading]))
    return reading


async def test_a_dump_from_before_is_not_taken_for_the_present(gate: Gate, pools: Pools, ledger: LedgerReader):
    """Redis comes back from a dump: one bucket is published anew, and the others are still those of the dump."""
    counter = gate.rolling()
    await _write_bucket(pools, counter, 0, 10, 1)
    await _seed_from(ledger, gate, counter)
    dump = await gate.client.dump(key_of(counter))
    for number, amount in ((0, 500), (1, 60)):
        await _write_bucket(pools, counter, number, amount, 2)
        await gate.publish(gate.posts([gate.bucket_state(counter, number, amount, 2)], []))
    await gate.client.restore(key_of(counter), 60_000, dump, replace=True)
    await gate.client.hset(key_of(counter), "f", 1_000)  # a dump is older than the 90 s a copy is trusted
    await _write_bucket(pools, counter, 1, 61, 3)
    await gate.publish(gate.posts([gate.bucket_state(counter, 1, 61, 3)], []))
    assert await gate.check(counter) == MissingCounters((0,))
    await _seed_from(ledger, gate, counter)
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(561, 0),)


async def test_the_seeder_reads_every_bucket_that_is_counted(gate: Gate, pools: Pools, ledger: LedgerReader):
    budget = {"period": {"kind": "rolling", "length_seconds": 60}}
    counter = gate.counter()
    matched = gate.matched(counter, **_parsed(budget))
    for number, amount in ((-10, 1), (-6, 20), (-5, 300), (0, 4_000), (5, 50_000)):
        await _write_bucket(pools, counter, number, amount, 1)
    seeder = CounterSeeder(gate.client, ledger, timeout_ms=2_000)
    await seeder.seed([matched])
    await seeder.close()
    # 2 s a bucket, and 31 of them: the first counted one began 60 s before that of the call.
    assert await gate.buckets(gate.rolling()) == {-6: 20, -5: 300, 0: 4_000, 5: 50_000}


def _parsed(budget: dict[str, object]) -> dict[str, object]:
    from service.budgets.period_document import parse_period

    return budget | {"period": msgspec.to_builtins(parse_period(budget["period"]))}


@pytest.fixture
async def sweep(gate: Gate, ledger: LedgerReader):
    sweep = Sweep(gate.client, ledger)
    yield sweep
    await sweep.close()


async def _kinds(sweep: Sweep, gate: Gate) -> list[str]:
    return [finding.kind for finding in (await sweep.sweep(tenant_id=gate.tenant_id)).findings]


async def test_the_sweep_puts_every_bucket_right(gate: Gate, pools: Pools, ledger: LedgerReader, sweep: Sweep):
    counter = gate.rolling()
    for number in range(4):
        await _write_bucket(pools, counter, number, 10, 2)
    await _seed_from(ledger, gate, counter)
    assert await _kinds(sweep, gate) == []
    epoch = (await ledger.read([counter]))[0].epoch
    await gate.publish(gate.posts([gate.bucket_state(counter, 2, 99, 7)], [], epoch=epoch))  # nobody committed that
    await gate.client.hset(key_of(counter), f"p:{int(WINDOW_START.timestamp())}", 11)
    await _write_bucket(pools, counter, 4, 5, 1)  # not published
    assert sorted(await _kinds(sweep, gate)) == ["ahead", "behind", "posted", "sum"]
    assert await _kinds(sweep, gate) in ([], ["behind", "behind"])
    await _seed_from(ledger, gate, counter)
    assert await _kinds(sweep, gate) == []
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(45, 0),)


async def test_the_sweep_leaves_buckets_alone_that_are_counted_no_more(
    gate: Gate, pools: Pools, ledger: LedgerReader, sweep: Sweep
):
    counter = gate.rolling(first=2)
    await _write_bucket(pools, gate.rolling(), 0, 10, 2)
    await _write_bucket(pools, gate.rolling(), 3, 10, 2)
    await _seed_from(ledger, gate, counter)
    assert await gate.buckets(counter) == {3: 10}
    await gate.publish(gate.posts([gate.bucket_state(gate.rolling(), 0, 4, 1)], []))
    assert await _kinds(sweep, gate) == []


async def _commands_of(gate: Gate, counter: CounterRef, **changes: Any) -> tuple[Decision, list[str]]:
    """Return what a check answers, and the commands its script runs on the counter."""
    async with gate.client.monitor() as monitor:
        decision = await gate.decide(counter, **changes)
        await gate.client.echo("the end")
        seen: list[str] = []
        while "the end" not in (command := (await monitor.next_command())["command"]):
            if command.split()[1:2] == [key_of(counter)]:
                seen.append(command)
    return decision, seen


async def test_a_check_reads_the_sum_and_no_bucket_but_what_fell_out_or_a_denial_asks_for(gate: Gate):
    now, next_, later = gate.rolling(), gate.rolling(first=1), gate.rolling(first=20)
    await gate.seed_rolling(now, 100, 20, 3)
    await gate.publish(gate.posts([gate.bucket_state(now, 5, 4_000, 1)], []))

    async def buckets_read(counter: CounterRef, posted: int, **changes: Any) -> int:
        decision, commands = await _commands_of(gate, counter, wants_hold=False, **changes)
        assert decision.figures[0].posted_micro_usd == posted
        await gate.assert_added_up(counter)
        return sum(command.count(" p:") for command in commands)

    assert await buckets_read(now, 4_123) == 0
    assert await buckets_read(next_, 4_023) == 1
    assert await buckets_read(next_, 4_023) == 0
    assert await buckets_read(next_, 4_023, limit=4_000) == BUCKETS + 1
    assert await buckets_read(later, 0) == 0
    assert await buckets_read(now, 4_123) == 0, "Redis's clock was put back: all is added up anew"


async def test_what_a_clock_ahead_booked_counts_at_once(gate: Gate):
    """The ledger's clock may be in the next bucket while that of Redis is not; the hold of the charge is gone."""
    counter = gate.rolling()
    await gate.seed_rolling(counter, 10)
    await gate.publish(gate.posts([gate.bucket_state(counter, BUCKETS, 700, 1)], []))
    for limit, resets_at in ((719, BUCKETS), (701, 2 * BUCKETS)):
        denied = await gate.decide(counter, amount_micro_usd=10, limit=limit, wants_hold=False)
        assert (denied.is_allowed, denied.figures[0].posted_micro_usd) == (False, 710)
        assert denied.figures[0].resets_at_ms == _START_MS + resets_at * STEP_SECONDS * 1000
    await gate.seed_rolling(counter, 10, 0, 0, 0, 0, 0, 700)
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(710, 0),)


async def test_a_counter_nobody_added_up_is_added_up_by_its_next_check(gate: Gate):
    """As one of an earlier version is, and one that lost a bucket."""
    counter = gate.rolling()
    await gate.seed_rolling(counter, 1, 20, 300)
    await gate.client.hdel(key_of(counter), "so", "sp")
    await gate.publish(gate.posts([gate.bucket_state(counter, 1, 50, 2)], []))
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(351, 0),)
    await gate.publish(gate.posts([gate.bucket_state(counter, 1, 60, 3)], []))
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(361, 0),)
    await gate.assert_added_up(counter)


async def test_sums_of_more_than_scripts_can_count_stay_over_every_limit(gate: Gate):
    counter = gate.rolling()
    await gate.seed_rolling(counter, LARGEST_MICRO_USD - 10, 9)
    await gate.publish(gate.posts([gate.bucket_state(counter, 1, 12, 2)], []))
    for _ in range(2):
        decision = await gate.decide(counter, limit=LARGEST_MICRO_USD, wants_hold=False)
        assert (decision.is_allowed, decision.figures[0].posted_micro_usd) == (False, LARGEST_MICRO_USD)
    await gate.publish(gate.posts([gate.bucket_state(counter, 1, 3, 3)], []))
    decision = await gate.decide(counter, limit=LARGEST_MICRO_USD, amount_micro_usd=7, wants_hold=False)
    assert (decision.is_allowed, decision.figures[0].posted_micro_usd) == (True, LARGEST_MICRO_USD - 7)
    await gate.assert_added_up(counter)


async def test_the_sweep_measures_and_repairs_a_wrong_sum(gate: Gate, pools: Pools, ledger: LedgerReader, sweep: Sweep):
    counter = gate.rolling()
    for number in range(3):
        await _write_bucket(pools, counter, number, 10, 2)
    await _seed_from(ledger, gate, counter)
    await gate.client.hset(key_of(counter), "sp", 31)
    (finding,) = (await sweep.sweep(tenant_id=gate.tenant_id)).findings
    assert (finding.kind, finding.found_micro_usd, finding.expected_micro_usd) == ("sum", 31, 30)
    assert await _kinds(sweep, gate) == []
    assert (await gate.decide(counter, wants_hold=False)).figures == (figures(30, 0),)
