"""`/v1/repricings`: what recorded charges would cost by the prices, aliases and rules of now, and making it so."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from service.access.guards import requires
from service.access.tokens import Caller
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.problems import problem_responses
from service.repricing.schemas import RepricingList, RepricingRequest, RepricingView, repricing_view
from service.repricing.service import RepricingService

_WAIT_SECONDS = 20.0

_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]
_STILL_RUNNING = ResponseSpec(
    data_container=RepricingView, description="Not finished within 20 seconds; ask for it again by its id."
)


class RepricingController(Controller):
    """Repricings of the caller's tenant."""

    path = "/v1/repricings"
    tags = ("prices",)
    guards = (requires("admin"),)

    @post(
        status_code=200,
        operation_id="reprice_charges",
        summary="Price recorded charges anew: a preview, or applied as corrections",
        responses={202: _STILL_RUNNING, **problem_responses(400, 401, 403, 409, 422, 503)},
    )
    async def reprice_charges(
        self,
        data: JSONBody[RepricingRequest],
        caller: NamedDependency[Caller],
        repricing_service: NamedDependency[RepricingService],
    ) -> Response[RepricingView]:
        """Price charges anew by what is in force now for the time of each call; applying twice changes nothing more."""
        row = await repricing_service.begin(
            caller.tenant_id,
            data.to_terms(),
            applies=data.apply,
            created_by=caller.author,
            wait_seconds=_WAIT_SECONDS,
        )
        return Response(repricing_view(row), status_code=202 if row.state == "running" else 200)

    @get(
        operation_id="list_repricings",
        summary="List repricings and previews, newest first",
        responses=problem_responses(400, 401, 403, 422, 503),
    )
    async def list_repricings(
        self,
        caller: NamedDependency[Caller],
        repricing_service: NamedDependency[RepricingService],
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> RepricingList:
        """Return a page of repricings."""
        size = page_limit(limit)
        before = None if cursor is None else _decode_position(cursor)
        rows = await repricing_service.list_page(caller.tenant_id, before=before, limit=size + 1)
        next_cursor = encode_cursor([str(rows[size - 1].repricing_id)]) if len(rows) > size else None
        return RepricingList([repricing_view(row) for row in rows[:size]], next_cursor)

    @get(
        "/{repricing_id:uuid}",
        operation_id="get_repricing",
        summary="How far a repricing is, and what it came to",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def get_repricing(
        self,
        repricing_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        repricing_service: NamedDependency[RepricingService],
    ) -> RepricingView:
        """Return a repricing."""
        return repricing_view(await repricing_service.get(caller.tenant_id, repricing_id))


def _decode_position(cursor: str) -> UUID:
    (repricing_id,) = decode_cursor(cursor, length=1)
    try:
        return UUID(repricing_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
