"""Fault 16: Redis comes back with what it had some minutes ago: its counters, its reservations, its fence."""

from decimal import Decimal
from typing import Any

from service.db.pools import Pools
from tests.faults.chat_events import chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Caller
from tests.faults.waiting import until
from tests.oracle import read_counters

CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
COST = Decimal("0.002")
LIMIT = 10 * COST
TTL_SECONDS = 60
DUMP_AGE_MS = 120_000  # older than a copy is trusted, and than the holds of this test live

Dump = dict[bytes, tuple[int, bytes]]


async def test_what_an_old_dump_says_was_spent_and_is_held_admits_and_denies_nothing(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    await callers[0].create_budget("all", {}, str(LIMIT))
    await callers[0].create_budget("each-user", {"user": "*"}, "100")
    await _call_and_report(callers, 0, 4)
    for number in range(100, 103):
        await _reserve(callers[0], number)
    dump = await _dump(ledger.redis, tenant.id)
    for number in range(100, 103):
        await _report(callers[1], number)
    await _call_and_report(callers, 4, 6)  # 9 of 10 are spent now; the dump knows of 4, and holds 3

    await ledger.redis.flushdb()
    await _restore(ledger.redis, dump)

    (standing, _) = (await callers[1].check(dimensions={"user": "u"}, **CALL))["budgets"]
    assert (Decimal(standing["posted_usd"]), Decimal(standing["held_usd"])) == (9 * COST, 0)
    assert (await callers[2].check(request_id="last", reserve=True, dimensions={"user": "u"}, **CALL))["allowed"]
    assert not (await callers[0].check(dimensions={"user": "u"}, **CALL))["allowed"]
    await callers[0].call("DELETE", "/v1/reservations/last")
    # An event of a call the dump still holds a place for: its charge was counted long ago.
    await _report(callers[2], 100)
    assert Decimal(await callers[0].posted_usd("all")) == LIMIT


async def test_a_dump_of_a_moment_ago_is_put_right_by_the_next_event(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    """A copy this young passes for fresh: until something is published, or it is refreshed, it shows too little."""
    await callers[0].create_budget("all", {}, str(LIMIT))
    await _call_and_report(callers, 0, 4)
    dump = await _dump(ledger.redis, tenant.id)
    await _call_and_report(callers, 4, 9)

    await ledger.redis.flushdb()
    await _restore(ledger.redis, dump, age_ms=0)
    await callers[1].post(chat_event(user="u", input_tokens=1_000, output_tokens=1_000))

    async def is_right() -> bool:
        (standing,) = (await callers[2].check(dimensions={"user": "u"}, **CALL))["budgets"]
        return Decimal(standing["posted_usd"]) == LIMIT

    await until(is_right, "the counter shows what is spent")
    assert not (await callers[0].check(dimensions={"user": "u"}, **CALL))["allowed"]


async def _reserve(caller: Caller, number: int) -> None:
    asked = {"request_id": f"r{number}", "reserve": True, "ttl_seconds": TTL_SECONDS, "dimensions": {"user": "u"}}
    assert (await caller.check(**asked, **CALL))["allowed"]


async def _report(caller: Caller, number: int) -> None:
    tallygate = {"reservation_id": f"r{number}"}
    await caller.post(chat_event(user="u", input_tokens=1_000, output_tokens=1_000, tallygate=tallygate))


async def _call_and_report(callers: list[Caller], first: int, end: int) -> None:
    for number in range(first, end):
        await _reserve(callers[number % 3], number)
        await _report(callers[(number + 1) % 3], number)


async def _dump(redis: Any, tenant_id: str) -> Dump:
    """Return the tenant's keys as Redis itself writes them into a file, with what is left of their lives."""
    keys = [key async for key in redis.scan_iter(match=f"{{{tenant_id}}}:*")]
    return {key: (max(await redis.pttl(key), 0), await redis.dump(key)) for key in keys}


async def _restore(redis: Any, dump: Dump, *, age_ms: int = DUMP_AGE_MS) -> None:
    """Put a dump back as if it had been made so long ago: every instant in it lies as much earlier."""
    for key, (life_ms, content) in dump.items():
        await redis.restore(key, life_ms, content)
        if key.endswith(b":z"):
            for member, expires in await redis.zrange(key, 0, -1, withscores=True):
                await redis.zadd(key, {member: expires - age_ms})
        elif b":c:" in key or b":r:" in key:
            for field in ("f", "d", "ex"):
                instant = await redis.hget(key, field)
                if instant is not None:
                    await redis.hset(key, field, int(instant) - age_ms)
    assert all((await read_counters(redis, _tenant_of(dump))).values())


def _tenant_of(dump: Dump) -> str:
    return next(iter(dump)).decode()[1:].partition("}")[0]
