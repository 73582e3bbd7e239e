"""`ANY /v1/check/authz/{path}` over HTTP, with the whole application behind it."""

import json
from typing import Any

import pytest

from tests.api.checks.gateways import AS_CLIENT, CALL, KEY, KEY_ID, open_gateway
from tests.api.checks.world import World

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY"]
SUFFIXES = [
    "",
    "/",
    "/v1/chat/completions",
    "/a/b/../c",
    "/nginx",
    "/%2e%2e/v1/tokens",
    "/v1//x/",
    "/{path}",
    "/ü?model=x",
]


@pytest.mark.parametrize("method", METHODS)
async def test_any_method_is_decided(world: World, method: str):
    gateway = await open_gateway(world)
    allowed = await gateway.authz(method=method, body=b"")
    assert (allowed.status_code, allowed.content) == (200, b"")
    assert allowed.headers["x-tallygate-verdict"] == "allow"
    await world.put_budget(limit_usd="0")
    denied = await gateway.authz(method=method, body=b"")
    assert denied.status_code == 402
    assert bool(denied.content) == (method != "HEAD")


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_any_suffix_is_decided_the_empty_one_too(world: World, suffix: str):
    gateway = await open_gateway(world)
    assert (await gateway.authz(suffix=suffix)).status_code == 200
    await world.put_budget(limit_usd="0")
    assert (await gateway.authz(suffix=suffix)).status_code == 402


async def test_what_only_looks_like_the_address_is_not_it(world: World):
    gateway = await open_gateway(world)
    assert (await gateway.authz(suffix="z")).status_code == 404
    assert (await gateway.authz(suffix="-x/v1")).status_code == 404


async def test_a_key_with_money_left_passes_and_is_told_what_is_left(world: World):
    await world.put_budget(match={"api_key": "*"}, limit_usd="1", period="1d")
    gateway = await open_gateway(world)
    answer = await gateway.authz()
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["ratelimit-policy"] == '"budget";q=1000000;w=86400'
    assert answer.headers["ratelimit"].startswith('"budget";r=1000000;t=')
    assert "x-tallygate-reason" not in answer.headers
    assert "x-tallygate-reservation" not in answer.headers


async def test_a_key_without_money_gets_the_denial_in_the_shape_its_client_knows(world: World):
    await world.put_budget("own", match={"api_key": "*"}, limit_usd="0.01", period="1d")
    await world.post_event(cost="0.02", metadata={"user_api_key_hash": KEY_ID})
    answer = await (await open_gateway(world)).authz()
    assert answer.status_code == 402
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-tallygate-verdict"] == "deny"
    assert answer.headers["x-tallygate-reason"] == "budget_exceeded"
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400
    assert answer.headers["ratelimit"].startswith('"budget";r=0;')
    body = answer.json()
    assert body["error"] == {
        "message": "Budget has been exceeded! Current cost: 0.02, Max budget: 0.01",
        "type": "budget_exceeded",
        "param": None,
        "code": "402",
    }
    assert body["tallygate"]["denied_by"][0]["posted_usd"] == "0.02"
    other = await (await open_gateway(world)).authz(headers={"x-api-key": "sk-another"})
    assert other.status_code == 200


@pytest.mark.parametrize("status", [402, 403, 422, 429])
async def test_the_tenant_chooses_the_status(world: World, status: int):
    await world.call("PATCH", "/v1/settings", json={"deny_status": status})
    await world.put_budget(limit_usd="0")
    answer = await (await open_gateway(world)).authz()
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, str(status))
    assert "retry-after" not in answer.headers  # a lifetime never resets


async def test_where_only_calls_under_way_are_in_the_way_another_try_is_worth_it(world: World):
    await world.put_budget(limit_usd="1", period="1d")
    await world.check(reserve=True, estimated_cost_usd="0.9999999")
    answer = await (await open_gateway(world)).authz()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


async def test_a_blocked_key_is_forbidden_whatever_the_tenant_chose(world: World):
    await world.call("PATCH", "/v1/settings", json={"deny_status": 429})
    await world.call("PUT", f"/v1/keys/{KEY_ID}", json={"blocked": True})
    answer = await (await open_gateway(world)).authz()
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "key_blocked")


