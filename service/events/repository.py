"""Every SQL statement about the quarantine. Rows are written in one statement, whatever their number."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

MAX_ROWS_PER_TENANT = 10_000

QuarantineKind = Literal["rejected", "conflict"]

# One writer per tenant at a time, so that the bound holds; an element that is there already stays as it is.
_LOCK_TENANT = "SELECT pg_advisory_xact_lock(hashtext('tallygate.quarantine'), hashtext(%s))"
_INSERT = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
        quarantine_id uuid, kind text, received_at timestamptz, source text, event_id text, code text, detail text,
        field text, document jsonb, length_bytes integer, digest text, conflict_charge_id uuid
    )
), fresh AS (
    SELECT DISTINCT ON (digest) * FROM given WHERE NOT EXISTS (
        SELECT FROM quarantined_event AS kept WHERE kept.tenant_id = %(tenant_id)s AND kept.digest = given.digest
    ) AND NOT EXISTS (
        -- A conflict that was decided: its charge is reversed, whatever the decision was.
        SELECT FROM event_key AS k WHERE k.tenant_id = %(tenant_id)s AND k.source = 'tallygate'
          AND k.event_id = 'reversal:' || given.conflict_charge_id
    )
    ORDER BY digest
), written AS (
    INSERT INTO quarantined_event (tenant_id, quarantine_id, kind, received_at, source, event_id, code, detail, field,
                                   document, length_bytes, digest, conflict_charge_id)
    SELECT %(tenant_id)s, quarantine_id, kind, received_at, source, event_id, code, detail, field,
           document, length_bytes, digest, conflict_charge_id
    FROM fresh
    ORDER BY quarantine_id
    LIMIT greatest(0, %(max_rows)s - (SELECT count(*) FROM quarantined_event WHERE tenant_id = %(tenant_id)s))
    ON CONFLICT (tenant_id, digest) DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM fresh) - (SELECT count(*) FROM written)
"""
_COLUMNS = (
    "quarantine_id, kind, received_at, source, event_id, code, detail, field, document::text AS document,"
    " length_bytes, conflict_charge_id"
)
_LIST = f"""
SELECT {_COLUMNS} FROM quarantined_event
WHERE tenant_id = %(tenant_id)s AND (%(kind)s::text IS NULL OR kind = %(kind)s)
  AND (%(before)s::uuid IS NULL OR quarantine_id < %(before)s)
ORDER BY quarantine_id DESC
LIMIT %(limit)s
"""  # noqa: S608  (a constant list of columns)
_FIND = f"SELECT {_COLUMNS} FROM quarantined_event WHERE tenant_id = %s AND quarantine_id = %s"  # noqa: S608  (same)
_UPDATE_PROBLEM = """
UPDATE quarantined_event SET code = %s, detail = %s, field = %s WHERE tenant_id = %s AND quarantine_id = %s
"""
_DELETE = "DELETE FROM quarantined_event WHERE tenant_id = %s AND quarantine_id = %s"

_encode = msgspec.json.Encoder().encode


class NewRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row to be written; `document` is JSON already."""

    quarantine_id: UUID
    kind: QuarantineKind
    received_at: datetime
    code: str
    detail: str
    digest: str
    source: str | None = None
    event_id: str | None = None
    field: str | None = None
    document: msgspec.Raw = msgspec.Raw(b"null")
    length_bytes: int | None = None
    conflict_charge_id: UUID | None = None


class QuarantinedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it is read; `document` is the text of JSON, exact to the last digit."""

    quarantine_id: UUID
    kind: QuarantineKind
    received_at: datetime
    source: str | None
    event_id: str | None
    code: str
    detail: str
    field: str | None
    document: str | None
    length_bytes: int | None
    conflict_charge_id: UUID | None


async def insert_rows(connection: AsyncConnection[Any], tenant_id: str, rows: Sequence[NewRow]) -> int:
    """Write the rows whose digest is new, as far as there is room; return how many found none."""
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(_LOCK_TENANT, (tenant_id,))
        parameters = {"tenant_id": tenant_id, "rows": _encode(rows).decode(), "max_rows": MAX_ROWS_PER_TENANT}
        await cursor.execute(_INSERT, parameters)
        found = await cursor.fetchone()
    assert found is not None
    return int(found[0])


async def list_rows(
    connection: AsyncConnection[Any], tenant_id: str, *, kind: QuarantineKind | None, before: UUID | None, limit: int
) -> list[QuarantinedRow]:
    """Return rows, newest first, those older than `before`."""
    parameters = {"tenant_id": tenant_id, "kind": kind, "before": before, "limit": limit}
    async with connection.cursor(row_factory=class_row(QuarantinedRow)) as cursor:
        await cursor.execute(_LIST, parameters)
        return await cursor.fetchall()


async def find_row(connection: AsyncConnection[Any], tenant_id: str, quarantine_id: UUID) -> QuarantinedRow | None:
    """Return one row, or None."""
    async with connection.cursor(row_factory=class_row(QuarantinedRow)) as cursor:
        await cursor.execute(_FIND, (tenant_id, quarantine_id))
        return await cursor.fetchone()


async def update_problem(
    connection: AsyncConnection[Any], tenant_id: str, quarantine_id: UUID, *, code: str, detail: str, field: str | None
) -> None:
    """Say why the element was refused the last time it was tried."""
    await connection.execute(_UPDATE_PROBLEM, (code, detail, field, tenant_id, quarantine_id))


async def delete_row(connection: AsyncConnection[Any], tenant_id: str, quarantine_id: UUID) -> bool:
    """Delete a row; return whether it was there."""
    cursor = await connection.execute(_DELETE, (tenant_id, quarantine_id))
    return cursor.rowcount > 0
