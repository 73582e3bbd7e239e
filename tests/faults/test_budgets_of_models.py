"""One model under all its names, on both paths; models without a price and without a cost; teams behind keys."""

from decimal import Decimal
from typing import Any

import pytest

from service.db.pools import Pools
from service.kit.clock import utc_now
from service.kit.ids import new_id
from tests.builders import captured_events
from tests.faults.chat_events import Event, chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Answer, Caller, together
from tests.faults.waiting import until

TOKENS = {"input_tokens": 100, "max_output_tokens": 100}
FREE_MODEL = "gemini/gemma-3-27b-it"


def _again(name: str, **fields: Any) -> Event:
    """Return a captured event as a call of now, with ids of its own."""
    (event,) = captured_events(name)
    start = utc_now().timestamp() - 2
    unique = {"id": f"chatcmpl-{new_id().hex}", "litellm_call_id": new_id().hex}
    return event | unique | {"startTime": start, "endTime": start + 0.3} | fields


async def _denied_by(caller: Caller, model: str, **fields: Any) -> list[str]:
    """Return the names of the budgets that deny a check."""
    answer = await caller.check(model=model, **(TOKENS | fields))
    assert answer["degraded"] is False
    assert answer["allowed"] is not any(budget["denies"] for budget in answer["budgets"])
    return sorted(budget["name"] for budget in answer["budgets"] if budget["denies"])


async def _post(callers: list[Caller], events: list[Event]) -> list[Answer]:
    """Post the events one by one, each at another replica, and return their charges."""
    answers = await together(callers[number % 3].post(event) for number, event in enumerate(events))
    results = [answer["results"][0] for answer in answers]
    assert {result["outcome"] for result in results} == {"recorded"}
    return await together(callers[0].call("GET", f"/v1/charges/{result['charge_id']}") for result in results)


@pytest.mark.parametrize(
    "model_group",
    ["claude-opus-4-6", "vertex_ai/claude-opus-4-6@default", "Vertex_AI/Claude-Opus-4-6", None],
    ids=["plain", "deployment", "another case", "none"],
)
async def test_a_budget_of_a_model_is_spent_and_enforced_under_every_name_of_it(
    callers: list[Caller], model_group: str | None
):
    await callers[0].create_budget("opus", {"requested_model": "claude-opus-4-6"}, "0.05")
    assert await _denied_by(callers[1], "claude-opus-4-6") == []

    charges = await _post(callers, [_again("vertex_default.json", model_group=model_group) for _ in range(3)])

    assert {charge["deployment"] for charge in charges} == {"vertex_ai/claude-opus-4-6@default"}
    assert {charge["price_state"] for charge in charges} == {"priced"}
    assert Decimal(await callers[2].posted_usd("opus")) == sum(Decimal(charge["cost_usd"]) for charge in charges)
    for name in (
        "claude-opus-4-6",
        "Claude-Opus-4-6",
        "vertex_ai/claude-opus-4-6",
        "vertex_ai/claude-opus-4-6@default",
        "anthropic/claude-opus-4-6",
    ):
        assert await _denied_by(callers[1], name) == ["opus"], name
    assert await _denied_by(callers[1], "claude-opus-4-6", provider="vertex_ai") == ["opus"]
    assert await _denied_by(callers[1], "claude-sonnet-4-5") == []


async def test_an_alias_makes_a_house_name_spend_the_budget_of_its_model(callers: list[Caller]):
    await callers[0].create_budget("opus", {"requested_model": "claude-opus-4-6"}, "0.05")
    await _post(callers, [_again("vertex_default.json", model_group="house-smart") for _ in range(3)])
    assert await _denied_by(callers[1], "house-smart") == []
    alias = {"alias": "House-Smart", "model": "claude-opus-4-6"}
    await callers[0].call("POST", "/v1/aliases", json=alias, status=201)

    await _post(callers, [_again("vertex_default.json", model_group="house-smart") for _ in range(3)])

    assert await _denied_by(callers[1], "house-smart") == ["opus"]
    assert await _denied_by(callers[2], "claude-opus-4-6") == ["opus"]


async def test_a_model_without_provider_prefix_spends_its_budget_and_is_denied(callers: list[Caller]):
    await callers[0].create_budget("mini", {"requested_model": "gpt-4.1-mini"}, "0.001")
    event = {"model": "gpt-4.1-mini", "model_group": "gpt-4.1-mini", "price_key": "gpt-4.1-mini"}

    charges = await _post(callers, [chat_event(**event) for _ in range(4)])

    assert {charge["served_model"] for charge in charges} == {"openai/gpt-4.1-mini"}
    assert Decimal(await callers[1].posted_usd("mini")) == Decimal("0.0012736")
    assert await _denied_by(callers[2], "gpt-4.1-mini") == ["mini"]
    assert await _denied_by(callers[2], "openai/gpt-4.1-mini") == ["mini"]


