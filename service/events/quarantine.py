"""Keeps what could not be taken or contradicts what is recorded, until somebody decides; and carries out decisions.

Kept are declared fields only. The same element again is the same row; beyond 10,000 rows of a tenant nothing is added.
"""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, Protocol
from uuid import UUID

import msgspec
from prometheus_client import Counter

from service.access.tokens import Caller
from service.audit.repository import COMMAND_LINE, record
from service.db.pools import PostgresConnection, PostgresPool, connected
from service.errors import NotFound, StateConflict
from service.events.declared_fields import declared_document
from service.events.elements import Undecoded
from service.events.litellm_payload import Payload
from service.events.problems import EVENT_MISSING
from service.events.repository import (
    NewRow,
    QuarantinedRow,
    QuarantineKind,
    delete_row,
    find_row,
    insert_rows,
    list_rows,
    update_problem,
)
from service.events.schemas import ElementResult
from service.events.usage_event import EventProblem, UsageEvent
from service.kit.ids import new_id

QUARANTINE_FULL = Counter(
    "tallygate_quarantine_full", "Elements that were not kept in quarantine because the tenant's is full."
)

CONFLICTING_EVENT: Final = "conflicting_event"
_MAX_DETAIL: Final = 1_000
_PINNED: Final = "pinned"
_SOURCE: Final = "source"


