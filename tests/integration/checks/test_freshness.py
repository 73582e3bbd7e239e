"""How long a copy is trusted: publishing vouches for the state it brings, and only seeding for all the rest."""

from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from service.checks import freshness
from service.checks.freshness import CounterSeeder
from service.checks.hold import MissingCounters
from service.checks.keys import CounterRef, key_of
from service.checks.ledger_reader import LedgerReader
from service.checks.publishing import seed_commands
from service.db.pools import Pools
from tests.integration.checks.gate import Gate

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS


async def _let_pass(gate: Gate, counter: CounterRef, milliseconds: int) -> None:
    """Make what a counter says of its copy, and its time to live, so much older."""
    key = key_of(counter)
    for field in ("f", "t"):
        await gate.client.hincrby(key, field, -milliseconds)
    await gate.client.pexpire(key, await gate.client.pttl(key) - milliseconds)


async def _spend(gate: Gate, counter: CounterRef, version: int) -> None:
    await gate.publish(gate.posts([gate.state(counter, 10 * version, version)], []))


async def test_publishing_keeps_a_counter_fresh_that_was_seeded_lately(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    for version in range(1, 9):
        await _let_pass(gate, counter, _MINUTE_MS)
        await _spend(gate, counter, version)
        assert (await gate.decide(counter, wants_hold=False)).figures[0].posted_micro_usd == 10 * version


async def test_a_busy_counter_nobody_refreshes_is_seeded_again_in_time(gate: Gate):
    """Above 50,000 used counters it is told of what was carried in, and lives on with its holds, by its next checks."""
    counter = gate.counter()
    await gate.seed(counter)
    seedings = 0
    for version in range(1, 61):
        await _let_pass(gate, counter, _MINUTE_MS)
        await _spend(gate, counter, version)
        if await gate.check(counter, reservation_id="call", carrying=[counter]) == MissingCounters((0,)):
            seedings += 1
            reading = gate.reading(counter, 10 * version, version)
            await gate.lane.run(seed_commands([msgspec.structs.replace(reading, carried_usd=Decimal("0.00007"))]))
    decision = await gate.decide(counter, wants_hold=False, carrying=[counter])
    assert seedings == 5
    assert decision.figures[0].carried_micro_usd == 70
    assert await gate.client.pttl(key_of(counter)) > 25 * _HOUR_MS
    assert await gate.held(counter) == 10


async def test_a_copy_of_an_earlier_version_is_not_kept_fresh_by_publishing(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    before = await gate.client.hget(key_of(counter), "f")
    await gate.client.hdel(key_of(counter), "t")
    await _spend(gate, counter, 1)
    assert await gate.client.hget(key_of(counter), "f") == before


@pytest.fixture
async def seeder(gate: Gate, pools: Pools) -> AsyncIterator[CounterSeeder]:
    ledger = LedgerReader(pools.postgres)
    seeder = CounterSeeder(gate.client, ledger, timeout_ms=2_000)
    yield seeder
    await seeder.close()
    await ledger.close()


async def test_counters_above_the_number_that_is_remembered_are_left_to_their_checks(
    gate: Gate, seeder: CounterSeeder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(freshness, "_MOST_USED", 1)
    for number in range(2):
        seeder.note_used(str(number), gate.matched(gate.counter(number)))
    assert await seeder.refresh() == 1
    assert await gate.client.exists(key_of(gate.counter(0)), key_of(gate.counter(1))) == 1
