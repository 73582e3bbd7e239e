"""nginx, LiteLLM's generic guardrail API and Portkey's webhook guardrail over HTTP."""

from typing import Any

import pytest

from tests.api.checks.gateways import AS_CLIENT, KEY, KEY_ID, open_gateway
from tests.api.checks.world import MODEL, World

WHO = {
    "user_api_key_hash": KEY_ID,
    "user_api_key_user_id": "u1",
    "user_api_key_team_id": "core",
    "user_api_key_end_user_id": "e1",
    "user_api_key_org_id": "o1",
}


async def test_nginx_gets_204_or_403_and_the_rest_in_headers(world: World):
    gateway = await open_gateway(world)
    allowed = await gateway.nginx()
    assert (allowed.status_code, allowed.content) == (204, b"")
    await world.put_budget(match={"api_key": "*"}, limit_usd="0.01", period="1d")
    await world.post_event(cost="0.02", metadata={"user_api_key_hash": KEY_ID})
    denied = await gateway.nginx()
    assert (denied.status_code, denied.content) == (403, b"")
    assert denied.headers["x-tallygate-status"] == "402"
    assert denied.headers["x-tallygate-type"] == "budget_exceeded"
    assert denied.headers["x-tallygate-reason"] == "budget_exceeded"
    assert denied.headers["x-tallygate-message"] == ("Budget has been exceeded! Current cost: 0.02, Max budget: 0.01")
    assert int(denied.headers["retry-after"]) >= 1


@pytest.mark.parametrize("status", [402, 403, 422, 429])
async def test_nginx_never_gets_a_status_it_does_not_know(world: World, status: int):
    await world.call("PATCH", "/v1/settings", json={"deny_status": status})
    await world.put_budget(limit_usd="0")
    denied = await (await open_gateway(world)).nginx()
    assert (denied.status_code, denied.headers["x-tallygate-status"]) == (403, str(status))


async def test_nginx_is_told_of_a_blocked_key_and_of_itself_unknown(world: World):
    gateway = await open_gateway(world)
    await world.call("PUT", f"/v1/keys/{KEY_ID}", json={"blocked": True})
    blocked = await gateway.nginx()
    assert (blocked.status_code, blocked.headers["x-tallygate-type"]) == (403, "key_blocked")
    assert (await world.client.get("/v1/check/nginx", headers=AS_CLIENT)).status_code == 401


async def test_litellm_is_answered_none_or_blocked_with_the_reason(world: World):
    gateway = await open_gateway(world)
    call = {"input_type": "request", "texts": ["hello"], "model": MODEL, "request_data": WHO, "litellm_call_id": "c1"}
    assert await gateway.guardrail(**call) == {"action": "NONE"}
    await world.put_budget(match={"api_key": "*"}, limit_usd="0.01")
    await world.post_event(cost="0.02", metadata={"user_api_key_hash": KEY_ID})
    assert await gateway.guardrail(**call) == {
        "action": "BLOCKED",
        "blocked_reason": "Budget has been exceeded! Current cost: 0.02, Max budget: 0.01",
    }
    assert await gateway.guardrail(**(call | {"input_type": "response"})) == {"action": "NONE"}


@pytest.mark.parametrize(
    "match",
    [{"user": "u1"}, {"team": "core"}, {"end_user": "e1"}, {"organization": "o1"}, {"api_key": KEY_ID},
     {"requested_model": MODEL}],
)  # fmt: skip
async def test_litellm_tells_who_asks(world: World, match: dict[str, Any]):
    await world.put_budget(match=match, limit_usd="0")
    gateway = await open_gateway(world)
    answer = await gateway.guardrail(texts=["hello"], model=MODEL, request_data=WHO)
    assert answer["action"] == "BLOCKED"
    assert (await gateway.guardrail(texts=["hello"], model="gpt-4.1", request_data={}))["action"] == "NONE"


