"""Which rate a token gets: service tier, context, batch, time of day, multipliers, and what stands in for what."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from service.pricing import rate_keys
from service.pricing.model_price import ModelPrice
from service.pricing.usage import PricingBasis, Usage
from tests.unit.pricing.builders import a_model, amounts, book_of, notes, rated, tokens

M = 1_000_000
STANDARD_TIER_NOTE = "no rate of this service tier: standard rate"
HALF_NOTE = "no batch rate: half the standard rate"


def model(**entry: Any) -> Any:
    return book_of({"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6} | entry})


def usd(book: Any, usage: Usage, basis: PricingBasis | None = None, **options: Any) -> dict[str, str]:
    return {
        name: f"{amount.normalize():f}"
        for name, amount in amounts(rated("m", usage, basis, book=book, **options)).items()
    }


def test_every_kind_of_token_has_its_own_rate():
    book = model(
        cache_read_input_token_cost=0.1e-6,
        cache_read_input_audio_token_cost=0.2e-6,
        cache_read_input_image_token_cost=0.3e-6,
        cache_creation_input_token_cost=1.25e-6,
        cache_creation_input_token_cost_above_1hr=2e-6,
        input_cost_per_audio_token=10e-6,
        input_cost_per_image_token=5e-6,
        input_cost_per_video_token=7e-6,
        output_cost_per_reasoning_token=3e-6,
        output_cost_per_audio_token=40e-6,
        output_cost_per_image_token=30e-6,
        output_cost_per_video_token=50e-6,
    )
    usage = tokens(
        9 * M,
        5 * M,
        cache_read_input_tokens=3 * M,
        cache_read_audio_input_tokens=M,
        cache_read_image_input_tokens=M,
        cache_write_5m_input_tokens=M,
        cache_write_1h_input_tokens=M,
        audio_input_tokens=2 * M,
        image_input_tokens=2 * M,
        video_input_tokens=M,
        reasoning_output_tokens=M,
        audio_output_tokens=M,
        image_output_tokens=M,
        video_output_tokens=M,
    )
    assert usd(book, usage) == {
        "text_input": "1",
        "cache_read": "0.1",
        "cache_read_audio": "0.2",
        "cache_read_image": "0.3",
        "cache_write_5m": "1.25",
        "cache_write_1h": "2",
        "audio_input": "10",
        "image_input": "5",
        "video_input": "7",
        "text_output": "4",
        "reasoning": "3",
        "audio_output": "40",
        "image_output": "30",
        "video_output": "50",
    }
    assert set(notes(rated("m", usage, book=book)).values()) == {None}


@pytest.mark.parametrize(
    ("part", "line", "stand_in"),
    [
        ("cache_read_input_tokens", "cache_read", "text_input"),
        ("cache_write_5m_input_tokens", "cache_write_5m", "text_input"),
        ("audio_input_tokens", "audio_input", "text_input"),
        ("image_input_tokens", "image_input", "text_input"),
        ("video_input_tokens", "video_input", "text_input"),
        ("reasoning_output_tokens", "reasoning", "text_output"),
        ("audio_output_tokens", "audio_output", "text_output"),
        ("image_output_tokens", "image_output", "text_output"),
        ("video_output_tokens", "video_output", "text_output"),
    ],
)
def test_a_missing_rate_is_substituted_and_the_line_says_so(part: str, line: str, stand_in: str):
    rating = rated("m", tokens(10, 10, **{part: 10}), book=model())
    assert notes(rating)[line] == f"no {line} rate: {stand_in} rate"
    assert rating.cost_usd == Decimal("0.00005")


def test_one_hour_writes_fall_back_to_the_five_minute_rate_and_tell_the_whole_chain():
    usage = tokens(10, cache_write_1h_input_tokens=10)
    assert usd(model(cache_creation_input_token_cost=1.25e-6), usage) == {"cache_write_1h": "0.0000125"}
    assert notes(rated("m", usage, book=model())) == {
        "cache_write_1h": "no cache_write_1h rate: cache_write_5m rate; no cache_write_5m rate: text_input rate"
    }


def test_a_rate_by_its_second_name_holds_where_the_first_is_not_stated():
    usage = tokens(2 * M, audio_input_tokens=M, cache_read_input_tokens=2 * M, cache_read_audio_input_tokens=M)
    second = {"cache_creation_input_audio_token_cost": 20e-6, "input_cost_per_token_cache_hit": 0.5e-6}
    assert usd(model(**second), usage) == {"cache_read": "0.5", "cache_read_audio": "20"}
    first = {"cache_read_input_audio_token_cost": 0.4e-6, "cache_read_input_token_cost": 0.1e-6}
    assert usd(model(**second, **first), usage) == {"cache_read": "0.1", "cache_read_audio": "0.4"}
    assert usd(model(**first, **second), usage) == {"cache_read": "0.1", "cache_read_audio": "0.4"}


def test_an_explicit_zero_is_a_rate_and_not_a_missing_one():
    # DeepSeek writes its cache for nothing.
    book = model(cache_creation_input_token_cost=0.0)
    rating = rated("m", tokens(20, cache_write_5m_input_tokens=10), book=book)
    assert amounts(rating) == {"text_input": Decimal("0.00001"), "cache_write_5m": 0}
    assert rating.price_state == "priced"


@pytest.mark.parametrize("tier", ["flex", "FLEX"])
def test_a_billed_tier_has_its_own_rates(tier: str):
    book = model(input_cost_per_token_flex=0.5e-6, output_cost_per_token_flex=2e-6)
    assert usd(book, tokens(M, M), PricingBasis(service_tier=tier)) == {"text_input": "0.5", "text_output": "2"}


@pytest.mark.parametrize("tier", [None, "", "default", "standard", "auto"])
def test_the_standard_tier_has_many_names(tier: str | None):
    rating = rated("m", tokens(M, M), PricingBasis(service_tier=tier), book=model(input_cost_per_token_flex=0))
    assert (rating.cost_usd, set(notes(rating).values())) == (5, {None})


def test_fast_is_the_priority_tier_by_another_name():
    assert usd(model(input_cost_per_token_priority=2e-6), tokens(M), PricingBasis(service_tier="fast")) == {
        "text_input": "2"
    }


@pytest.mark.parametrize("tier", ["priority", "something new"])
def test_a_tier_without_rates_is_charged_at_the_standard_rate_and_says_so(tier: str):
    rating = rated("m", tokens(M, M), PricingBasis(service_tier=tier), book=model(input_cost_per_token_flex=0.5e-6))
    assert rating.cost_usd == 5
    assert set(notes(rating).values()) == {STANDARD_TIER_NOTE}


def test_reasoning_follows_the_output_rate_of_the_tier_it_has_no_rate_for():
    book = model(output_cost_per_reasoning_token=4e-6, output_cost_per_token_flex=2e-6)
    rating = rated("m", tokens(0, 2 * M, reasoning_output_tokens=M), PricingBasis(service_tier="flex"), book=book)
    assert amounts(rating) == {"text_output": 2, "reasoning": 2}
    assert notes(rating)["reasoning"] == "no reasoning rate: text_output rate"


def test_reasoning_keeps_its_own_rate_in_a_tier_the_output_has_none_for_either():
    book = model(output_cost_per_reasoning_token=3e-6)
    rating = rated("m", tokens(0, M, reasoning_output_tokens=M), PricingBasis(service_tier="flex"), book=book)
    assert amounts(rating) == {"reasoning": 3}
    assert notes(rating)["reasoning"] == STANDARD_TIER_NOTE


def test_reasoning_follows_the_output_rate_of_a_long_context():
    book = model(output_cost_per_reasoning_token=3e-6, output_cost_per_token_above_200k_tokens=8e-6)
    assert usd(book, tokens(200_001, M, reasoning_output_tokens=M))["reasoning"] == "8"
    assert usd(book, tokens(200_000, M, reasoning_output_tokens=M))["reasoning"] == "3"


def test_a_crossed_threshold_reprices_every_token_and_the_highest_one_wins():
    book = model(
        input_cost_per_token_above_128k_tokens=2e-6,
        input_cost_per_token_above_512k_tokens=3e-6,
        output_cost_per_token_above_128k_tokens=8e-6,
        cache_creation_input_token_cost_above_1hr=2e-6,
        cache_creation_input_token_cost_above_1hr_above_128k_tokens=4e-6,
    )
    assert usd(book, tokens(128_000, M)) == {"text_input": "0.128", "text_output": "4"}
    assert usd(book, tokens(128_001, M)) == {"text_input": "0.256002", "text_output": "8"}
    assert usd(book, tokens(M, M)) == {"text_input": "3", "text_output": "8"}
    assert usd(book, tokens(M, cache_write_1h_input_tokens=M)) == {"cache_write_1h": "4"}


def test_xai_counts_the_threshold_itself_as_crossed():
    rates = {"input_cost_per_token_above_200k_tokens": 2e-6}
    assert usd(model(**rates), tokens(200_000)) == {"text_input": "0.2"}
    assert usd(model(**rates, litellm_provider="xai"), tokens(200_000)) == {"text_input": "0.4"}
    assert usd(model(**rates, litellm_provider="xai"), tokens(199_999)) == {"text_input": "0.199999"}


def test_a_tier_above_a_threshold_has_its_own_rate_or_the_standard_long_context_one():
    book = model(
        input_cost_per_token_flex=0.5e-6,
        input_cost_per_token_above_200k_tokens=2e-6,
        input_cost_per_token_above_200k_tokens_priority=5e-6,
    )
    assert usd(book, tokens(M), PricingBasis(service_tier="priority")) == {"text_input": "5"}
    rating = rated("m", tokens(M), PricingBasis(service_tier="flex"), book=book)
    assert (rating.cost_usd, notes(rating)) == (2, {"text_input": STANDARD_TIER_NOTE})


def test_a_batch_costs_its_batch_rates_or_half():
    book = model(input_cost_per_token_batches=0.4e-6, cache_read_input_token_cost=0.2e-6)
    rating = rated("m", tokens(2 * M, M, cache_read_input_tokens=M), PricingBasis(is_batch=True), book=book)
    assert amounts(rating) == {"text_input": Decimal("0.4"), "cache_read": Decimal("0.1"), "text_output": 2}
    assert notes(rating) == {"text_input": None, "cache_read": HALF_NOTE, "text_output": HALF_NOTE}


def test_a_batch_above_a_threshold_costs_half_the_long_context_rate():
    # LiteLLM stays at the batch rate of short prompts here; the providers' lists halve the long-context rate.
    book = model(input_cost_per_token_batches=0.5e-6, input_cost_per_token_above_200k_tokens=2e-6)
    assert usd(book, tokens(M), PricingBasis(is_batch=True, service_tier="priority")) == {"text_input": "1"}


TIERS = [
    {"range": [256000.0, 1000000.0], "input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6},
    {
        "range": [0, 256000.0],
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 4e-6,
        "cache_read_input_token_cost": 0.1e-6,
        "output_cost_per_reasoning_token": 6e-6,
    },
]


def test_tiered_pricing_prices_the_whole_request_at_the_tier_of_its_prompt():
    book = model(tiered_pricing=TIERS, input_cost_per_token=9, input_cost_per_token_above_128k_tokens=9)
    assert usd(book, tokens(256_000, M)) == {"text_input": "0.256", "text_output": "4"}
    assert usd(book, tokens(256_001, M)) == {"text_input": "0.512002", "text_output": "8"}
    assert usd(book, tokens(2 * M, M)) == {"text_input": "4", "text_output": "8"}
    assert usd(book, tokens(0, M, reasoning_output_tokens=M)) == {"reasoning": "6"}


def test_a_rate_missing_in_a_tier_is_substituted_within_that_tier():
    book = model(tiered_pricing=TIERS)
    assert usd(book, tokens(M, cache_read_input_tokens=M)) == {"cache_read": "2"}
    assert usd(book, tokens(1000, cache_read_input_tokens=1000)) == {"cache_read": "0.0001"}


def test_a_batch_of_a_tiered_model_costs_half_of_its_tier():
    assert usd(model(tiered_pricing=TIERS), tokens(M, M), PricingBasis(is_batch=True)) == {
        "text_input": "1",
        "text_output": "4",
    }


OFF_PEAK = {
    "input_cost_per_token": 0.5e-6,
    "output_cost_per_token": 2e-6,
    "windows": [{"hours_utc": "16:00-20:00", "weekdays": [1, 2, 3, 4, 5]}],
}


def test_off_peak_rates_hold_in_their_hours():
    book = model(off_peak_pricing=OFF_PEAK)
    evening, morning = datetime(2026, 11, 18, 16, tzinfo=UTC), datetime(2026, 11, 18, 15, 59, tzinfo=UTC)
    assert usd(book, tokens(M, M), occurred_at=evening) == {"text_input": "0.5", "text_output": "2"}
    assert usd(book, tokens(M, M), occurred_at=morning) == {"text_input": "1", "text_output": "4"}
    assert usd(book, tokens(M, M), occurred_at=None) == {"text_input": "1", "text_output": "4"}
    assert notes(rated("m", tokens(M), book=book, occurred_at=evening)) == {"text_input": "off-peak"}
    assert usd(book, tokens(M), PricingBasis(is_batch=True), occurred_at=evening) == {"text_input": "0.25"}


@pytest.mark.parametrize(
    ("basis", "factor", "note"),
    [
        (PricingBasis(data_residency="eu"), "1.1", "multiplied for data residency eu"),
        (PricingBasis(data_residency="US"), "1.2", "multiplied for data residency us"),
        (PricingBasis(data_residency="jp"), "1", None),
        (PricingBasis(vertex_location="europe-west1"), "1.3", "multiplied for regional endpoint"),
        (PricingBasis(vertex_location="global"), "1", None),
        (PricingBasis(inference_geography="us"), "1.4", "multiplied for inference geography us"),
        (PricingBasis(speed="fast"), "2", "multiplied for fast mode"),
        (PricingBasis(speed="standard"), "1", None),
        (PricingBasis(), "1", None),
    ],
)
def test_a_multiplier_is_visible_on_the_line(basis: PricingBasis, factor: str, note: str | None):
    book = model(
        regional_processing_uplift_multiplier_eu=1.1,
        regional_processing_uplift_multiplier_us=1.2,
        regional_endpoint_uplift_multiplier=1.3,
        provider_specific_entry={"us": 1.4, "fast": 2.0, "minimax_free_input_images": 5},
    )
    (line,) = rated("m", tokens(M), basis, book=book).components
    assert (line.multiplier, line.note) == (Decimal(factor), note)
    assert line.amount_usd == line.quantity * line.rate * line.multiplier == Decimal(factor)


def test_multipliers_multiply():
    book = model(regional_endpoint_uplift_multiplier=1.1, provider_specific_entry={"us": 1.1})
    basis = PricingBasis(vertex_location="us-east5", inference_geography="us")
    (line,) = rated("m", tokens(M), basis, book=book).components
    assert (line.multiplier, line.amount_usd) == (Decimal("1.21"), Decimal("1.21"))
    assert line.note == "multiplied for regional endpoint; multiplied for inference geography us"


def test_a_line_tells_the_rule_by_which_its_price_was_found():
    rating = rated(a_model("m", rule="snapshot_date"), tokens(M, cache_read_input_tokens=M), book=model())
    assert notes(rating) == {"cache_read": "no cache_read rate: text_input rate; price found by snapshot_date"}


def test_what_was_resolved_is_kept_within_bounds():
    price = book_of({"m": {"input_cost_per_token": 1e-6}}).find("m")
    assert isinstance(price, ModelPrice)
    for number in range(1500):
        rates = price.rates_for(1, PricingBasis(), None, f"rule {number}")
    assert rates[rate_keys.TEXT_INPUT].note == "price found by rule 1499"
    assert len(price._resolved) <= 512
