"""`/v1/charges`: pages of charges, the explanation of one, its reversal."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation
from litestar.params import FromPath, JSONBody

from service.access.guards import requires
from service.access.tokens import Caller
from service.errors import NotFound
from service.kit import clock
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import refuse_unknown
from service.ledger.filters import (
    FIELDS,
    Position,
    TimeRange,
    parse_conditions,
    parse_range,
    scope_conditions,
    single,
)
from service.ledger.parameter_docs import filter_parameters, operation_with
from service.ledger.queries import ChargeQueries
from service.ledger.reversal import ReversalService
from service.ledger.schemas import (
    ChargeList,
    ExplainedCharge,
    ReversalRequest,
    ReversalResponse,
    explained_charge,
    listed_charge,
)
from service.problems import problem_responses

_PARAMETERS = (*FIELDS, "from", "to", "limit", "cursor")
_ListOperation: type[Operation] = operation_with("ListChargesOperation", *filter_parameters())


class ChargeController(Controller):
    """Charges of the caller's tenant, as far as the token's scope reaches."""

    path = "/v1/charges"
    tags = ("charges",)

    @get(
        guards=[requires("read")],
        operation_id="list_charges",
        operation_class=_ListOperation,
        summary="List charges, newest first",
        responses=problem_responses(401, 403, 422, 503),
    )
    async def list_charges(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        charge_queries: NamedDependency[ChargeQueries],
    ) -> ChargeList:
        """Return a page of charges."""
        parameters = request.query_params.dict()
        refuse_unknown(parameters, _PARAMETERS)
        cursor = single(parameters, "cursor")
        first_page, after = (None, None) if cursor is None else _decode_position(cursor)
        time_range = parse_range(parameters, clock.utc_now(), first_page=first_page)
        page = await charge_queries.list_charges(
            caller.tenant_id,
            (*parse_conditions(parameters), *scope_conditions(caller.scope)),
            time_range,
            limit=page_limit(single(parameters, "limit")),
            after=after,
        )
        return ChargeList(
            charges=[listed_charge(row) for row in page.rows],
            next_cursor=None if page.next is None else _encode_position(time_range, page.next),
        )

    @get(
        "/{charge_id:uuid}",
        guards=[requires("read")],
        operation_id="get_charge",
        summary="Explain a charge",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def get_charge(
        self,
        charge_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        charge_queries: NamedDependency[ChargeQueries],
    ) -> ExplainedCharge:
        """Return one charge with everything that explains its amount."""
        row = await charge_queries.find_charge(caller.tenant_id, charge_id, scope_conditions(caller.scope))
        if row is None:
            raise NotFound("There is no such charge.")
        return explained_charge(row)

    @post(
        "/{charge_id:uuid}/reverse",
        guards=[requires("admin")],
        operation_id="reverse_charge",
        summary="Cancel a charge by its negative",
        responses=problem_responses(400, 401, 403, 404, 409, 503),
    )
    async def reverse_charge(
        self,
        charge_id: FromPath[UUID],
        data: JSONBody[ReversalRequest],
        caller: NamedDependency[Caller],
        charge_queries: NamedDependency[ChargeQueries],
        reversal_service: NamedDependency[ReversalService],
    ) -> ReversalResponse:
        """Record the charge that cancels this one; a charge is cancelled at most once."""
        row = await charge_queries.find_charge(caller.tenant_id, charge_id, scope_conditions(caller.scope))
        if row is None:
            raise NotFound("There is no such charge.")
        done = await reversal_service.reverse(caller.tenant_id, charge_id, data.reason, author=caller.author)
        return ReversalResponse(charge_id=done.charge_id, corrects_charge_id=done.corrects_charge_id)


def _encode_position(time_range: TimeRange, position: Position) -> str:
    instants = (time_range.start, time_range.end, position.effective_at)
    return encode_cursor([*(instant.isoformat() for instant in instants), str(position.charge_id)])


def _decode_position(cursor: str) -> tuple[TimeRange, Position]:
    values = decode_cursor(cursor, length=4)
    try:
        start, end, effective_at = (datetime.fromisoformat(value) for value in values[:3])
        position = Position(effective_at, UUID(values[3]))
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
    if any(instant.utcoffset() != timedelta(0) for instant in (start, end, effective_at)):
        raise invalid_cursor()
    return TimeRange(start, end), position
