"""Committed batches reach the counters: at once, or from the outbox, whatever was lost in between."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from service.checks.freshness import CounterSeeder
from service.checks.hold import MissingCounters
from service.checks.keys import CounterRef, key_of
from service.checks.ledger_reader import LedgerReader, LedgerUnavailable
from service.checks.local_holds import LocalHolds
from service.checks.publisher import Publisher
from service.checks.publishing import MOST_STATES_PER_CALL
from service.db.pools import Pools
from service.kit.clock import monotonic
from service.kit.ids import new_id
from service.ledger.posts import Settlement
from tests.integration.checks.gate import Gate
from tests.integration.checks.silent_redis import silent_redis


@pytest.fixture
async def publisher(gate: Gate, pools: Pools) -> AsyncIterator[Publisher]:
    publisher = Publisher(gate.client, pools.postgres, publish_wait_ms=2_000)
    yield publisher
    await publisher.close()


@pytest.fixture
async def seeder(gate: Gate, pools: Pools) -> AsyncIterator[CounterSeeder]:
    ledger = LedgerReader(pools.postgres)
    seeder = CounterSeeder(gate.client, ledger, timeout_ms=2_000)
    yield seeder
    await seeder.close()
    await ledger.close()


async def write_window(pools: Pools, counter: CounterRef, enforced: str, version: int) -> None:
    async with pools.postgres.connection() as connection:
        await connection.execute(
            "INSERT INTO budget_window (tenant_id, budget_id, subject, bucket, enforced, version)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, budget_id, subject, bucket)"
            " DO UPDATE SET enforced = excluded.enforced, version = excluded.version",
            (counter.tenant_id, counter.budget_id, counter.subject, counter.bucket, enforced, version),
        )


async def write_outbox(
    pools: Pools, tenant_id: str, counters: list[CounterRef], settlements: list[Settlement], *, age_seconds: int = 10
) -> UUID:
    outbox_id = new_id()
    names = [[counter.budget_id, counter.subject, counter.bucket] for counter in counters]
    async with pools.postgres.connection() as connection:
        await connection.execute(
            "INSERT INTO outbox (tenant_id, outbox_id, created_at, counters, settlements)"
            " VALUES (%s, %s, clock_timestamp() - make_interval(secs => %s), %s, %s)",
            (
                tenant_id, outbox_id, age_seconds,
                msgspec.json.encode(names).decode(), msgspec.json.encode(settlements).decode(),
            ),
        )  # fmt: skip
    return outbox_id


async def open_rows(pools: Pools, tenant_id: str) -> int:
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM outbox WHERE tenant_id = %s", (tenant_id,))
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_a_missing_counter_is_seeded_with_what_the_ledger_says(gate: Gate, pools: Pools, seeder: CounterSeeder):
    posted, untouched = gate.counter(0, '{"user":"u1"}'), gate.counter(1)
    await write_window(pools, posted, "0.0000421", 7)
    assert await gate.check(posted, untouched) == MissingCounters((0, 1))
    wanted = [gate.matched(posted), gate.matched(untouched)]
    await asyncio.gather(*[seeder.seed(wanted) for _ in range(20)])
    decision = await gate.decide(posted, untouched, wants_hold=False)
    assert [figures.posted_micro_usd for figures in decision.figures] == [43, 0]  # rounded up


async def test_what_was_published_is_named_and_what_was_not_stays_open(gate: Gate, pools: Pools, publisher: Publisher):
    counter = gate.counter()
    await gate.seed(counter)
    posts = gate.posts([gate.state(counter, 30, 1)], [])
    assert await publisher.publish([posts]) == {posts.outbox_id}
    assert await gate.posted(counter) == 30


async def test_the_outbox_publishes_the_present_state_and_settles_once(gate: Gate, pools: Pools, publisher: Publisher):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="r1", amount_micro_usd=100)
    await write_window(pools, counter, "0.00005", 3)
    settlement = gate.settlement("r1", 20, counter, is_final=False)
    for _ in range(2):  # two batches of the same counter, and a row somebody published already
        await write_outbox(pools, gate.tenant_id, [counter], [settlement])
    while await open_rows(pools, gate.tenant_id):
        await publisher.work_off()
    assert await gate.posted(counter) == 50
    assert await gate.held(counter) == 80


async def test_young_rows_are_left_to_those_who_wrote_them(gate: Gate, pools: Pools, publisher: Publisher):
    await write_outbox(pools, gate.tenant_id, [gate.counter()], [], age_seconds=0)
    await publisher.work_off()
    assert await open_rows(pools, gate.tenant_id) == 1
    async with pools.postgres.connection() as connection:
        await connection.execute("DELETE FROM outbox WHERE tenant_id = %s", (gate.tenant_id,))


async def test_replicas_share_the_outbox_without_waiting_for_each_other(gate: Gate, pools: Pools):
    counters = [gate.counter(number) for number in range(30)]
    for counter in counters:
        await write_window(pools, counter, "0.00001", 1)
        await write_outbox(pools, gate.tenant_id, [counter], [])
    replicas = [Publisher(gate.client, pools.postgres, publish_wait_ms=2_000) for _ in range(3)]

    async def work(replica: Publisher) -> None:
        while await open_rows(pools, gate.tenant_id):
            await replica.work_off()

    async with asyncio.timeout(20):
        await asyncio.gather(*[work(replica) for replica in replicas])
    assert {await gate.posted(counter) for counter in counters} == {10}
    for replica in replicas:
        await replica.close()


async def test_a_started_publisher_works_off_what_another_process_left(gate: Gate, pools: Pools):
    counter = gate.counter()
    await write_window(pools, counter, "0.00001", 1)
    await write_outbox(pools, gate.tenant_id, [counter], [])
    publisher = Publisher(gate.client, pools.postgres, publish_wait_ms=2_000)
    publisher.start()
    deadline = monotonic() + 10
    while await open_rows(pools, gate.tenant_id):
        assert monotonic() < deadline
        await asyncio.sleep(0.02)
    await publisher.close()
    assert await gate.posted(counter) == 10


async def test_without_redis_publishing_returns_in_time_and_leaves_the_row(pools: Pools, gate: Gate):
    """Nobody answers at the address: the acknowledgement of events must not wait."""
    async with silent_redis() as client:
        publisher = Publisher(client, pools.postgres, publish_wait_ms=25)
        posts = gate.posts([gate.state(gate.counter(), 1, 1)], [])
        for _ in range(5):
            async with asyncio.timeout(10):
                assert await publisher.publish([posts]) == set()
        await publisher.close()


async def test_a_final_charge_ends_the_local_hold_of_this_process_too(gate: Gate, pools: Pools):
    local_holds = LocalHolds(monotonic)
    local_holds.place(gate.tenant_id, "r1", {"k": 100}, 900)
    publisher = Publisher(gate.client, pools.postgres, publish_wait_ms=2_000, local_holds=local_holds)
    counter = gate.counter()
    await publisher.publish([gate.posts([], [gate.settlement("r1", 1, counter, is_final=False)])])
    assert local_holds.held_micro_usd("k") == 100
    await publisher.publish([gate.posts([], [gate.settlement("r1", 1, counter)])])
    assert local_holds.held_micro_usd("k") == 0
    await publisher.close()


async def test_counters_in_use_are_kept_fresh_and_others_are_left(gate: Gate, pools: Pools, seeder: CounterSeeder):
    used, unused = gate.counter(0), gate.counter(1)
    await gate.seed(used, unused)
    for counter in (used, unused):
        await gate.client.hset(key_of(counter), "f", 1_000)
    seeder.note_used(key_of(used), gate.matched(used))
    assert await seeder.refresh() == 1
    assert (await gate.decide(used, wants_hold=False)).is_allowed
    assert await gate.check(unused) == MissingCounters((0,))
    assert await seeder.refresh() == 0


async def test_the_ledger_reader_reads_what_many_want_at_once_and_gives_up_on_a_dead_database(gate: Gate, pools: Pools):
    ledger = LedgerReader(pools.postgres)
    await write_window(pools, gate.counter(3), "1.5", 4)
    readings = await asyncio.gather(*[ledger.read([gate.counter(number)]) for number in range(10)])
    assert [str(reading.states[0].enforced) for (reading,) in readings] == ["0"] * 3 + ["1.5"] + ["0"] * 6
    async with pools.postgres.connection() as connection:
        epoch = await (await connection.execute("SELECT epoch FROM ledger_epoch")).fetchone()
    assert epoch is not None
    assert {reading.epoch for (reading,) in readings} == {epoch[0]}
    await ledger.close()
    from psycopg_pool import AsyncConnectionPool

    dead: Any = AsyncConnectionPool("host=127.0.0.1 port=1 connect_timeout=1", min_size=0, max_size=2, open=False)
    await dead.open(wait=False)
    ledger = LedgerReader(dead)
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            await ledger.read([gate.counter()])
    assert ledger.is_down
    with pytest.raises(LedgerUnavailable, match="breaker"):
        await ledger.read([gate.counter()])
    await ledger.close()
    await dead.close()


async def test_no_hold_is_consumed_when_the_states_of_its_commit_are_refused(
    gate: Gate, pools: Pools, publisher: Publisher
):
    """A commit of many counters takes several commands; other commits of the same moment are published."""
    counters = [gate.counter(number) for number in range(MOST_STATES_PER_CALL + 1)]
    held, refused, other = counters[-1], counters[0], gate.counter(len(counters))
    await gate.seed(held, other)
    await gate.decide(held, reservation_id="r1", amount_micro_usd=10)
    await gate.client.set(key_of(refused), "no counter")
    states = [gate.state(counter, 10, 1) for counter in counters]
    large, small = gate.posts(states, [gate.settlement("r1", 10, held)]), gate.posts([gate.state(other, 10, 1)], [])

    assert await publisher.publish([large, small]) == {small.outbox_id}
    assert (await gate.posted(held), await gate.held(held), await gate.posted(other)) == (0, 10, 10)

    await gate.client.delete(key_of(refused))
    assert await publisher.publish([large]) == {large.outbox_id}
    assert (await gate.posted(held), await gate.held(held)) == (10, 0)
    await gate.assert_sound(held, other)
