"""Wire shapes of the quarantine."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from service.events.repository import QuarantinedRow, QuarantineKind
from service.events.schemas import ElementProblem


class QuarantinedView(msgspec.Struct, kw_only=True):
    """An element that waits for a decision.

    `document` holds its declared fields; null when it could not be read at all: then its length is what is known.
    `charge_id` is the charge that counts a conflict in budgets meanwhile.
    """

    id: UUID
    kind: QuarantineKind
    received_at: datetime
    source: str | None
    event_id: str | None
    error: ElementProblem
    document: dict[str, Any] | None
    length_bytes: int | None
    charge_id: UUID | None


class QuarantineList(msgspec.Struct):
    """A page of the quarantine, newest first."""

    elements: list[QuarantinedView]
    next_cursor: str | None


class DecisionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why it was decided so; kept with the charge."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


def quarantined_view(row: QuarantinedRow) -> QuarantinedView:
    """Return the wire shape of a row."""
    return QuarantinedView(
        id=row.quarantine_id,
        kind=row.kind,
        received_at=row.received_at,
        source=row.source,
        event_id=row.event_id,
        error=ElementProblem(code=row.code, detail=row.detail, field=row.field),
        document=None if row.document is None else msgspec.json.decode(row.document),
        length_bytes=row.length_bytes,
        charge_id=row.conflict_charge_id,
    )
