"""What this slice reads of the ledger, and the outbox it works off."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from service.checks.keys import CounterRef
from service.ledger.posts import CounterState, Settlement

# One parameter in JSON: arrays of uuids and timestamps bound one by one cost several times as much.
_READ_STATES = """
SELECT e.epoch, w.tenant_id, w.budget_id, w.subject, w.bucket, w.enforced, w.version
FROM ledger_epoch AS e
LEFT JOIN (
    json_to_recordset(%s::json) AS a (tenant_id text, budget_id uuid, subject text, bucket timestamptz)
    JOIN budget_window AS w USING (tenant_id, budget_id, subject, bucket)
) ON true
"""
# Younger rows are being published by whoever wrote them. Rows another process works on, or is deleting, are left to it.
_CLAIM_OPEN = """
SELECT tenant_id, outbox_id, extract(epoch FROM clock_timestamp() - created_at)::float8,
       counters::text, settlements::text
FROM outbox
WHERE created_at < clock_timestamp() - make_interval(secs => %s) AND NOT outbox_id = ANY(%s)
ORDER BY created_at
LIMIT %s
FOR UPDATE SKIP LOCKED
"""
_DELETE = """
DELETE FROM outbox USING unnest(%s::text[], %s::uuid[]) AS done (tenant_id, outbox_id)
WHERE outbox.tenant_id = done.tenant_id AND outbox.outbox_id = done.outbox_id
"""

States = dict[CounterRef, CounterState]


class OpenPosts(msgspec.Struct, frozen=True, kw_only=True):
    """One open row of the outbox: the counters that changed, whatever they are now, and the holds to consume."""

    tenant_id: str
    outbox_id: UUID
    age_seconds: float
    counters: tuple[tuple[UUID, str, datetime], ...]
    settlements: tuple[Settlement, ...]


_counters_decoder = msgspec.json.Decoder(tuple[tuple[UUID, str, datetime], ...])
_settlements_decoder = msgspec.json.Decoder(tuple[Settlement, ...])


async def read_states(connection: AsyncConnection[Any], counters: Iterable[CounterRef]) -> tuple[int, States]:
    """Return the epoch and the committed state of each counter that has one."""
    wanted = msgspec.json.encode([msgspec.structs.asdict(counter) for counter in counters]).decode()
    cursor = await connection.execute(_READ_STATES, (wanted,))
    rows = await cursor.fetchall()
    states = {
        CounterRef(tenant_id, budget_id, subject, bucket): CounterState(
            budget_id=budget_id, subject=subject, bucket=bucket, enforced=enforced, version=version
        )
        for _, tenant_id, budget_id, subject, bucket, enforced, version in rows
        if tenant_id is not None
    }
    return rows[0][0], states


async def claim_open_posts(
    connection: AsyncConnection[Any], *, older_than_seconds: float, passing_over: Iterable[UUID], most: int
) -> list[OpenPosts]:
    """Lock and return open rows of the outbox, the oldest first; they stay locked to the end of the transaction."""
    cursor = await connection.execute(_CLAIM_OPEN, (older_than_seconds, list(passing_over), most))
    return [
        OpenPosts(
            tenant_id=tenant_id,
            outbox_id=outbox_id,
            age_seconds=age_seconds,
            counters=_counters_decoder.decode(counters),
            settlements=_settlements_decoder.decode(settlements),
        )
        for tenant_id, outbox_id, age_seconds, counters, settlements in await cursor.fetchall()
    ]


async def delete_posts(connection: AsyncConnection[Any], published: Sequence[OpenPosts]) -> None:
    """Delete rows of the outbox that this transaction claimed."""
    tenant_ids = [posts.tenant_id for posts in published]
    await connection.execute(_DELETE, (tenant_ids, [posts.outbox_id for posts in published]))
