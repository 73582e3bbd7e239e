"""SQL of price book versions. Rows are never changed: a book that priced a charge can be read for ever."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final, NamedTuple

from service.db.pools import PostgresConnection

# The book of the whole installation, for tenants without one of their own.
SHARED: Final = ""

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Two different first books at once would leave it to chance which of them prices the past.
_FIRST_VERSION_LOCK: Final = 0x7467_7072_6963_6501

_HAS_SHARED = "SELECT EXISTS (SELECT FROM price_book_version WHERE tenant_id = %s)"

_INSERT = """
INSERT INTO price_book_version (tenant_id, version, effective_from, imported_by, origin, snapshot_gzip)
VALUES (%s, %s, %s, %s, %s, %s)
"""

_LIST = """
SELECT tenant_id, version, effective_from FROM price_book_version
ORDER BY tenant_id, effective_from, imported_at, version
"""

_FETCH = "SELECT DISTINCT ON (version) version, snapshot_gzip FROM price_book_version WHERE version = ANY(%s)"


class VersionRow(NamedTuple):
    """One version, without its prices."""

    tenant_id: str
    version: str
    effective_from: datetime


async def insert_first_version(
    connection: PostgresConnection, *, version: str, origin: str, imported_by: str, snapshot: bytes
) -> bool:
    """Insert the installation's first book, in force since ever, unless there is one; tell whether it was inserted."""
    if await _has_shared(connection):
        return False
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_FIRST_VERSION_LOCK])
        if await _has_shared(connection):
            return False
        await connection.execute(_INSERT, [SHARED, version, BEGINNING, imported_by, origin, snapshot])
    return True


async def list_versions(connection: PostgresConnection) -> list[VersionRow]:
    """Return all versions, each tenant's in the order in which they come into force."""
    cursor = await connection.execute(_LIST)
    return [VersionRow(*row) for row in await cursor.fetchall()]


async def fetch_snapshots(connection: PostgresConnection, versions: Collection[str]) -> dict[str, bytes]:
    """Return the compressed prices of these versions."""
    cursor = await connection.execute(_FETCH, [list(versions)])
    return {version: bytes(snapshot) for version, snapshot in await cursor.fetchall()}


async def _has_shared(connection: PostgresConnection) -> bool:
    row = await (await connection.execute(_HAS_SHARED, [SHARED])).fetchone()
    assert row is not None
    return bool(row[0])
