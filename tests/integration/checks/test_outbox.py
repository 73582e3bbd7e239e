"""Working off the outbox, on real engines."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from service.checks.keys import reservation_key
from service.checks.publisher import Publisher
from service.db.pools import Pools
from service.kit.ids import new_id
from tests.integration.checks.gate import Gate

_INSERT = """
INSERT INTO outbox (tenant_id, outbox_id, created_at, counters, settlements)
VALUES (%s, %s, clock_timestamp() - make_interval(mins => %s), '[]', %s)
"""
_MANY = 250


@pytest.fixture
async def publisher(client: Any, pools: Pools) -> Any:
    opened = Publisher(client, pools.postgres, publish_wait_ms=1_000)
    yield opened
    await opened.close()


async def test_rows_that_are_refused_stay_open_and_do_not_starve_later_ones(
    gate: Gate, publisher: Publisher, pools: Pools
):
    await gate.client.set(reservation_key(gate.tenant_id, "no reservation"), "text", px=60_000)
    refused = [new_id() for _ in range(_MANY)]
    last = new_id()
    try:
        for outbox_id in refused:
            await _insert(pools, gate, outbox_id, "no reservation", age_minutes=9)
        await _insert(pools, gate, last, "r1", age_minutes=1)
        for _ in range(3):
            await publisher.work_off()
        left = await _open(pools, gate)
        assert last not in left
        assert left == set(refused)
        await gate.client.delete(reservation_key(gate.tenant_id, "no reservation"))
        for _ in range(4):
            await publisher.work_off()
        assert await _open(pools, gate) == set()
    finally:
        async with pools.postgres.connection() as connection:
            await connection.execute("DELETE FROM outbox WHERE tenant_id = %s", (gate.tenant_id,))


async def _insert(pools: Pools, gate: Gate, outbox_id: UUID, reservation_id: str, *, age_minutes: int) -> None:
    settlements = msgspec.json.encode([gate.settlement(reservation_id, 1)]).decode()
    async with pools.postgres.connection() as connection:
        await connection.execute(_INSERT, (gate.tenant_id, outbox_id, age_minutes, settlements))


async def _open(pools: Pools, gate: Gate) -> set[UUID]:
    async with pools.postgres.connection() as connection:
        cursor = await connection.execute("SELECT outbox_id FROM outbox WHERE tenant_id = %s", (gate.tenant_id,))
        return {row[0] for row in await cursor.fetchall()}
