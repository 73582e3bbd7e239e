"""`POST /v1/estimates` over HTTP: what a check would hold, by candidate, and nothing held."""

import json
from decimal import Decimal
from typing import Any

import pytest

from service.kit.ids import new_id
from tests.api.checks.world import World

CLAUDE = {"model": "claude-opus-4-6", "input_tokens": 1200, "max_output_tokens": 800}


async def estimate(world: World, *, headers: Any = None, expect: int = 200, **body: Any) -> Any:
    return await world.call("POST", "/v1/estimates", headers=headers, expect=expect, json=body)


async def declare(world: World, path: str, **body: Any) -> Any:
    return await world.call("POST", path, expect=201, json=body)


async def test_the_worst_case_is_shown_line_by_line(world: World):
    answer = await estimate(world, **CLAUDE, available_usd="0.03")
    assert (answer["estimate"]["amount_usd"], answer["estimate"]["price_state"]) == ("0.026", "priced")
    assert answer["dimensions"]["requested_model"]["value"] == "claude-opus-4-6"
    (candidate,) = answer["candidates"]
    lines = [(line["name"], line["quantity"], line["amount_usd"]) for line in candidate["components"]]
    assert lines == [("text_input", "1200", "0.006"), ("text_output", "800", "0.02")]
    assert (candidate["amount_usd"], candidate["list_cost_usd"], candidate["fees"]) == ("0.026", "0.026", [])
    assert candidate["price_key"] == "claude-opus-4-6"
    assert candidate["price_book_version"].startswith("sha256-")
    assert answer["max_affordable_output_tokens"] == candidate["max_affordable_output_tokens"] == 960


async def test_it_is_what_a_check_of_the_same_body_holds_and_holds_nothing(world: World):
    await world.put_budget(limit_usd="1")
    body = CLAUDE | {"request_id": "r1", "reserve": True, "fallback_models": ["gpt-4.1-mini"], "service_tier": "flex"}
    answer = await estimate(world, **body)
    await world.call("GET", "/v1/reservations/r1", expect=404)
    held = await world.check(**body)
    assert held["estimate"] == answer["estimate"]
    assert held["reservation"]["amount_usd"] == answer["estimate"]["amount_usd"]


async def test_the_dearest_candidate_counts_and_the_tightest_sets_the_bound(world: World):
    answer = await estimate(
        world, model="gpt-4.1-mini", input_tokens=1000, max_output_tokens=100,
        fallback_models=["claude-opus-4-6", "no-such-model"], available_usd="0.1",
    )  # fmt: skip
    assert [candidate["model"] for candidate in answer["candidates"]] == [
        "gpt-4.1-mini", "claude-opus-4-6", "no-such-model"
    ]  # fmt: skip
    amounts = [Decimal(candidate["amount_usd"]) for candidate in answer["candidates"]]
    assert amounts == [Decimal("0.00056"), Decimal("0.0075"), Decimal("0.0075")]
    assert answer["estimate"]["amount_usd"] == "0.0075"
    unpriced = answer["candidates"][2]
    assert (unpriced["price_state"], unpriced["reason"], unpriced["price_key"]) == ("unpriced", "no_price", None)
    assert answer["max_affordable_output_tokens"] == 3800


async def test_a_router_is_priced_by_what_it_may_choose_and_by_its_fee(world: World):
    router = {
        "model": "smart", "provider": "azure_ai", "deployment": "azure_ai/model_router/dep1",
        "input_tokens": 1_000_000, "max_output_tokens": 0,
    }  # fmt: skip
    (unknown,) = (await estimate(world, **router))["candidates"]
    assert (unknown["price_state"], unknown["amount_usd"]) == ("unpriced", "5.14")
    answer = await estimate(world, **router, served_models=["gpt-5.4-mini", "gpt-5.4"])
    mini, full = answer["candidates"]
    assert (mini["served_model"], mini["amount_usd"]) == ("azure_ai/gpt-5.4-mini", "0.89")
    assert [fee["amount_usd"] for fee in mini["fees"]] == ["0.14"]
    assert answer["estimate"]["amount_usd"] == full["amount_usd"]
    assert (await world.check(**router, served_models=["gpt-5.4-mini"]))["estimate"]["amount_usd"] == "0.89"


