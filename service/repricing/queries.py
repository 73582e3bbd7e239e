"""Reads of charges to be priced anew: page by page in the order (effective_at, charge_id), and what a repricing moved.

A page gives present charges only, those that nothing has reversed. No statement looks at more than a bounded number of
charges, however few of them meet the conditions, and none keeps a snapshot open from page to page.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

import msgspec
from psycopg import AsyncCursor, sql
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from service.db.pools import PostgresConnection, PostgresPool
from service.kit.money import ZERO
from service.ledger.charge import ChargeDraft
from service.ledger.filters import Position
from service.ledger.queries import Bindings, charge_condition, effective_within, reading
from service.repricing.result import DIMENSIONS, GROUPS_SHOWN, RepricingResult, Sums, result_of
from service.repricing.revaluation import ChargeRow
from service.repricing.terms import Job, RepricingTerms

# Small pages: what corrects one holds the rows of its totals and counters until it is committed.
PAGE_CHARGES: Final = 150
_SLICE_CHARGES: Final = 20_000

_NOT_COLUMNS = {"fingerprint", "fingerprint_version", "bucket", "key_digest", "window_numbers"}
_COLUMNS = sql.SQL(", ").join(
    [sql.Identifier("c", name) for name in ChargeDraft.__struct_fields__ if name not in _NOT_COLUMNS]
)

# Whether a charge is present is looked up for those of the page, one by one: as a condition it would leave the planner
# guessing how many charges a page takes, and guessing wrong reads the whole range for each page.
_PAGE = sql.SQL("""
SELECT p.*, (
    SELECT true FROM event_key AS k
    WHERE k.tenant_id = p.tenant_id AND k.source = 'tallygate' AND k.event_id = 'reversal:' || p.charge_id
) IS NULL AS is_present
FROM (SELECT {columns} FROM charge AS c WHERE {where} ORDER BY effective_at, charge_id LIMIT {limit}) AS p
ORDER BY effective_at, charge_id
""")
_SLICE_END = sql.SQL("""
SELECT effective_at, charge_id FROM charge AS c WHERE {where} ORDER BY effective_at, charge_id OFFSET {skipped} LIMIT 1
""")
_COUNT = sql.SQL("SELECT count(*) FROM charge AS c WHERE {where}")
_NOW = "SELECT now()"

_MOVED = """
WITH moved AS (
    SELECT kind, price_state, team, api_key, served_model, cost_usd, enforced_usd
    FROM charge
    WHERE tenant_id = %(tenant_id)s AND effective_at >= %(start)s AND effective_at < %(end)s
      AND recorded_at >= %(begun_at)s AND kind IN ('reversal', 'correction') AND reason = %(reason)s
), grouped AS (
    SELECT
        CASE GROUPING(price_state, team, api_key, served_model)
            WHEN 7 THEN 'price_state' WHEN 11 THEN 'team' WHEN 13 THEN 'api_key' WHEN 14 THEN 'served_model'
        END AS dimension,
        COALESCE(price_state, team, api_key, served_model) AS value,
        COALESCE(-sum(cost_usd) FILTER (WHERE kind = 'reversal'), 0) AS before,
        COALESCE(sum(cost_usd) FILTER (WHERE kind = 'correction'), 0) AS after,
        count(*) FILTER (WHERE kind = 'reversal') AS charges_before,
        count(*) FILTER (WHERE kind = 'correction') AS charges_after,
        COALESCE(sum(enforced_usd), 0) AS enforced_delta
    FROM moved GROUP BY GROUPING SETS ((), (price_state), (team), (api_key), (served_model))
), ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY dimension ORDER BY abs(after - before) DESC, value COLLATE "C" NULLS FIRST
    ) AS rank
    FROM grouped
)
SELECT dimension, value, before, after, charges_before, charges_after, enforced_delta FROM ranked WHERE rank <= %(most)s
"""


class Page(msgspec.Struct, frozen=True):
    """Charges to be priced anew, and where to go on after them: None = there was nothing to look at."""

    charges: list[ChargeRow]
    reached: Position | None


async def read_now(pool: PostgresPool) -> datetime:
    """Return the database's present instant."""
    async with reading(pool) as connection:
        row = await (await connection.execute(_NOW)).fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


async def count_charges(pool: PostgresPool, tenant_id: str, terms: RepricingTerms, begun_at: datetime) -> int:
    """Return how many charges meet the terms, reversed ones included. Raises InvalidInput when counting takes long."""
    bindings = Bindings()
    where = [*_in_range(bindings, tenant_id, terms, begun_at), *_conditions(bindings, terms)]
    statement = _COUNT.format(where=sql.SQL(" AND ").join(where))
    async with reading(pool) as connection:
        row = await (await connection.execute(statement, bindings.values)).fetchone()
    assert row is not None
    return int(row[0])


