"""`/spend/logs` as LiteLLM answers it, so that what reads it there can read it here."""

from typing import Any

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi.spec import Operation

from service.access.guards import requires
from service.access.tokens import Caller
from service.ledger.parameter_docs import limit_parameter, operation_with, text_parameter
from service.ledger.queries import ChargeQueries
from service.problems import problem_responses
from service.spend.litellm_logs import DailySpend, SpendLog, daily_spend, spend_log
from service.spend.litellm_query import DEFAULT_ROWS, MAX_ROWS, encode_position, parse_log_query
from service.spend.queries import SpendQueries

NEXT_CURSOR_HEADER = "x-next-cursor"

_LogsOperation: type[Operation] = operation_with(
    "SpendLogsOperation",
    text_parameter("request_id", "id of the response, or of the request (litellm_call_id)"),
    text_parameter("api_key", "the key's SHA-256; a key beginning with `sk-` is hashed first"),
    text_parameter("user_id", "id of the user"),
    text_parameter("start_date", "first day, YYYY-MM-DD in UTC"),
    text_parameter("end_date", "last day, YYYY-MM-DD in UTC, included"),
    text_parameter(
        "summarize", "with both dates and no request_id: sums per day; default true", enum=["true", "false"]
    ),
    limit_parameter(MAX_ROWS, DEFAULT_ROWS),
    text_parameter("cursor", f"`{NEXT_CURSOR_HEADER}` of the page before"),
)


class LitellmSpendController(Controller):
    """Reads in LiteLLM's shape."""

    path = "/spend"
    tags = ("LiteLLM-compatible reads",)

    @get(
        "/logs",
        guards=[requires("read")],
        operation_id="get_spend_logs",
        operation_class=_LogsOperation,
        summary="List spend logs, newest first, or sum them up per day",
        responses=problem_responses(401, 403, 422, 503),
    )
    async def get_spend_logs(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        charge_queries: NamedDependency[ChargeQueries],
        spend_queries: NamedDependency[SpendQueries],
    ) -> Response[list[SpendLog] | list[DailySpend]]:
        """Return rows, or days; further rows are announced by the header `X-Next-Cursor`."""
        query = parse_log_query(request.query_params.dict(), caller.scope)
        if query.days is not None:
            return Response(daily_spend(query.days, await spend_queries.answer(caller.tenant_id, query.days)))
        page = await charge_queries.list_charges(
            caller.tenant_id,
            query.conditions,
            query.time_range,
            limit=query.limit,
            after=query.after,
            answer_id=query.request_id,
            with_documents=True,
        )
        headers = {} if page.next is None else {NEXT_CURSOR_HEADER: encode_position(page.next)}
        return Response([spend_log(row) for row in page.rows], headers=headers)
