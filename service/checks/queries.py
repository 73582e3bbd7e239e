"""What this slice reads of the ledger, and the outbox it works off."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from service.checks.counter_reading import CounterReading
from service.checks.keys import CounterRef
from service.kit.money import ZERO
from service.ledger.posts import CounterState, Settlement

# Parameters in JSON: arrays of uuids and timestamps bound one by one cost several times as much. The second list is of
# rolling counters: everything from the bucket on.
_READ_COUNTERS = """
SELECT e.epoch, r.number, r.bucket, r.enforced, r.version, r.carried_usd
FROM ledger_epoch AS e
LEFT JOIN (
    SELECT a.number, w.bucket, w.enforced, w.version, c.carried_usd
    FROM json_to_recordset(%s::json)
        AS a (number integer, tenant_id text, budget_id uuid, subject text, bucket timestamptz)
    LEFT JOIN budget_window AS w USING (tenant_id, budget_id, subject, bucket)
    LEFT JOIN budget_carry AS c USING (tenant_id, budget_id, subject, bucket)
    WHERE w.version IS NOT NULL OR c.carried_usd IS NOT NULL
    UNION ALL
    SELECT a.number, w.bucket, w.enforced, w.version, NULL
    FROM json_to_recordset(%s::json)
        AS a (number integer, tenant_id text, budget_id uuid, subject text, bucket timestamptz)
    JOIN budget_window AS w ON w.tenant_id = a.tenant_id AND w.budget_id = a.budget_id AND w.subject = a.subject
        AND w.bucket >= a.bucket
) AS r ON true
ORDER BY r.number, r.bucket
"""
_READ_STATES = """
SELECT e.epoch, w.tenant_id, w.budget_id, w.subject, w.bucket, w.enforced, w.version,
       COALESCE(b.period ->> 'kind' = 'rolling', false)
FROM ledger_epoch AS e
LEFT JOIN (
    json_to_recordset(%s::json) AS a (tenant_id text, budget_id uuid, subject text, bucket timestamptz)
    JOIN budget_window AS w USING (tenant_id, budget_id, subject, bucket)
    LEFT JOIN budget AS b USING (tenant_id, budget_id)
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


async def read_counters(connection: AsyncConnection[Any], counters: Sequence[CounterRef]) -> list[CounterReading]:
    """Return what the ledger says of each counter, in order."""
    lists: tuple[list[Any], list[Any]] = ([], [])
    for number, counter in enumerate(counters):
        lists[counter.is_rolling].append(
            {
                "number": number,
                "tenant_id": counter.tenant_id,
                "budget_id": counter.budget_id,
                "subject": counter.subject,
                "bucket": counter.bucket,
            }
        )
    cursor = await connection.execute(_READ_COUNTERS, [msgspec.json.encode(each).decode() for each in lists])
    rows = await cursor.fetchall()
    states: dict[int, list[CounterState]] = {}
    carried: dict[int, Decimal] = {}
    for _, number, bucket, enforced, version, carried_usd in rows:
        if version is not None:
            states.setdefault(number, []).append(_state(counters[number], bucket, enforced, version))
        if carried_usd is not None:
            carried[number] = carried_usd
    return [
        CounterReading(
            epoch=rows[0][0],
            counter=counter,
            states=tuple(states.get(number, () if counter.is_rolling else [_state(counter, counter.bucket, ZERO, 0)])),
            carried_usd=carried.get(number),
        )
        for number, counter in enumerate(counters)
    ]


def _state(counter: CounterRef, bucket: datetime, enforced: Decimal, version: int) -> CounterState:
    return CounterState(
        budget_id=counter.budget_id,
        subject=counter.subject,
        bucket=bucket,
        enforced=enforced,
        version=version,
        is_rolling=counter.is_rolling,
    )


async def read_states(connection: AsyncConnection[Any], counters: Iterable[CounterRef]) -> tuple[int, States]:
    """Return the epoch and the committed state of each bucket of a counter that has one."""
    wanted = msgspec.json.encode([msgspec.structs.asdict(counter) for counter in counters]).decode()
    cursor = await connection.execute(_READ_STATES, (wanted,))
    rows = await cursor.fetchall()
    states = {
        CounterRef(tenant_id, budget_id, subject, bucket): CounterState(
            budget_id=budget_id,
            subject=subject,
            bucket=bucket,
            enforced=enforced,
            version=version,
            is_rolling=is_rolling,
        )
        for _, tenant_id, budget_id, subject, bucket, enforced, version, is_rolling in rows
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
