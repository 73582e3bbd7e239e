"""What a client of LiteLLM's proxy may write into a request, and what no word of its changes."""

from typing import Any

import pytest

from service.kit.ids import new_id
from tests.gateways.conftest import Household
from tests.gateways.litellm_proxy import LiteLLMProxy, as_client, call
from tests.gateways.provider import Provider
from tests.gateways.test_litellm import CHAT, charges_of

QUEUE = "/queue/chat/completions"


@pytest.fixture
def team() -> str:
    return f"team-{new_id().hex}"


@pytest.fixture
def key(team: str) -> str:
    return f"sk-{team}.u1"


FORGED = {"user_api_key_team_id": "victim", "user_api_key_hash": "of-the-victim", "user_api_key": "of-the-victim"}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings", QUEUE])
@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
async def test_a_fallback_says_nothing_of_who_asks(
    proxy: LiteLLMProxy, provider: Provider, key: str, path: str, place: str
):
    forging = {"model": "embedder" if "embed" in path else "quick", place: FORGED}
    for fallbacks in ([forging], [{"unsteady": [forging]}]):
        body = call("unsteady", input="hello", priority=1, fallbacks=fallbacks)
        answer = await proxy.client.post(path, headers=as_client(key), json=body)
        assert answer.status_code >= 400, (fallbacks, answer.text)
        assert answer.status_code == 400 or path == QUEUE, answer.text
    assert provider.seen == []


async def test_what_a_client_may_send_with_a_fallback_is_charged_to_who_asked(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    other = {"model": "quick", "messages": [{"role": "user", "content": "shorter"}], "max_tokens": 50, "timeout": 30}
    answer = await proxy.chat(key, "unsteady", fallbacks=[other], timeout=20, metadata={"tags": ["t"]})
    assert answer.status_code == 200, answer.text
    charges = await charges_of(household, team, 2)
    assert {(charge["user"], charge["requested_model"]) for charge in charges} == {("u1", "unsteady")}
    answer = await proxy.client.post(
        QUEUE, headers=as_client(key), json=call("unsteady", priority=1, fallbacks=[other])
    )
    assert answer.status_code == 200, answer.text
    await charges_of(household, team, 4)


async def test_the_queue_believes_nothing_of_who_asks(proxy: LiteLLMProxy, household: Household, team: str, key: str):
    forged = {f"user_api_key_{name}": "victim" for name in ("team_id", "user_id", "org_id", "project_id", "hash")}
    body = call("quick", priority=1, metadata=forged | {"agent_id": "victim"})
    answer = await proxy.client.post(QUEUE, headers=as_client(key), json=body)
    assert answer.status_code == 200, answer.text
    (charge,) = await charges_of(household, team, 1)
    told = {charge[name] for name in ("team", "user", "organization", "project", "api_key", "agent")}
    assert "victim" not in told
    assert charge["user"] == "u1"


PROVIDER_WORDS = [{"custom_llm_provider": "custom_openai"}, {"custom_llm_provider": "hosted_vllm"}]
PROVIDER_WORDS += [{"azure": True}, {"deployment_id": "gpt-4.1-nano"}]


@pytest.mark.parametrize("words", PROVIDER_WORDS)
async def test_the_router_says_the_provider_and_its_price(
    proxy: LiteLLMProxy, household: Household, team: str, key: str, words: dict[str, Any]
):
    models = ["wild/gpt-4.1", "any-gpt-4.1", "azure_ai/model_router/model-router", "either"]
    for model in models:
        answer = await proxy.chat(key, model, **words)
        assert answer.status_code == 200, (model, answer.text)
    answer = await proxy.client.post(QUEUE, headers=as_client(key), json=call("quick", priority=1, **words))
    assert answer.status_code == 200, answer.text
    charges = await charges_of(household, team, 5)
    assert {charge["provider"] for charge in charges} == {"openai", "azure_ai"}
    assert {charge["price_state"] for charge in charges} == {"priced"}
    assert all(float(charge["cost_usd"]) > 0 for charge in charges)


@pytest.mark.parametrize("model", ["wild/gpt-4.1-nano", "any-gpt-4.1-nano"])
@pytest.mark.parametrize(
    "scope",
    [{"provider": "openai"}, {"served_model": "openai/gpt-4.1-nano"}, {"deployment": "openai/gpt-4.1-nano"}],
)
async def test_a_budget_holds_a_new_model_of_a_pattern(
    proxy: LiteLLMProxy,
    household: Household,
    provider: Provider,
    team: str,
    key: str,
    model: str,
    scope: dict[str, str],
):
    await household.admin.create_budget(f"none-{team}", {"team": team} | scope, "0")
    assert (await proxy.chat(key, model)).status_code == 402
    assert (await proxy.chat(key, "broken", fallbacks=[model])).status_code == 402
    assert provider.seen == []


async def test_of_a_pattern_the_deployments_that_are_allowed_serve(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    await household.admin.create_budget(f"dear-{team}", {"team": team, "deployment": "openai/gpt-4.1"}, "0")
    for _ in range(8):
        assert (await proxy.chat(key, "some-gpt-4.1")).status_code == 200
    charges = await charges_of(household, team, 8)
    assert {charge["deployment"] for charge in charges} == {"openai/gpt-4.1-mini"}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
async def test_a_deployment_named_as_it_is_sent_is_charged_to_its_group_and_no_way_round_its_budget(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str, path: str
):
    sent = "azure_ai/model_router/model-router"
    if path == CHAT:
        assert (await proxy.chat(key, sent)).status_code == 200
        (charge,) = await charges_of(household, team, 1)
        assert charge["requested_model"] == "router"
        provider.seen.clear()
    await household.admin.create_budget(f"none-{team}", {"team": team, "requested_model": "router"}, "0")
    await household.admin.create_budget(f"dear-{team}", {"team": team, "requested_model": "dear"}, "0")
    for body in (call(sent), call("openai/gpt-4.1"), call("broken", fallbacks=[sent])):
        answer = await proxy.client.post(path, headers=as_client(key), json=body | {"input": "hello"})
        assert answer.status_code == 402, (body, answer.text)
    assert provider.seen == []


async def test_no_place_for_text_makes_a_hold_too_small(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    await household.admin.create_budget(f"little-{team}", {"team": team}, "0.01")
    text = "word " * 20_000
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {text: {"type": "string"}}}}}
    schema = {"type": "json_schema", "name": "s", "schema": {"properties": {text: {"type": "string"}}}}
    for path, body in (
        (CHAT, call("quick", tools=[tool])),
        (CHAT, call("quick", prediction={"type": "content", "content": text})),
        (CHAT, call("quick", chat_template=text)),
        ("/v1/responses", {"model": "quick", "input": "hello", "max_output_tokens": 100, "text": {"format": schema}}),
        ("/v1/completions", {"model": "quick", "max_tokens": 200, "prompt": ["hello"] * 50}),
    ):
        answer = await proxy.client.post(path, headers=as_client(key), json=body)
        assert answer.status_code == 402, (path, answer.text)
    assert provider.seen == []
    assert (await proxy.chat(key, "quick")).status_code == 200
