"""Every SQL statement about the audit trail. Entries are only ever added and read, never changed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from service.kit.ids import new_id

# The time of the statement, not of the transaction: that may have waited for a lock since it began.
_INSERT = """
INSERT INTO audit_entry (tenant_id, entry_id, changed_at, changed_by, action, subject_type, subject_id, before, after)
VALUES (%s, %s, clock_timestamp(), %s, %s, %s, %s, %s, %s)
"""
_LIST = """
SELECT entry_id, changed_at, changed_by, action, subject_type, subject_id, before, after FROM audit_entry
WHERE tenant_id = %(tenant_id)s
  AND (%(subject_type)s::text IS NULL OR subject_type = %(subject_type)s)
  AND (%(subject_id)s::text IS NULL OR subject_id = %(subject_id)s)
  AND (%(action)s::text IS NULL OR action = %(action)s)
  AND (%(changed_by)s::text IS NULL OR changed_by = %(changed_by)s)
  AND (%(start)s::timestamptz IS NULL OR changed_at >= %(start)s)
  AND (%(end)s::timestamptz IS NULL OR changed_at < %(end)s)
  AND (%(before_entry)s::uuid IS NULL OR entry_id < %(before_entry)s)
ORDER BY entry_id DESC
LIMIT %(limit)s
"""

# The trail of what concerns the whole installation.
INSTALLATION: Final = ""

# Whoever reaches the database may do anything there, without a token.
COMMAND_LINE: Final = "command line"

Document = Mapping[str, Any]

_encode = msgspec.json.Encoder(order="deterministic").encode


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to show; None = whatever it is."""

    subject_type: str | None = None
    subject_id: str | None = None
    action: str | None = None
    changed_by: str | None = None
    start: datetime | None = None
    end: datetime | None = None


class NewEntry(NamedTuple):
    """An entry to be added."""

    action: str
    subject_type: str
    subject_id: str
    before: Document | None
    after: Document | None


class EntryRow(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it is stored."""

    entry_id: UUID
    changed_at: datetime
    changed_by: str
    action: str
    subject_type: str
    subject_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


async def record(
    connection: AsyncConnection[Any],
    tenant_id: str,
    *,
    changed_by: str,
    action: str,
    subject_type: str,
    subject_id: str,
    before: Document | None,
    after: Document | None,
) -> None:
    """Add an entry in the transaction of the change it tells of: there is none without the other.

    `before` and `after` hold what msgspec encodes (amounts become strings), and never a secret.
    """
    entry = NewEntry(action, subject_type, subject_id, before, after)
    await record_all(connection, tenant_id, [entry], changed_by=changed_by)


async def record_all(
    connection: AsyncConnection[Any], tenant_id: str, entries: Sequence[NewEntry], *, changed_by: str
) -> None:
    """Add the entries of one change of many things, as `record` adds one."""
    rows = [
        (
            tenant_id,
            new_id(),
            changed_by,
            entry.action,
            entry.subject_type,
            entry.subject_id,
            _stored(entry.before),
            _stored(entry.after),
        )
        for entry in entries
    ]
    async with connection.cursor() as cursor:
        await cursor.executemany(_INSERT, rows)


def _stored(document: Document | None) -> Jsonb | None:
    return None if document is None else Jsonb(document, dumps=_encode)


async def list_entries(
    connection: AsyncConnection[Any], tenant_id: str, chosen: AuditFilter, *, before_entry: UUID | None, limit: int
) -> list[EntryRow]:
    """Return entries, newest first, those before the given one."""
    parameters = {
        **msgspec.structs.asdict(chosen),
        "tenant_id": tenant_id,
        "before_entry": before_entry,
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(EntryRow)) as cursor:
        await cursor.execute(_LIST, parameters)
        return await cursor.fetchall()
