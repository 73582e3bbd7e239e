"""`/v1/budgets`: budgets and the windows of their counters."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from service.access.guards import requires
from service.access.tokens import Caller
from service.budgets.budget import State
from service.budgets.schemas import (
    BudgetList,
    BudgetPatchRequest,
    BudgetPutRequest,
    BudgetRequest,
    BudgetView,
    BudgetWindowList,
    budget_key,
    budget_view,
    window_view,
)
from service.budgets.service import BudgetService
from service.budgets.subject_reading import subject_of_text
from service.budgets.windows import WindowPage
from service.errors import InvalidInput
from service.kit import clock
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import refuse_unknown
from service.ledger.filters import TimeRange, parse_range, single
from service.problems import problem_responses

_LIVE: list[State] = ["seeding", "current"]

_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]
_States = Annotated[
    list[State] | None,
    QueryParameter(name="state", description="Only budgets in these states (default: not archived)."),
]
_Subject = Annotated[
    str | None,
    QueryParameter(description='One counter: its subject as JSON, such as {"user":"u1"}, or the value alone.'),
]
_From = Annotated[
    str | None, QueryParameter(name="from", description="Windows that end later than this time (default: 30 days ago).")
]
_To = Annotated[str | None, QueryParameter(name="to", description="Windows that start earlier (default: now).")]
_SeedingWait = Annotated[
    int,
    QueryParameter(
        ge=0, le=10_000, description="Longest wait for the charges of the present window to be counted, in ms."
    ),
]
_Slug = Annotated[str, PathParameter(description="The name of the budget in addresses.")]
_Key = Annotated[str, PathParameter(description="Id or slug; an archived budget is named by its id.")]

_CREATED = ResponseSpec(BudgetView, description="The budget is new or replaced another.", generate_examples=False)


class BudgetController(Controller):
    """Budgets of the caller's tenant, as far as the token's scope reaches."""

    path = "/v1/budgets"
    tags = ("budgets",)

    @post(
        guards=[requires("admin")],
        operation_id="create_budget",
        summary="Create a budget",
        responses=problem_responses(400, 401, 403, 409, 422, 503),
    )
    async def create_budget(
        self,
        data: JSONBody[BudgetRequest],
        caller: NamedDependency[Caller],
        budget_service: NamedDependency[BudgetService],
        seeding_wait_ms: _SeedingWait = 1_000,
    ) -> BudgetView:
        """Create a budget. It is enforced from now on and comes to count what its present window has seen already."""
        budget = await budget_service.create(
            caller.tenant_id, data.to_new_draft(), wait_seconds=seeding_wait_ms / 1000, author=caller.author
        )
        return budget_view(budget, caller.scope)

    @put(
        "/{budget:str}",
        guards=[requires("admin")],
        operation_id="put_budget",
        summary="Create a budget or make it be as the body says",
        responses={HTTP_201_CREATED: _CREATED} | problem_responses(400, 401, 403, 422, 503),
    )
    async def put_budget(
        self,
        budget: _Slug,
        data: JSONBody[BudgetPutRequest],
        caller: NamedDependency[Caller],
        budget_service: NamedDependency[BudgetService],
        seeding_wait_ms: _SeedingWait = 1_000,
    ) -> Response[BudgetView]:
        """Answer 201 for a new budget, else 200. Another match or period archives the budget and makes a new one."""
        if data.slug is not None and data.slug != budget:
            raise InvalidInput("The slug is the one of the path, or left out.", field="slug")
        stored = await budget_service.put(
            caller.tenant_id, data.to_draft(budget), wait_seconds=seeding_wait_ms / 1000, author=caller.author
        )
        status = HTTP_201_CREATED if stored.is_new else HTTP_200_OK
        return Response(budget_view(stored.budget, caller.scope), status_code=status)

    @get(
        guards=[requires("read")],
        operation_id="list_budgets",
        summary="List budgets by slug",
        responses=problem_responses(401, 403, 422, 503),
    )
    async def list_budgets(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        budget_service: NamedDependency[BudgetService],
        states: _States = None,
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> BudgetList:
        """Return a page of budgets."""
        refuse_unknown(request.query_params.dict(), ("state", "limit", "cursor"))
        size = page_limit(limit)
        budgets = await budget_service.list_budgets(
            caller.tenant_id,
            states=states or _LIVE,
            scope=caller.scope,
            after=None if cursor is None else _budget_position(cursor),
            limit=size + 1,
        )
        page = budgets[:size]
        return BudgetList(
            budgets=[budget_view(each, caller.scope) for each in page],
            next_cursor=encode_cursor([page[-1].slug, str(page[-1].budget_id)]) if len(budgets) > size else None,
        )

    @get(
        "/{budget:str}",
        guards=[requires("read")],
        operation_id="get_budget",
        summary="Show a budget",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def get_budget(
        self, budget: _Key, caller: NamedDependency[Caller], budget_service: NamedDependency[BudgetService]
    ) -> BudgetView:
        """Return one budget."""
        found = await budget_service.get(caller.tenant_id, budget_key(budget), caller.scope)
        return budget_view(found, caller.scope)

    @patch(
        "/{budget:str}",
        guards=[requires("admin")],
        operation_id="change_budget",
        summary="Change the limit, mode, policies or name of a budget",
        responses=problem_responses(400, 401, 403, 404, 409, 422, 503),
    )
    async def change_budget(
        self,
        budget: _Key,
        data: JSONBody[BudgetPatchRequest],
        caller: NamedDependency[Caller],
        budget_service: NamedDependency[BudgetService],
    ) -> BudgetView:
        """Change terms in place: what was spent stays spent. Another match or period is another budget: PUT it."""
        stored = await budget_service.get(caller.tenant_id, budget_key(budget))
        changed = await budget_service.change_terms(
            caller.tenant_id, stored.budget_id, data.to_changes(stored.period), author=caller.author
        )
        return budget_view(changed, caller.scope)

    @delete(
        "/{budget:str}",
        guards=[requires("admin")],
        operation_id="archive_budget",
        summary="Archive a budget",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def archive_budget(
        self, budget: _Key, caller: NamedDependency[Caller], budget_service: NamedDependency[BudgetService]
    ) -> None:
        """Stop enforcing and counting; the budget and its windows stay readable by its id."""
        await budget_service.archive(caller.tenant_id, budget_key(budget), author=caller.author)

    @get(
        "/{budget:str}/windows",
        guards=[requires("read")],
        operation_id="list_budget_windows",
        summary="Show what was spent, is held and is left, per subject and window",
        responses=problem_responses(401, 403, 404, 422, 503),
    )
    async def list_windows(
        self,
        request: Request[Any, Any, Any],
        budget: _Key,
        caller: NamedDependency[Caller],
        budget_service: NamedDependency[BudgetService],
        subject: _Subject = None,
        start: _From = None,  # noqa: ARG002  (documents the parameter; both are read with their time zones below)
        end: _To = None,  # noqa: ARG002
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> BudgetWindowList:
        """Return a page of counters, by subject, each in the order of its windows."""
        parameters = request.query_params.dict()
        refuse_unknown(parameters, ("subject", "from", "to", "limit", "cursor"))
        first_page, after = (None, None) if cursor is None else _window_position(cursor)
        single(parameters, "subject")
        size = page_limit(limit)
        time_range = parse_range(_bounds(parameters), clock.utc_now(), first_page=first_page)
        stored = await budget_service.get(caller.tenant_id, budget_key(budget), caller.scope)
        page = await budget_service.windows.list_page(
            stored,
            subject=None if subject is None else subject_of_text(stored, subject),
            start=time_range.start,
            end=time_range.end,
            scope=caller.scope,
            after=after,
            limit=size + 1,
        )
        return _window_list(page, size, time_range)


def _bounds(parameters: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    return {name: parameters[name] for name in ("from", "to") if single(parameters, name) is not None}


def _window_list(page: WindowPage, size: int, time_range: TimeRange) -> BudgetWindowList:
    shown = page.windows[:size]
    cursor = None
    if len(page.windows) > size:
        instants = (time_range.start, time_range.end, shown[-1].window.start)
        cursor = encode_cursor([*(instant.isoformat() for instant in instants), shown[-1].subject])
    return BudgetWindowList(
        windows=[window_view(state) for state in shown], degraded=not page.are_holds_known, next_cursor=cursor
    )


def _budget_position(cursor: str) -> tuple[str, UUID]:
    slug, budget_id = decode_cursor(cursor, length=2)
    try:
        position = str(slug), UUID(budget_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
    if "\x00" in position[0]:
        raise invalid_cursor()
    return position


def _window_position(cursor: str) -> tuple[TimeRange, tuple[str, datetime]]:
    *texts, subject = decode_cursor(cursor, length=4)
    try:
        start, end, bucket = (datetime.fromisoformat(text) for text in texts)
    except (TypeError, ValueError) as error:
        raise invalid_cursor() from error
    if not isinstance(subject, str) or "\x00" in subject:
        raise invalid_cursor()
    if any(instant.utcoffset() != timedelta(0) for instant in (start, end, bucket)):
        raise invalid_cursor()
    return TimeRange(start, end), (subject, bucket)
