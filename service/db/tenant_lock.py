"""The advisory lock of a tenant: shared while a batch is recorded, exclusive while its configuration changes.

Whoever holds it exclusively knows that every batch matched against the former configuration is committed.
"""

from collections.abc import Iterable
from hashlib import blake2b

from psycopg import AsyncConnection

LOCK_SHARED = "SELECT count(pg_advisory_xact_lock_shared(key)) FROM unnest(%s::bigint[]) AS key"
_LOCK_EXCLUSIVE = "SELECT pg_advisory_xact_lock(%s)"


def tenant_lock_key(tenant_id: str) -> int:
    """Return the 64-bit key of a tenant's advisory lock."""
    return int.from_bytes(blake2b(tenant_id.encode(), digest_size=8, person=b"tallygate").digest(), signed=True)


def tenant_lock_keys(tenant_ids: Iterable[str]) -> list[int]:
    """Return the keys of some tenants in the one order in which they are locked."""
    return sorted(tenant_lock_key(tenant_id) for tenant_id in tenant_ids)


async def lock_tenant_exclusively(connection: AsyncConnection[object], tenant_id: str) -> None:
    """Wait until no batch of the tenant is being recorded and keep new ones out until the transaction ends."""
    await connection.execute(_LOCK_EXCLUSIVE, (tenant_lock_key(tenant_id),))
