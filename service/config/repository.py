"""Reads of a tenant's configuration in one snapshot, and the step of its version."""

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

_VERSIONS = "SELECT tenant_id, config_version FROM tenant WHERE tenant_id = ANY (%s)"
_RAISE_VERSION = "UPDATE tenant SET config_version = config_version + 1 WHERE tenant_id = %s RETURNING config_version"
_ANNOUNCE = "SELECT pg_notify('tallygate_config', %s)"

_EPOCH = "SELECT epoch FROM ledger_epoch"

CONFIG_CHANNEL = "tallygate_config"


async def raise_version(connection: AsyncConnection[Any], tenant_id: str) -> int | None:
    """Raise the tenant's config_version and announce it at commit; None when there is no such tenant."""
    cursor = await connection.execute(_RAISE_VERSION, (tenant_id,))
    row = await cursor.fetchone()
    if row is None:
        return None
    await connection.execute(_ANNOUNCE, (f"{tenant_id} {row[0]}",))
    return int(row[0])


async def read_epoch(connection: AsyncConnection[Any]) -> int:
    """Return the present epoch of the ledger."""
    row = await (await connection.execute(_EPOCH)).fetchone()
    assert row is not None
    return int(row[0])


async def find_versions(connection: AsyncConnection[Any], tenant_ids: Sequence[str]) -> dict[str, int]:
    """Return the present config_version of each tenant that exists."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_VERSIONS, (list(tenant_ids),))
        return {row["tenant_id"]: row["config_version"] async for row in cursor}
