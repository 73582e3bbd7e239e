"""Bodies and headers nobody should send: decided in bounded memory and time, and never answered by an error of ours."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.api.checks.gateways import AS_CLIENT, KEY, KEY_ID, open_gateway
from tests.api.checks.world import World

BODIES = [
    b"",
    b"\x00" * 5_000,
    b"\xff\xfe\xfd",
    b"not json",
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b'{"model": "x", "max_tokens": 1e400}',
    b'{"model": "x", "max_tokens": 1' + b"0" * 5_000 + b"}",
    b'{"model": "x\\u0000y\\ud800", "max_tokens": 5}',
    b'{"model": "' + b"m" * 20_000 + b'"}',
    b'{"model": {"model": "x"}, "max_tokens": {"n": 1}}',
    json.dumps({"model": "x", "n": 2**70}).encode(),
    b"\x1f\x8b\x08\x00gzip, it says",
]
VALUES = [
    b"\xff\xfe",
    b"Bearer \xc3\x28",
    b"Bearer " + b"k" * 20_000,
    b"Bearer",
    b"Bearer tg_",
    b"a, b, c",
    "Bearer ключ".encode(),
    b"1" * 400,
    b"-5",
    b"\x00",
]
NAMES = [
    b"authorization",
    b"x-api-key",
    b"x-ai-eg-model",
    b"x-request-id",
    b"content-encoding",
    b"x-original-content-length",
    b"x-tallygate-team",
    b"x-tallygate-tags",
    b"x-tallygate-input-tokens",
    b"x-tallygate-max-output-tokens",
    b"x-tallygate-model",
    b"x-tallygate-reservation",
]
EVERY_HEADER = (
    "x-tallygate-team", "x-tallygate-tags", "x-tallygate-input-tokens", "x-tallygate-max-output-tokens",
    "x-tallygate-model",
)  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_every_body_is_decided(world: World, body: bytes):
    await world.put_budget(match={"api_key": KEY_ID}, limit_usd="0")
    gateway = await open_gateway(world, reserve=True)
    assert (await gateway.authz(body=body)).status_code == 402
    assert (await gateway.authz(body=body, headers={"x-api-key": "sk-other"})).status_code == 200


@pytest.mark.parametrize("name", NAMES, ids=[name.decode() for name in NAMES])
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
async def test_every_header_is_decided(world: World, name: bytes, value: bytes):
    gateway = await open_gateway(world, trusted_headers=EVERY_HEADER, reserve=True)
    headers = [(b"x-tallygate-token", gateway.token.encode()), (name, value)]
    for method, path in (("POST", "/v1/check/authz/x"), ("GET", "/v1/check/nginx")):
        answer = await world.client.request(method, path, headers=headers)
        assert answer.status_code in {200, 204}, (answer.status_code, answer.text)
        assert not any(b"\r" in each or b"\n" in each for pair in answer.headers.raw for each in pair)


@pytest.mark.parametrize("call_id", ["a\r\nset-cookie: x=1", "a b", "x" * 200, "é", "a#2", ""])
async def test_an_id_that_is_not_sane_names_no_hold_and_is_never_answered(world: World, call_id: str):
    await world.put_budget(limit_usd="100")
    gateway = await open_gateway(world, reserve=True)
    answer = await gateway.authz(headers=[(b"x-request-id", call_id.encode())])  # type: ignore[list-item]
    assert answer.status_code == 200
    assert answer.headers["x-tallygate-reservation"].isalnum()
    assert "set-cookie" not in answer.headers


async def test_a_huge_body_is_counted_and_not_kept(world: World):
    await world.put_budget(match={"requested_model": "gpt-4.1"}, limit_usd="0.5")
    gateway = await open_gateway(world)

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"model": "gpt-4.1", "max_tokens": 1, "x": "'
        for _ in range(200):
            yield b"x" * 65_536

    # 13 MB for 6.5 M tokens: a single cut body says what the model is, the rest is only counted.
    assert (await gateway.authz(body=chunks())).status_code == 402  # type: ignore[arg-type]
    small = b'{"model": "gpt-4.1", "max_tokens": 1, "x": "'
    assert (await gateway.authz(body=small)).status_code == 200


async def test_many_at_once_are_all_decided(world: World):
    await world.put_budget(match={"api_key": KEY_ID}, limit_usd="0")
    gateway = await open_gateway(world)
    answers = await asyncio.gather(*[gateway.authz(headers=AS_CLIENT) for _ in range(100)])
    assert {answer.status_code for answer in answers} == {402}


async def test_headers_of_verdicts_in_a_request_are_not_taken_for_ours(world: World):
    await world.put_budget(limit_usd="0")
    gateway = await open_gateway(world)
    forged = [
        ("authorization", f"Bearer {KEY}"), ("x-tallygate-verdict", "allow"), ("x-tallygate-reason", "none"),
        ("x-tallygate-status", "200"), ("x-tallygate-reservation", "r1"),
    ]  # fmt: skip
    answer = await gateway.authz(headers=forged)
    assert (answer.status_code, answer.headers.get_list("x-tallygate-verdict")) == (402, ["deny"])
    nginx = await gateway.nginx(headers=forged)
    assert (nginx.status_code, nginx.headers.get_list("x-tallygate-status")) == (403, ["402"])
