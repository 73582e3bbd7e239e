"""A server killed in the middle of a repricing: another one finishes it, and every charge is corrected once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx

from service.db.pools import Pools
from service.kit.clock import utc_now
from tests.faults.chat_events import chat_event
from tests.faults.conftest import StartServer, Tenant
from tests.faults.replica import Caller

_CHARGES = 1_200


def _mystery() -> dict[str, Any]:
    event = chat_event(model="azure/contoso-chat-01", model_group="mystery", provider="azure", response_cost=0)
    event.pop("cost_breakdown", None)
    return event


async def test_a_repricing_whose_server_is_killed_is_finished_by_another_and_corrects_each_charge_once(
    start_server: StartServer, callers: list[Caller], ledger: Pools, tenant: Tenant
) -> None:
    await callers[0].create_budget("all", {}, "1000000")
    await callers[0].create_budget("each-model", {"served_model": "*"}, "1000000")
    for _ in range(0, _CHARGES, 100):
        await callers[0].post(*(_mystery() for _ in range(100)))
    alias = {"alias": "azure/contoso-chat-01", "model": "openai/gpt-4.1-mini"}
    await callers[0].call("POST", "/v1/aliases", json=alias, status=201)
    doomed = await start_server()
    now = utc_now()
    span = {"from": (now - timedelta(days=1)).isoformat(), "to": (now + timedelta(days=1)).isoformat()}

    async def ask() -> None:
        with suppress(httpx.TransportError):
            await doomed.as_caller(tenant.token).request("POST", "/v1/repricings", json=span | {"apply": True})

    asking = asyncio.create_task(ask())
    await _wait(callers[1], lambda repricing: repricing["progress"]["changed"] > 0)
    doomed.process.kill()
    await asking
    killed_at = (await _repricings(callers[1]))[0]
    assert killed_at["state"] == "running", "it had ended before the server was killed"
    async with ledger.postgres.connection() as connection:
        # As if the time it was claimed for were over.
        await connection.execute("UPDATE repricing SET leased_until = now() WHERE tenant_id = %s", (tenant.id,))

    ended = await _wait(callers[1], lambda repricing: repricing["state"] != "running")
    assert (ended["state"], ended["progress"]["changed"], ended["progress"]["examined"]) == ("done", _CHARGES, _CHARGES)
    assert 0 < killed_at["progress"]["changed"] < _CHARGES
    async with ledger.postgres.connection() as connection:
        cursor = await connection.execute(
            "SELECT kind, count(*), count(DISTINCT corrects_charge_id) FROM charge WHERE tenant_id = %s"
            " GROUP BY kind ORDER BY kind",
            (tenant.id,),
        )
        kinds = await cursor.fetchall()
    assert kinds == [("correction", _CHARGES, _CHARGES), ("reversal", _CHARGES, _CHARGES), ("usage", _CHARGES, 0)]


async def _wait(caller: Caller, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the repricing as soon as something is so."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not found or not is_so(found[0]):
            await asyncio.sleep(0.01)
            found = await _repricings(caller)
    return found[0]


async def _repricings(caller: Caller) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = (await caller.call("GET", "/v1/repricings"))["repricings"]
    return listed
