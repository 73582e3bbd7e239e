"""What LiteLLM's own calculator charges for 19,122 calls: we agree, but where a table says why not.

Every row goes the way of an event: decoder, identity, rating. The tables are also in the README of `pricing`.
"""

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from math import isclose
from typing import NamedTuple

import pytest

from service.pricing.rating_result import Rating
from service.pricing.usage import PricingBasis, Usage
from tests.unit.pricing.builders import a_model, amounts, notes, rated, tokens
from tests.unit.pricing.oracle import Row, load_rows, rate_row

_TOLERANCE = 1e-9


class Checked(NamedTuple):
    row: Row
    rating: Rating


@cache
def rated_rows() -> list[Checked]:
    return [Checked(row, rate_row(row)) for row in load_rows()]


def is_no_price(it: Checked) -> bool:
    """LiteLLM answers 0, or nothing, where the list has no price for what was counted: for us no price is no zero."""
    return it.rating.price_state == "unpriced" and not it.row.expected


def is_router_alone(it: Checked) -> bool:
    """The router's name echoed as the model: the fee is charged, and who served is unknown."""
    return "model-router" in it.row.model and it.rating.reason == "no_model"


# Why rows without `suspect` differ from LiteLLM, and how many do.
DIFFERENCES: dict[str, tuple[int, Callable[[Checked], bool]]] = {
    "film in the prompt is not counted": (
        32,
        lambda it: "pegasus" in it.row.model and it.rating.reason == "unmeasured:input_video_seconds",
    ),
    "text prompt without a rate": (
        1,
        lambda it: it.row.mix == "tokens" and it.rating.reason == "no_rate:text_input",
    ),
    "image priced by its size and quality": (6, lambda it: "openai/gpt-image-2" in it.row.model),
    "image without token usage": (6, lambda it: it.row.model.startswith("gpt-image-1")),
    "size in the price key": (1, lambda it: "dall-e-3" in it.row.model and it.row.mix == "n1"),
    "whole megapixels": (1, lambda it: it.row.model == "fal_ai/fal-ai/flux-lora-depth"),
    "long context in a batch": (11, lambda it: it.row.mix in {"batch_over_200k", "batch_over_100k"}),
    "tiered prices in a batch": (2, lambda it: it.row.model == "qwencloud/qwen3-max-2026-01-23"),
}

# Rows for which LiteLLM says 0, or nothing, and we say that there is no price, by the reason.
NO_PRICES = {"no_rates": 336, "unmeasured": 218, "no_rate": 46, "no_usage": 16}

# By the beginning of `suspect`: which answer is right by the provider's rules, and of how many rows.
LITELLM, MAP, OURS = "LiteLLM's", "the map's", "ours"
DECISIONS: dict[str, dict[str, int]] = {
    "batch without batch prices": {MAP: 3},
    "batch: cached tokens are FREE": {MAP: 36},
    "batch: no cached batch rate": {MAP: 93},
    "cached tokens at full input price": {MAP: 82},
    "custom pricing passed": {MAP: 3},
    "flat price per generation": {LITELLM: 4},
    "gpt-image models are token priced in litellm: the per-image": {MAP: 57},
    "gpt-image models are token priced in litellm: the per-pixel": {MAP: 20, OURS: 7},
    "key unreachable": {LITELLM: 40, MAP: 4},
    "litellm raises": {OURS: 55},
    "litellm strips the doubled provider prefix": {MAP: 8},
    "long-context rates": {MAP: 21},
    "no cached rate in the map": {LITELLM: 398},
    "router: only the flat fee is charged although": {OURS: 4},
    "router: only the flat fee is charged, the served": {LITELLM: 2},
    "search is charged once per call": {MAP: 93},
    "search price depends on options": {LITELLM: 2, MAP: 3},
    "search priced at the low context size": {LITELLM: 2, OURS: 2},
    "service tier ignored": {MAP: 94},
    "the map has a price per request": {OURS: 8},
    "the map has an audio rate for tier": {MAP: 13},
    "token-priced rerank model": {MAP: 2},
    "when image_count is reported": {MAP: 10},
}


def agrees(it: Checked, wanted: Decimal | None) -> bool:
    return wanted is not None and isclose(it.rating.cost_usd, wanted, rel_tol=_TOLERANCE)


