"""Reads the charges of a range in the order of their effective time, page by page, from one snapshot.

Present charges only: what was reversed is left out with its reversal, a correction stands in the place of its original.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from service.db.pools import PostgresPool
from service.identity.conditions import Condition, Match
from service.identity.dimensions import PEOPLE
from service.ledger.charge import CountedCharge
from service.ledger.queries import Bindings, reading

PAGE_CHARGES: Final = 4_000
_BEFORE_EVERYTHING: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Charges never take effect after they were recorded: earlier partitions are left out. A day for our clocks.
_RECORDED_BEFORE_EFFECTIVE: Final = timedelta(days=1)

_PAGE = sql.SQL("""
SELECT p.*, (
    SELECT true FROM event_key AS k
    WHERE k.tenant_id = {tenant_id} AND k.source = 'tallygate' AND k.event_id = 'reversal:' || p.charge_id
) IS NULL AS is_present
FROM (
    SELECT charge_id, effective_at, config_version, kind, price_state, enforced_usd, organization, team, project,
           "user", api_key, end_user, agent, session, tags, requested_model, requested_canonical, deployment,
           deployment_id, served_model, provider
    FROM charge WHERE {where} ORDER BY effective_at, charge_id LIMIT {limit}
) AS p
ORDER BY effective_at, charge_id
""")


class PastCharge(CountedCharge, frozen=True, kw_only=True):
    """A recorded charge; `is_present`: no reversal has taken it back."""

    kind: str
    price_state: str
    is_present: bool


@asynccontextmanager
async def snapshot(pool: PostgresPool) -> AsyncIterator[AsyncConnection[Any]]:
    """Lend a connection in a snapshot nothing is written to. Raises as `reading` does."""
    async with reading(pool) as connection, connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection


async def read_pages(
    connection: AsyncConnection[Any], tenant_id: str, match: Match, since: datetime | None, end: datetime
) -> AsyncIterator[Sequence[PastCharge]]:
    """Yield the present charges effective within [since, end) that may match; since None = ever."""
    through, charge_id = since or _BEFORE_EVERYTHING, UUID(int=0)
    while True:
        page = await _read_page(connection, tenant_id, match, (through, charge_id), end)
        yield [charge for charge in page if charge.is_present and charge.kind != "reversal"]
        if len(page) < PAGE_CHARGES:
            return
        through, charge_id = page[-1].effective_at, page[-1].charge_id
        await asyncio.sleep(0)


async def _read_page(
    connection: AsyncConnection[Any], tenant_id: str, match: Match, after: tuple[datetime, UUID], end: datetime
) -> list[PastCharge]:
    bindings = Bindings()
    tenant, start = bindings.bind(tenant_id), bindings.bind(after[0])
    where: list[sql.Composable] = [
        sql.SQL("tenant_id = {}").format(tenant),
        sql.SQL("effective_at >= {} AND effective_at < {}").format(start, bindings.bind(end)),
        sql.SQL("(effective_at, charge_id) > ({}, {})").format(start, bindings.bind(after[1])),
        sql.SQL("recorded_at >= {}").format(bindings.bind(after[0] - _RECORDED_BEFORE_EFFECTIVE)),
        *[_narrowing(condition, bindings) for condition in match if condition.dimension in PEOPLE],
    ]
    statement = _PAGE.format(tenant_id=tenant, where=sql.SQL(" AND ").join(where), limit=bindings.bind(PAGE_CHARGES))
    async with connection.cursor(row_factory=class_row(PastCharge)) as cursor:
        await cursor.execute(statement, bindings.values)
        return await cursor.fetchall()


def _narrowing(condition: Condition, bindings: Bindings) -> sql.Composable:
    """Return what lets every charge through that meets the condition, so that others need not be read."""
    column = sql.Identifier(condition.dimension)
    match condition.kind:
        case "any_of":
            return sql.SQL("{} = ANY ({}::text[])").format(column, bindings.bind(list(condition.values)))
        case "prefix":
            return sql.SQL("starts_with({}, {})").format(column, bindings.bind(condition.values[0]))
        case "absent":
            return sql.SQL("COALESCE({}, '') = ''").format(column)
        case "each":
            return sql.SQL("{} <> ''").format(column)
        case "pattern":
            return sql.SQL("true")
