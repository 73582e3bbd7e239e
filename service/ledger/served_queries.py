"""Which models answered lately, by the totals: what a change of prices is going to be felt by."""

from datetime import timedelta

from service.db.pools import PostgresPool, connected

_LATELY = timedelta(days=7)

_SERVED = """
SELECT DISTINCT served_model
FROM spend_total JOIN tenant USING (tenant_id)
WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
    AND bucket > now() - %(lately)s AND served_model IS NOT NULL
"""


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
