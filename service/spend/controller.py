"""`/v1/spend`: sums by any of the dimensions and by time."""

from typing import Any

from litestar import Controller, Request, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation

from service.access.guards import requires
from service.access.tokens import Caller
from service.kit import clock
from service.ledger.parameter_docs import filter_parameters, operation_with, text_parameter
from service.problems import problem_responses
from service.spend.queries import SpendQueries
from service.spend.schemas import SpendReport, spend_report
from service.spend.spend_query import GROUPABLE, MEASURES, parse_spend_query

_SpendOperation: type[Operation] = operation_with(
    "SpendOperation",
    text_parameter("group_by", f"names with commas between them, of {', '.join(GROUPABLE)}"),
    text_parameter("granularity", "length of the buckets", enum=["total", "hour", "day", "week", "month"]),
    text_parameter("timezone", "IANA name of the zone in which buckets begin; default UTC"),
    text_parameter("sort", f"bucket, a grouped name or one of {', '.join(MEASURES)}; a leading `-` = descending"),
    text_parameter("format", "json", enum=["json"]),
    *filter_parameters(),
)


class SpendController(Controller):
    """Spend of the caller's tenant, as far as the token's scope reaches."""

    path = "/v1/spend"
    tags = ("spend",)

    @get(
        guards=[requires("read")],
        operation_id="get_spend",
        operation_class=_SpendOperation,
        summary="Sum up spend by dimension and time",
        responses=problem_responses(401, 403, 422, 503),
    )
    async def get_spend(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        spend_queries: NamedDependency[SpendQueries],
    ) -> SpendReport:
        """Return a page of sums and the totals of all pages."""
        query = parse_spend_query(request.query_params.dict(), caller.scope, clock.utc_now())
        return spend_report(query, await spend_queries.answer(caller.tenant_id, query))
