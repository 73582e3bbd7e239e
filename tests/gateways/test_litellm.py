"""LiteLLM's proxy with the adapter of deploy/gateways/litellm, between clients, a provider and a real Tallygate."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from service.kit.ids import new_id
from tests.faults.replica import Caller
from tests.faults.waiting import until
from tests.gateways.conftest import Household
from tests.gateways.litellm_proxy import LiteLLMProxy, as_client, call
from tests.gateways.provider import USAGE, Provider

CHAT = "/v1/chat/completions"


@pytest.fixture
def team() -> str:
    return f"team-{new_id().hex}"


@pytest.fixture
def key(team: str) -> str:
    return f"sk-{team}.u1"


async def charges_of(household: Household, team: str, number: int) -> list[dict[str, Any]]:
    """Return a team's charges when there are so many."""
    found: list[dict[str, Any]] = []

    async def are_there() -> bool:
        found[:] = (await household.admin.call("GET", f"/v1/charges?team={team}"))["charges"]
        return len(found) >= number

    await until(are_there, f"{number} charges of {team}", pause=0.05)
    assert len(found) == number, found
    return found


async def held_by(tenant: Caller, slug: str) -> Decimal:
    windows = await tenant.windows(slug)
    return Decimal(windows[0]["held_usd"]) if windows else Decimal(0)


async def nothing_held(tenant: Caller, slug: str) -> None:
    async def is_free() -> bool:
        return await held_by(tenant, slug) == 0

    await until(is_free, f"nothing is held in {slug}", pause=0.05)


async def something_held(tenant: Caller, slug: str) -> None:
    async def is_held() -> bool:
        return await held_by(tenant, slug) > 0

    await until(is_held, f"something is held in {slug}", pause=0.05)


