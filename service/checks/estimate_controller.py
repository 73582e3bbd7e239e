"""`POST /v1/estimates`: what a call may cost at most, before anybody makes it."""

from typing import Any

from litestar import Controller, Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from service.access.guards import requires_any
from service.access.tokens import Caller
from service.checks.body_docs import operation_with_body
from service.checks.estimate_schemas import EstimateAnswer, EstimateBody, estimate_answer, read_estimate
from service.checks.estimates import EstimateService
from service.problems import problem_responses

_MOST_BODY_BYTES = 256 * 1024


class EstimateController(Controller):
    """Estimates for those who check and those who read."""

    path = "/v1/estimates"
    tags = ("checks",)

    @post(
        status_code=200,
        guards=[requires_any("check", "read")],
        request_max_body_size=_MOST_BODY_BYTES,
        operation_id="estimate",
        operation_class=operation_with_body(EstimateBody, is_required=True),
        summary="Estimate what a call may cost at most",
        responses={
            200: ResponseSpec(EstimateAnswer, description="The worst case, by candidate", generate_examples=False),
            **problem_responses(400, 401, 403, 413, 422, 503),
        },
    )
    async def estimate(
        self,
        request: Request[Any, Any, State],
        caller: NamedDependency[Caller],
        estimate_service: NamedDependency[EstimateService],
    ) -> EstimateAnswer:
        """Return the worst case by the code that charges: tiers, fees, overrides, discounts, the dearest candidate."""
        call, available_usd = read_estimate(await request.body())
        return estimate_answer(await estimate_service.estimate(caller, call), available_usd)