class QuarantinedElement(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an element: its declared fields, or of one that could not be read its length and digest."""

    problem: EventProblem
    document: bytes | None
    length_bytes: int | None
    digest: bytes


class QuarantinedConflict(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose id was recorded before with other content, and the charge that counts it meanwhile."""

    event: UsageEvent
    payload: Payload
    conflict_charge_id: UUID


class Ingest(Protocol):
    """Takes elements in again. It does not quarantine what it refuses."""

    async def ingest_elements(
        self, tenant_id: str, caller: Caller, elements: Sequence[bytes], /
    ) -> list[ElementResult]:
        """Return what became of each element. Raises Unavailable."""
        ...


class ConflictCharges(Protocol):
    """Decides over charges of kind conflict. Both decisions can be repeated without effect."""

    async def accept_conflict(self, tenant_id: str, charge_id: UUID, reason: str, /) -> None:
        """Let the conflicting event cost what it says, in reports too."""
        ...

    async def drop_conflict(self, tenant_id: str, charge_id: UUID, reason: str, /) -> None:
        """Take the amount the conflict stands for out of the budgets again."""
        ...


def quarantined_element(element: Payload | Undecoded, problem: EventProblem) -> QuarantinedElement | None:
    """Return what is kept of a refused element; nothing of one that was missing."""
    if problem.code == EVENT_MISSING:
        return None
    document = declared_document(element.raw if isinstance(element, Undecoded) else element)
    content = element.raw if document is None and isinstance(element, Undecoded) else document or b""
    return QuarantinedElement(
        problem=problem,
        document=document,
        length_bytes=len(content) if document is None else None,
        digest=sha256(content).digest(),
    )


class Quarantine:
    """Takes in what ingest refuses."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def keep_rejected(
        self, caller: Caller, elements: Sequence[QuarantinedElement], received_at: datetime
    ) -> None:
        """Keep refused elements, with what the sender's token pins. Raises Unavailable."""
        pins = _pins_of(caller)
        await self._insert(caller.tenant_id, [_rejected_row(element, pins, received_at) for element in elements])

    async def keep_conflicts(
        self, caller: Caller, conflicts: Sequence[QuarantinedConflict], received_at: datetime
    ) -> None:
        """List conflicting events, whose charges are recorded already. Raises Unavailable."""
        await self._insert(caller.tenant_id, [_conflict_row(conflict, received_at) for conflict in conflicts])

    async def _insert(self, tenant_id: str, rows: list[NewRow]) -> None:
        if not rows:
            return
        async with connected(self._pool) as connection:
            QUARANTINE_FULL.inc(await insert_rows(connection, tenant_id, rows))


class QuarantineReview:
    """Shows the quarantine and carries out what is decided over its rows."""

    def __init__(self, pool: PostgresPool, ingest: Ingest, conflicts: ConflictCharges) -> None:
        self._pool = pool
        self._ingest = ingest
        self._conflicts = conflicts

    async def list_page(
        self, tenant_id: str, *, kind: QuarantineKind | None, before: UUID | None, limit: int
    ) -> list[QuarantinedRow]:
        """Return rows, newest first. Raises Unavailable."""
        async with connected(self._pool) as connection:
            return await list_rows(connection, tenant_id, kind=kind, before=before, limit=limit)

    async def retry(self, caller: Caller, quarantine_id: UUID) -> ElementResult:
        """Take a refused element in again, under the pins of the token it came with.

        The row goes unless the element is refused again. Raises NotFound, StateConflict, Unavailable.
        """
        row = await self._get(caller.tenant_id, quarantine_id)
        if row.kind != "rejected":
            raise StateConflict("A conflict is accepted or deleted, not tried again.", code="not_retryable")
        if row.document is None:
            raise StateConflict("Nothing is left of this element to be tried again.", code="not_retryable")
        element, sender = _unpin(row.document, caller)
        [result] = await self._ingest.ingest_elements(caller.tenant_id, sender, [element])
        async with connected(self._pool) as connection:
            if result.outcome != "rejected":
                await _close(connection, caller.tenant_id, caller.author, "retried", row, None)
            elif isinstance(result.error, msgspec.Struct):
                error = result.error
                await update_problem(
                    connection,
                    caller.tenant_id,
                    quarantine_id,
                    code=error.code,
                    detail=_storable(error.detail),
                    field=_storable_or_none(error.field),
                )
        return result

    async def accept(self, tenant_id: str, quarantine_id: UUID, reason: str, *, author: str = COMMAND_LINE) -> None:
        """Let a conflicting event cost what it says. Raises NotFound, StateConflict, Unavailable."""
        row = await self._get(tenant_id, quarantine_id)
        if row.conflict_charge_id is None:
            raise StateConflict("Only a conflict can be accepted; try a rejected element again.", code="not_a_conflict")
        await self._conflicts.accept_conflict(tenant_id, row.conflict_charge_id, reason)
        async with connected(self._pool) as connection:
            await _close(connection, tenant_id, author, "accepted", row, reason)

    async def delete(self, tenant_id: str, quarantine_id: UUID, reason: str, *, author: str = COMMAND_LINE) -> None:
        """Drop an element for good; a conflict counts no more. Raises NotFound, Unavailable."""
        row = await self._get(tenant_id, quarantine_id)
        if row.conflict_charge_id is not None:
            await self._conflicts.drop_conflict(tenant_id, row.conflict_charge_id, reason)
        async with connected(self._pool) as connection:
            await _close(connection, tenant_id, author, "deleted", row, reason)

    async def _get(self, tenant_id: str, quarantine_id: UUID) -> QuarantinedRow:
        async with connected(self._pool) as connection:
            row = await find_row(connection, tenant_id, quarantine_id)
        if row is None:
            raise NotFound("There is no such element in quarantine.")
        return row


async def _close(
    connection: PostgresConnection, tenant_id: str, author: str, verb: str, row: QuarantinedRow, reason: str | None
) -> None:
    """Take a row out of quarantine and enter what was decided; of decisions at once the first one is entered."""
    async with connection.transaction():
        if not await delete_row(connection, tenant_id, row.quarantine_id):
            return
        kept = ("kind", "source", "event_id", "code", "field", "conflict_charge_id", "received_at")
        await record(
            connection,
            tenant_id,
            changed_by=author,
            action=f"quarantine.{verb}",
            subject_type="quarantine",
            subject_id=str(row.quarantine_id),
            before={name: getattr(row, name) for name in kept},
            after=None if reason is None else {"reason": _storable(reason)},
        )


def _rejected_row(element: QuarantinedElement, pins: dict[str, str], received_at: datetime) -> NewRow:
    document = element.document
    if document is not None and pins:
        document = b'%b,"%b":%b}' % (document[:-1].rstrip(), _PINNED.encode(), msgspec.json.encode(pins))
    return NewRow(
        quarantine_id=new_id(),
        kind="rejected",
        received_at=received_at,
        source=pins.get(_SOURCE),
        code=element.problem.code,
        detail=_storable(element.problem.detail),
        field=_storable_or_none(element.problem.field),
        document=msgspec.Raw(document or b"null"),
        length_bytes=element.length_bytes,
        digest=sha256(element.digest + msgspec.json.encode(pins)).hexdigest(),
    )


def _conflict_row(conflict: QuarantinedConflict, received_at: datetime) -> NewRow:
    event = conflict.event
    return NewRow(
        quarantine_id=new_id(),
        kind="conflict",
        received_at=received_at,
        source=event.source,
        event_id=event.event_id,
        code=CONFLICTING_EVENT,
        detail="An event with this id and other content was recorded before.",
        document=msgspec.Raw(declared_document(conflict.payload) or b"null"),
        digest=sha256(msgspec.json.encode((event.source, event.event_id)) + event.fingerprint).hexdigest(),
        conflict_charge_id=conflict.conflict_charge_id,
    )


def _pins_of(caller: Caller) -> dict[str, str]:
    """Return what the token says instead of the event; an element that is tried again must not escape it."""
    return caller.pinned | ({_SOURCE: caller.source} if caller.source is not None else {})


def _unpin(document: str, caller: Caller) -> tuple[bytes, Caller]:
    """Return the element, and who it speaks for: the tenant's caller under the pins the element came with."""
    fields = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
    pins = msgspec.json.decode(fields.pop(_PINNED, b"{}"), type=dict[str, str])
    source = pins.pop(_SOURCE, None)
    return msgspec.json.encode(fields), msgspec.structs.replace(caller, pinned=pins, source=source)


def _storable(text: str) -> str:
    return text[:_MAX_DETAIL].replace("\x00", "\ufffd")


def _storable_or_none(text: str | None) -> str | None:
    return None if text is None else _storable(text)