async def test_the_key_registry_tells_whose_budgets_count(world: World):
    await world.put_budget(match={"team": "core"}, limit_usd="0.01")
    gateway = await open_gateway(world)
    before = await gateway.authz()
    assert (before.status_code, before.headers["x-tallygate-unresolved"]) == (200, "team")
    await world.call("PUT", f"/v1/keys/{KEY_ID}", json={"team": "core"})
    await world.post_event(cost="0.02", metadata={"user_api_key_hash": KEY_ID})
    answer = await gateway.authz()
    assert answer.status_code == 402
    assert answer.json()["tallygate"]["denied_by"][0].keys() == {"name", "resets_at"}
    assert "ratelimit" not in answer.headers


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key", "x-litellm-api-key", "x-goog-api-key"])
async def test_the_key_is_found_wherever_clients_put_it(world: World, name: str):
    await world.put_budget(match={"api_key": KEY_ID}, limit_usd="0")
    gateway = await open_gateway(world)
    assert (await gateway.authz(headers={name: f"Bearer {KEY}"})).status_code == 402
    assert (await gateway.authz(headers={name: "Bearer sk-other"})).status_code == 200


async def test_a_second_key_does_not_hide_the_first(world: World):
    await world.put_budget(match={"api_key": KEY_ID}, limit_usd="0")
    gateway = await open_gateway(world)
    for headers in (
        [("authorization", "Bearer sk-junk"), ("x-api-key", KEY)],
        [("authorization", f"Bearer {KEY}"), ("x-litellm-api-key", "sk-junk")],
        [("authorization", "Bearer sk-junk"), ("authorization", f"Bearer {KEY}")],
        [("x-api-key", "sk-junk"), ("x-api-key", KEY), ("api-key", "sk-more")],
    ):
        assert (await gateway.authz(headers=headers)).status_code == 402, headers


async def test_more_keys_or_models_than_anybody_needs_are_refused(world: World):
    gateway = await open_gateway(world)
    many_keys = [("x-api-key", f"sk-{number}") for number in range(5)]
    answer = await gateway.authz(headers=many_keys)
    assert (answer.status_code, answer.json()["tallygate"]) == (403, {"code": "ambiguous", "names": ["api_key"]})
    many_models = "{" + ",".join(f'"model": "m{number}"' for number in range(5)) + "}"
    answer = await gateway.authz(body=many_models.encode())
    assert (answer.status_code, answer.json()["tallygate"]["names"]) == (403, ["model"])
    await world.call("PATCH", "/v1/settings", json={"enforcement": "shadow"})
    assert (await gateway.authz(headers=many_keys)).status_code == 200


async def test_a_second_model_does_not_hide_the_first(world: World):
    await world.put_budget(match={"requested_model": "claude-opus-4-6"}, limit_usd="0")
    gateway = await open_gateway(world)
    for body in (
        b'{"model": "claude-opus-4-6", "model": "gpt-4.1-mini"}',
        b'{"model": "gpt-4.1-mini", "model": "claude-opus-4-6"}',
        b'{"model": "claude-opus-4-6", "MODEL": "gpt-4.1-mini"}',
        b'{"model": "vertex_ai/claude-opus-4-6@default", "messages": [{"content": "cut o',
    ):
        assert (await gateway.authz(body=body)).status_code == 402, body
    assert (await gateway.authz(body=b'{"model": "gpt-4.1-mini"}')).status_code == 200


async def test_the_body_names_the_model_and_without_it_the_header_of_envoy_ai_gateway(world: World):
    await world.put_budget(match={"requested_model": "claude-opus-4-6"}, limit_usd="0")
    gateway = await open_gateway(world)
    named = AS_CLIENT | {"x-ai-eg-model": "claude-opus-4-6"}
    assert (await gateway.authz(headers=named, body=b"")).status_code == 402
    assert (await gateway.authz(headers=named, body=b'{"messages": [')).status_code == 402
    forged = AS_CLIENT | {"x-ai-eg-model": "gpt-4.1-mini"}
    assert (await gateway.authz(headers=forged, body=b'{"model": "claude-opus-4-6"}')).status_code == 402