async def test_litellms_texts_are_measured(world: World):
    await world.put_budget(limit_usd="0.1")
    gateway = await open_gateway(world)
    assert (await gateway.guardrail(texts=["x" * 1_000], model="gpt-4.1"))["action"] == "NONE"
    assert (await gateway.guardrail(texts=["x" * 200_000], model="gpt-4.1"))["action"] == "BLOCKED"
    pictures = ["data:image/png;base64," + "A" * 400_000]
    assert (await gateway.guardrail(texts=["x"], images=pictures, model="gpt-4.1"))["action"] == "NONE"


async def test_litellms_token_may_come_as_its_api_key(world: World):
    gateway = await open_gateway(world)
    url = "/v1/check/guardrail/beta/litellm_basic_guardrail_api"
    for headers in ({"x-api-key": gateway.token}, {"authorization": f"Bearer {gateway.token}"}):
        answer = await world.client.post(url, headers=headers, json={"texts": []})
        assert answer.json() == {"action": "NONE"}
    assert (await world.client.post(url, headers=AS_CLIENT, json={"texts": []})).status_code == 401


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"texts": 5}', b"{" * 9_000])
async def test_what_litellm_would_not_post_is_malformed(world: World, body: bytes):
    gateway = await open_gateway(world)
    answer = await gateway.send("POST", "/v1/check/guardrail/beta/litellm_basic_guardrail_api", {}, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


def portkey_call(**members: Any) -> dict[str, Any]:
    request = {"json": {"model": MODEL, "max_tokens": 100, "messages": []}, "text": "", "isStreamingRequest": False}
    response = {"json": {}, "text": "", "statusCode": None}
    return {"request": request, "response": response, "provider": "openai", "metadata": {}} | members


async def test_portkey_is_answered_by_a_verdict(world: World):
    gateway = await open_gateway(world)
    assert (await gateway.portkey(**portkey_call()))["verdict"] is True
    await world.put_budget(match={"requested_model": MODEL}, limit_usd="0")
    denied = await gateway.portkey(**portkey_call())
    assert denied["verdict"] is False
    assert (denied["data"]["code"], denied["data"]["status"]) == ("budget_exceeded", 402)
    assert denied["data"]["message"].startswith("Budget has been exceeded!")
    answered = portkey_call(response={"json": {}, "text": "", "statusCode": 200})
    assert (await gateway.portkey(**answered))["verdict"] is True


async def test_portkeys_metadata_counts_as_identity_headers_do(world: World):
    await world.put_budget("user", match={"user": "poor"}, limit_usd="0")
    await world.put_budget("tag", match={"tag": "batch"}, limit_usd="0")
    untrusting = await open_gateway(world)
    trusting = await open_gateway(world, trusted_headers=("x-tallygate-user", "x-tallygate-tags"))
    for metadata in ({"_user": "poor"}, {"user": "poor"}, {"tags": "a,batch"}, {"tags": ["batch", 5]}):
        assert (await untrusting.portkey(**portkey_call(metadata=metadata)))["verdict"] is True
        assert (await trusting.portkey(**portkey_call(metadata=metadata)))["verdict"] is False
    headers = {"x-tallygate-user": "poor"}
    assert (await trusting.portkey(headers=headers, **portkey_call(metadata={"_user": "rich"})))["verdict"] is False


async def test_portkey_never_gets_an_error_that_would_let_calls_through(world: World):
    gateway = await open_gateway(world)
    for headers, content in (
        ({"authorization": f"Bearer {KEY}"}, b"{}"),
        ({"x-tallygate-token": gateway.token}, b"no json"),
        ({"x-tallygate-token": gateway.token}, b"[]"),
        ({"x-tallygate-token": gateway.token}, b'{"request": 5}'),
        ({"x-tallygate-token": gateway.token}, b"x" * (33 * 1024 * 1024)),
    ):
        answer = await world.client.post("/v1/check/portkey", headers=headers, content=content)
        assert (answer.status_code, answer.json()["verdict"]) == (200, False)
