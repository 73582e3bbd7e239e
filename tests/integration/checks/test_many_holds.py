"""Counters with very many holds: Redis serves nobody else while a script runs, so none looks at all of them at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from service.checks.keys import CounterRef, key_of, unix_text
from service.checks.ledger_reader import LedgerReader
from service.checks.lua_scripts import ADD_UP, RECOUNT, script_command
from service.checks.sweep import Sweep
from service.db.pools import Pools
from service.kit.clock import to_unix_ms, utc_now
from service.kit.stopping import stop
from tests.integration.checks.gate import Gate

T = TypeVar("T")

HOLDS = 50_000
MOST_AT_ONCE = 600


@pytest.fixture
async def sweep(gate: Gate, pools: Pools) -> AsyncIterator[Sweep]:
    ledger = LedgerReader(pools.postgres)
    sweep = Sweep(gate.client, ledger)
    yield sweep
    await sweep.close()
    await ledger.close()


async def place(gate: Gate, counter: CounterRef, number: int, *, first_due_in_ms: int) -> int:
    """Give a counter holds as if checks had placed them, one falling due after the other; return what they hold."""
    now = to_unix_ms(utc_now())
    amounts = [1 + each % 7 for each in range(number)]
    due = now + first_due_in_ms
    members = {f"{amount}:{now}:h{due}-{each}": due + each for each, amount in enumerate(amounts)}
    names = list(members)
    for start in range(0, number, 5_000):
        await gate.client.zadd(f"{key_of(counter)}:z", {name: members[name] for name in names[start : start + 5_000]})
    await gate.client.pexpire(f"{key_of(counter)}:z", 3_600_000)
    await gate.client.hincrby(key_of(counter), "h", sum(amounts))
    known = int(await gate.client.hget(key_of(counter), "d") or due)
    await gate.client.hset(key_of(counter), "d", min(known, due))
    return sum(amounts)


async def most_touched(gate: Gate, work: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """Return what some work returns, and the most holds of this tenant any one of its commands looked at."""
    touched = [0]

    def note(seen: dict[str, Any]) -> None:
        words = seen["command"].split(" ")
        if seen["client_type"] != "lua":
            touched.append(0)
        elif len(words) > 1 and f"{{{gate.tenant_id}}}" in words[1]:
            touched[-1] += _looked_at(words)

    async with gate.client.monitor() as monitor:

        async def listen() -> None:
            async for seen in monitor.listen():
                note(seen)

        listening = asyncio.create_task(listen())
        result = await work()
        await gate.client.echo("the end")
        await asyncio.sleep(0.2)
        with suppress(asyncio.CancelledError):
            await stop(listening)
    return result, max(touched)


def _looked_at(words: list[str]) -> int:
    match words[0].upper():
        case "ZRANGE":
            return HOLDS if words[3] == "-1" else int(words[3]) + 1
        case "ZRANGEBYSCORE":
            return int(words[-1]) if "LIMIT" in words else HOLDS
        case "ZREM" | "ZADD" | "ZSCORE":
            return 1
        case name if name.startswith("Z") and name != "ZCARD":
            return HOLDS
        case _:
            return 0


async def test_the_sweep_adds_them_up_in_portions_and_finds_a_sound_counter_sound(gate: Gate, sweep: Sweep):
    counter = gate.counter()
    await gate.seed(counter)
    await place(gate, counter, HOLDS, first_due_in_ms=600_000)
    result, most = await most_touched(gate, lambda: sweep.sweep(tenant_id=gate.tenant_id))
    assert (result.holds, result.findings) == (HOLDS, [])
    assert 0 < most <= MOST_AT_ONCE
    await gate.assert_sound(counter)


@pytest.mark.parametrize("wrong_by", [-77, 0, 9_999])
async def test_what_is_wrong_is_put_right_to_the_last_bit_while_holds_come_and_go(
    gate: Gate, sweep: Sweep, wrong_by: int
):
    counter = gate.counter()
    await gate.seed(counter)
    await place(gate, counter, HOLDS, first_due_in_ms=600_000)
    await place(gate, counter, 300, first_due_in_ms=100)
    await gate.client.hincrby(key_of(counter), "h", wrong_by)
    changes = [0]

    async def come_and_go(name: str) -> None:
        while True:
            # Due before, amid and after all others.
            for ttl_ms in (50, 620_000, 900_000):
                held = f"{name}-{changes[0]}"
                await gate.decide(counter, reservation_id=held, ttl_ms=ttl_ms, limit=10**9, amount_micro_usd=50)
                await gate.store.renew(gate.tenant_id, held, ttl_ms + 30_000)
                await gate.publish(
                    gate.posts([], [gate.settlement(held, 20, counter, is_final=False, is_failure=ttl_ms == 620_000)])
                )
                if changes[0] % 2:
                    await gate.store.void(gate.tenant_id, held)
                changes[0] += 1

    coming = [asyncio.create_task(come_and_go(name)) for name in ("a", "b", "c")]
    try:
        result = await sweep.sweep(tenant_id=gate.tenant_id)
    finally:
        for task in coming:
            await stop(task)
    assert changes[0] > 3
    assert [finding.kind for finding in result.findings] == (["held"] if wrong_by else [])
    assert result.drift_micro_usd == abs(wrong_by)
    await gate.assert_sound(counter)


async def _void(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.store.void(gate.tenant_id, name)


async def _renew(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.store.renew(gate.tenant_id, name, 1_500_000)


async def _settle(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.publish(gate.posts([], [gate.settlement(name, 5, counter)]))


async def _consume(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.publish(gate.posts([], [gate.settlement(name, 5, counter, is_final=False)]))


async def _fail(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.publish(gate.posts([], [gate.settlement(name, 5, counter, is_final=False, is_failure=True)]))


async def _fall_due(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.make_due(name, counter)
    await gate.decide(counter, wants_hold=False)


async def _check_again(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.make_due(name, counter)
    await gate.decide(counter, reservation_id=name, ttl_ms=100_000, amount_micro_usd=3)


async def _place_before(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.decide(counter, ttl_ms=150_000)


async def _place_after(gate: Gate, counter: CounterRef, name: str) -> None:
    await gate.decide(counter, ttl_ms=1_500_000)


@pytest.mark.parametrize("is_rolling", [False, True])
@pytest.mark.parametrize("name", ["first", "second", "third"])
@pytest.mark.parametrize(
    "change", [_void, _renew, _settle, _consume, _fail, _fall_due, _check_again, _place_before, _place_after]
)
async def test_what_changes_while_holds_are_added_up_changes_the_sum(
    gate: Gate, change: Callable[..., Awaitable[None]], name: str, *, is_rolling: bool
):
    counter = gate.rolling() if is_rolling else gate.counter()
    await (gate.seed_rolling(counter, 0) if is_rolling else gate.seed(counter))
    for number, each in enumerate(("first", "second", "third"), 1):
        await gate.decide(counter, reservation_id=each, ttl_ms=number * 300_000, amount_micro_usd=number * 10)
    bucket = "" if is_rolling else unix_text(counter.bucket)
    begun = await gate.lane.call(script_command(RECOUNT, [key_of(counter)], [bucket, "0", 2]))
    assert begun[:3] == [60, -1, 3]
    add_up = script_command(ADD_UP, [key_of(counter)], [1])
    assert await gate.lane.call(add_up) == [60, -1]
    assert await gate.client.hget(key_of(counter), "rs") == b"10"
    await change(gate, counter, name)
    await gate.assert_sound(counter)
    replies = [await gate.lane.call(add_up) for _ in range(5)]
    (end,) = [reply for reply in replies if reply and reply[1] >= 0]
    assert end == [await gate.held(counter)] * 2
    assert await gate.client.hmget(key_of(counter), "rx", "rs") == [None, None]


async def test_very_many_that_fall_due_at_once_are_dropped_in_portions(gate: Gate, sweep: Sweep):
    counter = gate.counter()
    await gate.seed(counter)
    await place(gate, counter, 5_000, first_due_in_ms=-600_000)
    held = await place(gate, counter, HOLDS, first_due_in_ms=600_000)

    async def read() -> Any:
        return await gate.store.read_held(gate.tenant_id, [(counter.budget_id, counter.subject, counter.bucket)])

    amounts, most = await most_touched(gate, read)
    assert [int(amount * 10**6) for amount in amounts] == [held]
    assert 0 < most <= 4 * MOST_AT_ONCE, "each that is due is found, measured and dropped"
    await place(gate, counter, 5_000, first_due_in_ms=-600_000)
    result, most = await most_touched(gate, lambda: sweep.sweep(tenant_id=gate.tenant_id))
    assert result.findings == []
    assert 0 < most <= 4 * MOST_AT_ONCE
    await gate.assert_sound(counter)


async def test_reading_what_is_held_looks_at_no_hold_that_is_not_due(gate: Gate):
    counter = gate.counter()
    await gate.seed(counter)
    held = await place(gate, counter, HOLDS, first_due_in_ms=600_000)

    async def read() -> Any:
        return await gate.store.read_held(gate.tenant_id, [(counter.budget_id, counter.subject, counter.bucket)] * 3)

    amounts, most = await most_touched(gate, read)
    assert [int(amount * 10**6) for amount in amounts] == [held] * 3
    assert most == 0


async def test_holds_due_in_the_same_millisecond_are_added_up_together(gate: Gate, sweep: Sweep):
    counter = gate.counter()
    await gate.seed(counter)
    await place(gate, counter, 1_200, first_due_in_ms=600_000)
    members = await gate.client.zrange(f"{key_of(counter)}:z", 300, 1_100)
    due = to_unix_ms(utc_now()) + 700_000
    await gate.client.zadd(f"{key_of(counter)}:z", dict.fromkeys(members, due))
    await gate.client.hincrby(key_of(counter), "h", 5)
    result = await sweep.sweep(tenant_id=gate.tenant_id)
    assert result.drift_micro_usd == 5
    await gate.assert_sound(counter)


async def test_a_counter_wiped_amid_is_left_alone(gate: Gate, sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    counter = gate.counter()
    await gate.seed(counter)
    await place(gate, counter, 2_000, first_due_in_ms=600_000)
    add_up = sweep._add_up

    async def wipe_and_add_up(key: str) -> tuple[int, int]:
        await gate.client.delete(key, f"{key}:z")
        return await add_up(key)

    monkeypatch.setattr(sweep, "_add_up", wipe_and_add_up)
    result = await sweep.sweep(tenant_id=gate.tenant_id)
    assert "held" not in {finding.kind for finding in result.findings}
    assert await gate.client.exists(key_of(counter)) == 0
