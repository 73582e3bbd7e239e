"""The tree of exceptions, without HTTP knowledge, and their one mapping to problem details.

TallygateError
├── InvalidInput         the caller said something that cannot be taken        422
│   └── MalformedBody    no JSON at all                                        400
├── Unauthenticated      no or no valid token                                  401
├── Forbidden            a valid token without the right                       403
├── NotFound             nothing there, or nothing this tenant may see         404
├── AlreadyExists        the name is taken                                     409
├── StateConflict        the thing is in a state that forbids the step         409
├── BodyTooLarge         more bytes than the limit                             413
├── TooManyRequests      a throttle                                            429
└── Unavailable          a database cannot be reached or is overloaded         503

Expected outcomes of ingest and checks are values, not exceptions.
"""

from http import HTTPStatus
from typing import Any, ClassVar


class TallygateError(Exception):
    """Base of everything this service raises on purpose: a stable `code`, a text for people, perhaps a field path."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "internal_error"

    def __init__(self, detail: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.field = field


class InvalidInput(TallygateError):
    """The caller said something that cannot be taken."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_input"


class MalformedBody(InvalidInput):
    """The body is no JSON at all."""

    status = HTTPStatus.BAD_REQUEST
    code = "malformed_body"


class Unauthenticated(TallygateError):
    """There is no token, or none that is valid."""

    status = HTTPStatus.UNAUTHORIZED
    code = "unauthenticated"


class Forbidden(TallygateError):
    """The token is valid and lacks the right."""

    status = HTTPStatus.FORBIDDEN
    code = "forbidden"


class NotFound(TallygateError):
    """Nothing is there, or nothing this tenant may see."""

    status = HTTPStatus.NOT_FOUND
    code = "not_found"


class AlreadyExists(TallygateError):
    """The name is taken."""

    status = HTTPStatus.CONFLICT
    code = "already_exists"


class StateConflict(TallygateError):
    """The thing is in a state that forbids the step."""

    status = HTTPStatus.CONFLICT
    code = "state_conflict"


class BodyTooLarge(TallygateError):
    """The body has more bytes than the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "body_too_large"


class TooManyRequests(TallygateError):
    """A throttle says: not so often; a second later there is room again."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "too_many_requests"
    retry_after_seconds = 1


class Unavailable(TallygateError):
    """A database cannot be reached or is overloaded: the caller may send the same again after a while."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "unavailable"

    def __init__(self, detail: str, *, code: str | None = None, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, code=code)
        self.retry_after_seconds = retry_after_seconds


def problem_details(error: TallygateError) -> dict[str, Any]:
    """Return the members of an RFC 9457 problem document."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": error.status.phrase,
        "status": int(error.status),
        "code": error.code,
        "detail": error.detail,
    }
    if error.field is not None:
        document["field"] = error.field
    return document