async def test_spend_is_told_by_requested_and_served_model(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    for model in ("quick", "unsteady", "router"):
        answer = await proxy.chat(key, model)
        assert answer.status_code == 200, (answer.text, proxy.log()[-3000:])
    charges = await charges_of(household, team, 4)  # the failed attempt of `unsteady` is one of them
    paid = {
        charge["requested_model"]: charge["served_model"].rpartition("/")[2]
        for charge in charges
        if charge["status"] == "success"
    }
    assert paid == {"quick": "gpt-4.1-mini", "unsteady": "gpt-4.1-mini", "router": "gpt-5.4-mini-2026-03-17"}
    assert {charge["requested_model"] for charge in charges if charge["status"] == "failure"} == {"unsteady"}
    assert {charge["user"] for charge in charges} == {"u1"}
    assert {charge["organization"] for charge in charges} == {f"org-of-{team}"}
    assert {charge["project"] for charge in charges} == {f"project-of-{team}"}


async def test_a_fallback_keeps_the_requested_model_with_its_budget(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    slug = f"asked-{team}"
    await household.admin.create_budget(slug, {"team": team, "requested_model": "unsteady"}, "5")
    assert (await proxy.chat(key, "unsteady")).status_code == 200
    await charges_of(household, team, 2)
    assert Decimal(await household.admin.posted_usd(slug)) > 0
    await nothing_held(household.admin, slug)


@pytest.mark.parametrize("status", [402, 422])
async def test_a_denied_client_is_told_so_in_its_own_words_and_nothing_is_asked_of_the_provider(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str, status: int
):
    await household.admin.call("PATCH", "/v1/settings", json={"deny_status": status})
    await household.admin.create_budget(f"none-{team}", {"team": team}, "0", period="1d")
    answer = await proxy.chat(key, "quick")
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("budget_exceeded", None, str(status))
    assert error["message"].startswith("Budget has been exceeded!")
    assert error["provider_specific_fields"]["tallygate"]["denied_by"][0]["name"] == f"none-{team}"
    assert 1 <= int(answer.headers["retry-after"]) <= 86_400
    assert provider.seen == []


async def test_anthropic_and_responses_clients_are_denied_in_theirs(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    await household.admin.create_budget(f"none-{team}", {"team": team}, "0")
    answer = await proxy.client.post("/v1/messages", headers=as_client(key), json=call("quick"))
    assert (answer.status_code, answer.json()["type"]) == (402, "error")
    assert answer.json()["error"]["message"].startswith("Budget has been exceeded!")
    for path, body in (
        ("/v1/responses", {"model": "quick", "input": "hello"}),
        ("/v1/embeddings", {"model": "embedder", "input": ["hello"]}),
    ):
        answer = await proxy.client.post(path, headers=as_client(key), json=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (402, "budget_exceeded"), path
    assert provider.seen == []


async def test_a_denied_call_is_no_event(proxy: LiteLLMProxy, household: Household, team: str, key: str):
    await household.admin.create_budget(f"none-{team}", {"team": team, "requested_model": "router"}, "0")
    assert (await proxy.chat(key, "router")).status_code == 402
    assert (await proxy.chat(key, "quick")).status_code == 200
    (charge,) = await charges_of(household, team, 1)
    assert charge["requested_model"] == "quick"


async def test_a_hold_lasts_as_long_as_the_call_and_is_settled_by_its_event(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    slug = f"all-{team}"
    await household.admin.create_budget(slug, {"team": team}, "5")
    waiting = asyncio.create_task(proxy.chat(key, "slow"))
    await until(lambda: len(provider.asked("waits")) == 1, "the provider was asked")
    await something_held(household.admin, slug)
    provider.may_go_on.set()
    assert (await waiting).status_code == 200
    (charge,) = await charges_of(household, team, 1)
    await nothing_held(household.admin, slug)
    assert await household.admin.posted_usd(slug) == charge["cost_usd"]


async def test_a_failed_attempt_leaves_the_hold_to_the_fallback(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    slug = f"all-{team}"
    await household.admin.create_budget(slug, {"team": team}, "5")
    waiting = asyncio.create_task(proxy.chat(key, "slow-unsteady"))
    await until(lambda: len(provider.asked("waits")) == 1, "the fallback was asked")
    await charges_of(household, team, 1)  # the failure was reported
    assert await held_by(household.admin, slug) > 0
    provider.may_go_on.set()
    assert (await waiting).status_code == 200
    await charges_of(household, team, 2)
    await nothing_held(household.admin, slug)


async def test_a_failed_call_gives_its_hold_back(proxy: LiteLLMProxy, household: Household, team: str, key: str):
    slug = f"all-{team}"
    await household.admin.create_budget(slug, {"team": team}, "5")
    answer = await proxy.chat(key, "broken")
    assert answer.status_code == 500, answer.text
    await nothing_held(household.admin, slug)
    (charge,) = await charges_of(household, team, 1)
    assert (charge["status"], charge["cost_usd"]) == ("failure", "0")


async def test_a_stream_cancelled_in_its_middle_is_charged_for_what_was_streamed(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    slug = f"all-{team}"
    await household.admin.create_budget(slug, {"team": team}, "5")
    body = call("quick", stream=True)
    async with proxy.client.stream("POST", CHAT, headers=as_client(key), json=body) as answer:
        lines = answer.aiter_lines()
        assert "first" in await anext(lines)
        await something_held(household.admin, slug)
    (charge,) = await charges_of(household, team, 1)
    assert Decimal(charge["cost_usd"]) > 0
    await nothing_held(household.admin, slug)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_before_the_answer_gives_its_hold_back(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str, stream: bool
):
    slug = f"all-{team}"
    await household.admin.create_budget(slug, {"team": team}, "5")
    waiting = asyncio.create_task(proxy.chat(key, "slow", stream=stream))
    await until(lambda: len(provider.asked("waits")) == 1, "the provider was asked")
    await something_held(household.admin, slug)
    waiting.cancel()
    await nothing_held(household.admin, slug)


async def test_a_stream_that_breaks_gives_its_hold_back(proxy: LiteLLMProxy, household: Household, team: str, key: str):
    slug = f"all-{team}"
    await household.admin.create_budget(slug, {"team": team}, "5")
    async with proxy.client.stream("POST", CHAT, headers=as_client(key), json=call("breaking", stream=True)) as answer:
        await answer.aread()
    await nothing_held(household.admin, slug)


async def test_a_stream_read_to_its_end_is_charged_by_the_providers_count(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    provider.may_go_on.set()
    answer = await proxy.chat(key, "router", stream=True)
    assert "second" in answer.text
    (charge,) = await charges_of(household, team, 1)
    assert charge["requested_model"] == "router"
    assert charge["served_model"].endswith("gpt-5.4-mini-2026-03-17")
    assert (charge["input_tokens"], charge["output_tokens"]) == (USAGE["prompt_tokens"], USAGE["completion_tokens"])


async def test_calls_go_to_the_deployments_that_are_allowed_only(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    await household.admin.create_budget(f"dear-{team}", {"team": team, "deployment": "openai/gpt-4.1"}, "0")
    for _ in range(8):
        assert (await proxy.chat(key, "either")).status_code == 200
    charges = await charges_of(household, team, 8)
    assert {charge["served_model"].rpartition("/")[2] for charge in charges} == {"gpt-4.1-mini"}
    await household.admin.create_budget(f"both-{team}", {"team": team, "deployment": "openai/gpt-4.1-mini"}, "0")
    assert (await proxy.chat(key, "either")).status_code == 402


async def test_where_only_a_fallback_has_money_left_it_serves(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    await household.admin.create_budget(f"dear-{team}", {"team": team, "deployment": "openai/gpt-4.1"}, "0")
    answer = await proxy.chat(key, "dear")
    assert answer.status_code == 200, answer.text
    assert len(provider.seen) == 1
    charges = [each for each in await charges_of(household, team, 2) if each["status"] == "success"]
    assert [each["served_model"].rpartition("/")[2] for each in charges] == ["gpt-4.1-mini"]
    assert [each["requested_model"] for each in charges] == ["dear"]


async def test_a_client_cannot_forge_what_the_adapter_says(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    forged = {"requested_model": "cheap", "reservation_id": "of-somebody", "agent": "somebody", "final": False}
    fields = {"metadata": {"tallygate": forged}, "litellm_metadata": {"tallygate": forged}, "tallygate": forged}
    answer = await proxy.chat(key, "quick", metadata=fields["metadata"], litellm_metadata=fields["litellm_metadata"])
    assert answer.status_code == 200, answer.text
    (charge,) = await charges_of(household, team, 1)
    assert (charge["requested_model"], charge["agent"]) == ("quick", None)
    assert charge["reservation_id"] != "of-somebody"


async def test_a_client_cannot_ask_as_somebody_else(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    await household.admin.create_budget(f"none-{team}", {"team": team}, "0")
    forged = {f"user_api_key_{name}": "rich" for name in ("team_id", "user_id", "hash", "auth", "org_id")}
    forged |= {"user_api_key": "rich", "user_api_key_auth": {"team_id": "rich"}}
    for names in (("metadata",), ("litellm_metadata",), ("metadata", "litellm_metadata")):
        for path in (CHAT, "/v1/messages", "/v1/responses"):
            body = call("quick", input="hello", **dict.fromkeys(names, forged))
            answer = await proxy.client.post(path, headers=as_client(key), json=body)
            assert answer.status_code in {400, 402}, (path, names, answer.text)
    assert provider.seen == []


@pytest.mark.parametrize("value", ["a\x00b", "x" * 10_000, "\ud800", "  ", 17, ["list"], {"a": "b"}, True])
async def test_strange_words_of_a_client_get_no_call_past_the_gate(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str, value: Any
):
    await household.admin.create_budget(f"none-{team}", {"team": team}, "0")
    metadata = {"session_id": value, "trace_id": value, "tags": [value] * 100}
    body = call("quick", user=value, metadata=metadata, service_tier=value, n=value, fallbacks=[value])
    for path in (CHAT, "/v1/messages", "/v1/responses"):
        answer = await proxy.client.post(path, headers=as_client(key), content=json.dumps(body))
        assert answer.status_code in {400, 402, 422, 500}, (path, answer.text)
    assert provider.seen == []


async def test_no_log_hides_no_spend(proxy: LiteLLMProxy, household: Household, team: str, key: str):
    answer = await proxy.chat(key, "quick", **{"no-log": True})
    assert answer.status_code == 200, answer.text
    await charges_of(household, team, 1)


async def test_neither_prompts_nor_answers_leave_the_proxy(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    household.relay.seen.clear()
    assert (await proxy.chat(key, "quick")).status_code == 200
    await charges_of(household, team, 1)
    assert household.relay.asked("/v1/check")
    assert household.relay.asked("/v1/events")
    for seen in household.relay.seen:
        assert b"a secret question" not in seen.body
        assert b"an answer nobody" not in seen.body


async def test_messages_responses_and_embeddings_are_held_and_charged(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    slug = f"all-{team}"
    await household.admin.create_budget(slug, {"team": team}, "5")
    for path, body in (
        ("/v1/messages", call("quick")),
        ("/v1/responses", {"model": "quick", "input": "hello"}),
        ("/v1/embeddings", {"model": "embedder", "input": ["hello"]}),
    ):
        answer = await proxy.client.post(path, headers=as_client(key), json=body)
        assert answer.status_code == 200, (path, answer.text)
    charges = await charges_of(household, team, 3)
    assert all(charge["reservation_id"] for charge in charges), charges
    assert {charge["requested_model"] for charge in charges} == {"quick", "embedder"}
    await nothing_held(household.admin, slug)


@pytest.mark.parametrize("tags", [{"a": 1}, [["a"]], "abc", [1.5], ["\U0001f600" * 1000] * 60])
async def test_a_call_is_charged_and_held_back_whatever_its_tags_are(
    proxy: LiteLLMProxy, household: Household, team: str, key: str, tags: object
):
    answer = await proxy.chat(key, "quick", metadata={"tags": tags})
    assert answer.status_code == 200, answer.text
    (charge,) = await charges_of(household, team, 1)
    assert Decimal(charge["cost_usd"]) > 0
    await household.admin.create_budget(f"none-{team}", {"team": team}, "0")
    assert (await proxy.chat(key, "quick", metadata={"tags": tags})).status_code == 402


async def test_several_models_at_once_are_refused(proxy: LiteLLMProxy, provider: Provider, key: str):
    answer = await proxy.chat(key, "quick,dear")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), answer.text
    assert provider.seen == []


async def test_the_queue_is_no_way_round_a_budget(
    proxy: LiteLLMProxy, household: Household, provider: Provider, team: str, key: str
):
    path, body = "/queue/chat/completions", call("quick", priority=1)
    answer = await proxy.client.post(path, headers=as_client(key), json=body)
    assert answer.status_code == 200, answer.text
    (charge,) = await charges_of(household, team, 1)
    assert charge["reservation_id"]
    await household.admin.create_budget(f"none-{team}", {"team": team}, "0")
    by_id = call(await model_id(proxy, key), priority=1)
    provider.seen.clear()
    for asked in (body, by_id):
        answer = await proxy.client.post(path, headers=as_client(key), json=asked)
        assert answer.status_code >= 400, answer.text
        assert "Budget has been exceeded!" in answer.text
    assert provider.asked("answers") == []


async def model_id(proxy: LiteLLMProxy, key: str) -> str:
    """Return the id LiteLLM gave the deployment of `dear`; another team asks."""
    answer = await proxy.chat(key.replace("team-", "other-"), "dear")
    return str(answer.headers["x-litellm-model-id"])


async def test_a_deployment_named_by_its_id_is_charged_to_its_group_and_no_way_round_a_budget(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    identifier = await model_id(proxy, key)
    assert (await proxy.chat(key, identifier)).status_code == 200
    (charge,) = await charges_of(household, team, 1)
    assert charge["requested_model"] == "dear"
    for number, scope in enumerate(({"requested_model": "dear"}, {"deployment": "openai/gpt-4.1"})):
        other = f"{team}-{number}"
        await household.admin.create_budget(f"none-{other}", {"team": other} | scope, "0")
        assert (await proxy.chat(f"sk-{other}.u1", identifier)).status_code == 402, scope


@pytest.mark.parametrize(
    "asked",
    [
        {"fallbacks": ["dear"]},
        {"fallbacks": ["dear"], "disable_fallbacks": "no"},
        {"fallbacks": [{"broken": ["dear"]}]},
        {"fallbacks": [f"no-{number}" for number in range(8)] + ["dear"]},
    ],
)
@pytest.mark.parametrize("scope", [{"requested_model": "dear"}, {"deployment": "openai/gpt-4.1"}])
async def test_a_fallback_a_client_names_is_no_way_round_a_budget(
    proxy: LiteLLMProxy,
    household: Household,
    provider: Provider,
    team: str,
    key: str,
    asked: dict[str, Any],
    scope: dict[str, str],
):
    await household.admin.create_budget(f"none-{team}", {"team": team} | scope, "0")
    answer = await proxy.chat(key, "broken", **asked)
    assert answer.status_code >= 400, answer.text
    assert provider.asked("answers") == []


async def test_a_client_says_neither_whose_price_is_paid_nor_how_little_is_held(
    proxy: LiteLLMProxy, household: Household, team: str, key: str
):
    answer = await proxy.chat(key, "quick", custom_llm_provider="azure")
    assert answer.status_code == 200, answer.text
    (charge,) = await charges_of(household, team, 1)
    assert charge["provider"] == "openai"
    await household.admin.create_budget(f"little-{team}", {"team": team}, "0.002")
    for trick in (
        {"additional_drop_params": ["max_tokens"]},
        {"extra_body": {"max_tokens": 30_000}},
        {"n": 128, "max_tokens": None},
    ):
        assert (await proxy.chat(key, "dear", **({"max_tokens": 1} | trick))).status_code == 402, trick
    assert (await proxy.chat(key, "dear", max_tokens=1)).status_code == 200
