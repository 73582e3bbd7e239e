"""`complete_through` never claims a charge that the numbers beside it do not hold."""

import asyncio
import json
import random
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from service.db.pools import Pools
from service.db.tenant_lock import LOCK_SHARED, tenant_lock_keys
from service.spend.queries import SpendQueries
from service.spend.spend_answer import SpendAnswer
from service.spend.spend_query import parse_spend_query
from tests.integration.spend.charge_rows import NOON, a_charge

_ALL = {"from": ["2026-11-03T00:00:01Z"], "to": ["2026-11-04T00:00:00Z"], "kind": ["usage"]}


async def _answer(pools: Pools, tenant_id: str) -> SpendAnswer:
    return await SpendQueries(pools.postgres).answer(tenant_id, parse_spend_query(_ALL, {}, NOON))


async def _insert(connection: AsyncConnection[Any], tenant_id: str) -> datetime:
    """Write a charge the way a batch does: the tenant's lock first, stamped with the start of the transaction."""
    await connection.execute(LOCK_SHARED, (tenant_lock_keys([tenant_id]),))
    document = json.dumps(a_charge(tenant_id), default=str)
    cursor = await connection.execute(
        "INSERT INTO charge SELECT (json_populate_record(json_populate_record(NULL::charge, %s),"
        " json_build_object('recorded_at', now()))).* RETURNING recorded_at",
        (document,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def test_nothing_recorded_is_complete_through_nothing(pools: Pools, tenant_id: str):
    assert (await _answer(pools, tenant_id)).complete_through is None


async def test_it_is_the_time_of_the_newest_commit(pools: Pools, tenant_id: str):
    async with pools.postgres.connection() as connection:
        for _ in range(2):
            async with connection.transaction():
                newest = await _insert(connection, tenant_id)
    answer = await _answer(pools, tenant_id)
    assert (answer.complete_through, answer.totals["requests"]) == (newest, 2)


async def test_an_open_batch_holds_it_back_also_behind_newer_commits(pools: Pools, tenant_id: str):
    async with pools.postgres.connection() as slow, pools.postgres.connection() as fast:
        async with fast.transaction():
            first = await _insert(fast, tenant_id)
        async with slow.transaction():
            stamped = await _insert(slow, tenant_id)
            async with fast.transaction():
                newest = await _insert(fast, tenant_id)
            assert first < stamped < newest
            meanwhile = await _answer(pools, tenant_id)
            assert (meanwhile.complete_through, meanwhile.totals["requests"]) == (first, 2)
    afterwards = await _answer(pools, tenant_id)
    assert (afterwards.complete_through, afterwards.totals["requests"]) == (newest, 3)


async def test_a_batch_that_has_begun_and_not_written_yet_holds_it_back(pools: Pools, tenant_id: str):
    async with pools.postgres.connection() as slow, pools.postgres.connection() as fast, slow.transaction():
        await slow.execute("SELECT 1")
        async with fast.transaction():
            await _insert(fast, tenant_id)
        assert (await _answer(pools, tenant_id)).complete_through is None
        stamped = await _insert(slow, tenant_id)
    answer = await _answer(pools, tenant_id)
    assert answer.complete_through is not None
    assert answer.complete_through > stamped


async def test_under_concurrent_batches_all_it_claims_is_in_the_numbers(pools: Pools, tenant_id: str):
    rng = random.Random(11)
    is_done = asyncio.Event()

    async def write(batches: int) -> None:
        async with pools.postgres.connection() as connection:
            for _ in range(batches):
                async with connection.transaction():
                    await _insert(connection, tenant_id)
                    await connection.execute("SELECT pg_sleep(%s)", (rng.random() / 100,))

    async def watch() -> list[tuple[int, datetime]]:
        seen = []
        while not is_done.is_set():
            answer = await _answer(pools, tenant_id)
            if answer.complete_through is not None:
                seen.append((answer.totals["requests"], answer.complete_through))
        return seen

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(write(25) for _ in range(5)))
    is_done.set()
    seen = await watching
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute("SELECT recorded_at FROM charge WHERE tenant_id = %s", (tenant_id,))
        recorded = [row[0] for row in await cursor.fetchall()]
    assert len(recorded) == 125
    for requests, complete_through in seen:
        assert requests >= sum(moment <= complete_through for moment in recorded)
    assert len({complete_through for _, complete_through in seen}) > 5, "it never moved"
