"""`POST /v1/budgets/backtest`: what a budget would have done to the calls of the past."""

from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from service.access.guards import requires
from service.access.tokens import Caller
from service.budgets.backtest_schemas import BacktestRequest, BacktestView, backtest_view
from service.budgets.backtest_service import LONGEST_RANGE, BacktestService
from service.errors import InvalidInput
from service.kit.instants import checked_instant
from service.ledger.filters import TimeRange
from service.problems import problem_responses


class BacktestController(Controller):
    """Back-tests on the charges of the caller's tenant, as far as the token's scope reaches."""

    path = "/v1/budgets/backtest"
    tags = ("budgets",)

    @post(
        guards=[requires("read")],
        status_code=HTTP_200_OK,
        operation_id="backtest_budget",
        summary="Say who a budget would have denied, and when",
        responses=problem_responses(400, 401, 403, 422, 429, 503),
    )
    async def backtest(
        self,
        data: JSONBody[BacktestRequest],
        caller: NamedDependency[Caller],
        backtest_service: NamedDependency[BacktestService],
    ) -> BacktestView:
        """Ask recorded calls one after the other, with what they did cost; a denied one is not counted as spent.

        There are no holds in it, so it denies a little later than checks of calls that run at the same time.
        """
        draft = data.budget.to_tested()
        result = await backtest_service.run(caller.tenant_id, draft, _range(data), caller.scope)
        return backtest_view(draft, result, data.limit)


def _range(data: BacktestRequest) -> TimeRange:
    start, end = checked_instant(data.start, "from"), checked_instant(data.end, "to")
    if not start < end <= start + LONGEST_RANGE:
        raise InvalidInput(
            f"`to` is later than `from`, by at most {LONGEST_RANGE.days} days.", code="invalid_range", field="to"
        )
    return TimeRange(start, end)