async def test_fees_discounts_and_overrides_of_the_tenant_count(world: World):
    await declare(world, "/v1/fees", name="platform", match={"team": "core"}, kind="usd_per_million_output_tokens",
                  amount="5")  # fmt: skip
    await declare(world, "/v1/fees", name="handling", match={}, kind="percent_of_model_cost", amount="10")
    await declare(world, "/v1/discounts", name="contract", match={"team": "core"}, discount_percent="50")
    (of_core,) = (await estimate(world, **CLAUDE, dimensions={"team": "core"}, available_usd="0.0183"))["candidates"]
    # 0.026 - 50 % = 0.013, of that 10 % = 0.0013, and 800 x 0.000005 = 0.004
    assert (of_core["list_cost_usd"], of_core["amount_usd"]) == ("0.0313", "0.0183")
    assert {line["note"] for line in of_core["components"]} >= {"contract"}
    assert sorted(fee["amount_usd"] for fee in of_core["fees"]) == ["0.0013", "0.004"]
    assert of_core["max_affordable_output_tokens"] == 800
    (of_web,) = (await estimate(world, **CLAUDE, dimensions={"team": "web"}))["candidates"]
    assert of_web["amount_usd"] == "0.0286"
    rates = {"output_cost_per_token": {"usd": "0"}}
    await declare(world, "/v1/price-overrides", name="gift", match={"model": "claude-opus-4-6"}, rates=rates)
    (gifted,) = (await estimate(world, **CLAUDE))["candidates"]
    assert gifted["amount_usd"] == "0.0066"


@pytest.mark.parametrize(
    ("body", "amount"),
    [
        ({"model": "aiml/dall-e-3", "call_type": "aimage_generation", "quantities": {"output_images": 2}}, "0.104"),
        ({"model": "aiml/dall-e-3", "call_type": "aimage_generation"}, "0.052"),
        ({"model": "gpt-image-1.5", "provider": "openai", "call_type": "aimage_generation", "max_output_tokens": 0,
          "image_size": "1024x1024", "image_quality": "high", "quantities": {"output_images": 2}}, "0.266"),
        ({"model": "whisper-1", "call_type": "atranscription", "quantities": {"input_audio_seconds": 60}}, "0.006"),
        ({"model": "tts-1", "call_type": "aspeech", "quantities": {"input_characters": "1000"}}, "0.015"),
        ({"model": "rerank-v3.5", "provider": "cohere", "call_type": "arerank", "quantities": {"queries": 3}}, "0.006"),
        ({"model": "rerank-v3.5", "provider": "cohere", "call_type": "arerank"}, "0.002"),
        ({"model": "mistral/mistral-ocr-latest", "call_type": "aocr", "quantities": {"pages": 10}}, "0.04"),
        ({"model": "text-embedding-3-small", "call_type": "aembedding", "input_tokens": 1000}, "0.00002"),
        ({"model": "claude-opus-4-6", "input_tokens": 1000, "max_output_tokens": 0,
          "quantities": {"web_searches": 3}}, "0.035"),
        ({"model": "claude-opus-4-6", "input_tokens": 1000, "max_output_tokens": 0,
          "quantities": {"cache_write_1h_input_tokens": 400, "cache_write_5m_input_tokens": 100}}, "0.007125"),
    ],
)  # fmt: skip
async def test_calls_that_are_not_priced_by_tokens_are_estimated_by_what_they_use(
    world: World, body: dict[str, Any], amount: str
):
    answer = await estimate(world, **body)
    assert (answer["estimate"]["amount_usd"], answer["estimate"]["price_state"]) == (amount, "priced")
    assert (await world.check(**({"input_tokens": 0, "max_output_tokens": None} | body)))["estimate"] == answer[
        "estimate"
    ]


