"""Reads the divergence report: one statement over the charges of a range; a reversal cancels what it reverses."""

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from service.db.pools import PostgresConnection, PostgresPool
from service.ledger.queries import Bindings, reading
from service.pricing.divergence import OWN_STATES, Tolerance
from service.spend.divergence import DivergenceAnswer, DivergenceGroup, DivergenceQuery, DivergenceSums
from service.spend.report_query import ReportPosition
from service.spend.report_sql import COMMA, PREPARE, charges_where, group_digest, page_after

# Of the group, the charge that differs most and the newest one that differs: both found while summing up, by a text
# that orders like the difference (and is short: more digits decide nothing).
_ANSWER = sql.SQL("""
WITH compared AS (
    SELECT {keys}, charge_id, kind, requests, cost_usd, reported_cost_usd,
        abs(reported_cost_usd - cost_usd) AS difference,
        abs(reported_cost_usd - cost_usd) > greatest({least}, abs(cost_usd) * {ratio}) AS diverges
    FROM charge AS c
    WHERE {where} AND price_state = ANY ({states}) AND reported_cost_usd IS NOT NULL AND kind <> 'conflict'
), grouped AS (
    SELECT {keys}, {digest} AS group_digest,
        sum(requests)::bigint AS requests, sum(cost_usd) AS cost_usd, sum(reported_cost_usd) AS reported_cost_usd,
        COALESCE(sum(requests) FILTER (WHERE diverges), 0)::bigint AS diverging_requests,
        COALESCE(sum(requests * difference) FILTER (WHERE diverges), 0) AS diverging_usd,
        COALESCE(sum(requests) FILTER (WHERE reported_cost_usd = 0 AND cost_usd <> 0), 0)::bigint
            AS reported_zero_requests,
        max(to_char(difference, 'FM0000000000000.000000000000') || ' ' || charge_id::text COLLATE "C")
            FILTER (WHERE diverges AND kind <> 'reversal') AS furthest,
        max(charge_id::text COLLATE "C") FILTER (WHERE diverges AND kind <> 'reversal') AS newest
    FROM compared GROUP BY {keys}
), shown AS (
    SELECT *, abs(reported_cost_usd - cost_usd) AS weight FROM grouped
    WHERE (requests <> 0 OR cost_usd <> 0 OR reported_cost_usd <> 0)
        AND greatest(cost_usd, reported_cost_usd) >= least(cost_usd, reported_cost_usd) * {min_ratio}
), page AS (
    SELECT *, row_number() OVER (ORDER BY weight DESC, group_digest) AS rank
    FROM shown WHERE {after} ORDER BY weight DESC, group_digest LIMIT {limit}
)
SELECT 0 AS rank, {no_keys}, NULL AS group_digest, NULL::numeric AS weight,
    COALESCE(sum(requests), 0)::bigint, COALESCE(sum(cost_usd), 0), COALESCE(sum(reported_cost_usd), 0),
    COALESCE(sum(diverging_requests), 0)::bigint, COALESCE(sum(diverging_usd), 0),
    COALESCE(sum(reported_zero_requests), 0)::bigint, NULL::uuid[]
FROM shown
UNION ALL
SELECT rank, {keys}, group_digest, weight, requests, cost_usd, reported_cost_usd, diverging_requests, diverging_usd,
    reported_zero_requests, ARRAY[right(furthest, 36), newest]::uuid[]
FROM page
ORDER BY rank
""")

# A charge that was reversed meanwhile is no example.
_REVERSED = """
SELECT event_id FROM event_key
WHERE tenant_id = %s AND event_id = ANY (SELECT 'reversal:' || sample FROM unnest(%s::text[]) AS sample)
"""


class DivergenceQueries:
    """Answers where our cost and the gateways' own figures part, one tenant at a time."""

    def __init__(self, pool: PostgresPool, tolerance: Tolerance) -> None:
        self._pool = pool
        self.tolerance = tolerance

    async def answer(self, tenant_id: str, query: DivergenceQuery) -> DivergenceAnswer:
        """Return the answer; a page of it and the totals of all pages."""
        statement, values = self._compose(tenant_id, query)
        async with reading(self._pool) as connection, connection.transaction():
            await connection.execute(PREPARE)
            cursor = await connection.execute(statement, values, prepare=False)
            found = await cursor.fetchall()
            reversed_ids = await _reversed_among(connection, tenant_id, found)
        return _answer(query, found, reversed_ids)

    def _compose(self, tenant_id: str, query: DivergenceQuery) -> tuple[sql.Composed, dict[str, Any]]:
        bindings = Bindings()
        report = query.report
        keys = [sql.Identifier(name) for name in report.group_by]
        statement = _ANSWER.format(
            keys=COMMA.join(keys),
            no_keys=COMMA.join([sql.SQL("NULL")] * len(keys)),
            digest=group_digest(report.group_by),
            least=bindings.bind(self.tolerance.least_usd),
            ratio=bindings.bind(self.tolerance.ratio),
            where=charges_where(bindings, tenant_id, report),
            states=bindings.bind(sorted(OWN_STATES)),
            min_ratio=bindings.bind(query.min_ratio),
            after=page_after(bindings, report.after),
            limit=bindings.bind(report.limit + 1),
        )
        return statement, bindings.values


async def _reversed_among(connection: PostgresConnection, tenant_id: str, found: Sequence[Sequence[Any]]) -> set[str]:
    samples = [str(sample) for row in found for sample in row[-1] or () if sample is not None]
    if not samples:
        return set()
    cursor = await connection.execute(_REVERSED, (tenant_id, samples))
    return {event_id.removeprefix("reversal:") for (event_id,) in await cursor.fetchall()}


def _answer(query: DivergenceQuery, found: Sequence[Sequence[Any]], reversed_ids: set[str]) -> DivergenceAnswer:
    report = query.report
    rows = found[1 : 1 + report.limit]
    last = rows[-1] if len(found) > 1 + report.limit else None
    width = 1 + len(report.group_by)
    return DivergenceAnswer(
        rows=[
            DivergenceGroup(
                groups=dict(zip(report.group_by, row[1:width], strict=True)),
                sums=_sums(row),
                sample_charge_ids=[
                    sample
                    for sample in dict.fromkeys(row[-1])
                    if sample is not None and str(sample) not in reversed_ids
                ],
            )
            for row in rows
        ],
        totals=_sums(found[0]),
        next=None if last is None else ReportPosition(last[width + 1], last[width]),
    )


def _sums(row: Sequence[Any]) -> DivergenceSums:
    return DivergenceSums(**dict(zip(DivergenceSums.__struct_fields__, row[-7:-1], strict=True)))
