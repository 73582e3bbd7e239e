"""Whatever a call used and a price list says of tokens, units and sizes: exact, never negative, the same for ever."""

import random
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from service.kit.money import EXACT, ZERO
from service.pricing.rate_keys import INPUT_KINDS
from service.pricing.rating_result import Rating
from service.pricing.units import GUARDRAIL_UNITS, TOOLS, UNIT_OF
from service.pricing.usage import CustomRates, PricingBasis, Usage
from tests.unit.pricing.builders import a_model, book_of, rated, reported, shipped_book, snapshot_of

COUNTS = st.integers(0, 250_000)
RATES = st.decimals(min_value=0, max_value=1, places=9).map(float)
QUANTITIES = st.decimals(min_value=0, max_value=5000, places=3).filter(bool)
UNITS = sorted({*UNIT_OF, "moon_landings"} - {"output_pixels", "call_seconds", "requests"})
TOKEN_PARTS = (
    "cache_read_input_tokens",
    "cache_write_1h_input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "reasoning_output_tokens",
    "audio_output_tokens",
    "image_output_tokens",
)
KEYS = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "output_cost_per_image_token",
    "input_cost_per_character",
    "input_cost_per_character_above_128k_tokens",
    "output_cost_per_character",
    "input_cost_per_second",
    "output_cost_per_second",
    "output_cost_per_second_720p",
    "cost_per_second",
    "input_cost_per_audio_per_second",
    "input_cost_per_video_per_second",
    "input_cost_per_image",
    "output_cost_per_image",
    "output_cost_per_image_2K",
    "input_cost_per_pixel",
    "output_cost_per_pixel",
    "input_cost_per_query",
    "input_cost_per_request",
    "ocr_cost_per_page",
    "ocr_cost_per_page_batches",
    "annotation_cost_per_page",
    "ocr_cost_per_credit",
    "citation_cost_per_token",
    "code_interpreter_cost_per_session",
    "google_maps_grounding_cost_per_query",
    "file_search_cost_per_1k_calls",
    "input_cost_per_text_message",
)
MODES = (
    "chat",
    "embedding",
    "audio_transcription",
    "audio_speech",
    "image_generation",
    "video_generation",
    "realtime",
    "ocr",
    "rerank",
    "search",
)

usages = st.builds(
    Usage,
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    units=st.dictionaries(st.sampled_from(UNITS), QUANTITIES, max_size=4).map(lambda units: tuple(units.items())),
    **dict.fromkeys(TOKEN_PARTS, COUNTS),
)
bases = st.builds(
    PricingBasis,
    call_type=st.sampled_from(["acompletion", "aembedding", "aimage_generation", "aspeech", "atranscription"]),
    service_tier=st.sampled_from([None, "flex", "priority"]),
    image_size=st.sampled_from([None, "1024x1024", "2K", "640-x-480", "auto"]),
    image_quality=st.sampled_from([None, "high", "auto"]),
    video_resolution=st.sampled_from([None, "720p", "1920x1080", "?"]),
    search_context_size=st.sampled_from([None, "low", "high"]),
    max_results=st.none() | st.integers(0, 200),
    duration_seconds=st.none() | QUANTITIES,
    is_batch=st.booleans(),
)
custom_rates = st.builds(
    CustomRates,
    input_per_token=st.none() | RATES.map(lambda rate: Decimal(str(rate))),
    has_other_rates=st.sampled_from([True]),
    others=st.dictionaries(st.sampled_from(KEYS), st.decimals(0, 1, places=6), min_size=1, max_size=3).map(
        lambda rates: tuple(rates.items())
    ),
)
entries = st.builds(
    lambda rates, fixed: rates | {name: value for name, value in fixed.items() if value is not None},
    st.dictionaries(st.sampled_from(KEYS), RATES, max_size=8),
    st.fixed_dictionaries(
        {
            "mode": st.sampled_from(MODES),
            "litellm_provider": st.sampled_from(["openai", "gemini", "fal_ai", "fireworks_ai", "perplexity"]),
            "search_context_cost_per_query": st.none()
            | st.fixed_dictionaries(
                {
                    "search_context_size_low": RATES,
                    "search_context_size_medium": RATES,
                    "search_context_size_high": RATES,
                }
            ),
            "provider_specific_entry": st.none() | st.just({"minimax_free_input_images": 2}),
        }
    ),
)
shipped_models = st.sampled_from(sorted(shipped_book()._entries))


