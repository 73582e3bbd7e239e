"""Every statement about what counters carried into their windows."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from service.budgets.budget import Budget
from service.budgets.repository import BUDGET_COLUMNS, budget_of_row

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"
_LOCK_KEY = int.from_bytes(blake2b(b"carries", digest_size=8, person=b"tg-carries").digest(), signed=True)
_BUDGETS = f"SELECT {BUDGET_COLUMNS} FROM budget WHERE rollover IS NOT NULL AND state = 'current' ORDER BY budget_id"  # noqa: S608
# Whoever spent nothing in the window before is fixed when a check asks for it.
_SUBJECTS_TO_FIX = """
SELECT w.subject FROM budget_window AS w
WHERE w.tenant_id = %(tenant_id)s AND w.budget_id = %(budget_id)s AND w.subject > %(after)s
  AND w.bucket = %(former)s AND NOT EXISTS (
    SELECT FROM budget_carry AS c
    WHERE c.tenant_id = w.tenant_id AND c.budget_id = w.budget_id AND c.subject = w.subject AND c.bucket = %(bucket)s
  )
ORDER BY w.subject LIMIT %(limit)s
"""
# What was fixed last, and what was posted in that window and all after it.
_HISTORIES = """
SELECT a.number, w.bucket, w.enforced, NULL AS carried_usd
FROM json_to_recordset(%(wanted)s::json)
    AS a (number integer, tenant_id text, budget_id uuid, subject text, bucket timestamptz)
JOIN budget_window AS w USING (tenant_id, budget_id, subject)
WHERE w.bucket < a.bucket AND w.bucket >= COALESCE(
    (SELECT max(c.bucket) FROM budget_carry AS c WHERE c.tenant_id = a.tenant_id AND c.budget_id = a.budget_id
        AND c.subject = a.subject AND c.bucket < a.bucket), '-infinity')
UNION ALL
SELECT a.number, c.bucket, NULL, c.carried_usd
FROM json_to_recordset(%(wanted)s::json)
    AS a (number integer, tenant_id text, budget_id uuid, subject text, bucket timestamptz)
CROSS JOIN LATERAL (
    SELECT bucket, carried_usd FROM budget_carry AS c
    WHERE c.tenant_id = a.tenant_id AND c.budget_id = a.budget_id AND c.subject = a.subject AND c.bucket < a.bucket
    ORDER BY c.bucket DESC LIMIT 1
) AS c
"""
# What another replica fixed first stays; rows are locked in one order.
_FIX = """
INSERT INTO budget_carry AS c (tenant_id, budget_id, subject, bucket, carried_usd, fixed_at)
SELECT tenant_id, budget_id, subject, bucket, carried_usd, clock_timestamp()
FROM json_to_recordset(%s::json)
    AS a (tenant_id text, budget_id uuid, subject text, bucket timestamptz, carried_usd numeric)
ORDER BY tenant_id, budget_id, subject, bucket
ON CONFLICT (tenant_id, budget_id, subject, bucket) DO UPDATE SET carried_usd = c.carried_usd
RETURNING c.tenant_id, c.budget_id, c.subject, c.bucket, c.carried_usd
"""
_FIND = """
SELECT budget_id, subject, bucket, carried_usd
FROM json_to_recordset(%s::json) AS a (budget_id uuid, subject text, bucket timestamptz)
JOIN budget_carry USING (budget_id, subject, bucket)
WHERE tenant_id = %s
"""

CarryKey = tuple[str, UUID, str, datetime]  # tenant_id, budget_id, subject, start of the window


class History(msgspec.Struct, frozen=True):
    """What is known of the windows before one: sums by their starts, and what was carried into one of them."""

    posted: dict[datetime, Decimal]
    known: dict[datetime, Decimal]


async def try_lock(connection: AsyncConnection[Any]) -> bool:
    """Try to be the one who fixes until the transaction ends; saves double work only."""
    row = await (await connection.execute(_TRY_LOCK, (_LOCK_KEY,))).fetchone()
    return row is not None and bool(row[0])


async def load_budgets_with_rollover(connection: AsyncConnection[Any]) -> list[Budget]:
    """Return the live budgets of all tenants that carry over, but for those still being seeded."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_BUDGETS)
        return [budget_of_row(row) async for row in cursor]


async def find_subjects_to_fix(
    connection: AsyncConnection[Any], budget: Budget, *, former: datetime, bucket: datetime, after: str, limit: int
) -> list[str]:
    """Return subjects, those after one, that spent in the window before and have nothing fixed for this one."""
    parameters = {
        "tenant_id": budget.tenant_id,
        "budget_id": budget.budget_id,
        "former": former,
        "bucket": bucket,
        "after": after,
        "limit": limit,
    }
    return [row[0] async for row in await connection.execute(_SUBJECTS_TO_FIX, parameters)]


async def read_histories(connection: AsyncConnection[Any], keys: Sequence[CarryKey]) -> list[History]:
    """Return what was before each of the windows, in order."""
    histories = [History({}, {}) for _ in keys]
    wanted = [_document(key) | {"number": number} for number, key in enumerate(keys)]
    cursor = await connection.execute(_HISTORIES, {"wanted": _json(wanted)})
    for number, bucket, enforced, carried_usd in await cursor.fetchall():
        if carried_usd is None:
            histories[number].posted[bucket] = enforced
        else:
            histories[number].known[bucket] = carried_usd
    return histories


async def fix(connection: AsyncConnection[Any], carried: dict[CarryKey, Decimal]) -> dict[CarryKey, Decimal]:
    """Store what is carried in unless that is fixed already; return what is."""
    rows = [_document(key) | {"carried_usd": amount} for key, amount in carried.items()]
    cursor = await connection.execute(_FIX, (_json(rows),))
    return {(row[0], row[1], row[2], row[3]): row[4] for row in await cursor.fetchall()}


async def find_carried(
    connection: AsyncConnection[Any], tenant_id: str, counters: Sequence[tuple[UUID, str, datetime]]
) -> dict[tuple[UUID, str, datetime], Decimal]:
    """Return what is fixed as carried into windows (budget, subject, start); nothing where nothing is."""
    wanted = [{"budget_id": budget, "subject": subject, "bucket": bucket} for budget, subject, bucket in counters]
    cursor = await connection.execute(_FIND, (_json(wanted), tenant_id))
    return {(row[0], row[1], row[2]): row[3] for row in await cursor.fetchall()}


def _document(key: CarryKey) -> dict[str, Any]:
    return dict(zip(("tenant_id", "budget_id", "subject", "bucket"), key, strict=True))


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()
