"""Fault 8: what was committed is published twice, late, and newest first."""

import asyncio
from decimal import Decimal

from tests.faults.chat_events import chat_event
from tests.faults.conftest import StartServer, Tenant
from tests.faults.replica import Caller, together

CALL = {"model": "gpt-4.1-mini", "input_tokens": 1_000, "max_output_tokens": 1_000}
COST = Decimal("0.002")
CALLS = 240
ALLOWED = 60
CALLS_AT_ONCE = 12


async def test_whatever_order_is_published_in_the_limit_holds_and_the_counters_end_at_the_ledger(
    start_server: StartServer, tenant: Tenant
):
    servers = [await start_server(module="tests.faults.unruly_server") for _ in range(2)]
    callers = [server.as_caller(tenant.token) for server in servers]
    await callers[0].create_budget("all", {}, str(ALLOWED * COST))
    await callers[0].create_budget("each-user", {"user": "*"}, "100")
    places = asyncio.Semaphore(CALLS_AT_ONCE)

    async def call(number: int) -> bool:
        async with places:
            return await _call(callers[number % 2], callers[number // 2 % 2], f"call-{number}", f"u{number % 3}")

    allowed = await together(call(number) for number in range(CALLS))

    # What is posted by a later batch counts beside the holds of an earlier one until that is published too: never too
    # little. What was denied for that finds its room again, and no more.
    admitted = allowed.count(True)
    assert admitted <= ALLOWED
    for number in range(CALLS, CALLS + 3_000):
        if admitted == ALLOWED:
            break
        admitted += await call(number)
    assert admitted == ALLOWED
    assert not await call(CALLS + 3_000)
    assert Decimal(await callers[0].posted_usd("all")) == ALLOWED * COST


async def _call(gate: Caller, reporter: Caller, request_id: str, user: str) -> bool:
    """Ask, and report an event that costs what was held; tell whether the call was let through."""
    answer = await gate.check(request_id=request_id, reserve=True, dimensions={"user": user}, **CALL)
    assert answer["degraded"] is False
    if answer["allowed"]:
        tallygate = {"reservation_id": request_id}
        event = chat_event(user=user, input_tokens=1_000, output_tokens=1_000, tallygate=tallygate)
        assert (await reporter.post(event))["recorded"] == 1
    return bool(answer["allowed"])
