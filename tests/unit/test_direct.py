from collections.abc import Sequence
from typing import Any

import pytest
from litestar import Litestar, Request, Response, post
from litestar.testing import create_async_test_client

from service.direct import directly, find_header, read_body
from service.errors import MalformedBody
from service.problems import problem_handlers

MOST_BYTES = 10


@post("/echo", status_code=200, middleware=[directly])
async def echo(request: Request[Any, Any, Any]) -> Response[bytes]:
    body = await read_body(request, MOST_BYTES)
    if body == b"refused":
        return Response(b"{}", status_code=402, headers={"Retry-After": "7"})
    if body == b"wrong":
        raise MalformedBody("It is wrong.")
    return Response(body)


def client() -> Any:
    return create_async_test_client([echo], exception_handlers=problem_handlers())


async def call_with(
    messages: Sequence[dict[str, Any]], headers: Sequence[tuple[bytes, bytes]] = ()
) -> tuple[int, bytes]:
    app = Litestar([echo], exception_handlers=problem_handlers(), openapi_config=None)
    coming, sent = iter(messages), []

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "POST", "path": "/echo", "query_string": b""}
    scope["headers"] = list(headers)
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])


async def test_the_handler_gets_the_body_and_answers_json_of_a_stated_length():
    async with client() as http:
        answer = await http.post("/echo", content=b'{"a": 1}')
    assert (answer.status_code, answer.json()) == (200, {"a": 1})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == "8"


async def test_status_and_headers_of_the_answer_are_sent():
    async with client() as http:
        answer = await http.post("/echo", content=b"refused")
    assert (answer.status_code, answer.headers["retry-after"]) == (402, "7")


async def test_an_error_of_the_handler_is_answered_as_any_other():
    async with client() as http:
        answer = await http.post("/echo", content=b"wrong")
    assert (answer.status_code, answer.json()["detail"]) == (400, "It is wrong.")


async def test_a_body_above_the_limit_is_refused():
    async with client() as http:
        assert (await http.post("/echo", content=b"x" * MOST_BYTES)).status_code == 200
        assert (await http.post("/echo", content=b"x" * (MOST_BYTES + 1))).status_code == 413


async def test_a_body_that_comes_in_pieces_is_put_together_and_bounded():
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in (b"[1", b",", b"2]")]
    assert await call_with([*pieces, {"type": "http.request", "body": b"", "more_body": False}]) == (200, b"[1,2]")
    assert (await call_with([{**pieces[0], "body": b"x" * 6}] * 2))[0] == 413


async def test_the_end_of_a_body_that_has_come_in_full_is_not_asked_for():
    length = [(b"content-length", b"4")]
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in (b"[1", b"2]")]
    assert await call_with(pieces, length) == (200, b"[12]")
    nothing = {"type": "http.request", "body": b"", "more_body": False}
    assert await call_with([nothing], [(b"content-length", b"0")]) == (200, b"")


async def test_a_body_that_breaks_off_is_no_body():
    broken = [{"type": "http.request", "body": b"[", "more_body": True}, {"type": "http.disconnect"}]
    assert (await call_with(broken))[0] == 400
    assert (await call_with(broken, [(b"content-length", b"2")]))[0] == 400


@pytest.mark.parametrize(("name", "value"), [(b"content-encoding", "gzip"), (b"absent", "")], ids=["sent", "absent"])
def test_a_header_is_found_by_its_name(name: bytes, value: str):
    scope: Any = {"headers": [(b"host", b"x"), (b"content-encoding", b"gzip"), (b"content-encoding", b"br")]}
    assert find_header(scope, name) == value
