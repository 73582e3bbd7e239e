"""`/v1/unpriced`, `/v1/reports/divergence`: where we have no price, and where ours differ from the gateways'."""

from typing import Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation

from service.access.guards import requires
from service.access.tokens import Caller
from service.kit import clock
from service.ledger.parameter_docs import filter_parameters, operation_with, text_parameter
from service.problems import problem_responses
from service.spend.divergence import DIVERGENCE_GROUPS, parse_divergence_query
from service.spend.divergence_queries import DivergenceQueries
from service.spend.report_query import REPORT_FIELDS
from service.spend.report_schemas import DivergenceReport, UnpricedReport, divergence_report, unpriced_report
from service.spend.unpriced import UNPRICED_STATES, parse_unpriced_query
from service.spend.unpriced_service import UnpricedService

_FILTERS = tuple(
    parameter
    for parameter in filter_parameters()
    if parameter.name in {*REPORT_FIELDS, "from", "to", "limit", "cursor"}
)
_UnpricedOperation: type[Operation] = operation_with(
    "UnpricedOperation",
    text_parameter("state", f"{' or '.join(UNPRICED_STATES)}, or both with a comma between them; default unpriced"),
    *_FILTERS,
)
_DivergenceOperation: type[Operation] = operation_with(
    "DivergenceOperation",
    text_parameter("group_by", f"names with commas between them, of {', '.join(DIVERGENCE_GROUPS)}"),
    text_parameter("min_ratio", "leave out rows whose larger sum is less than this many times the smaller one"),
    *_FILTERS,
)


class ReportController(Controller):
    """Reports about prices, of the caller's tenant as far as the token's scope reaches."""

    path = "/v1"
    tags = ("spend",)

    @get(
        "/unpriced",
        guards=[requires("read")],
        operation_id="list_unpriced",
        operation_class=_UnpricedOperation,
        summary="List models seen without a price",
        responses=problem_responses(401, 403, 422, 503),
    )
    async def list_unpriced(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        unpriced_service: NamedDependency[UnpricedService],
    ) -> UnpricedReport:
        """Return a page of names, what was seen under them, and whether they could be repriced by now."""
        query = parse_unpriced_query(request.query_params.dict(), caller.scope, clock.utc_now())
        return unpriced_report(query, *await unpriced_service.answer(caller.tenant_id, query))

    @get(
        "/reports/divergence",
        guards=[requires("read")],
        operation_id="get_divergence",
        operation_class=_DivergenceOperation,
        summary="Compare our costs with the gateways' own figures",
        responses=problem_responses(401, 403, 422, 503),
    )
    async def get_divergence(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        divergence_queries: NamedDependency[DivergenceQueries],
    ) -> DivergenceReport:
        """Return a page of groups, the largest difference first."""
        query = parse_divergence_query(request.query_params.dict(), caller.scope, clock.utc_now())
        answer = await divergence_queries.answer(caller.tenant_id, query)
        return divergence_report(query, answer, divergence_queries.tolerance)