def test_every_row_that_is_not_doubtful_costs_what_litellm_charges_but_for_those_told_of():
    differing = [
        it
        for it in rated_rows()
        if it.row.suspect is None
        and not (is_no_price(it) or is_router_alone(it))
        and not (agrees(it, it.row.expected) and it.rating.price_state in {"priced", "free"})
    ]
    reasons = [[reason for reason, (_, is_it) in DIFFERENCES.items() if is_it(it)] for it in differing]
    unexplained = [
        f"{it.row.mix} {it.row.model}: {it.rating.cost_usd} ({it.rating.reason}), not {it.row.expected}"
        for it, found in zip(differing, reasons, strict=True)
        if len(found) != 1
    ]
    assert unexplained == []
    assert Counter(reason for [reason] in reasons) == {reason: count for reason, (count, _) in DIFFERENCES.items()}


def test_no_price_is_never_a_zero():
    missing = [it for it in rated_rows() if it.row.suspect is None and is_no_price(it)]
    assert Counter(str(it.rating.reason).partition(":")[0] for it in missing) == NO_PRICES
    assert all(it.rating.cost_usd == 0 and it.rating.components == () for it in missing)


def test_a_router_that_names_nobody_takes_its_fee_and_leaves_the_model_unpriced():
    alone = [it for it in rated_rows() if is_router_alone(it)]
    assert len(alone) == 8
    assert all(agrees(it, it.row.expected) for it in alone)
    assert {it.rating.price_state for it in alone} == {"unpriced"}
    assert {it.rating.fees_price_state for it in alone} == {"priced"}


def test_of_doubtful_rows_the_answer_is_the_one_decided_on():
    found: dict[str, Counter[str]] = {beginning: Counter() for beginning in DECISIONS}
    for it in rated_rows():
        if it.row.suspect is not None:
            [beginning] = [text for text in DECISIONS if it.row.suspect.startswith(text)]
            found[beginning][whose_answer(it)] += 1
    assert found == DECISIONS


def whose_answer(it: Checked) -> str:
    if agrees(it, it.row.independent):
        return MAP
    return LITELLM if agrees(it, it.row.expected) else OURS


def image(model: str, *, provider: str, size: str | None = None, quality: str | None = None, n: int = 1) -> Rating:
    basis = PricingBasis(call_type="aimage_generation", image_size=size, image_quality=quality)
    return rated(a_model(model, provider=provider), Usage(units=(("output_images", Decimal(n)),)), basis)


def test_a_model_of_films_is_not_charged_for_its_answer_alone():
    # LiteLLM: 0.00075, the answer; the minutes of film in the prompt are what costs.
    model = "twelvelabs.pegasus-1-2-v1:0"
    assert rated(model, tokens(1000, 100)).reason == "unmeasured:input_video_seconds"
    usage = tokens(1000, 100, units=(("input_video_seconds", Decimal(60)),))
    assert amounts(rated(model, usage)) == {
        "text_output": Decimal("0.00075"),
        "input_video_seconds": Decimal("0.0294"),
    }


def test_a_prompt_without_a_rate_is_not_charged_as_nothing():
    usage = tokens(640, 90, audio_input_tokens=630)
    rating = rated("vertex_ai/gemini-3.5-transcribe", usage, PricingBasis(call_type="atranscription"))
    assert (rating.price_state, rating.reason) == ("unpriced", "no_rate:text_input")


def test_an_image_costs_what_the_list_says_for_its_size_and_quality():
    # LiteLLM: 0.145 each, the price of a large image in high quality.
    rating = image("fal_ai/openai/gpt-image-2", provider="fal_ai", size="1024x1024", quality="medium", n=2)
    assert (rating.cost_usd, rating.price_key) == (
        Decimal("0.106"),
        "fal_ai/medium/1024-x-1024/openai/gpt-image-2",
    )


@pytest.mark.parametrize("call_type", ["image_generation", "aimage_generation", "image_edit", "aimage_edit"])
def test_images_are_made_and_edited_by_calls_of_several_names(call_type: str):
    basis = PricingBasis(call_type=call_type, image_size="1024x1024", image_quality="medium")
    usage = Usage(units=(("output_images", Decimal(1)),))
    rating = rated(a_model("fal_ai/openai/gpt-image-2", provider="fal_ai"), usage, basis)
    assert rating.cost_usd == Decimal("0.053")
    chat = rated(a_model("fal_ai/openai/gpt-image-2", provider="fal_ai"), usage, PricingBasis(call_type="acompletion"))
    assert chat.cost_usd == Decimal("0.145")


def test_an_image_model_priced_by_tokens_is_priced_by_the_image_when_no_tokens_are_told():
    rating = image("gpt-image-1", provider="openai", size="1024x1536", quality="high")
    assert (rating.cost_usd, rating.price_key) == (Decimal("0.25"), "high/1024-x-1536/gpt-image-1")
    basis = PricingBasis(call_type="aimage_generation", image_size="1024x1536", image_quality="high")
    usage = tokens(50, 1056, units=(("output_images", Decimal(1)),))
    by_tokens = rated(a_model("gpt-image-1", provider="openai"), usage, basis)
    assert (by_tokens.cost_usd, by_tokens.price_key) == (Decimal("0.04249"), "gpt-image-1")