async def read_pages(
    pool: PostgresPool, tenant_id: str, terms: RepricingTerms, begun_at: datetime, after: Position | None
) -> AsyncIterator[Page]:
    """Yield the present charges that meet the terms and were recorded before it began, from a position on."""
    while True:
        slice_end = await _find_slice_end(pool, tenant_id, terms, begun_at, after) if terms.conditions else None
        is_last_page = False
        while not is_last_page:
            rows = await _read_page(pool, tenant_id, terms, begun_at, after, slice_end)
            is_last_page = len(rows) < PAGE_CHARGES
            if is_last_page and slice_end is not None:
                after = slice_end
            elif rows:
                after = Position(rows[-1]["effective_at"], rows[-1]["charge_id"])
            yield Page([row for row in rows if row["is_present"]], after)
        if slice_end is None:
            return


async def _find_slice_end(
    pool: PostgresPool, tenant_id: str, terms: RepricingTerms, begun_at: datetime, after: Position | None
) -> Position | None:
    """Return the last charge a statement may look at; None when that is all there is."""
    bindings = Bindings()
    where = [*_in_range(bindings, tenant_id, terms, begun_at), *_between(bindings, after, None)]
    statement = _SLICE_END.format(where=sql.SQL(" AND ").join(where), skipped=bindings.bind(_SLICE_CHARGES - 1))
    async with reading(pool) as connection:
        row = await (await connection.execute(statement, bindings.values)).fetchone()
    return None if row is None else Position(row[0], row[1])


async def _read_page(
    pool: PostgresPool,
    tenant_id: str,
    terms: RepricingTerms,
    begun_at: datetime,
    after: Position | None,
    until: Position | None,
) -> list[ChargeRow]:
    bindings = Bindings()
    where = [
        *_in_range(bindings, tenant_id, terms, begun_at),
        *_between(bindings, after, until),
        *_conditions(bindings, terms),
    ]
    statement = _PAGE.format(
        columns=_COLUMNS,
        where=sql.SQL(" AND ").join(where),
        limit=sql.Literal(PAGE_CHARGES),
    )
    async with reading(pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
        set_json_loads(msgspec.json.decode, cursor)
        await cursor.execute(statement, bindings.values)
        return await cursor.fetchall()


def _in_range(bindings: Bindings, tenant_id: str, terms: RepricingTerms, begun_at: datetime) -> list[sql.Composable]:
    return [
        sql.SQL("tenant_id = {}").format(bindings.bind(tenant_id)),
        effective_within(bindings, terms.time_range),
        # What a repricing writes itself lies in its own range, and was recorded after it began.
        sql.SQL("recorded_at < {}").format(bindings.bind(begun_at)),
        sql.SQL("kind IN ('usage', 'correction')"),
    ]


def _conditions(bindings: Bindings, terms: RepricingTerms) -> list[sql.Composable]:
    return [charge_condition(bindings, condition) for condition in terms.conditions]


def _between(bindings: Bindings, after: Position | None, until: Position | None) -> list[sql.Composable]:
    place = sql.SQL("(effective_at, charge_id) {} ({}, {})")
    return [
        place.format(sql.SQL(operator), bindings.bind(position.effective_at), bindings.bind(position.charge_id))
        for operator, position in ((">", after), ("<=", until))
        if position is not None
    ]


async def read_moved(connection: PostgresConnection, job: Job) -> RepricingResult:
    """Return what the corrections of a repricing come to, summed up from the ledger; needs a transaction."""
    await connection.execute("SET LOCAL statement_timeout = 0")
    time_range = job.terms.time_range
    parameters = {
        "tenant_id": job.tenant_id,
        "start": time_range.start,
        "end": time_range.end,
        "begun_at": job.begun_at,
        "reason": job.reason,
        "most": GROUPS_SHOWN,
    }
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_MOVED, parameters)
        return await _result(cursor)


async def _result(cursor: AsyncCursor[dict[str, Any]]) -> RepricingResult:
    total, enforced_delta = Sums(), ZERO
    groups: dict[str, dict[str | None, Sums]] = {name: {} for name in ("price_state", *DIMENSIONS)}
    async for row in cursor:
        sums = Sums(row["before"], row["after"], row["charges_before"], row["charges_after"])
        if row["dimension"] is None:
            total, enforced_delta = sums, row["enforced_delta"]
        else:
            groups[row["dimension"]][row["value"]] = sums
    return result_of(total, enforced_delta, groups["price_state"], groups)
