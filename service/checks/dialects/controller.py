"""Dialects with one address and one method: nginx, LiteLLM's generic guardrail API, Portkey's webhook guardrail."""

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec

from service.access.tokens import Caller
from service.checks.body_docs import operation_with_body
from service.checks.dialects.answers import Answer, answer_of, answer_to_error, guardrail_answer, portkey_answer
from service.checks.dialects.authz_docs import GATEWAY_SECURITY
from service.checks.dialects.bodies import GuardrailBody, PortkeyBody, read_guardrail, read_portkey
from service.checks.dialects.client_headers import Headers
from service.checks.dialects.question import Question
from service.checks.dialects.reading import admit_gateway, question_of
from service.checks.dialects.schemas import GuardrailAnswer, PortkeyAnswer
from service.checks.dialects.service import DialectService
from service.errors import BodyTooLarge, TallygateError, Unauthenticated, Unavailable
from service.kit.clock import utc_now
from service.problems import problem_responses
from service.settings import MIB

_JSON = "application/json"
_MOST_BODY_BYTES = 32 * MIB
# Of all statuses that stop a call, nginx passes on these; every other is an error of its own to it.
_NGINX_STOPS = {401, 403}

_Reader = Callable[[bytes, Headers, Caller], Question | None]


class DialectController(Controller):
    """Answers gateways in their own words."""

    path = "/v1/check"
    tags = ("checks",)
    security = GATEWAY_SECURITY

    @get(
        "/nginx",
        status_code=204,
        operation_id="check_for_nginx",
        summary="Ask for nginx's auth_request",
        responses={
            403: ResponseSpec(
                None, description="Denied: x-tallygate-status and x-tallygate-message say how", generate_examples=False
            ),
            **problem_responses(401, 503),
        },
    )
    async def check_for_nginx(
        self, request: Request[Any, Any, State], dialect_service: NamedDependency[DialectService]
    ) -> Response[None]:
        """Answer 204 or 403: nginx knows no other verdict. It sends no body, so headers say who asks, for what.

        What the client should get is in headers, for `auth_request_set`: `x-tallygate-status`, `x-tallygate-message`,
        `x-tallygate-type`, `x-tallygate-reason` and `retry-after`.
        """
        try:
            caller = await admit_gateway(request.scope)
            question = question_of(request.scope["headers"], b"", 0, caller)
            answer = answer_of(await dialect_service.decide(caller, question), utc_now())
        except (Unavailable, Unauthenticated):
            raise
        except TallygateError as error:
            answer = answer_to_error(error)
        return _nginx_response(answer)

    @post(
        "/guardrail/beta/litellm_basic_guardrail_api",
        status_code=200,
        request_max_body_size=_MOST_BODY_BYTES,
        operation_id="check_for_litellm_guardrail",
        operation_class=operation_with_body(GuardrailBody, is_required=True),
        summary="Ask for LiteLLM's generic guardrail API",
        responses={
            200: ResponseSpec(GuardrailAnswer, description="NONE lets the call go on", generate_examples=False),
            **problem_responses(400, 401, 403, 413, 503),
        },
    )
    async def check_for_litellm(
        self, request: Request[Any, Any, State], dialect_service: NamedDependency[DialectService]
    ) -> Response[bytes]:
        """Decide a call of a LiteLLM proxy; it answers its client with 400 and the reason when it is `BLOCKED`."""
        caller = await admit_gateway(request.scope)
        answer = await _decide(dialect_service, request, caller, read_guardrail)
        return _json_response(guardrail_answer(answer))

    @post(
        "/portkey",
        status_code=200,
        request_max_body_size=_MOST_BODY_BYTES,
        operation_id="check_for_portkey",
        operation_class=operation_with_body(PortkeyBody, is_required=True),
        summary="Ask for Portkey's webhook guardrail",
        responses={
            200: ResponseSpec(PortkeyAnswer, description="The verdict, whatever happened", generate_examples=False)
        },
    )
    async def check_for_portkey(
        self, request: Request[Any, Any, State], dialect_service: NamedDependency[DialectService]
    ) -> Response[bytes]:
        """Decide a call of a Portkey gateway. Always 200: Portkey lets calls go on when a webhook answers otherwise."""
        try:
            caller = await admit_gateway(request.scope)
            answer = await _decide(dialect_service, request, caller, read_portkey)
        except TallygateError as error:
            answer = answer_to_error(error)
        return _json_response(portkey_answer(answer))


async def _decide(dialects: DialectService, request: Request[Any, Any, State], caller: Caller, read: _Reader) -> Answer:
    try:
        body = await request.body()
    except HTTPException as error:
        raise BodyTooLarge("The body is larger than is looked at.") from error
    question = read(body, request.scope["headers"], caller)
    if question is None:
        return Answer(status=200)
    return answer_of(await dialects.decide(caller, question), utc_now())


def _nginx_response(answer: Answer) -> Response[None]:
    if answer.code is None:
        return Response(None, status_code=204, headers=answer.headers)
    told = {
        "x-tallygate-status": str(answer.status),
        "x-tallygate-type": answer.error_type,
        "x-tallygate-message": answer.message.encode("ascii", "replace").decode(),
    }
    status = answer.status if answer.status in _NGINX_STOPS else 403
    return Response(None, status_code=status, headers=answer.headers | told, media_type=MediaType.TEXT)


def _json_response(document: dict[str, Any]) -> Response[bytes]:
    return Response(msgspec.json.encode(document), media_type=_JSON)
