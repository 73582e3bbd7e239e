"""Reads models seen without a price: one statement over the charges of a range that still stand."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg import sql

from service.db.pools import PostgresPool
from service.ledger.queries import Bindings, reading
from service.spend.report_query import ReportPosition, ReportQuery
from service.spend.report_sql import COMMA, PREPARE, charges_where, group_digest, page_after
from service.spend.unpriced import UnpricedAnswer, UnpricedGroup, UnpricedSums, states_of

# A reversal agrees with what it reverses in all that is asked about here: both are seen, and neither stands. A charge
# without a price was worth what budgets assumed for it: `assumed_usd`.
_ANSWER = sql.SQL("""
WITH seen AS MATERIALIZED (
    SELECT {keys}, charge_id, corrects_charge_id, kind, effective_at, price_reason,
        requests, input_tokens, output_tokens, cost_usd, fees_usd, assumed_usd
    FROM charge AS c
    WHERE {where} AND {states} AND kind IN ('usage', 'correction', 'reversal')
), by_reason AS (
    SELECT {keys}, price_reason, sum(requests) AS requests, sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd, sum(fees_usd) AS fees_usd,
        sum(assumed_usd) AS assumed_usd, min(effective_at) AS first_seen, max(effective_at) AS last_seen,
        max(charge_id::text COLLATE "C") AS sample
    FROM seen AS s
    WHERE kind <> 'reversal' AND NOT EXISTS (
        SELECT 1 FROM seen AS r WHERE r.kind = 'reversal' AND r.corrects_charge_id = s.charge_id)
    GROUP BY {keys}, price_reason
), grouped AS (
    SELECT {keys}, {digest} AS group_digest, sum(requests) AS weight,
        sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
        sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd, sum(fees_usd) AS fees_usd,
        sum(assumed_usd) AS assumed_usd, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
        json_object_agg(COALESCE(price_reason, ''), requests::bigint ORDER BY requests DESC, price_reason)::text
            AS reasons,
        max(sample)::uuid AS sample
    FROM by_reason GROUP BY {keys}
), page AS (
    SELECT *, row_number() OVER (ORDER BY weight DESC, group_digest) AS rank
    FROM grouped WHERE {after} ORDER BY weight DESC, group_digest LIMIT {limit}
)
SELECT 0 AS rank, {no_keys}, NULL AS group_digest, NULL::numeric AS weight,
    COALESCE(sum(requests), 0)::bigint, COALESCE(sum(input_tokens), 0)::bigint,
    COALESCE(sum(output_tokens), 0)::bigint, COALESCE(sum(cost_usd), 0), COALESCE(sum(fees_usd), 0),
    COALESCE(sum(assumed_usd), 0), NULL::timestamptz, NULL::timestamptz, NULL::text, NULL::uuid
FROM grouped
UNION ALL
SELECT rank, {keys}, group_digest, weight, requests, input_tokens, output_tokens, cost_usd, fees_usd, assumed_usd,
    first_seen, last_seen, reasons, sample
FROM page
ORDER BY rank
""")


# Written out, so that the index of charges without a price is seen to hold them all.
_IN_STATES = {
    ("unpriced",): sql.SQL("price_state = 'unpriced'"),
    ("reported",): sql.SQL("price_state = 'reported'"),
    ("unpriced", "reported"): sql.SQL("price_state IN ('unpriced', 'reported')"),
}


class UnpricedQueries:
    """Answers which models were seen without a price, one tenant at a time."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def answer(self, tenant_id: str, query: ReportQuery) -> UnpricedAnswer:
        """Return a page of groups, and the sums of all pages."""
        bindings = Bindings()
        keys = [sql.Identifier(name) for name in query.group_by]
        statement = _ANSWER.format(
            keys=COMMA.join(keys),
            no_keys=COMMA.join([sql.SQL("NULL")] * len(keys)),
            digest=group_digest(query.group_by),
            where=charges_where(bindings, tenant_id, query),
            states=_IN_STATES[states_of(query)],
            after=page_after(bindings, query.after),
            limit=bindings.bind(query.limit + 1),
        )
        async with reading(self._pool) as connection, connection.transaction():
            await connection.execute(PREPARE)
            cursor = await connection.execute(statement, bindings.values, prepare=False)
            found = await cursor.fetchall()
        return _answer(query, found)


_COUNTED = UnpricedSums.__struct_fields__


def _answer(query: ReportQuery, found: Sequence[Sequence[Any]]) -> UnpricedAnswer:
    rows = found[1 : 1 + query.limit]
    last = rows[-1] if len(found) > 1 + query.limit else None
    digest_at = 1 + len(query.group_by)
    return UnpricedAnswer(
        rows=[_group(query, row) for row in rows],
        totals=UnpricedSums(**_sums(found[0])),
        next=None if last is None else ReportPosition(last[digest_at + 1], last[digest_at]),
    )


def _group(query: ReportQuery, row: Sequence[Any]) -> UnpricedGroup:
    first_seen, last_seen, reasons, sample = row[-4:]
    assert isinstance(first_seen, datetime)
    return UnpricedGroup(
        groups=dict(zip(query.group_by, row[1:], strict=False)),
        first_seen=first_seen,
        last_seen=last_seen,
        reasons=msgspec.json.decode(reasons, type=dict[str, int]),
        sample_charge_id=sample,
        **_sums(row),
    )


def _sums(row: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(_COUNTED, row[-4 - len(_COUNTED) : -4], strict=True))
