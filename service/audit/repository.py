"""Every SQL statement about the audit trail. Entries are only ever added and read, never changed."""

from collections.abc import Mapping
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from service.kit.ids import new_id

_INSERT = """
INSERT INTO audit_entry (tenant_id, entry_id, changed_by, action, subject_type, subject_id, before, after)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""

Document = Mapping[str, Any]

_encode = msgspec.json.Encoder(order="deterministic").encode


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
    documents = [None if document is None else Jsonb(document, dumps=_encode) for document in (before, after)]
    entry = (tenant_id, new_id(), changed_by, action, subject_type, subject_id, *documents)
    await connection.execute(_INSERT, entry)