def test_pixels_are_those_of_the_size_in_the_price_key():
    # LiteLLM: 0.0503, the pixels of a square image.
    rating = image("azure/standard/1792-x-1024/dall-e-3", provider="azure")
    assert (rating.components[0].quantity, rating.cost_usd) == (1792 * 1024, Decimal("0.0880000106496"))
    assert image("azure/dall-e-3", provider="azure", size="1792x1024").cost_usd == rating.cost_usd


def test_an_image_of_one_and_a_half_megapixels_costs_two_where_they_are_rounded_up():
    rating = image("fal_ai/fal-ai/flux-lora-depth", provider="fal_ai", size="1024x1536")
    assert rating.cost_usd == Decimal("0.07")
    assert image("fal_ai/fal-ai/flux-lora-depth", provider="fal_ai").cost_usd == Decimal("0.035")


def test_a_batch_with_batch_rates_keeps_the_surcharge_of_a_long_prompt():
    # LiteLLM: 0.135000625, the batch rate of short prompts.
    rating = rated("gemini-2.5-pro", tokens(200_001, 2000), PricingBasis(is_batch=True))
    assert rating.cost_usd == Decimal("0.26500125")


def test_a_batch_of_a_tiered_model_costs_half_of_its_tier():
    # LiteLLM: 0, because the entry states no rate outside its table.
    rating = rated("qwencloud/qwen3-max-2026-01-23", tokens(1000, 1000), PricingBasis(is_batch=True))
    assert rating.cost_usd == Decimal("0.0036")


def test_cached_tokens_without_a_rate_cost_half_where_the_provider_says_so():
    # The map's own rates: 0.002; this provider halves cached tokens that its list does not name.
    usage = tokens(10_000, cache_read_input_tokens=7168)
    rating = rated("fireworks-ai-4.1b-to-16b", usage)
    assert rating.cost_usd == Decimal("0.0012832")
    assert notes(rating)["cache_read"] == "no cache_read rate: half the text_input rate"
    batch = rated("fireworks-ai-4.1b-to-16b", usage, PricingBasis(is_batch=True))
    assert batch.cost_usd == Decimal("0.001")


def test_a_price_per_request_is_charged_beside_the_tokens():
    # LiteLLM: 0.0000028, the tokens alone.
    rating = rated("perplexity/pplx-7b-online", tokens(1000, 10))
    assert amounts(rating) == {"text_input": 0, "text_output": Decimal("0.0000028"), "requests": Decimal("0.005")}


@pytest.mark.parametrize(("size", "fee"), [(None, "0.005"), ("low", "0.005"), ("HIGH", "0.012"), ("vast", "0.005")])
def test_perplexity_takes_one_fee_per_request_by_the_context_size(size: str | None, fee: str):
    usage = tokens(1000, 200, units=(("web_searches", Decimal(3)),))
    rating = rated("perplexity/sonar", usage, PricingBasis(search_context_size=size))
    assert amounts(rating)["web_searches"] == Decimal(fee)
    assert rating.components[-1].unit == "request"


def test_perplexitys_deep_research_is_charged_for_each_query():
    usage = tokens(1000, 200, units=(("web_searches", Decimal(3)), ("citation_tokens", Decimal(500))))
    rating = rated("perplexity/sonar-deep-research", usage)
    assert amounts(rating)["web_searches"] == Decimal("0.015")
    assert amounts(rating)["citation_tokens"] == Decimal("0.001")


def test_music_is_charged_by_the_piece():
    rating = rated("vertex_ai/lyria-3-clip-preview", tokens(100, 900), PricingBasis(call_type="aspeech"))
    assert amounts(rating) == {"requests": Decimal("0.04")}


def test_a_model_litellm_cannot_find_is_priced_by_its_entry():
    rating = image("stability.stable-conservative-upscale-v1:0", provider="bedrock", n=2)
    assert rating.cost_usd == Decimal("0.8")


def test_a_router_whose_served_model_has_a_price_elsewhere_is_charged_for_it():
    served = a_model("azure_ai/gpt-5.2-chat", "azure/gpt-5.2-chat", provider="azure_ai", is_router=True)
    rating = rated(served, tokens(1000, 1000))
    assert (rating.model_cost_usd, rating.fees_usd) == (Decimal("0.01575"), Decimal("0.00014"))
