"""The configurations of deploy/gateways, run: what clients of a gateway see, and what gets past it."""

import json
from hashlib import sha256
from typing import Any

import pytest

from service.access.tokens import TRUSTABLE_HEADERS
from service.kit.ids import new_id
from tests.faults.chat_events import chat_event
from tests.faults.replica import Caller
from tests.faults.server_process import free_port
from tests.gateways.conftest import OpenGateway
from tests.gateways.upstream import Upstream

KEY = "sk-key-of-an-end-client"
KEY_ID = sha256(KEY.encode()).hexdigest()
AS_CLIENT = {"authorization": f"Bearer {KEY}"}
CALL = {"model": "gpt-4.1-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
SHOWS_BODIES = {"envoy"}
# What a client sees when Tallygate cannot be reached.
CLOSED = {"nginx": 500, "caddy": 502, "envoy": 503}


async def make_token(tenant: Caller, **terms: Any) -> str:
    made = await tenant.call("POST", "/v1/tokens", json={"name": "gateway", "roles": ["check"]} | terms, status=201)
    return str(made["token"])


async def test_a_call_with_money_left_reaches_the_upstream_as_it_is(
    open_gateway: OpenGateway, tenant: Caller, upstream: Upstream
):
    client = await open_gateway(await make_token(tenant))
    answer = await client.post(f"{PATH}?x=1", headers=AS_CLIENT, json=CALL)
    assert (answer.status_code, answer.json()["path"]) == (200, f"{PATH}?x=1")
    (seen,) = upstream.seen
    assert (seen.method, json.loads(seen.body)) == ("POST", CALL)
    assert ("authorization", f"Bearer {KEY}") in seen.headers
    assert not [name for name, _ in seen.headers if name.startswith("x-tallygate")]


async def test_a_call_without_money_is_answered_in_the_shape_its_client_knows(
    open_gateway: OpenGateway, tenant: Caller, upstream: Upstream
):
    await tenant.create_budget("own", {"api_key": KEY_ID}, "0.0001", period="1d")
    await tenant.post(chat_event(api_key=KEY_ID))
    client = await open_gateway(await make_token(tenant))
    answer = await client.post(PATH, headers=AS_CLIENT, json=CALL)
    assert answer.status_code == 402
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("budget_exceeded", None, "402")
    assert error["message"].startswith("Budget has been exceeded! Current cost: ")
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400
    assert upstream.seen == []
    assert (await client.post(PATH, headers={"x-api-key": "sk-another"}, json=CALL)).status_code == 200


@pytest.mark.parametrize("status", [402, 403, 422, 429])
async def test_the_client_sees_the_status_the_tenant_chose(open_gateway: OpenGateway, tenant: Caller, status: int):
    await tenant.call("PATCH", "/v1/settings", json={"deny_status": status})
    await tenant.create_budget("none", {}, "0")
    client = await open_gateway(await make_token(tenant))
    answer = await client.post(PATH, headers=AS_CLIENT, json=CALL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, str(status))
    assert "retry-after" not in answer.headers


async def test_calls_under_way_make_it_a_429_that_is_worth_another_try(open_gateway: OpenGateway, tenant: Caller):
    await tenant.create_budget("all", {}, "1", period="1d")
    await tenant.check(reserve=True, estimated_cost_usd="0.9999999")
    client = await open_gateway(await make_token(tenant))
    answer = await client.post(PATH, headers=AS_CLIENT, json=CALL)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


async def test_a_blocked_key_is_forbidden(open_gateway: OpenGateway, tenant: Caller):
    await tenant.call("PUT", f"/v1/keys/{KEY_ID}", json={"blocked": True})
    client = await open_gateway(await make_token(tenant))
    answer = await client.post(PATH, headers=AS_CLIENT, json=CALL)
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "key_blocked")


async def test_forged_identity_headers_reach_neither_the_gate_nor_the_upstream(
    open_gateway: OpenGateway, tenant: Caller, upstream: Upstream
):
    await tenant.create_budget("victim", {"team": "victim"}, "0")
    for name, value in (("user", "victim"), ("organization", "victim"), ("end_user", "victim"), ("tag", "victim")):
        await tenant.create_budget(f"victim-{name}", {name: value}, "0")
    await tenant.create_budget("victim-model", {"requested_model": "victim"}, "0")
    token = await make_token(tenant, trusted_headers=list(TRUSTABLE_HEADERS))
    client = await open_gateway(token)
    forged = dict.fromkeys(TRUSTABLE_HEADERS, "victim") | {
        "x-tallygate-input-tokens": "99999999",
        "x-tallygate-max-output-tokens": "99999999",
        "x-ai-eg-model": "victim",
        "X_Tallygate_Team": "victim",
    }
    await tenant.create_budget("all", {}, "5")
    for headers in (forged, {name.upper(): value for name, value in forged.items()}):
        answer = await client.post(PATH, headers=AS_CLIENT | headers, json=CALL)
        assert answer.status_code == 200, (open_gateway.name, answer.text)
    for seen in upstream.seen:
        assert not [name for name, _ in seen.headers if name.startswith("x-tallygate")]


