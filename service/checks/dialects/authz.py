"""`ANY /v1/check/authz/{path}`: for gateways that pass on the request itself and give its answer to their client.

Any method and any path, the empty one too. 200 lets the call go on; every other status with its body is meant for the
client. 503 means that nothing was decided: the gateway's own rule for that applies.
"""

from typing import Any, cast

from litestar import asgi
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from service.checks.dialects.answers import Answer, answer_of, answer_to_error
from service.checks.dialects.authz_docs import AUTHZ_PATH_ITEM
from service.checks.dialects.client_headers import body_length
from service.checks.dialects.reading import admit_gateway, question_of
from service.checks.dialects.service import DialectService
from service.direct import announced_bytes
from service.errors import NotFound, TallygateError
from service.kit.clock import utc_now

PATH = "/v1/check/authz"
# What is looked at of a body, and what is counted of it.
MOST_BYTES_READ = 1024 * 1024
MOST_BYTES_COUNTED = 64 * 1024 * 1024
_POLICY_VIOLATION = 1008


@asgi(PATH, is_mount=True, copy_scope=False, opt={"openapi": {f"{PATH}/{{path}}": AUTHZ_PATH_ITEM}})
async def authorize(scope: Scope, receive: Receive, send: Send) -> None:
    """Decide the call a gateway passes on."""
    if scope["type"] != ScopeType.HTTP:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "not for WebSockets"})
        return
    scope["path_template"] = f"{PATH}/{{path}}"
    try:
        answer = await _decide(scope, receive)
    except TallygateError as error:
        answer = answer_to_error(error)
    if answer is not None:
        await _send(send, answer, is_head=scope.get("method") == "HEAD")


async def _decide(scope: Scope, receive: Receive) -> Answer | None:
    if not scope["path"].startswith("/"):  # a mount takes all that begins as its address does
        raise NotFound("There is nothing at this address.")
    caller = await admit_gateway(scope)
    read = await _read_body(scope, receive)
    if read is None:
        return None
    body, length = read
    dialects: DialectService = scope["litestar_app"].state.services.dialect_service
    verdict = await dialects.decide(caller, question_of(scope["headers"], body, length, caller))
    return answer_of(verdict, utc_now())


async def _read_body(scope: Scope, receive: Receive) -> tuple[bytes, int] | None:
    """Return the beginning of the body and its length as far as it is counted; None when the gateway has gone."""
    announced, to_come = body_length(scope["headers"]), announced_bytes(scope)
    kept, counted = bytearray(), 0
    while True:
        message = cast("dict[str, Any]", await receive())
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        counted += len(chunk)
        kept += chunk[: MOST_BYTES_READ - len(kept)]
        is_known = len(kept) >= MOST_BYTES_READ and announced > counted
        is_whole = not message.get("more_body") or counted >= to_come
        if is_whole or is_known or counted >= MOST_BYTES_COUNTED:
            return bytes(kept), max(counted, announced)


async def _send(send: Send, answer: Answer, *, is_head: bool) -> None:
    headers = {"content-length": str(len(answer.body))} | answer.headers
    if answer.body:
        headers["content-type"] = "application/json"
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if is_head else answer.body, "more_body": False})
