"""Turns every exception that reaches the edge into `application/problem+json` (RFC 9457) with `code`, perhaps `field`.

Litestar's own exceptions get a code from their status; anything unforeseen is logged and answered without its text.
"""

import re
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap
from msgspec import UNSET, Struct, UnsetType
from psycopg_pool import PoolTimeout, TooManyRequests
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import MalformedBody, TallygateError, Unauthenticated, Unavailable, problem_details
from service.errors import TooManyRequests as AskedTooOften

PROBLEM_MEDIA_TYPE = "application/problem+json"

_log = structlog.get_logger(__name__)
_FIELD_IN_MESSAGE = re.compile(r" - at `\$\.?(?P<field>[^`]*)`$")


class Problem(Struct):
    """What went wrong: RFC 9457, with a stable `code` and, for one element of the input, its `field` path."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | UnsetType = UNSET


def problem_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the `responses` of a handler that answers these statuses with a problem document."""
    return {
        status: ResponseSpec(
            data_container=Problem,
            description=HTTPStatus(status).phrase,
            generate_examples=False,
            media_type=PROBLEM_MEDIA_TYPE,
        )
        for status in statuses
    }


def problem_handlers() -> ExceptionHandlersMap:
    """Return the one error map of the application."""
    return {
        TallygateError: _answer_tallygate_error,
        HTTPException: _answer_http_exception,
        psycopg.OperationalError: _answer_lost_engine,
        PoolTimeout: _answer_lost_engine,
        TooManyRequests: _answer_lost_engine,
        RedisConnectionError: _answer_lost_engine,
        RedisTimeoutError: _answer_lost_engine,
        RecursionError: _answer_recursion,
        Exception: _answer_unforeseen,
    }


def _answer_tallygate_error(_request: Request[Any, Any, Any], error: TallygateError) -> Response[dict[str, Any]]:
    headers: dict[str, str] = {}
    if isinstance(error, Unavailable | AskedTooOften):
        headers["retry-after"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("request_failed", code=error.code, reason=error.detail)
    return _response(problem_details(error), headers)


def _answer_http_exception(_request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    status = HTTPStatus(error.status_code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request_failed", exc_info=error)
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": "invalid_input" if isinstance(error, ValidationException) else status.name.lower(),
        "detail": status.phrase if status >= HTTPStatus.INTERNAL_SERVER_ERROR else error.detail,
    }
    return _response(document | _first_wrong_field(error), dict(error.headers or {}))


def _first_wrong_field(error: HTTPException) -> dict[str, str]:
    """Litestar lists the wrong fields in `extra`; msgspec ends its message in the path."""
    if not isinstance(error, ValidationException) or not isinstance(error.extra, list) or not error.extra:
        return {}
    first = error.extra[0]
    if not isinstance(first, dict):
        return {}
    message = str(first.get("message", error.detail))
    found = _FIELD_IN_MESSAGE.search(message)
    field = str(first.get("key") or (found["field"] if found else ""))
    return {"detail": _FIELD_IN_MESSAGE.sub("", message)} | ({"field": field} if field else {})


def _answer_lost_engine(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    _log.warning("engine_unreachable", exc_info=error)
    return _answer_tallygate_error(request, Unavailable("a database cannot be reached or is overloaded; try again"))


def _answer_recursion(request: Request[Any, Any, Any], error: RecursionError) -> Response[dict[str, Any]]:
    """A body nested thousands of levels deep is the caller's doing; anything else that has no end is ours."""
    if "deserializing" not in str(error):
        return _answer_unforeseen(request, error)
    return _answer_tallygate_error(request, MalformedBody("The body is nested too deep."))


def _answer_unforeseen(_request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    _log.error("request_crashed", exc_info=error)
    return _response(
        problem_details(TallygateError("an error on our side; the log has it under this x-request-id")), {}
    )


def _response(document: dict[str, Any], headers: dict[str, str]) -> Response[dict[str, Any]]:
    return Response(
        document,
        status_code=document["status"],
        media_type=PROBLEM_MEDIA_TYPE,
        headers=headers,
    )