async def test_a_model_without_prefix_and_without_price_spends_what_is_assumed_and_is_denied(callers: list[Caller]):
    await callers[0].create_budget("qwen", {"requested_model": "Qwen3-4B"}, "0.01")

    charges = await _post(callers, [_again("prefix_missing.json", model_group="Qwen3-4B") for _ in range(4)])

    assert {charge["served_model"] for charge in charges} == {"hosted_vllm/Qwen3-4B"}
    assert {(charge["price_state"], charge["cost_usd"]) for charge in charges} == {("unpriced", "0")}
    # 210 tokens in at 5 and 70 out at 25 USD per million: the tenant's rates for what has no price.
    assert {charge["enforced_usd"] for charge in charges} == {"0.0028"}
    assert await callers[1].posted_usd("qwen") == "0.0112"
    assert await _denied_by(callers[2], "Qwen3-4B") == ["qwen"]
    assert await _denied_by(callers[2], "qwen3-4b", provider="hosted_vllm") == ["qwen"]
    assert await _denied_by(callers[2], "hosted_vllm/Qwen3-4B") == ["qwen"]


async def test_a_model_without_a_price_spends_what_is_assumed_while_reports_say_that_it_is_unpriced(
    callers: list[Caller],
):
    await callers[0].create_budget("local", {"requested_model": "qwen-local"}, "0.02")

    charges = await _post(callers, [_again("vllm_unmapped.json") for _ in range(5)])

    assert {(charge["price_state"], charge["cost_usd"]) for charge in charges} == {("unpriced", "0")}
    assert {charge["enforced_usd"] for charge in charges} == {"0.00444"}
    assert await callers[1].posted_usd("local") == "0.0222"
    assert await _denied_by(callers[2], "qwen-local") == ["local"]
    totals = (await callers[0].call("GET", "/v1/spend"))["totals"]
    assert (totals["spend_usd"], totals["unpriced_requests"]) == ("0", 5)


async def test_an_explicitly_free_model_stays_free(callers: list[Caller]):
    await callers[0].create_budget("onprem", {"requested_model": "free-onprem"}, "0.01")

    charges = await _post(callers, [_again("zero_cost_model_info.json") for _ in range(30)])

    assert {(charge["price_state"], charge["cost_usd"], charge["enforced_usd"]) for charge in charges} == {
        ("free", "0", "0")
    }
    assert await callers[1].posted_usd("onprem") == "0"
    assert await _denied_by(callers[2], "free-onprem") == []


async def test_a_model_the_price_book_says_is_free_passes_a_budget_that_is_spent(callers: list[Caller]):
    await callers[0].create_budget("all", {}, "0.001")
    await _post(callers, [chat_event(input_tokens=10_000) for _ in range(2)])
    assert await _denied_by(callers[1], "gpt-4.1-mini") == ["all"]

    answer = await callers[2].check(model=FREE_MODEL, reserve=True, request_id="r1", **TOKENS)

    assert answer["allowed"] is True
    assert (answer["estimate"]["price_state"], answer["estimate"]["amount_usd"]) == ("free", "0")
    await callers[0].call("PATCH", "/v1/budgets/all", json={"limit_usd": "0"})
    assert await _denied_by(callers[1], FREE_MODEL) == ["all"]


async def test_a_team_budget_denies_a_check_that_carries_only_the_key_once_the_registry_has_learned_its_team(
    callers: list[Caller], ledger: Pools, tenant: Tenant
):
    key = new_id().hex * 2
    await callers[0].create_budget("team", {"team": "red"}, "0.0003")
    asked = {"dimensions": {"api_key": key}}
    answer = await callers[1].check(model="gpt-4.1-mini", **TOKENS, **asked)
    assert (answer["allowed"], answer["unresolved"], answer["budgets"]) == (True, ["team"], [])

    await callers[0].post(chat_event(api_key=key, team="red"))

    for caller in callers:
        assert await _denied_by(caller, "gpt-4.1-mini", **asked) == ["team"]
    answer = await callers[2].check(model="gpt-4.1-mini", **TOKENS, **asked)
    assert answer["unresolved"] == []
    assert answer["dimensions"]["team"] == {"value": "red", "provenance": "learned"}


async def test_a_team_budget_denies_a_check_that_carries_only_the_key_once_its_team_is_declared(callers: list[Caller]):
    key, other = new_id().hex * 2, new_id().hex * 2
    await callers[0].create_budget("blue", {"team": "blue"}, "0.0003")
    await callers[0].post(chat_event(api_key=other, team="blue"))
    asked = {"dimensions": {"api_key": key}}
    assert await _denied_by(callers[1], "gpt-4.1-mini", **asked) == []

    await callers[0].call("PUT", f"/v1/keys/{key}", json={"team": "blue"})

    async def is_denied_everywhere() -> bool:
        denials = await together(_denied_by(caller, "gpt-4.1-mini", **asked) for caller in callers)
        return denials == [["blue"]] * 3

    await until(is_denied_everywhere, "every replica knows the key", deadline_seconds=2)
    # What is declared is not overridden by what an event says, and completes what the event does not say.
    charge = (await _post(callers, [chat_event(api_key=key, team=None)]))[0]
    assert charge["team"] == "blue"
