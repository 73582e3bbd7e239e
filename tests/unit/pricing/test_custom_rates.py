"""What a call costs by the rates of its deployment, of whatever unit, and what the list still says beside them."""

from decimal import Decimal
from typing import Any

import pytest

from service.pricing.rate_selection import SelectedRates, select_rates
from service.pricing.usage import CustomRates, PricingBasis
from tests.unit.pricing.builders import a_model, amounts, book_of, lines, notes, rated, reported, shipped_book, used

M = 1_000_000


def custom(**rates: Any) -> CustomRates:
    others = tuple((key, Decimal(str(rate))) for key, rate in rates.items() if key.count("cost"))
    plain = {key: Decimal(str(rate)) for key, rate in rates.items() if not key.count("cost")}
    return CustomRates(**plain, has_other_rates=bool(others), others=others)


def test_a_deployment_priced_by_the_second_is_charged_for_the_wall_clock():
    rates = custom(input_cost_per_second=0.02, output_cost_per_second=0.01)
    basis = PricingBasis(custom_rates=rates, duration_seconds=Decimal(2))
    rating = rated("gpt-4.1", used(1000, 100), basis)
    assert lines(rating) == {"call_seconds": ("2", "second", "0.06")}
    assert notes(rating) == {"call_seconds": "rate configured on the deployment"}
    assert rating.price_key is None


def test_no_token_rate_of_the_list_mixes_into_a_deployment_priced_by_the_second():
    selected = select_rates(
        a_model("gpt-4.1"),
        PricingBasis(custom_rates=custom(input_cost_per_second=0.02)),
        shipped_book(),
        10,
        occurred_at=None,
        trust_custom_rates=True,
    )
    assert isinstance(selected, SelectedRates)
    assert set(selected.rates) == {"call_seconds", "web_searches/low", "web_searches/medium", "web_searches/high"}
    assert (selected.is_custom, selected.prices_tokens, selected.is_plain) == (True, False, False)


@pytest.mark.parametrize(
    ("call_type", "key", "unit"),
    [
        ("atranscription", "input_cost_per_second", "input_audio_seconds"),
        ("aspeech", "input_cost_per_character", "input_characters"),
        ("aimage_generation", "input_cost_per_image", "output_images"),
        ("image_edit", "input_cost_per_image", "output_images"),
        ("avideo_generation", "output_cost_per_second", "output_video_seconds"),
        ("aembedding", "input_cost_per_query", "queries"),
    ],
)
def test_what_a_deployment_is_for_is_known_from_the_call_when_no_list_says_it(call_type: str, key: str, unit: str):
    basis = PricingBasis(call_type=call_type, custom_rates=custom(**{key: 0.5}))
    rating = rated("openai/acme-tuned", used(**{unit: 4}), basis)
    assert amounts(rating) == {unit: 2}


def test_a_deployment_for_embeddings_is_charged_for_text_and_images():
    rates = custom(input_per_token=1e-6, input_cost_per_image=0.5)
    basis = PricingBasis(call_type="aembedding", custom_rates=rates)
    rating = rated("openai/acme-tuned", used(M, input_images=2), basis)
    assert amounts(rating) == {"text_input": 1, "input_images": 1}


def test_what_a_deployment_is_for_is_known_from_the_list():
    basis = PricingBasis(call_type="acompletion", custom_rates=custom(input_cost_per_second=0.5))
    rating = rated("whisper-1", used(input_audio_seconds=4), basis)
    assert amounts(rating) == {"input_audio_seconds": 2}


def test_contract_rates_replace_the_lists_prices_of_content_and_keep_those_of_tools():
    entry = {
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 1e-6,
        "output_cost_per_image": 5,
        "input_cost_per_request": 5,
        "search_context_cost_per_query": {
            f"search_context_size_{size}": rate for size, rate in (("low", 0.01), ("medium", 0.02), ("high", 0.03))
        },
        "litellm_provider": "gemini",
    }
    basis = PricingBasis(custom_rates=custom(input_per_token=2e-6, output_per_token=3e-6))
    rating = rated("m", used(M, M, output_images=1, web_searches=4), basis, book=book_of({"m": entry}))
    assert amounts(rating) == {"text_input": 2, "text_output": 3, "web_searches": Decimal("0.02")}
    assert notes(rating)["web_searches"] == "medium search context"


def test_contract_rates_by_keys_of_the_map_have_thresholds_and_tiers():
    rates = custom(
        input_per_token=1e-6,
        input_cost_per_token_above_200k_tokens=2e-6,
        input_cost_per_token_flex=0.5e-6,
        output_per_token=1e-6,
    )
    assert rated("gpt-4.1", used(M), PricingBasis(custom_rates=rates)).cost_usd == 2
    flex = PricingBasis(custom_rates=rates, service_tier="flex")
    assert rated("gpt-4.1", used(100_000), flex).cost_usd == Decimal("0.05")


def test_contract_rates_are_neither_halved_in_a_batch_nor_by_a_provider():
    basis = PricingBasis(custom_rates=custom(input_per_token=2e-6), is_batch=True)
    assert rated("gpt-4.1", used(M), basis).cost_usd == 2
    usage = used(M, parts={"cache_read_input_tokens": M})
    cached = rated("fireworks-ai-4.1b-to-16b", usage, PricingBasis(custom_rates=custom(input_per_token=2e-6)))
    assert cached.cost_usd == 2


def test_contract_rates_that_cannot_be_read_take_the_gateways_figure():
    basis = PricingBasis(custom_rates=custom(input_cost_per_second=-1))
    rating = rated("gpt-4.1", used(10), basis, reported("0.5"))
    assert (rating.price_state, rating.reason) == ("reported", "other_custom_price")


def test_a_declared_free_deployment_is_free_of_units_nobody_charged_for():
    basis = PricingBasis(custom_rates=custom(input_per_token=0, output_per_token=0))
    usage = used(100, 10, web_searches=2)
    assert rated("gpt-4.1", usage, basis, reported("0.0")).price_state == "free"
    paid = rated("gpt-4.1", usage, basis, reported("0.02", tool_usage_usd="0.02"))
    assert amounts(paid) == {"text_input": 0, "text_output": 0, "web_searches": Decimal("0.05")}
    seconds = PricingBasis(
        custom_rates=custom(input_per_token=0, input_cost_per_second=0.5), duration_seconds=Decimal(2)
    )
    assert rated("gpt-4.1", used(10), seconds, reported("0.0")).cost_usd == 1
