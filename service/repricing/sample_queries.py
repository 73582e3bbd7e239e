"""Reads what single charges were priced from."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from service.db.pools import PostgresPool
from service.ledger.queries import reading
from service.repricing.revaluation import ChargeRow

_SAMPLES: Final = """
SELECT charge_id, occurred_at, facts, provenance, requested_model,
    organization, team, project, "user", api_key, end_user, agent, session, tags
FROM charge WHERE tenant_id = %s AND charge_id = ANY (%s)
"""


async def read_samples(pool: PostgresPool, tenant_id: str, charge_ids: Sequence[UUID]) -> list[ChargeRow]:
    """Return of these charges what their price depends on, in no order that means anything."""
    async with reading(pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
        set_json_loads(msgspec.json.decode, cursor)
        await cursor.execute(_SAMPLES, (tenant_id, list(charge_ids)))
        return await cursor.fetchall()
