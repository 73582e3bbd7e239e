"""`/v1/quarantine`: what waits for a decision, and the decisions."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from service.access.guards import requires
from service.access.tokens import Caller
from service.errors import InvalidInput
from service.events.quarantine import QuarantineReview
from service.events.quarantine_schemas import DecisionRequest, QuarantineList, quarantined_view
from service.events.repository import QuarantineKind
from service.events.schemas import ElementResult
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.problems import problem_responses

_KINDS: dict[str, QuarantineKind] = {"rejected": "rejected", "conflict": "conflict"}
_NO_REASON = "decided over the quarantine"

_Kind = Annotated[str | None, QueryParameter(description="Only `rejected` or only `conflict`.")]
_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]
_Reason = Annotated[str, QueryParameter(description="Why; kept with the charge of a conflict.", max_length=1000)]


class QuarantineController(Controller):
    """The quarantine of the caller's tenant. It shows other people's calls, so it takes an admin to see it."""

    path = "/v1/quarantine"
    tags = ("Events",)
    guards = (requires("admin"),)

    @get(
        operation_id="list_quarantine",
        summary="List what waits for a decision, newest first",
        responses=problem_responses(400, 401, 403, 422, 503),
    )
    async def list_quarantine(
        self,
        caller: NamedDependency[Caller],
        quarantine_review: NamedDependency[QuarantineReview],
        kind: _Kind = None,
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> QuarantineList:
        """Return a page of rejected and conflicting elements."""
        if kind is not None and kind not in _KINDS:
            raise InvalidInput("kind is `rejected` or `conflict`.", field="kind")
        size = page_limit(limit)
        before = None if cursor is None else _decode_position(cursor)
        rows = await quarantine_review.list_page(
            caller.tenant_id, kind=None if kind is None else _KINDS[kind], before=before, limit=size + 1
        )
        next_cursor = encode_cursor([str(rows[size - 1].quarantine_id)]) if len(rows) > size else None
        return QuarantineList([quarantined_view(row) for row in rows[:size]], next_cursor)

    @post(
        "/{quarantine_id:uuid}/retry",
        status_code=200,
        operation_id="retry_quarantined",
        summary="Take a rejected element in again",
        responses=problem_responses(401, 403, 404, 409, 503),
    )
    async def retry(
        self,
        quarantine_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        quarantine_review: NamedDependency[QuarantineReview],
    ) -> ElementResult:
        """Answer as for a body of this one element; it leaves the quarantine unless it is rejected again."""
        return await quarantine_review.retry(caller, quarantine_id)

    @post(
        "/{quarantine_id:uuid}/accept",
        status_code=204,
        operation_id="accept_quarantined",
        summary="Let a conflicting event cost what it says",
        responses=problem_responses(400, 401, 403, 404, 409, 422, 503),
    )
    async def accept(
        self,
        quarantine_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        quarantine_review: NamedDependency[QuarantineReview],
        data: JSONBody[DecisionRequest | None] = None,
    ) -> None:
        """Charge the conflicting event beside the one recorded first."""
        reason = (data.reason if data is not None else "") or _NO_REASON
        await quarantine_review.accept(caller.tenant_id, quarantine_id, reason, author=caller.author)

    @delete(
        "/{quarantine_id:uuid}",
        operation_id="delete_quarantined",
        summary="Drop an element for good",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def drop(
        self,
        quarantine_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        quarantine_review: NamedDependency[QuarantineReview],
        reason: _Reason = _NO_REASON,
    ) -> None:
        """Forget a rejected element; take the amount of a conflict out of the budgets again."""
        await quarantine_review.delete(caller.tenant_id, quarantine_id, reason, author=caller.author)


def _decode_position(cursor: str) -> UUID:
    (quarantine_id,) = decode_cursor(cursor, length=1)
    try:
        return UUID(quarantine_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
