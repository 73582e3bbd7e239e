"""Wire shapes of the audit trail."""

from datetime import datetime
from typing import Any

import msgspec

from service.audit.repository import EntryRow


class AuditEntryView(msgspec.Struct, kw_only=True):
    """One administrative change: by which token (its name and id), of what, and what it was before and after."""

    id: str
    changed_at: datetime
    changed_by: str
    action: str
    subject_type: str
    subject_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditEntryList(msgspec.Struct):
    """A page of entries."""

    entries: list[AuditEntryView]
    next_cursor: str | None


def entry_view(row: EntryRow) -> AuditEntryView:
    """Return an entry for the wire."""
    fields = msgspec.structs.asdict(row)
    return AuditEntryView(id=str(fields.pop("entry_id")), **fields)
