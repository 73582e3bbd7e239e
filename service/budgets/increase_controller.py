"""`/v1/budgets/{budget}/increases`: limits raised for a time."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from service.access.guards import requires
from service.access.tokens import Caller
from service.budgets.increase_schemas import IncreaseList, IncreaseRequest, IncreaseView, increase_view
from service.budgets.increase_service import IncreaseService
from service.budgets.schemas import budget_key
from service.errors import NotFound
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import refuse_unknown
from service.problems import problem_responses

_Key = Annotated[str, PathParameter(description="Id or slug of the budget; an archived one is named by its id.")]
_Id = Annotated[str, PathParameter(description="Id of the increase.")]
_WithEnded = Annotated[bool, QueryParameter(description="Those that are over, too.")]
_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]


class IncreaseController(Controller):
    """Temporary increases of a budget of the caller's tenant."""

    path = "/v1/budgets/{budget:str}/increases"
    tags = ("budgets",)

    @post(
        guards=[requires("admin")],
        operation_id="grant_increase",
        summary="Raise the limit of a budget, or of one of its counters, for a time",
        responses=problem_responses(400, 401, 403, 404, 409, 422, 503),
    )
    async def grant_increase(
        self,
        budget: _Key,
        data: JSONBody[IncreaseRequest],
        caller: NamedDependency[Caller],
        increase_service: NamedDependency[IncreaseService],
    ) -> IncreaseView:
        """Raise the limit from now until a time; checks made from now on know it. Increases add up."""
        increase = await increase_service.grant(caller.tenant_id, budget_key(budget), data, author=caller.author)
        return increase_view(increase)

    @get(
        guards=[requires("read")],
        operation_id="list_increases",
        summary="List the increases of a budget",
        responses=problem_responses(401, 403, 404, 422, 503),
    )
    async def list_increases(
        self,
        request: Request[Any, Any, Any],
        budget: _Key,
        caller: NamedDependency[Caller],
        increase_service: NamedDependency[IncreaseService],
        with_ended: _WithEnded = False,
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> IncreaseList:
        """Return a page of increases, by the time they were granted."""
        refuse_unknown(request.query_params.dict(), ("with_ended", "limit", "cursor"))
        size = page_limit(limit)
        found = await increase_service.list_page(
            caller.tenant_id,
            budget_key(budget),
            scope=caller.scope,
            with_ended=with_ended,
            after=None if cursor is None else _position(cursor),
            limit=size + 1,
        )
        last = found[size - 1] if len(found) > size else None
        return IncreaseList(
            increases=[increase_view(increase) for increase in found[:size]],
            next_cursor=None if last is None else encode_cursor([last.granted_at.isoformat(), str(last.increase_id)]),
        )

    @delete(
        "/{increase:str}",
        guards=[requires("admin")],
        operation_id="end_increase",
        summary="End an increase now",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def end_increase(
        self,
        budget: _Key,
        increase: _Id,
        caller: NamedDependency[Caller],
        increase_service: NamedDependency[IncreaseService],
    ) -> None:
        """End an increase; it stays listed with `with_ended=true`. Doing it again changes nothing."""
        await increase_service.end(caller.tenant_id, budget_key(budget), _increase_id(increase), author=caller.author)


def _increase_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such increase of this budget.") from None


def _position(cursor: str) -> tuple[datetime, UUID]:
    granted_at, increase_id = decode_cursor(cursor, length=2)
    try:
        position = datetime.fromisoformat(granted_at), UUID(increase_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
    if position[0].tzinfo is None:
        raise invalid_cursor()
    return position
