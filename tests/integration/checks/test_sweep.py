"""The sweep finds every way a counter can differ from the ledger and from its own holds, and puts it right."""

from collections.abc import AsyncIterator

import pytest

from service.checks.hold import MissingCounters
from service.checks.keys import CounterRef, key_of, unix_text
from service.checks.ledger_reader import LedgerReader
from service.checks.sweep import _TURN_KEY, Sweep
from service.db.pools import Pools, at_server_of
from tests.integration.checks.gate import Gate
from tests.integration.checks.test_publisher import write_window


@pytest.fixture
async def sweep(gate: Gate, pools: Pools) -> AsyncIterator[Sweep]:
    ledger = LedgerReader(pools.postgres)
    sweep = Sweep(gate.client, ledger)
    yield sweep
    await sweep.close()
    await ledger.close()


async def kinds(sweep: Sweep, gate: Gate, *, repair: bool = True) -> list[tuple[str, CounterRef]]:
    result = await sweep.sweep(tenant_id=gate.tenant_id, repair=repair)
    return [(finding.kind, finding.counter) for finding in result.findings]


async def test_what_is_right_is_left_alone(gate: Gate, pools: Pools, sweep: Sweep):
    counters = [gate.counter(number, f'{{"user":"u{number}"}}') for number in range(250)]
    for counter in counters[:3]:
        await write_window(pools, counter, "0.00003", 5)
    await gate.seed(*counters[:3], posted=30, version=5)
    await gate.seed(*counters[3:])
    for counter in counters[::10]:
        await gate.decide(counter)
    result = await sweep.sweep(tenant_id=gate.tenant_id)
    assert (result.counters, result.holds, result.findings, result.drift_micro_usd) == (250, 25, [], 0)


async def test_a_pass_beside_checks_rests_after_each_small_portion_and_keeps_its_turn(
    gate: Gate, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
):
    await gate.seed(*[gate.counter(number, f'{{"user":"u{number}"}}') for number in range(120)])
    rest, rests = sweep._rest, []

    async def rest_and_note(worked_seconds: float) -> None:
        rests.append(worked_seconds)
        sweep._turn_taken_at -= 60
        await rest(worked_seconds)

    monkeypatch.setattr(sweep, "_rest", rest_and_note)
    result = await sweep.sweep(tenant_id=gate.tenant_id, is_at_leisure=True)
    assert (result.counters, result.findings) == (120, [])
    assert len(rests) >= 3
    assert all(worked_seconds > 0 for worked_seconds in rests)
    assert await at_server_of(gate.client, _TURN_KEY, lambda server: server.pttl(_TURN_KEY)) > 60_000


async def test_a_counter_behind_the_ledger_is_brought_up_to_date_and_is_no_drift(
    gate: Gate, pools: Pools, sweep: Sweep
):
    counter = gate.counter(0, '{"user":"ü \\" x"}')
    await gate.seed(counter)
    await write_window(pools, counter, "0.00003", 5)
    result = await sweep.sweep(tenant_id=gate.tenant_id)
    assert [finding.kind for finding in result.findings] == ["behind"]
    assert result.drift_micro_usd == 0
    assert await gate.posted(counter) == 30


async def test_a_counter_with_another_amount_or_an_unknown_version_is_forgotten_and_seeded_anew(
    gate: Gate, pools: Pools, sweep: Sweep
):
    wrong, ahead = gate.counter(0), gate.counter(1)
    for counter in (wrong, ahead):
        await write_window(pools, counter, "0.00003", 5)
    await gate.seed(wrong, posted=29, version=5)
    await gate.seed(ahead, posted=40, version=6)
    await gate.decide(wrong, ahead, reservation_id="r1")
    assert set(await kinds(sweep, gate, repair=False)) == {("posted", wrong), ("ahead", ahead)}
    result = await sweep.sweep(tenant_id=gate.tenant_id)
    assert result.drift_micro_usd == 11
    assert await gate.check(wrong, ahead) == MissingCounters((0, 1))
    await gate.seed(wrong, ahead, posted=30, version=5)
    decision = await gate.decide(wrong, ahead, wants_hold=False)
    assert [(each.posted_micro_usd, each.held_micro_usd) for each in decision.figures] == [(30, 10), (30, 10)]
    assert await kinds(sweep, gate) == []


async def test_held_is_recomputed_from_the_holds(gate: Gate, sweep: Sweep):
    counter = gate.counter()
    await gate.seed(counter)
    await gate.decide(counter, reservation_id="live")
    await gate.decide(counter, reservation_id="due")
    await gate.make_due("due", counter)
    await gate.client.hset(key_of(counter), "h", 999)
    result = await sweep.sweep(tenant_id=gate.tenant_id)
    assert [(each.kind, each.found_micro_usd, each.expected_micro_usd) for each in result.findings] == [
        ("held", 989, 10)
    ]
    assert result.lapsed_holds == 1
    await gate.assert_sound(counter)


async def test_an_old_dump_of_the_counters_is_not_trusted(gate: Gate, pools: Pools, sweep: Sweep):
    """Faults 15 and 16: whatever comes back from an old dump is stale, and what is published after it is newer."""
    counter = gate.counter()
    await write_window(pools, counter, "0.00003", 5)
    await gate.seed(counter, posted=10, version=2)
    dump = await gate.client.dump(key_of(counter))
    await gate.seed(counter, posted=30, version=5)
    await gate.client.restore(key_of(counter), 60_000, dump, replace=True)
    await gate.client.hset(key_of(counter), "f", 1_000)  # a dump is older than the 90 s a copy is trusted
    assert await gate.check(counter) == MissingCounters((0,))
    await gate.seed(counter, posted=30, version=5)
    assert await gate.posted(counter) == 30


async def test_counters_nobody_checks_are_not_swept_and_end_by_themselves(gate: Gate, sweep: Sweep):
    counter = gate.counter()
    await gate.publish(gate.posts([gate.state(counter, 1, 1)], []))
    result = await sweep.sweep(tenant_id=gate.tenant_id)
    assert result.findings == []
    assert await gate.client.pttl(key_of(counter)) <= 300_000
    assert await gate.client.hget(key_of(counter), f"p:{unix_text(counter.bucket)}") == b"1"