async def test_a_clients_own_token_does_not_speak_for_the_gateway(
    open_gateway: OpenGateway, tenant: Caller, upstream: Upstream
):
    await tenant.create_budget("none", {}, "0")
    operators = await make_token(tenant, pinned={"team": "rich"})
    client = await open_gateway(await make_token(tenant))
    for headers in (
        [("authorization", f"Bearer {KEY}"), ("x-tallygate-token", operators)],
        [("authorization", f"Bearer {KEY}"), ("x-tallygate-token", "tg_" + "x" * 40)],
        [("authorization", f"Bearer {KEY}"), ("X-TALLYGATE-TOKEN", operators), ("x-tallygate-token", operators)],
        [("authorization", f"Bearer {operators}")],
    ):
        answer = await client.post(PATH, headers=headers, json=CALL)
        assert answer.status_code == 402, (open_gateway.name, headers, answer.text)
    assert upstream.seen == []


async def test_a_second_key_does_not_get_a_poor_one_past(open_gateway: OpenGateway, tenant: Caller, upstream: Upstream):
    await tenant.create_budget("own", {"api_key": KEY_ID}, "0")
    client = await open_gateway(await make_token(tenant))
    for headers in (
        [("authorization", "Bearer sk-junk"), ("x-api-key", KEY)],
        [("authorization", f"Bearer {KEY}"), ("x-litellm-api-key", "sk-junk")],
        [("api-key", "sk-junk"), ("x-goog-api-key", KEY)],
        [("authorization", "Bearer sk-junk"), ("authorization", f"Bearer {KEY}")],
    ):
        answer = await client.post(PATH, headers=headers, json=CALL)
        assert answer.status_code in {400, 402}, (open_gateway.name, headers)
    assert upstream.seen == []


async def test_a_gateway_without_a_valid_token_lets_nothing_through(open_gateway: OpenGateway, upstream: Upstream):
    client = await open_gateway("tg_this-is-no-token-of-anybody")
    assert (await client.post(PATH, headers=AS_CLIENT, json=CALL)).status_code == 401
    assert upstream.seen == []


async def test_when_the_gate_cannot_be_reached_nothing_gets_through(open_gateway: OpenGateway, upstream: Upstream):
    client = await open_gateway("tg_whatever-it-would-have-been", tallygate=free_port())
    answer = await client.post(PATH, headers=AS_CLIENT, json=CALL)
    assert answer.status_code == CLOSED[open_gateway.name]
    assert upstream.seen == []


async def test_streams_pass_as_they_come(open_gateway: OpenGateway, tenant: Caller, upstream: Upstream):
    client = await open_gateway(await make_token(tenant))
    async with client.stream("POST", "/v1/stream", headers=AS_CLIENT, json=CALL) as answer:
        chunks = answer.aiter_raw()
        assert await anext(chunks) == b"data: first\n\n"
        upstream.may_go_on.set()
        assert await anext(chunks) == b"data: second\n\n"


@pytest.mark.parametrize("kibibytes", [1, 900, 3_000])
async def test_bodies_arrive_whole_however_much_the_gate_is_shown(
    open_gateway: OpenGateway, tenant: Caller, upstream: Upstream, kibibytes: int
):
    client = await open_gateway(await make_token(tenant))
    body = CALL | {"padding": "x" * kibibytes * 1024}
    answer = await client.post(PATH, headers=AS_CLIENT, json=body)
    assert answer.status_code == 200
    assert json.loads(upstream.seen[-1].body) == body


async def test_large_calls_are_estimated_by_their_size(open_gateway: OpenGateway, tenant: Caller):
    await tenant.create_budget("all", {}, "0.2")
    client = await open_gateway(await make_token(tenant))
    assert (await client.post(PATH, headers=AS_CLIENT, json=CALL)).status_code == 200
    large = CALL | {"padding": "x" * 1_500_000}
    assert (await client.post(PATH, headers=AS_CLIENT, json=large)).status_code == 402


async def test_a_budget_on_a_model_works_where_bodies_are_shown(open_gateway: OpenGateway, tenant: Caller):
    await tenant.create_budget("model", {"requested_model": "claude-opus-4-6"}, "0")
    client = await open_gateway(await make_token(tenant))
    answer = await client.post(PATH, headers=AS_CLIENT, json=CALL | {"model": "vertex_ai/claude-opus-4-6"})
    assert answer.status_code == (402 if open_gateway.name in SHOWS_BODIES else 200)
    assert (await client.post(PATH, headers=AS_CLIENT, json=CALL)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_is_decided(open_gateway: OpenGateway, tenant: Caller, method: str):
    client = await open_gateway(await make_token(tenant))
    path = f"/v1/models/{new_id().hex}"
    assert (await client.request(method, path, headers=AS_CLIENT)).status_code == 200
    await tenant.create_budget("none", {}, "0")
    assert (await client.request(method, path, headers=AS_CLIENT)).status_code == 402
