"""Writes to the ledger: the one-trip group commit, look-ups of what was recorded before, the outbox."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncCursor
from psycopg.rows import dict_row

from service.db.pools import PostgresConnection, PostgresPool
from service.db.tenant_lock import LOCK_SHARED, tenant_lock_keys
from service.ledger.charge import ChargeDraft, ChargeSummary, MatchedBatch, WindowPost
from service.ledger.posts import CommittedPosts, CounterState, Settlement

_RECORD_BATCH = files("service.ledger").joinpath("sql/record_batch.sql").read_text("utf-8")

_FIND_ORIGINALS = """
SELECT k.tenant_id, k.source, k.event_id, k.fingerprint, k.charge_id,
       c.requested_model, c.deployment, c.served_model, c.cost_usd, c.price_state
FROM unnest(%s::text[], %s::text[], %s::text[]) AS wanted (tenant_id, source, event_id)
JOIN event_key AS k USING (tenant_id, source, event_id)
JOIN charge AS c ON c.tenant_id = k.tenant_id AND c.recorded_at = k.recorded_at AND c.charge_id = k.charge_id
"""

_LOCK_EPOCH = "SELECT epoch FROM ledger_epoch FOR SHARE"
_VERSIONS = "SELECT tenant_id, config_version FROM tenant WHERE tenant_id = ANY (%s)"
_FIND_RECORDED = "SELECT event_id FROM event_key WHERE tenant_id = %s AND source = %s AND event_id = ANY (%s::text[])"

# Planning the statement anew takes longer than running it for a hundred charges.
_KEEP_PLAN = "SET LOCAL plan_cache_mode = force_generic_plan"

# Rows another process is publishing right now are left to it.
_DELETE_PUBLISHED = """
DELETE FROM outbox WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM outbox WHERE (tenant_id, outbox_id) IN (SELECT * FROM unnest(%s::text[], %s::uuid[]))
    FOR UPDATE SKIP LOCKED
))
"""

EventKey = tuple[str, str, str]  # tenant_id, source, event_id


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration a batch was matched against, per tenant, and the id of its outbox row."""

    tenant_id: str
    config_version: int
    epoch: int
    outbox_id: UUID


class BatchWritten(msgspec.Struct, frozen=True, kw_only=True):
    """What one commit did. `fence_holds` False: nothing was written, a configuration had changed."""

    fence_holds: bool
    charge_ids: frozenset[UUID]
    counters: tuple[tuple[str, CounterState], ...]  # (tenant_id, state)
    epoch: int


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded under an event key before."""

    fingerprint: bytes
    summary: ChargeSummary


async def record_batch(
    pool: PostgresPool,
    fences: Sequence[Fence],
    batch: MatchedBatch,
    published: Sequence[tuple[str, UUID]] = (),
) -> BatchWritten:
    """Record the charges whose event keys are new, in one transaction and one round trip; see sql/record_batch.sql.

    `published` are outbox rows that were published since: they are deleted on the way.
    """
    keys = tenant_lock_keys(fence.tenant_id for fence in fences)
    async with pool.connection() as connection:
        async with connection.pipeline(), connection.transaction():
            await connection.execute(_KEEP_PLAN)
            await connection.execute(LOCK_SHARED, (keys,))
            cursor = await connection.execute(_RECORD_BATCH, _parameters(fences, batch), prepare=True)
            if published:
                await connection.execute(_DELETE_PUBLISHED, _as_arrays(published))
        return _written(await cursor.fetchone())


@asynccontextmanager
async def holding_configurations(pool: PostgresPool, tenant_ids: Iterable[str]) -> AsyncIterator[PostgresConnection]:
    """Open a transaction that keeps the tenants' configurations from changing until it ends."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(LOCK_SHARED, (tenant_lock_keys(tenant_ids),))
        yield connection


async def record_batch_on(connection: PostgresConnection, fences: Sequence[Fence], batch: MatchedBatch) -> BatchWritten:
    """Record the same way within a transaction that holds the locks already."""
    return await (await send_batch(connection, fences, batch)).written()


def _parameters(fences: Sequence[Fence], batch: MatchedBatch) -> tuple[str, ...]:
    return tuple(msgspec.json.encode(part).decode() for part in (fences, batch.counters, batch.charges))


def _written(row: tuple[Any, ...] | None) -> BatchWritten:
    assert row is not None
    fence_holds, charge_ids, counters, epoch, _ = row
    return BatchWritten(
        fence_holds=fence_holds,
        charge_ids=frozenset(UUID(charge_id) for charge_id in charge_ids or ()),
        counters=tuple(_counter(counter) for counter in counters or ()),
        epoch=epoch,
    )


def _counter(row: list[Any]) -> tuple[str, CounterState]:
    tenant_id, budget_id, subject, bucket, enforced, version = row
    state = CounterState(
        budget_id=UUID(budget_id),
        subject=subject,
        bucket=datetime.fromisoformat(bucket),
        enforced=Decimal(enforced),
        version=version,
    )
    return tenant_id, state