async def test_the_estimate_follows_the_size_of_the_call(world: World):
    await world.put_budget(limit_usd="0.1")
    gateway = await open_gateway(world)
    small = b'{"model": "gpt-4.1", "max_tokens": 100}'
    assert (await gateway.authz(body=small)).status_code == 200
    assert (await gateway.authz(body=small.replace(b"100", b"100000"))).status_code == 402
    assert (await gateway.authz(body=small[:-1] + b', "n": 200}')).status_code == 402
    assert (await gateway.authz(body=small[:-1] + b', "x": "' + b"x" * 200_000 + b'"}')).status_code == 402
    told = AS_CLIENT | {"x-original-content-length": "200000"}
    assert (await gateway.authz(headers=told, body=small)).status_code == 402


async def test_identity_headers_count_only_if_the_token_trusts_them(world: World):
    await world.put_budget(match={"team": "poor"}, limit_usd="0")
    claimed = AS_CLIENT | {"x-tallygate-team": "poor"}
    assert (await (await open_gateway(world)).authz(headers=claimed)).status_code == 200
    trusting = await open_gateway(world, trusted_headers=("x-tallygate-team",))
    assert (await trusting.authz(headers=claimed)).status_code == 402
    twice = [*claimed.items(), ("x-tallygate-team", "rich")]
    assert (await trusting.authz(headers=twice)).json()["tallygate"] == {
        "code": "ambiguous", "names": ["x-tallygate-team"]
    }  # fmt: skip


async def test_forged_identity_headers_change_nothing(world: World):
    await world.put_budget(match={"team": "core"}, limit_usd="0")
    await world.call("PUT", f"/v1/keys/{KEY_ID}", json={"team": "core", "user": "u1"})
    forged = {
        "x-tallygate-team": "rich", "x-tallygate-user": "root", "x-tallygate-organization": "all",
        "x-tallygate-end-user": "nobody", "x-tallygate-tags": "free", "x-tallygate-model": "free",
        "x-tallygate-input-tokens": "0", "x-tallygate-max-output-tokens": "0", "x-tallygate-tenant": "default",
    }  # fmt: skip
    gateway = await open_gateway(world)
    assert (await gateway.authz(headers=AS_CLIENT | forged)).status_code == 402
    # What is declared of a key is worth more than what any header says.
    trusting = await open_gateway(world, trusted_headers=("x-tallygate-team",))
    assert (await trusting.authz(headers=AS_CLIENT | forged)).status_code == 402


async def test_token_counts_of_headers_raise_an_estimate_and_never_lower_it(world: World):
    await world.put_budget(limit_usd="0.1")
    counts = ("x-tallygate-input-tokens", "x-tallygate-max-output-tokens")
    gateway = await open_gateway(world, trusted_headers=counts)
    dear = b'{"model": "gpt-4.1", "max_tokens": 100000}'
    lowered = AS_CLIENT | dict.fromkeys(counts, "1")
    assert (await gateway.authz(headers=lowered, body=dear)).status_code == 402
    cheap = b'{"model": "gpt-4.1", "max_tokens": 1}'
    for name in counts:
        assert (await gateway.authz(headers=AS_CLIENT | {name: "1000000"}, body=cheap)).status_code == 402
    assert (await gateway.authz(headers=lowered, body=cheap)).status_code == 200


async def test_what_stays_unknown_is_let_through_or_not_as_the_token_says(world: World):
    await world.put_budget(match={"team": "core"}, limit_usd="100")
    assert (await (await open_gateway(world)).authz()).status_code == 200
    strict = await open_gateway(world, on_unresolved="deny", reserve=True)
    answer = await strict.authz()
    assert (answer.status_code, answer.json()["tallygate"]) == (403, {"code": "unresolved", "names": ["team"]})
    assert answer.headers["x-tallygate-reason"] == "unresolved"
    await world.call("PATCH", "/v1/settings", json={"deny_detail": "none"})
    assert (await strict.authz()).json()["tallygate"] == {"code": "unresolved"}
    await world.call("PATCH", "/v1/settings", json={"enforcement": "shadow"})
    assert (await strict.authz()).status_code == 200
    await world.call("PATCH", "/v1/settings", json={"enforcement": "enforce"})
    await world.call("PUT", f"/v1/keys/{KEY_ID}", json={"team": "core"})
    assert (await strict.authz()).status_code == 200


async def test_a_refused_call_holds_nothing(world: World):
    await world.put_budget("all", limit_usd="100")
    await world.put_budget("team", match={"team": "core"}, limit_usd="100")
    strict = await open_gateway(world, on_unresolved="deny", reserve=True)
    assert (await strict.authz(headers=AS_CLIENT | {"x-request-id": "r1"})).status_code == 403
    assert (await world.check())["budgets"][0]["held_usd"] == "0"


