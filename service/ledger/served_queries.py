"""What the ledger saw lately: which models answered, which ways the calls of a model went, how much they put out."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from service.db.pools import PostgresPool, connected

_LATELY = timedelta(days=7)
# Rows looked at per model, the newest first, and routes kept of them: what is asked in front of a call must be quick.
_MOST_TOTALS = 5_000
_MOST_ROUTES = 16
_MOST_BUCKETS = 10
_MOST_CHARGES_PER_BUCKET = 500

_SERVED = """
SELECT DISTINCT served_model
FROM spend_total JOIN tenant USING (tenant_id)
WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
    AND bucket > now() - %(lately)s AND served_model IS NOT NULL
"""
# By spend_total_by_requested_model. Only what succeeded tells a way: failed calls may lack half of their names.
ROUTES_STATEMENT = """
SELECT deployment, served_model, provider
FROM (
    SELECT deployment, served_model, provider, requests - failed_requests AS succeeded
    FROM spend_total
    WHERE tenant_id = %(tenant_id)s AND requested_model = %(model)s AND bucket > now() - %(lately)s
    ORDER BY bucket DESC
    LIMIT %(most_totals)s
) AS seen
WHERE COALESCE(deployment, served_model, provider) IS NOT NULL
GROUP BY deployment, served_model, provider
HAVING sum(succeeded) > 0
ORDER BY sum(succeeded) DESC, deployment, served_model, provider
LIMIT %(most_routes)s
"""
# The totals tell in which quarters of an hour to look for charges of the model. A charge is recorded after its time, or
# some minutes before: the bound on recorded_at leaves older partitions alone.
IN_ORDER_OF_INDEXES = "SET LOCAL enable_sort = off"  # a sort would read whole quarters of an hour before the limit
OUTPUTS_STATEMENT = """
WITH lately AS (
    SELECT DISTINCT bucket
    FROM (
        SELECT bucket
        FROM spend_total
        WHERE tenant_id = %(tenant_id)s AND requested_model = %(model)s AND bucket > now() - %(lately)s
            AND output_tokens > 0
        ORDER BY bucket DESC
        LIMIT %(most_totals)s
    ) AS seen
    ORDER BY bucket DESC
    LIMIT %(most_buckets)s
)
SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY output_tokens)
FROM lately CROSS JOIN LATERAL (
    SELECT requested_model, kind, output_tokens
    FROM charge
    WHERE tenant_id = %(tenant_id)s AND effective_at >= bucket AND effective_at < bucket + interval '15 minutes'
        AND recorded_at > now() - %(lately)s - interval '1 day'
    ORDER BY effective_at DESC
    LIMIT %(most_charges)s
) AS seen
WHERE requested_model = %(model)s AND kind = 'usage' AND output_tokens > 0
"""


class SeenRoute(NamedTuple):
    """A way calls went, in the names their charges have."""

    deployment: str | None
    served_model: str | None
    provider: str | None


class ServedModels:
    """Asks the ledger."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def find(self, tenant_id: str | None) -> frozenset[str]:
        """Return the models that answered in the last seven days, each with and without the prefix of its provider.

        Without a tenant, those of all tenants.
        """
        async with connected(self._pool) as connection:
            cursor = await connection.execute(_SERVED, {"tenant_id": tenant_id, "lately": _LATELY})
            served = {model for (model,) in await cursor.fetchall()}
        return frozenset(served | {model.partition("/")[2] or model for model in served})


async def read_routes(connection: AsyncConnection[Any], tenant_id: str, requested_model: str) -> tuple[SeenRoute, ...]:
    """Return the ways that calls of a requested model went in the last seven days, the most used first, at most 16."""
    cursor = await connection.execute(ROUTES_STATEMENT, statement_parameters(tenant_id, requested_model))
    return tuple([SeenRoute(*row) for row in await cursor.fetchall()])


async def read_output_tokens(connection: AsyncConnection[Any], tenant_id: str, requested_model: str) -> int | None:
    """Return the 99th percentile of what lately answered calls of a requested model put out; None = there were none.

    It is that of a sample: of up to 500 charges of each of the ten last quarters of an hour with such calls.
    """
    async with connection.transaction():
        await connection.execute(IN_ORDER_OF_INDEXES)
        cursor = await connection.execute(OUTPUTS_STATEMENT, statement_parameters(tenant_id, requested_model))
        row = await cursor.fetchone()
    return None if row is None else row[0]


def statement_parameters(tenant_id: str, requested_model: str) -> Mapping[str, Any]:
    """Return what both statements ask for."""
    return {
        "tenant_id": tenant_id,
        "model": requested_model,
        "lately": _LATELY,
        "most_totals": _MOST_TOTALS,
        "most_routes": _MOST_ROUTES,
        "most_buckets": _MOST_BUCKETS,
        "most_charges": _MOST_CHARGES_PER_BUCKET,
    }
