"""The verdict in the words of each gateway: a status with headers and a body for those that pass it on, else JSON.

Header values are our own words, figures and dimension names, and an id that was looked at: nothing a client or an
operator wrote could end a line in them.
"""

from datetime import datetime
from typing import Any

import msgspec

from service.checks.denial import denial_response, rate_limit_headers
from service.checks.dialects.schemas import StoppedAnswer, StoppedError
from service.checks.dialects.service import Refused, Verdict
from service.checks.outcome import Allowed, Denied, Explanation
from service.errors import TallygateError, Unavailable

_REFUSED_STATUS = 403
_ALLOWED_STATUS = 200


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer for the end client. `code` says why the call must not be made, None that it may."""

    status: int
    code: str | None = None
    error_type: str = ""
    message: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""


def answer_of(verdict: Verdict, now: datetime) -> Answer:
    """Return the answer to a decided call."""
    match verdict:
        case Allowed(explanation=explanation, hold=hold):
            held = {} if hold is None else {"x-tallygate-reservation": hold.reservation_id}
            headers = _signs("allow", explanation) | held | rate_limit_headers(explanation, now)
            return Answer(status=_ALLOWED_STATUS, headers=headers)
        case Denied(explanation=explanation, code=code):
            denial = denial_response(verdict, now)
            headers = _signs("deny", explanation) | {"x-tallygate-reason": code} | denial.headers
            return Answer(
                status=denial.status,
                code=code,
                error_type=denial.error_type,
                message=denial.message,
                headers=headers,
                body=denial.body,
            )
        case Refused():
            return _refused(verdict)


def answer_to_error(error: TallygateError) -> Answer:
    """Return the answer to what could not be decided at all: a caller nobody knows, engines that are away."""
    headers = {"x-tallygate-reason": error.code}
    if isinstance(error, Unavailable):
        headers["retry-after"] = str(error.retry_after_seconds)
    error_type = "authentication_error" if error.status in {401, 403} else "gate_error"
    return _stopped(int(error.status), error.code, error_type, error.detail, headers, {"code": error.code})


def guardrail_answer(answer: Answer) -> dict[str, Any]:
    """Return the answer LiteLLM's generic guardrail API expects."""
    return {"action": "NONE"} if answer.code is None else {"action": "BLOCKED", "blocked_reason": answer.message}


def portkey_answer(answer: Answer) -> dict[str, Any]:
    """Return the answer Portkey's webhook guardrail expects; it looks at nothing but `verdict`."""
    if answer.code is None:
        return {"verdict": True, "data": {"code": None}}
    told = {"code": answer.code, "message": answer.message, "status": answer.status}
    return {"verdict": False, "data": told | {"retry_after": answer.headers.get("retry-after")}}


def _refused(refused: Refused) -> Answer:
    listed = ", ".join(refused.names)
    message = (
        f"The gateway must tell more of this call: {listed}."
        if refused.code == "unresolved"
        else f"This call says more than one thing: {listed}."
    )
    if refused.settings.deny_detail == "none":
        message = "This call cannot be assigned to anybody."
    detail: dict[str, Any] = {"code": refused.code}
    if refused.settings.deny_detail != "none":
        detail["names"] = refused.names
    headers = {"x-tallygate-verdict": "deny", "x-tallygate-reason": refused.code}
    return _stopped(_REFUSED_STATUS, refused.code, f"{refused.code}_call", message, headers, detail)


def _signs(verdict: str, explanation: Explanation) -> dict[str, str]:
    signs = {"x-tallygate-verdict": verdict}
    if explanation.is_degraded:
        signs["x-tallygate-degraded"] = "true"
    if explanation.unresolved:
        signs["x-tallygate-unresolved"] = ",".join(explanation.unresolved)
    return signs


def _stopped(
    status: int, code: str, error_type: str, message: str, headers: dict[str, str], detail: dict[str, Any]
) -> Answer:
    document = StoppedAnswer(error=StoppedError(message=message, type=error_type, code=str(status)), tallygate=detail)
    body = msgspec.json.encode(document)
    return Answer(status=status, code=code, error_type=error_type, message=message, headers=headers, body=body)