def _as_arrays(published: Sequence[tuple[str, UUID]]) -> tuple[list[str], list[UUID]]:
    return [tenant_id for tenant_id, _ in published], [outbox_id for _, outbox_id in published]


async def delete_published(pool: PostgresPool, published: Sequence[tuple[str, UUID]]) -> None:
    """Delete outbox rows that were published."""
    async with pool.connection() as connection:
        await connection.execute(_DELETE_PUBLISHED, _as_arrays(published))


async def find_originals(pool: PostgresPool, keys: Iterable[EventKey]) -> dict[EventKey, Original]:
    """Return what is recorded under each of the keys that exist."""
    columns = list(zip(*keys, strict=True)) or [(), (), ()]
    async with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND_ORIGINALS, [list(column) for column in columns])
        return {
            (row["tenant_id"], row["source"], row["event_id"]): Original(
                fingerprint=bytes(row["fingerprint"]),
                summary=ChargeSummary(
                    charge_id=row["charge_id"],
                    requested_model=row["requested_model"],
                    deployment=row["deployment"],
                    served_model=row["served_model"],
                    cost_usd=row["cost_usd"],
                    price_state=row["price_state"],
                ),
            )
            async for row in cursor
        }


class BatchAnswer:
    """What the database will answer to a batch that was sent."""

    def __init__(self, cursor: AsyncCursor[Any]) -> None:
        self._cursor = cursor

    async def written(self) -> BatchWritten:
        """Wait for it."""
        return _written(await self._cursor.fetchone())


async def send_batch(connection: PostgresConnection, fences: Sequence[Fence], batch: MatchedBatch) -> BatchAnswer:
    """Send a batch within a transaction that holds the locks already; in pipeline mode nothing waits for the answer."""
    await connection.execute(_KEEP_PLAN)
    return BatchAnswer(await connection.execute(_RECORD_BATCH, _parameters(fences, batch), prepare=True))


async def send_deletion(connection: PostgresConnection, published: Sequence[tuple[str, UUID]]) -> None:
    """Delete outbox rows that were published, within a transaction."""
    if published:
        await connection.execute(_DELETE_PUBLISHED, _as_arrays(published))


async def holds_fence(connection: PostgresConnection, fences: Sequence[Fence]) -> bool:
    """Tell whether the configurations are those in force, and keep the epoch as it is until the transaction ends.

    The transaction holds the tenants' locks: the configurations stay as well.
    """
    cursor = await connection.execute(_LOCK_EPOCH)
    row = await cursor.fetchone()
    assert row is not None
    cursor = await connection.execute(_VERSIONS, ([fence.tenant_id for fence in fences],))
    versions: dict[str, int] = dict(await cursor.fetchall())
    return all(fence.epoch == row[0] and versions.get(fence.tenant_id) == fence.config_version for fence in fences)


async def find_recorded(
    connection: PostgresConnection, tenant_id: str, source: str, event_ids: Sequence[str]
) -> frozenset[str]:
    """Return those of the event ids that are recorded."""
    cursor = await connection.execute(_FIND_RECORDED, (tenant_id, source, list(event_ids)))
    return frozenset([row[0] for row in await cursor.fetchall()])


def posts_of(written: BatchWritten, fences: Sequence[Fence], batch: MatchedBatch) -> tuple[CommittedPosts, ...]:
    """Return what a committed batch owes to Redis, per tenant: the content of its outbox rows, states included."""
    counters: dict[str, list[CounterState]] = {}
    rolling = {counter.budget_id for counter in batch.counters if counter.is_rolling}
    for tenant_id, state in written.counters:
        known = msgspec.structs.replace(state, is_rolling=True) if state.budget_id in rolling else state
        counters.setdefault(tenant_id, []).append(known)
    settlements: dict[str, list[Settlement]] = {}
    for charge in batch.charges:
        if charge.reservation_id is not None and charge.charge_id in written.charge_ids:
            settlements.setdefault(charge.tenant_id, []).append(_settlement(charge, batch.counters))
    return tuple(
        CommittedPosts(
            tenant_id=fence.tenant_id,
            outbox_id=fence.outbox_id,
            epoch=written.epoch,
            counters=tuple(counters.get(fence.tenant_id, ())),
            settlements=tuple(settlements.get(fence.tenant_id, ())),
        )
        for fence in fences
        if fence.tenant_id in counters or fence.tenant_id in settlements
    )


def _settlement(charge: ChargeDraft, counters: Sequence[WindowPost]) -> Settlement:
    assert charge.reservation_id is not None
    return Settlement(
        reservation_id=charge.reservation_id,
        charge_id=charge.charge_id,
        amount_usd=charge.enforced_usd,
        is_final=charge.is_final,
        is_failure=charge.status == "failure",
        counters=tuple((counters[number].budget_id, counters[number].subject) for number in charge.window_numbers),
    )