async def test_a_model_priced_by_what_is_not_said_is_assumed_and_says_what_is_missing(world: World):
    (candidate,) = (await estimate(world, model="whisper-1", call_type="atranscription"))["candidates"]
    assert (candidate["price_state"], candidate["reason"]) == ("unpriced", "unmeasured:input_audio_seconds")


async def test_an_amount_of_ones_own_replaces_the_estimate(world: World):
    answer = await estimate(world, **CLAUDE, estimated_cost_usd="7")
    assert (answer["estimate"]["amount_usd"], answer["estimate"]["price_state"]) == ("7", "reported")
    assert answer["candidates"][0]["amount_usd"] == "0.026"


async def test_those_who_check_or_read_may_ask_and_nobody_else(world: World):
    for role, status in (("check", 200), ("read", 200), ("ingest", 403)):
        await estimate(world, headers=await world.make_token(roles=(role,)), expect=status, **CLAUDE)
    assert (await world.client.post("/v1/estimates", json=CLAUDE)).status_code == 401


async def test_a_narrowed_reader_learns_nothing_of_others_prices(world: World):
    of_core = await world.make_token(roles=("read",), scope={"team": ["core"]})
    await estimate(world, headers=of_core, **CLAUDE)
    await estimate(world, headers=of_core, **CLAUDE, dimensions={"team": "core"})
    await estimate(world, headers=of_core, **CLAUDE, dimensions={"team": "web"}, expect=403)
    key = new_id().hex * 2
    await world.call("PUT", f"/v1/keys/{key}", json={"team": "web"})
    await estimate(world, headers=of_core, **CLAUDE, dimensions={"api_key": key}, expect=403)


async def test_other_tenants_rules_and_aliases_mean_nothing(world: World):
    await declare(world, "/v1/fees", name="own", match={}, kind="usd_per_request", amount="1")
    stranger = World(world.services, world.client, f"t-{new_id().hex}")
    await stranger.create_tenant()
    assert (await estimate(world, **CLAUDE))["estimate"]["amount_usd"] == "1.026"
    assert (await estimate(stranger, **CLAUDE))["estimate"]["amount_usd"] == "0.026"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"quantities": {"output_pixels": 1}}, "quantities.output_pixels"),
        ({"quantities": {"bananas": 1}}, "quantities.bananas"),
        ({"quantities": {"x" * 300: 1}}, f"quantities.{'x' * 100}"),
        ({"quantities": {"pages": -1}}, "quantities.pages"),
        ({"quantities": {"pages": "NaN"}}, "quantities.pages"),
        ({"quantities": {"pages": "1e400"}}, "quantities.pages"),
        ({"quantities": {"duration_seconds": "Infinity"}}, "quantities.duration_seconds"),
        ({"quantities": {"audio_input_tokens": "1.5"}}, "quantities.audio_input_tokens"),
        ({"quantities": {"pages": []}}, "quantities[...]"),
        ({"available_usd": "-1"}, "available_usd"),
        ({"available_usd": "1e30"}, "available_usd"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"served_models": ["x"] * 21}, "served_models"),
        ({"budget": "b"}, None),
    ],
)
async def test_what_is_no_estimate_is_refused(world: World, body: dict[str, Any], field: str | None):
    problem = await estimate(world, **(CLAUDE | body), expect=422)
    assert field is None or problem["field"] == field


async def test_hostile_bodies_are_refused_and_huge_numbers_are_counted(world: World):
    for content, status in ((b"", 400), (b"[]", 422), (b'{"model":' + b"[" * 50_000, 422), (b" " * 300_000, 413)):
        answer = await world.client.post("/v1/estimates", headers=world.headers, content=content)
        assert answer.status_code == status
    answer = await estimate(
        world, model="claude-opus-4-6", input_tokens=10**12, max_output_tokens=10**12,
        quantities={"web_searches": 10**12}, available_usd="1000000000000",
    )  # fmt: skip
    assert Decimal(answer["estimate"]["amount_usd"]) > 10**7
    assert json.dumps(answer)