def check(rating: Rating) -> None:
    total = ZERO
    for line in rating.components:
        assert line.amount_usd == EXACT.multiply(EXACT.multiply(line.quantity, line.rate), line.multiplier) >= 0
        assert line.quantity > 0
        total = EXACT.add(total, line.amount_usd)
    fees = ZERO
    for line in rating.fees:
        fees = EXACT.add(fees, line.amount_usd)
    assert (rating.model_cost_usd, rating.fees_usd) == (total, fees)
    assert rating.cost_usd == rating.list_cost_usd == EXACT.add(total, fees)
    assert (total > 0) == (rating.price_state in {"priced", "reported"})
    assert (rating.reason is None) == (rating.price_state == "priced")


@given(entries, usages, bases)
def test_a_rating_of_units_is_exactly_the_sum_of_its_lines(entry: dict[str, Any], usage: Usage, basis: PricingBasis):
    rating = rated("m", usage, basis, book=book_of({"m": entry}))
    check(rating)
    assert rating == rated("m", usage, basis, book=book_of({"m": entry}))


@given(shipped_models, usages, bases)
def test_every_shipped_price_rates_every_call(model: str, usage: Usage, basis: PricingBasis):
    check(rated(a_model(model), usage, basis))


@given(entries, usages, bases, custom_rates)
def test_a_deployments_own_rates_are_rated_like_any_others(
    entry: dict[str, Any], usage: Usage, basis: PricingBasis, custom: CustomRates
):
    basis = msgspec.structs.replace(basis, custom_rates=custom)
    check(rated("m", usage, basis, reported("0.25"), book=book_of({"m": entry})))


@given(entries, usages, bases, st.randoms(use_true_random=False))
def test_no_order_means_anything(entry: dict[str, Any], usage: Usage, basis: PricingBasis, shuffling: random.Random):
    names, units = list(entry), list(usage.units)
    shuffling.shuffle(names)
    shuffling.shuffle(units)
    shuffled = {name: entry[name] for name in names}
    assert snapshot_of({"m": entry}) == snapshot_of({"m": shuffled})
    first = rated("m", usage, basis, book=book_of({"m": entry}))
    second = rated("m", msgspec.structs.replace(usage, units=tuple(units)), basis, book=book_of({"m": shuffled}))
    assert first.cost_usd == second.cost_usd
    assert first.price_state == second.price_state
    assert sorted(map(repr, first.components)) == sorted(map(repr, second.components))


@given(entries, usages.filter(lambda usage: usage.units), bases, st.integers(0, 3), QUANTITIES)
def test_more_of_a_unit_never_costs_less(
    entry: dict[str, Any], usage: Usage, basis: PricingBasis, place: int, more: Decimal
):
    book = book_of({"m": entry})
    units = list(usage.units)
    name, quantity = units[place % len(units)]
    units[place % len(units)] = (name, quantity + more)
    fewer = rated("m", usage, basis, book=book)
    many = rated("m", msgspec.structs.replace(usage, units=tuple(units)), basis, book=book)
    assert fewer.price_state == many.price_state or (fewer.price_state, many.price_state) == ("free", "priced")
    assert fewer.cost_usd <= many.cost_usd


@given(entries, st.integers(1, 100_000), st.integers(1, 100_000), st.integers(1, 28_000), st.booleans())
def test_more_tokens_never_cost_less_within_a_tier(
    entry: dict[str, Any], inputs: int, outputs: int, more: int, is_input: bool
):
    book = book_of({"m": entry})
    fewer = rated("m", Usage(input_tokens=inputs, output_tokens=outputs), book=book)
    larger = Usage(input_tokens=inputs + more * is_input, output_tokens=outputs + more * (not is_input))
    assert fewer.cost_usd <= rated("m", larger, book=book).cost_usd


@given(entries, usages, bases)
def test_tools_are_charged_or_the_call_is_not_priced(entry: dict[str, Any], usage: Usage, basis: PricingBasis):
    rating = rated("m", usage, basis, book=book_of({"m": entry}))
    used = {unit for unit, _ in usage.units} & TOOLS
    if rating.price_state == "priced":
        assert used <= {line.name for line in rating.components}


@given(entries, usages, bases)
def test_a_direction_is_charged_by_tokens_or_by_what_else_measures_it(
    entry: dict[str, Any], usage: Usage, basis: PricingBasis
):
    assume(entry["mode"] != "embedding")
    lines = rated("m", usage, basis, book=book_of({"m": entry})).components
    names = {line.name for line in lines}
    prompt = {"input_characters", "input_images", "input_audio_seconds", "input_video_seconds", "queries", "pages"}
    assert not (names & INPUT_KINDS and names & prompt)
    assert not any(name.startswith(GUARDRAIL_UNITS) for name in names)
