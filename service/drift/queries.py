"""What is compared: sums of charges against the totals kept beside them, and the counters as stored."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from service.ledger.charge import CountedCharge
from service.ledger.totals import CORE_KEY

MEASURES = (
    "requests",
    "failed_requests",
    "unpriced_requests",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
    "cost_usd",
    "model_cost_usd",
    "fees_usd",
    "list_cost_usd",
    "enforced_usd",
)

_CORE = ", ".join(f'"{name}"' for name in CORE_KEY)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in MEASURES)
_NAMES = ", ".join(MEASURES)
_BUCKET = "date_bin('15 minutes', effective_at, 'epoch')"

# Statements below are made of the constants above, of nothing else.
# ruff: noqa: S608
_RECOMPUTED_TOTALS = f"""
SELECT {_BUCKET} AS bucket, {_CORE}, {_SUMS} FROM charge WHERE tenant_id = %(tenant)s GROUP BY 1, {_CORE}
"""
_STORED_TOTALS = f"SELECT bucket, {_CORE}, {_NAMES} FROM spend_total WHERE tenant_id = %(tenant)s"
_RECOMPUTED_LABELS = f"""
SELECT bucket, label, value, {_SUMS} FROM (
    SELECT {_BUCKET} AS bucket, 'agent' AS label, agent AS value, {_NAMES} FROM charge
    WHERE tenant_id = %(tenant)s AND agent IS NOT NULL
    UNION ALL
    SELECT {_BUCKET}, 'end_user', end_user, {_NAMES} FROM charge
    WHERE tenant_id = %(tenant)s AND end_user IS NOT NULL
    UNION ALL
    SELECT {_BUCKET}, 'tag', tag, {_NAMES} FROM charge CROSS JOIN LATERAL unnest(tags) AS tag
    WHERE tenant_id = %(tenant)s
) AS labelled
GROUP BY bucket, label, value
"""
_STORED_LABELS = f"SELECT bucket, label, value, {_NAMES} FROM spend_label_total WHERE tenant_id = %(tenant)s"

_RECOMPUTED_KEYS = "SELECT source, event_id, charge_id FROM charge WHERE tenant_id = %(tenant)s"
_STORED_KEYS = "SELECT source, event_id, charge_id FROM event_key WHERE tenant_id = %(tenant)s"

COMPARED = {
    "spend_total": (_RECOMPUTED_TOTALS, _STORED_TOTALS),
    "spend_label_total": (_RECOMPUTED_LABELS, _STORED_LABELS),
    "event_key": (_RECOMPUTED_KEYS, _STORED_KEYS),
}

_CHARGES = """
SELECT charge_id, effective_at, config_version, enforced_usd, organization, team, project, "user", api_key, end_user,
       agent, session, tags, requested_model, requested_canonical, deployment, deployment_id, served_model, provider
FROM charge WHERE tenant_id = %s
"""
_WINDOWS = "SELECT budget_id, subject, bucket, enforced FROM budget_window WHERE tenant_id = %s"
_ROLLING = "SELECT budget_id FROM budget WHERE tenant_id = %s AND period ->> 'kind' = 'rolling'"
_TENANTS = "SELECT tenant_id FROM tenant ORDER BY tenant_id"
_OUTBOX = "SELECT count(*) FROM outbox WHERE tenant_id = %s"

_ROWS_AT_ONCE = 2_000


async def list_tenants(connection: AsyncConnection[Any]) -> list[str]:
    """Return all tenants."""
    return [row[0] for row in await (await connection.execute(_TENANTS)).fetchall()]


async def find_differences(
    connection: AsyncConnection[Any], tenant_id: str, table: str, limit: int
) -> list[tuple[str, dict[str, Any]]]:
    """Return rows that are on one side only: (`recomputed` or `stored`, row)."""
    recomputed, stored = COMPARED[table]
    found: list[tuple[str, dict[str, Any]]] = []
    async with connection.cursor(row_factory=dict_row) as cursor:
        for side, minuend, subtrahend in (("recomputed", recomputed, stored), ("stored", stored, recomputed)):
            statement = f"({minuend}) EXCEPT ALL ({subtrahend}) LIMIT {limit:d}"
            await cursor.execute(statement, {"tenant": tenant_id})
            found += [(side, row) for row in await cursor.fetchall()]
    return found


async def stream_charges(connection: AsyncConnection[Any], tenant_id: str) -> AsyncIterator[Sequence[CountedCharge]]:
    """Yield all charges of a tenant, some at a time; needs a transaction."""
    async with connection.cursor("tallygate_drift", row_factory=class_row(CountedCharge)) as cursor:
        await cursor.execute(_CHARGES, (tenant_id,))
        while rows := await cursor.fetchmany(_ROWS_AT_ONCE):
            yield rows


async def read_windows(connection: AsyncConnection[Any], tenant_id: str) -> dict[tuple[UUID, str, datetime], Decimal]:
    """Return every counter as stored."""
    cursor = await connection.execute(_WINDOWS, (tenant_id,))
    return {(row[0], row[1], row[2]): row[3] async for row in cursor}


async def find_rolling(connection: AsyncConnection[Any], tenant_id: str) -> frozenset[UUID]:
    """Return the budgets, archived ones too, each of whose counters has one key for all its buckets."""
    return frozenset([row[0] async for row in await connection.execute(_ROLLING, (tenant_id,))])


async def count_outbox(connection: AsyncConnection[Any], tenant_id: str) -> int:
    """Return how many batches are not published yet."""
    row = await (await connection.execute(_OUTBOX, (tenant_id,))).fetchone()
    assert row is not None
    return int(row[0])
