"""`POST /v1/check` and `/v1/reservations`: may this call be made, and the hold it was given."""

from typing import Any

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from service.access.guards import admits, caller_of
from service.checks.answer import render_answer
from service.checks.body_docs import operation_with_body
from service.checks.denial import denial_response
from service.checks.dialects.schemas import StoppedAnswer
from service.checks.outcome import Denied
from service.checks.schemas import (
    CheckAnswer,
    CheckBody,
    RenewBody,
    ReservationView,
    read_check,
    read_renewal,
    reservation_view,
)
from service.checks.service import CheckService
from service.direct import directly, read_body
from service.errors import InvalidInput
from service.kit.clock import utc_now
from service.problems import problem_responses

_JSON = "application/json"
_MOST_BODY_BYTES = 256 * 1024


class CheckController(Controller):
    """Answers gateways before they forward a call."""

    path = "/v1/check"
    tags = ("checks",)

    @post(
        status_code=200,
        middleware=[admits("check"), directly],
        operation_id="check",
        operation_class=operation_with_body(CheckBody, is_required=True),
        summary="Ask whether a call may be made",
        responses={
            200: ResponseSpec(CheckAnswer, description="The decision, and how it came about", generate_examples=False),
            402: ResponseSpec(StoppedAnswer, description="Denied, with `enforce`", generate_examples=False),
            429: ResponseSpec(
                StoppedAnswer, description="Only calls under way are in the way", generate_examples=False
            ),
            **problem_responses(400, 401, 403, 409, 413, 422, 503),
        },
    )
    async def check(self, request: Request[Any, Any, State]) -> Response[bytes]:
        """Decide, explain, and with `reserve` hold the amount until its event comes or `ttl_seconds` are over.

        With `?enforce=true` a denial is answered by the status the tenant chose (402 by default) and a body that
        clients of gateways understand, to be passed on as it is.
        """
        is_enforced = _is_enforced(request)
        # Not asked for as a dependency: resolving it costs as much as matching the budgets.
        check_service: CheckService = request.app.state.services.check_service
        outcome = await check_service.check(caller_of(request), read_check(await read_body(request, _MOST_BODY_BYTES)))
        if is_enforced and isinstance(outcome, Denied):
            denial = denial_response(outcome, utc_now())
            return Response(denial.body, status_code=denial.status, headers=denial.headers, media_type=_JSON)
        return Response(render_answer(outcome), media_type=_JSON)


class ReservationController(Controller):
    """Holds by their id, within the caller's tenant."""

    path = "/v1/reservations"
    tags = ("checks",)

    @get(
        "/{reservation_id:str}",
        middleware=[admits("check")],
        operation_id="get_reservation",
        summary="Show a reservation",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def get_reservation(
        self,
        request: Request[Any, Any, State],
        reservation_id: FromPath[str],
        check_service: NamedDependency[CheckService],
    ) -> ReservationView:
        """Return a reservation; for ten minutes after its end too."""
        return reservation_view(await check_service.get_reservation(caller_of(request), reservation_id))

    @post(
        "/{reservation_id:str}/renew",
        status_code=200,
        middleware=[admits("check")],
        operation_id="renew_reservation",
        operation_class=operation_with_body(RenewBody, is_required=False),
        summary="Let a hold last longer",
        responses={
            200: ResponseSpec(ReservationView, description="The reservation", generate_examples=False),
            **problem_responses(400, 401, 403, 404, 409, 422, 503),
        },
    )
    async def renew_reservation(
        self,
        request: Request[Any, Any, State],
        reservation_id: FromPath[str],
        check_service: NamedDependency[CheckService],
    ) -> ReservationView:
        """Let a live hold last `ttl_seconds` from now at least; 409 when it has ended."""
        ttl_seconds = read_renewal(await request.body())
        return reservation_view(await check_service.renew(caller_of(request), reservation_id, ttl_seconds))

    @delete(
        "/{reservation_id:str}",
        status_code=200,
        middleware=[admits("check")],
        operation_id="void_reservation",
        summary="Cancel a reservation",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def void_reservation(
        self,
        request: Request[Any, Any, State],
        reservation_id: FromPath[str],
        check_service: NamedDependency[CheckService],
    ) -> ReservationView:
        """Free what is held and return the reservation; one that has ended stays as it is."""
        return reservation_view(await check_service.void(caller_of(request), reservation_id))


def _is_enforced(request: Request[Any, Any, State]) -> bool:
    if not request.scope["query_string"]:
        return False
    chosen = request.query_params.get("enforce", "false")
    if chosen not in {"true", "false"}:
        raise InvalidInput("enforce is true or false.", field="enforce")
    return chosen == "true"
