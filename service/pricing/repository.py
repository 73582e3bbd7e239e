"""SQL of price book versions. Rows are never changed: a book that priced a charge can be read for ever.

The number of rows is the generation of what is known of prices. A process that prices by an older generation holds a
shared advisory lock of that number, so that whoever adds a version can see when the last one has followed.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from psycopg.types.json import Jsonb

from service.db.pools import PostgresConnection
from service.kit.instants import BEGINNING

# The book of the whole installation, for tenants without one of their own.
SHARED: Final = ""

CHANNEL: Final = "tallygate_prices"

# One version is added at a time: the latest added of the same instant wins, and two first books would leave it to
# chance which of them prices the past.
_ADD_LOCK: Final = 0x7467_7072_6963_6501
_GENERATION_CLASS: Final = 0x7467_7072
_LEAD_LOCK: Final = 0x7467_7072_6963_6502

_HAS_SHARED = "SELECT EXISTS (SELECT FROM price_book_version WHERE tenant_id = %s)"

_LOCK = "SELECT pg_advisory_xact_lock(%s)"
_CLOCK = "SELECT clock_timestamp()"
_GENERATION = "SELECT count(*) FROM price_book_version"
_INSERT = """
INSERT INTO price_book_version
    (tenant_id, version, effective_from, imported_at, imported_by, origin, report, snapshot_gzip)
VALUES (%s, %s, %s, clock_timestamp(), %s, %s, %s, %s)
ON CONFLICT DO NOTHING
RETURNING imported_at
"""
_ANNOUNCE = "SELECT pg_notify(%s, '')"

_LIST = """
SELECT tenant_id, version, effective_from FROM price_book_version
ORDER BY tenant_id, effective_from, imported_at, version
"""

_FETCH = "SELECT DISTINCT ON (version) version, snapshot_gzip FROM price_book_version WHERE version = ANY(%s)"

# A tenant's own book comes before the installation's, whose tenant_id is the least of all.
_IN_FORCE = """
SELECT tenant_id, version, effective_from FROM price_book_version
WHERE tenant_id = ANY(%s) AND effective_from <= %s
ORDER BY tenant_id = '', effective_from DESC, imported_at DESC, version DESC
LIMIT 1
"""
_NEXT = "SELECT min(effective_from) FROM price_book_version WHERE tenant_id = %s AND effective_from > %s"

_PAGE = """
SELECT tenant_id, version, effective_from, imported_at, imported_by, origin, report
FROM price_book_version
WHERE tenant_id = ANY(%(tenant_ids)s)
    AND (%(version)s::text IS NULL OR version = %(version)s)
    AND (%(imported_at)s::timestamptz IS NULL
         OR (imported_at, tenant_id, version) < (%(imported_at)s, %(tenant_id)s::text, %(after_version)s::text))
ORDER BY imported_at DESC, tenant_id DESC, version DESC
LIMIT %(limit)s
"""

_HOLD_GENERATION = "SELECT pg_advisory_lock_shared(%s, %s)"
_LET_GO_GENERATION = "SELECT pg_advisory_unlock_shared(%s, %s)"
_IS_OLDER_HELD = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = %s AND objsubid = 2 AND objid::bigint < %s
)
"""


_TAKE_LEAD = "SELECT pg_try_advisory_lock(%s)"


class VersionRow(NamedTuple):
    """One version, without its prices."""

    tenant_id: str
    version: str
    effective_from: datetime


class ImportRow(NamedTuple):
    """One version as it was imported, without its prices."""

    tenant_id: str
    version: str
    effective_from: datetime
    imported_at: datetime
    imported_by: str
    origin: str
    report: dict[str, Any]


class ImportPosition(NamedTuple):
    """Where a page of imports ends."""

    imported_at: datetime
    tenant_id: str
    version: str


async def insert_first_version(
    connection: PostgresConnection,
    *,
    version: str,
    origin: str,
    imported_by: str,
    snapshot: bytes,
    report: dict[str, Any] | None = None,
) -> bool:
    """Insert the installation's first book, in force since ever, unless there is one; tell whether it was inserted."""
    if await _has_shared(connection):
        return False
    async with connection.transaction():
        await lock_additions(connection)
        if await _has_shared(connection):
            return False
        row = VersionRow(SHARED, version, BEGINNING)
        await add_version(
            connection, row, imported_by=imported_by, origin=origin, report=report or {}, snapshot=snapshot
        )
    return True


