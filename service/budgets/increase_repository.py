"""Every statement about temporary increases. Each change also raises the budget's version: replicas load it anew."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from service.budgets.budget import Budget, Increase
from service.budgets.repository import Scope
from service.budgets.scope_queries import subject_in_scope

_INSERT = """
INSERT INTO budget_increase
    (tenant_id, increase_id, budget_id, amount_usd, subject, granted_at, until, reason, author)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_CHANGED = "UPDATE budget SET changed_version = %s WHERE tenant_id = %s AND budget_id = %s"
# One that is over stays as it was; one that was to begin later never does.
_END = """
UPDATE budget_increase SET until = greatest(granted_at, clock_timestamp())
WHERE tenant_id = %s AND budget_id = %s AND increase_id = %s AND until > clock_timestamp()
RETURNING increase_id, amount_usd, subject, granted_at, until, reason, author
"""
_FIND = """
SELECT increase_id, amount_usd, subject, granted_at, until, reason, author FROM budget_increase
WHERE tenant_id = %s AND budget_id = %s AND increase_id = %s
"""
_LIST = """
SELECT increase_id, amount_usd, subject, granted_at, until, reason, author FROM budget_increase
WHERE tenant_id = %(tenant_id)s AND budget_id = %(budget_id)s
  AND (%(with_ended)s OR until > clock_timestamp()) AND (granted_at, increase_id) > (%(after_time)s, %(after_id)s)
  AND (subject IS NULL OR {is_visible})
ORDER BY granted_at, increase_id LIMIT %(limit)s
"""
_COUNT_OPEN = """
SELECT count(*) FROM budget_increase WHERE tenant_id = %s AND budget_id = %s AND until > clock_timestamp()
"""


async def insert_increase(connection: AsyncConnection[Any], budget: Budget, increase: Increase, version: int) -> None:
    """Store an increase, inside a change of the tenant's configuration."""
    await connection.execute(
        _INSERT,
        (
            budget.tenant_id,
            increase.increase_id,
            budget.budget_id,
            increase.amount_usd,
            increase.subject,
            increase.granted_at,
            increase.until,
            increase.reason,
            increase.author,
        ),
    )
    await connection.execute(_CHANGED, (version, budget.tenant_id, budget.budget_id))


async def end_increase(
    connection: AsyncConnection[Any], budget: Budget, increase_id: UUID, version: int
) -> Increase | None:
    """End an increase now, inside a change of configuration; None when there is none or it is over already."""
    key = (budget.tenant_id, budget.budget_id, increase_id)
    async with connection.cursor(row_factory=class_row(Increase)) as cursor:
        await cursor.execute(_END, key)
        ended = await cursor.fetchone()
    if ended is not None:
        await connection.execute(_CHANGED, (version, budget.tenant_id, budget.budget_id))
    return ended


async def find_increase(connection: AsyncConnection[Any], budget: Budget, increase_id: UUID) -> Increase | None:
    """Return an increase of the budget, over or not."""
    async with connection.cursor(row_factory=class_row(Increase)) as cursor:
        await cursor.execute(_FIND, (budget.tenant_id, budget.budget_id, increase_id))
        return await cursor.fetchone()


async def list_increases(
    connection: AsyncConnection[Any],
    budget: Budget,
    *,
    scope: Scope,
    with_ended: bool,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Increase]:
    """Return increases of the budget by the time they were granted, those after (granted_at, increase_id).

    Those of single counters only as far as a scope reaches.
    """
    after_time, after_id = after if after is not None else ("-infinity", UUID(int=0))
    parameters: dict[str, Any] = {
        "tenant_id": budget.tenant_id,
        "budget_id": budget.budget_id,
        "with_ended": with_ended,
        "after_time": after_time,
        "after_id": after_id,
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(Increase)) as cursor:
        is_visible = subject_in_scope(budget, scope, parameters, sql.SQL("subject"))
        await cursor.execute(sql.SQL(_LIST).format(is_visible=is_visible), parameters)
        return await cursor.fetchall()


async def count_open_increases(connection: AsyncConnection[Any], budget: Budget) -> int:
    """Return how many increases of the budget are not over."""
    row = await (await connection.execute(_COUNT_OPEN, (budget.tenant_id, budget.budget_id))).fetchone()
    assert row is not None
    return int(row[0])
