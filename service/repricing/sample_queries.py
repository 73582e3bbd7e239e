"""Reads what single charges were priced from."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg.rows import dict_row

from service.db.pools import PostgresPool
from service.identity.dimensions import Dimensions
from service.ledger.queries import reading
from service.pricing.facts import CallFacts

_SAMPLES = """
SELECT charge_id, occurred_at, facts::text, organization, team, project, "user", api_key, end_user, agent, session, tags
FROM charge WHERE tenant_id = %s AND charge_id = ANY (%s) AND facts IS NOT NULL
"""
_facts_decoder = msgspec.json.Decoder(CallFacts)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded call, as far as its price depends on it."""

    charge_id: UUID
    occurred_at: datetime
    facts: CallFacts
    dimensions: Dimensions


async def read_samples(pool: PostgresPool, tenant_id: str, charge_ids: Sequence[UUID]) -> list[Sample]:
    """Return those of the charges that carry their facts, in no order that means anything."""
    async with reading(pool) as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SAMPLES, (tenant_id, list(charge_ids)))
        return [_sample(row) for row in await cursor.fetchall()]


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(
        charge_id=row.pop("charge_id"),
        occurred_at=row.pop("occurred_at"),
        facts=_facts_decoder.decode(row.pop("facts")),
        dimensions=Dimensions(**(row | {"tags": tuple(row["tags"])})),
    )
