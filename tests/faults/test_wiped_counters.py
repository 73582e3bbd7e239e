"""Fault 15: Redis is wiped again and again under load at four replicas.

Only the logical database of these servers is wiped, which no other test uses.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import ROUND_CEILING, Decimal
from random import Random
from time import monotonic
from typing import Any

from service.checks.keys import CounterRef, key_of
from service.db.pools import Pools
from tests.faults.chat_events import chat_event
from tests.faults.conftest import StartServer, Tenant
from tests.faults.replica import Caller
from tests.faults.waiting import until
from tests.oracle import assert_sound, read_counters

CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
COST = Decimal("0.002")
LIMIT = 300 * COST
WORKERS_PER_REPLICA = 3
CALLS_BETWEEN_WIPES = (5, 80)
CALLS_AFTER_THE_LIMIT = 200
MEASURED_EVERY_SECONDS = 0.02


async def test_whatever_is_wiped_posted_is_never_above_the_ledger_and_the_overshoot_is_what_was_held(
    callers: list[Caller], ledger: Pools, tenant: Tenant, random: Random, start_server: StartServer
):
    callers = [*callers, (await start_server()).as_caller(tenant.token)]
    await callers[0].create_budget("narrow", {}, str(LIMIT))
    await callers[0].create_budget("each-user", {"user": "*"}, "1000")
    load = _Load(callers, random)
    running = asyncio.gather(*(load.call_on_and_on(number) for number in range(len(callers) * WORKERS_PER_REPLICA)))
    watching = asyncio.gather(
        _every(MEASURED_EVERY_SECONDS, lambda: _assert_posted_is_not_above_the_ledger(ledger, tenant), load)
    )

    wipes = 0
    while load.denied < CALLS_AFTER_THE_LIMIT:
        next_wipe_at = load.calls + random.randrange(*CALLS_BETWEEN_WIPES)
        await until(lambda: load.calls >= next_wipe_at, "calls are made", pause=0.002)  # noqa: B023 - awaited here
        await ledger.redis.flushdb()
        wipes += 1
    load.stop()
    await running
    (measured,) = await watching

    assert measured > wipes > 5
    spent = Decimal(await callers[0].posted_usd("narrow"))
    assert spent == load.admitted * COST
    most_held_at_once = len(callers) * WORKERS_PER_REPLICA * COST
    assert LIMIT <= spent <= LIMIT + wipes * most_held_at_once
    await assert_sound(ledger, tenant.id)
    # Counters are there again as soon as somebody asks, and deny as before.
    answer = await callers[1].check(dimensions={"user": "u1"}, **CALL)
    assert (answer["allowed"], answer["degraded"]) == (False, False)
    assert {budget["name"]: Decimal(budget["posted_usd"]) for budget in answer["budgets"]}["narrow"] == spent


async def test_a_wipe_between_a_check_and_its_event_loses_the_hold_and_nothing_else(
    callers: list[Caller], ledger: Pools
):
    await callers[0].create_budget("all", {}, "1")
    await callers[0].post(chat_event(input_tokens=1_000, output_tokens=1_000))
    await callers[0].check(request_id="r1", reserve=True, **CALL)

    await ledger.redis.flushdb()

    await callers[1].call("GET", "/v1/reservations/r1", status=404)
    (seen,) = (await callers[1].check(**CALL))["budgets"]
    assert (Decimal(seen["posted_usd"]), Decimal(seen["held_usd"])) == (COST, 0)
    event = chat_event(input_tokens=1_000, output_tokens=1_000, tallygate={"reservation_id": "r1"})
    await callers[2].post(event)
    (seen,) = (await callers[0].check(**CALL))["budgets"]
    assert (Decimal(seen["posted_usd"]), Decimal(seen["held_usd"])) == (2 * COST, 0)


class _Load:
    """Calls that are asked about, made when allowed, and reported."""

    def __init__(self, callers: list[Caller], random: Random) -> None:
        self._callers = callers
        self._random = random
        self._is_stopping = False
        self.admitted = 0
        self.denied = 0

    @property
    def is_running(self) -> bool:
        return not self._is_stopping

    @property
    def calls(self) -> int:
        return self.admitted + self.denied

    def stop(self) -> None:
        self._is_stopping = True

    async def call_on_and_on(self, worker: int) -> None:
        number = 0
        while self.is_running:
            number += 1
            request_id = f"call-{worker}-{number}"
            user = f"u{self._random.randrange(3)}"
            asked = CALL | {"request_id": request_id, "reserve": True, "dimensions": {"user": user}}
            answer = await self._random.choice(self._callers).check(**asked)
            assert answer["degraded"] is False
            if answer["allowed"]:
                self.admitted += 1
                await self._report(request_id, user)
            else:
                self.denied += 1

    async def _report(self, request_id: str, user: str) -> None:
        event = chat_event(user=user, input_tokens=1_000, output_tokens=1_000, tallygate={"reservation_id": request_id})
        await self._random.choice(self._callers).post(event)


async def _every(seconds: float, action: Callable[[], Awaitable[Any]], load: _Load) -> int:
    """Repeat the action while the load runs, and return how often it was done."""
    times = 0
    while load.is_running:
        next_at = monotonic() + seconds
        await action()
        times += 1
        await asyncio.sleep(max(0.0, next_at - monotonic()))
    return times


async def _assert_posted_is_not_above_the_ledger(ledger: Pools, tenant: Tenant) -> None:
    """Redis is read first: what it shows must have been committed by then."""
    shown = await read_counters(ledger.redis, tenant.id)
    statement = "SELECT budget_id, subject, bucket, enforced FROM budget_window WHERE tenant_id = %s"
    async with ledger.postgres.connection() as connection:
        rows = await (await connection.execute(statement, (tenant.id,))).fetchall()
    committed = {
        key_of(CounterRef(tenant.id, budget_id, subject, bucket)): int(
            (enforced * 1_000_000).to_integral_value(ROUND_CEILING)
        )
        for budget_id, subject, bucket, enforced in rows
    }
    for key, counter in shown.items():
        posted = sum(int(value) for name, value in counter.items() if name.startswith("p:"))
        assert posted <= committed.get(key, 0), key
        assert int(counter.get("h", 0)) >= 0, key
