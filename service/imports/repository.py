"""What an import reads of this installation: charges it has to know of, and the lock that keeps imports apart."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from service.db.pools import PostgresPool, connected
from service.errors import StateConflict
from service.imports.spend import IMPORT_SOURCE
from service.imports.spend_groups import digest_of_event_id
from service.kit.money import EXACT, ZERO
from service.ledger.charge import CountedCharge

_ROWS_AT_ONCE = 2_000
_ANSWER_SECONDS = 10.0
_LOCK = "SELECT pg_try_advisory_lock(%s)"
_UNLOCK = "SELECT pg_advisory_unlock(%s)"
_CHARGES = """
SELECT charge_id, effective_at, config_version, enforced_usd, organization, team, project, "user", api_key, end_user,
       agent, session, tags, requested_model, requested_canonical, deployment, deployment_id, served_model, provider,
       kind = 'usage' AS is_usage
FROM charge WHERE tenant_id = %(tenant_id)s AND (%(start)s::timestamptz IS NULL OR effective_at >= %(start)s)
"""
_RECORDED = """
SELECT event_id, enforced_usd FROM charge
WHERE tenant_id = %(tenant_id)s AND effective_at >= %(start)s AND kind = 'opening' AND source = %(source)s
"""
_FIRST_USAGE = """
SELECT min(occurred_at) FROM charge
WHERE tenant_id = %(tenant_id)s AND effective_at >= %(start)s AND occurred_at >= %(start)s AND kind = 'usage'
"""


class KnownCharge(CountedCharge, frozen=True, kw_only=True):
    """A recorded charge; `is_usage`: of an event, not of an import."""

    is_usage: bool


class ImportLock:
    """The lock that keeps other imports out: it is gone with the connection that took it."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def assert_held(self) -> None:
        """Make sure that no other import can have begun. Raises StateConflict."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._connection.execute("SELECT 1")
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
            raise StateConflict(
                "The database connection with the lock of this import was lost. Import again: nothing is taken twice.",
                code="import_lock_lost",
            ) from error


@asynccontextmanager
async def importing(pool: PostgresPool, tenant_id: str) -> AsyncIterator[ImportLock]:
    """Keep every other import of the tenant out. Raises StateConflict while one is running."""
    key = lock_key(tenant_id)
    async with connected(pool) as connection:
        row = await (await connection.execute(_LOCK, (key,))).fetchone()
        if row is None or not row[0]:
            raise StateConflict("Another import into this tenant is running; wait for it.", code="import_running")
        try:
            yield ImportLock(connection)
        finally:
            # Of a connection that was lost the lock is gone, and why the import ended is told by something else.
            with suppress(psycopg.OperationalError, psycopg.InterfaceError):
                await connection.execute(_UNLOCK, (key,))


def lock_key(tenant_id: str) -> int:
    """Return the key of the advisory lock of a tenant's imports."""
    return int.from_bytes(blake2b(tenant_id.encode(), digest_size=8, person=b"tg-import").digest(), signed=True)


async def stream_charges(
    connection: AsyncConnection[Any], tenant_id: str, start: datetime | None
) -> AsyncIterator[Sequence[KnownCharge]]:
    """Yield the charges effective from an instant (None = ever), some at a time; needs a transaction."""
    async with connection.cursor("tallygate_import", row_factory=class_row(KnownCharge)) as cursor:
        await cursor.execute(_CHARGES, {"tenant_id": tenant_id, "start": start})
        while rows := await cursor.fetchmany(_ROWS_AT_ONCE):
            yield rows


async def read_recorded(connection: AsyncConnection[Any], tenant_id: str, start: datetime) -> dict[str, Decimal]:
    """Return what earlier imports recorded of groups of logs, by the digest of the group."""
    parameters = {"tenant_id": tenant_id, "start": start, "source": IMPORT_SOURCE}
    recorded: dict[str, Decimal] = {}
    async for event_id, amount in await connection.execute(_RECORDED, parameters):
        digest = digest_of_event_id(event_id)
        if digest is not None:
            recorded[digest] = EXACT.add(recorded.get(digest, ZERO), amount)
    return recorded


async def find_first_usage(connection: AsyncConnection[Any], tenant_id: str, start: datetime) -> datetime | None:
    """Return when the first call of a range began that an event told of."""
    parameters = {"tenant_id": tenant_id, "start": start}
    row = await (await connection.execute(_FIRST_USAGE, parameters)).fetchone()
    return None if row is None else row[0]
