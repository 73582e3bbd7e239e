"""What gateways pass on, byte by byte, to a real server: methods, framing and headers nobody should send."""

import asyncio
import json
from hashlib import sha256

import pytest

from tests.faults.conftest import Tenant
from tests.faults.replica import Caller, Replica

KEY = "sk-key-of-an-end-client"
KEY_ID = sha256(KEY.encode()).hexdigest()


@pytest.fixture
async def token(callers: list[Caller]) -> str:
    made = await callers[0].call("POST", "/v1/tokens", json={"name": "gateway", "roles": ["check"]}, status=201)
    return str(made["token"])


async def answer_to(replica: Replica, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes and return status, headers and body; status 0 = the connection was closed without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.process.port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            is_bodiless = request.startswith(b"HEAD") or lines[0].split(" ")[1] == "204"
            length = 0 if is_bodiless else int(headers.get("content-length", "0"))
            return int(lines[0].split(" ")[1]), headers, await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return 0, {}, b""
    finally:
        writer.close()


def request_of(token: str, *headers: bytes, method: str = "POST", body: bytes = b"", path: str = "/v1/x") -> bytes:
    lines = [
        f"{method} /v1/check/authz{path} HTTP/1.1".encode(),
        b"host: gate",
        b"x-tallygate-token: " + token.encode(),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PROPFIND", "QUERY", "MADEUP"])
async def test_methods_of_any_name_are_decided(replicas: list[Replica], token: str, method: str):
    status, headers, body = await answer_to(replicas[0], request_of(token, b"x-api-key: sk-1", method=method))
    assert (status, headers["x-tallygate-verdict"], body) == (200, "allow", b"")


async def test_a_body_in_chunks_is_read_and_the_connection_serves_the_next_request(
    replicas: list[Replica], callers: list[Caller], token: str
):
    await callers[0].create_budget("model", {"requested_model": "claude-opus-4-6"}, "0")
    content = json.dumps({"model": "claude-opus-4-6", "padding": "x" * 100_000}).encode()
    pieces = [content[start : start + 7_000] for start in range(0, len(content), 7_000)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    request = request_of(token, b"transfer-encoding: chunked", b"x-api-key: sk-1", body=chunked)
    for _ in range(2):
        status, headers, body = await answer_to(replicas[0], request)
        assert (status, headers["x-tallygate-verdict"]) == (402, "deny")
        assert json.loads(body)["error"]["type"] == "budget_exceeded"


async def test_smuggled_lines_and_lengths_open_no_gate(replicas: list[Replica], callers: list[Caller], token: str):
    await callers[0].create_budget("own", {"api_key": KEY_ID}, "0")
    key = b"authorization: Bearer " + KEY.encode()
    for headers, body in (
        ([key, b"x-request-id: a\r\nx-tallygate-verdict: allow"], b""),
        ([key, b"x-tallygate-team: rich\r\n x-tallygate-folded: yes"], b""),
        ([key, b"x-api-key: sk-junk\rx-tallygate-verdict: allow"], b""),
        ([key, b"x-api-key: sk-\x00junk"], b""),
        ([key, b"content-length: 4", b"content-length: 40"], b"{}{}"),
        ([key, b"content-length: 5", b"transfer-encoding: chunked"], b"0\r\n\r\nGET /v1/check/authz HTTP/1.1\r\n\r\n"),
        ([key, b"transfer-encoding: chunked, identity"], b"0\r\n\r\n"),
        ([key, b"content-length: -1"], b""),
        ([key, b"x-filler: " + b"f" * 60_000], b""),
    ):
        status, answered, _ = await answer_to(replicas[0], request_of(token, *headers, body=body))
        assert status in {0, 400, 402, 431, 501}, (headers, status)
        assert answered.get("x-tallygate-verdict", "deny") == "deny"


async def test_a_gateway_that_hangs_up_leaves_the_server_as_it_was(replicas: list[Replica], token: str, tenant: Tenant):
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", replicas[0].process.port)
        writer.write(request_of(token, b"content-length: 1000", body=b'{"model": "gpt-'))
        await writer.drain()
        writer.transport.abort()
    status, _, _ = await answer_to(replicas[0], request_of(token, b"x-api-key: sk-1"))
    assert status == 200
    assert KEY not in replicas[0].process.log()
    assert token not in replicas[0].process.log()
    assert "request_crashed" not in replicas[0].process.log()