async def test_shadow_and_off_stop_nobody(world: World):
    await world.put_budget(limit_usd="0")
    gateway = await open_gateway(world)
    for mode in ("shadow", "off"):
        await world.call("PATCH", "/v1/settings", json={"enforcement": mode})
        assert (await gateway.authz()).status_code == 200


async def test_a_gateway_that_proves_nothing_is_unknown(world: World):
    good = (await open_gateway(world)).token

    async def status(*headers: tuple[str, str]) -> int:
        answer = await world.client.post("/v1/check/authz/x", headers=list(headers), content=CALL)
        if answer.status_code == 401:
            assert answer.json()["error"]["code"] == "401"
        return answer.status_code

    assert await status() == 401
    assert await status(("authorization", f"Bearer {KEY}")) == 401
    assert await status(("x-tallygate-token", "tg_wrong-but-long-enough")) == 401
    assert await status(("x-tallygate-token", "")) == 401
    assert await status(("x-tallygate-token", good), ("x-tallygate-token", good)) == 401
    assert await status(("x-tallygate-token", f"{good},{good}")) == 401
    assert await status(("x-tallygate-token", good + "x")) == 401
    assert await status(("authorization", f"Bearer {good}"), ("x-api-key", "tg_another-token-text")) == 401
    assert await status(("authorization", f"Basic {good}")) == 401
    assert await status(("x-tallygate-token", good)) == 200
    assert await status(("authorization", f"Bearer {good}")) == 200
    assert await status(("x-api-key", good)) == 200


async def test_a_token_without_the_role_is_forbidden(world: World):
    reader = await open_gateway(world, roles=("read", "ingest", "admin"))
    assert (await reader.authz()).status_code == 403
    assert (await reader.nginx()).status_code == 403


async def test_a_token_of_this_service_in_authorization_is_no_client_key(world: World):
    await world.put_budget(match={"api_key": "*"}, limit_usd="0")
    gateway = await open_gateway(world)
    assert (await gateway.authz(headers={"authorization": f"Bearer {gateway.token}"})).status_code == 200
    assert (await gateway.authz()).status_code == 402


async def test_pins_of_the_token_overwrite_what_is_known_otherwise(world: World):
    await world.put_budget(match={"team": "edge"}, limit_usd="0")
    await world.call("PUT", f"/v1/keys/{KEY_ID}", json={"team": "rich"})
    pinned = await open_gateway(world, pinned={"team": "edge"})
    assert (await pinned.authz()).status_code == 402


async def test_nothing_but_ids_of_keys_is_kept(world: World, capfd: pytest.CaptureFixture[str]):
    await world.put_budget(match={"api_key": "*"}, limit_usd="0")
    gateway = await open_gateway(world, reserve=True)
    for headers in (AS_CLIENT, {"x-goog-api-key": KEY}):
        answer = await gateway.authz(headers=headers)
        assert KEY not in answer.text + str(answer.headers)
    assert (await gateway.nginx()).status_code == 403
    keys = [key async for key in world.services.pools.redis.scan_iter(match=f"{{{world.tenant_id}}}:*")]
    assert not any(KEY.encode() in key for key in keys)
    written = capfd.readouterr()
    assert KEY not in written.out + written.err
    assert gateway.token not in written.out + written.err


async def test_one_tenants_gateway_sees_nothing_of_another(world: World, other_world: World):
    await other_world.put_budget(match={"api_key": KEY_ID}, limit_usd="0")
    await other_world.call("PUT", f"/v1/keys/{KEY_ID}", json={"blocked": True, "team": "theirs"})
    answer = await (await open_gateway(world)).authz()
    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers
    assert (await (await open_gateway(other_world)).authz()).status_code == 403


def test_the_description_of_the_interface_has_every_dialect(openapi: Any):
    assert set(openapi["paths"]) >= {
        "/v1/check/authz/{path}", "/v1/check/nginx", "/v1/check/portkey", "/v1/quota",
        "/v1/check/guardrail/beta/litellm_basic_guardrail_api",
    }  # fmt: skip
    assert set(openapi["paths"]["/v1/check/authz/{path}"]) >= {"get", "post", "put", "patch", "delete"}
    assert json.dumps(openapi)
