"""Fault 20: PostgreSQL connections lost in the middle of transactions, and none left in the pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import psycopg
import pytest

from service.db.pools import Pools
from tests.faults.chat_events import Event, chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Caller, Replica
from tests.faults.server_process import Ground, ServerProcess
from tests.faults.stream import Stream
from tests.faults.waiting import until
from tests.oracle import read_charges

# Batches of the servers that have begun to write; the statement is known by its first line.
_WRITING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND state <> 'idle' AND query LIKE '-- Record one batch of charges%'
"""
_WAITING = f"{_WRITING} AND wait_event_type = 'Lock'"
KILLS = 12
CONNECTIONS = 3


@pytest.fixture(scope="module")
async def narrow_server(ground: Ground, replicas: list[Replica]) -> AsyncIterator[Replica]:
    """A server with few connections, little patience and small batches."""
    async with AsyncExitStack() as stack:
        process = ServerProcess(
            ground,
            TALLYGATE_DATABASE_POOL_MAX_CONNECTIONS=str(CONNECTIONS),
            TALLYGATE_DATABASE_POOL_WAIT_MS="300",
            TALLYGATE_INGEST_BATCH_MAX_EVENTS="100",
        ).start()
        stack.callback(process.kill)
        replica = Replica(await process.ready())
        stack.push_async_callback(replica.client.aclose)
        yield replica


@pytest.fixture
async def saboteur(ground: Ground) -> AsyncIterator[Any]:
    """A connection that gets in the way of others."""
    async with await psycopg.AsyncConnection.connect(ground.database_url, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def _locked_counter(saboteur: Any, budget_id: str) -> AsyncIterator[None]:
    """Let every batch that adds to a budget wait in the middle of its transaction."""
    async with saboteur.transaction():
        await saboteur.execute("SELECT * FROM budget_window WHERE budget_id = %s FOR UPDATE", (budget_id,))
        yield


async def _terminate_waiting(ledger: Pools) -> int:
    """End the connection of every batch that waits for a lock; return how many."""
    async with ledger.postgres.connection() as connection:
        rows = await (await connection.execute(_WAITING)).fetchall()
        for (pid,) in rows:
            await connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
    return len(rows)


def _blocked_event() -> Event:
    return chat_event(user="blocked")


async def test_a_connection_lost_in_the_middle_of_a_transaction_leaves_nothing_and_sending_again_is_exact(
    callers: list[Caller], ledger: Pools, saboteur: Any, tenant: Tenant
):
    budget = await callers[0].create_budget("blocked", {"user": "blocked"}, "10")
    first = await callers[0].post(_blocked_event())
    events = [chat_event(), _blocked_event(), chat_event()]

    async with _locked_counter(saboteur, budget["budget_id"]):
        posting = asyncio.create_task(callers[0].request("POST", "/v1/events", json=events))

        async def is_terminated() -> bool:
            return await _terminate_waiting(ledger) == 1

        await until(is_terminated, "the batch waits in the middle of its transaction, and its connection is ended")
        response = await posting

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["code"] == "unavailable"
    assert len(await read_charges(ledger.postgres, tenant.id)) == len(first["results"])
    again = await callers[0].post(*events)
    assert again["recorded"] == 3
    assert len(await read_charges(ledger.postgres, tenant.id)) == 4


async def test_when_a_later_commit_of_a_large_body_fails_all_of_it_is_refused_and_sending_again_is_exact(
    narrow_server: Replica, callers: list[Caller], ledger: Pools, saboteur: Any, tenant: Tenant
):
    caller = narrow_server.as_caller(tenant.token)
    budget = await callers[0].create_budget("blocked", {"user": "blocked"}, "10")
    await callers[0].post(_blocked_event())
    events = [chat_event() for _ in range(250)] + [_blocked_event()] + [chat_event() for _ in range(149)]

    async with _locked_counter(saboteur, budget["budget_id"]):
        posting = asyncio.create_task(caller.request("POST", "/v1/events", json=events))

        async def is_terminated() -> bool:
            return await _terminate_waiting(ledger) == 1

        await until(is_terminated, "a later batch waits in the middle of its transaction, and its connection is ended")
        response = await posting

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    stored = len(await read_charges(ledger.postgres, tenant.id)) - 1
    assert stored in (200, 300)  # whole commits, without the one that failed
    again = await caller.call("POST", "/v1/events?results=none", json=events)
    assert (again["recorded"], again["duplicates"]) == (400 - stored, stored)
    assert len(await read_charges(ledger.postgres, tenant.id)) == 401


async def test_connections_ended_at_any_moment_of_a_stream_lose_and_double_nothing(
    replicas: list[Any], callers: list[Caller], ledger: Pools, saboteur: Any, tenant: Tenant, random: Random
):
    await callers[0].create_budget("each-user", {"user": "*"}, "1000000")
    streams = [Stream(caller, random) for caller in callers]
    posting = asyncio.gather(*(stream.run(3) for stream in streams))
    kills = 0

    async def has_killed_enough() -> bool:
        nonlocal kills
        rows = await (await saboteur.execute(_WRITING)).fetchall()
        for (pid,) in rows:
            await saboteur.execute("SELECT pg_terminate_backend(%s)", (pid,))
        kills += len(rows)
        return kills >= KILLS and all(stream.acknowledged for stream in streams)

    await until(has_killed_enough, "connections were ended", deadline_seconds=30, pause=0.02)
    for stream in streams:
        stream.stop()
    await posting

    assert sum(len(stream.refused) for stream in streams) > 0
    charges: dict[str, str] = {}
    for stream, caller in zip(streams, callers, strict=True):
        charges |= await stream.send_again(caller)
    assert (await read_charges(ledger.postgres, tenant.id)).keys() == set(charges.values())
    assert len(set(charges.values())) == len(charges)


async def test_without_a_free_connection_requests_are_refused_soon_and_sending_again_is_exact(
    narrow_server: Replica, ledger: Pools, saboteur: Any, tenant: Tenant
):
    caller = narrow_server.as_caller(tenant.token)
    events = [chat_event() for _ in range(4)]
    await caller.post(events[0])

    async with saboteur.transaction():
        await saboteur.execute("LOCK TABLE charge IN ACCESS EXCLUSIVE MODE")
        requests = [caller.request("GET", "/v1/charges") for _ in range(CONNECTIONS)]
        reading = [asyncio.create_task(request) for request in requests]
        waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

        async def are_all_connections_taken() -> bool:
            return len(await (await saboteur.execute(waiting)).fetchall()) >= CONNECTIONS

        await until(are_all_connections_taken, "every connection of the server is taken")
        responses = await asyncio.gather(*(caller.request("POST", "/v1/events", json=[event]) for event in events))

    assert [response.status_code for response in responses] == [503] * 4
    assert all(int(response.headers["retry-after"]) > 0 for response in responses)
    assert [(await each).status_code for each in reading] == [200] * CONNECTIONS
    again = await caller.post(*events)
    assert [result["outcome"] for result in again["results"]] == ["duplicate", *["recorded"] * 3]
    assert len(await read_charges(ledger.postgres, tenant.id)) == 4