async def lock_additions(connection: PostgresConnection) -> datetime:
    """Be the only one who adds versions until the transaction ends; return the database's time since when."""
    await connection.execute(_LOCK, [_ADD_LOCK])
    return await read_clock(connection)


async def read_clock(connection: PostgresConnection) -> datetime:
    """Return the database's time."""
    row = await (await connection.execute(_CLOCK)).fetchone()
    assert row is not None
    return _instant_of(row)


async def add_version(
    connection: PostgresConnection,
    row: VersionRow,
    *,
    imported_by: str,
    origin: str,
    report: dict[str, Any],
    snapshot: bytes,
) -> datetime | None:
    """Add a version under the lock of additions, announce it at commit, and return when it was imported.

    None when the same prices have come into force at that instant before.
    """
    values = [*row, imported_by, origin, Jsonb(report), snapshot]
    inserted = await (await connection.execute(_INSERT, values)).fetchone()
    if inserted is None:
        return None
    await connection.execute(_ANNOUNCE, [CHANNEL])
    return _instant_of(inserted)


async def list_versions(connection: PostgresConnection) -> list[VersionRow]:
    """Return all versions, each tenant's in the order in which they come into force."""
    cursor = await connection.execute(_LIST)
    return [VersionRow(*row) for row in await cursor.fetchall()]


async def fetch_snapshots(connection: PostgresConnection, versions: Collection[str]) -> dict[str, bytes]:
    """Return the compressed prices of these versions."""
    cursor = await connection.execute(_FETCH, [list(versions)])
    return {version: bytes(snapshot) for version, snapshot in await cursor.fetchall()}


async def find_in_force(connection: PostgresConnection, tenant_id: str, instant: datetime) -> VersionRow | None:
    """Return the version that prices the tenant's calls of that instant: its own, else the installation's."""
    row = await (await connection.execute(_IN_FORCE, [[tenant_id, SHARED], instant])).fetchone()
    return None if row is None else VersionRow(*row)


async def find_next_change(connection: PostgresConnection, tenant_id: str, instant: datetime) -> datetime | None:
    """Return when, after the instant, the next version of the same book comes into force."""
    row = await (await connection.execute(_NEXT, [tenant_id, instant])).fetchone()
    return None if row is None else row[0]


async def list_imports(
    connection: PostgresConnection,
    tenant_ids: Collection[str],
    *,
    version: str | None = None,
    after: ImportPosition | None = None,
    limit: int,
) -> list[ImportRow]:
    """Return imports, the latest first."""
    values = {
        "tenant_ids": list(tenant_ids),
        "version": version,
        "imported_at": None if after is None else after.imported_at,
        "tenant_id": None if after is None else after.tenant_id,
        "after_version": None if after is None else after.version,
        "limit": limit,
    }
    cursor = await connection.execute(_PAGE, values)
    return [ImportRow(*row) for row in await cursor.fetchall()]


async def read_generation(connection: PostgresConnection) -> int:
    """Return the generation that is committed."""
    row = await (await connection.execute(_GENERATION)).fetchone()
    assert row is not None
    return int(row[0])


async def hold_generation(connection: PostgresConnection, generation: int) -> None:
    """Show, for as long as the session lasts, that somebody may still price by this generation."""
    await connection.execute(_HOLD_GENERATION, [_GENERATION_CLASS, generation])


async def let_go_generation(connection: PostgresConnection, generation: int) -> None:
    """Show that nobody of this session prices by this generation any more."""
    await connection.execute(_LET_GO_GENERATION, [_GENERATION_CLASS, generation])


async def is_older_held(connection: PostgresConnection, generation: int) -> bool:
    """Tell whether somebody may still price by an older generation."""
    row = await (await connection.execute(_IS_OLDER_HELD, [_GENERATION_CLASS, generation])).fetchone()
    assert row is not None
    return bool(row[0])


async def take_lead(connection: PostgresConnection) -> bool:
    """Tell whether this session is now the one that imports by schedule; it stays so until it ends."""
    row = await (await connection.execute(_TAKE_LEAD, [_LEAD_LOCK])).fetchone()
    assert row is not None
    return bool(row[0])


def _instant_of(row: tuple[Any, ...]) -> datetime:
    instant: datetime = row[0]
    return instant.astimezone(UTC)


async def _has_shared(connection: PostgresConnection) -> bool:
    row = await (await connection.execute(_HAS_SHARED, [SHARED])).fetchone()
    assert row is not None
    return bool(row[0])
