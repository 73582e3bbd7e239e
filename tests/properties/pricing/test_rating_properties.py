"""Whatever a call consumed and a price list says: sums are exact, never negative, and depend on nothing else."""

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.kit.money import EXACT
from service.pricing.price_book import PriceBook
from service.pricing.quantities import count_tokens
from service.pricing.rate_keys import SERVICE_TIERS
from service.pricing.usage import CustomRates, PricingBasis, ReportedCost, Usage
from tests.unit.pricing.builders import a_model, book_of, rated, snapshot_of

COUNTS = st.integers(0, 3_000_000)
RATES = st.decimals(min_value=0, max_value=1, places=12)
AMOUNTS = st.decimals(min_value=0, max_value=1000, places=18)
KINDS = (
    "cache_read_input_tokens",
    "cache_write_5m_input_tokens",
    "cache_write_1h_input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "video_input_tokens",
    "cache_read_audio_input_tokens",
    "cache_read_image_input_tokens",
    "reasoning_output_tokens",
    "audio_output_tokens",
    "image_output_tokens",
    "video_output_tokens",
)
RATE_KEYS = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr",
    "input_cost_per_audio_token",
    "output_cost_per_reasoning_token",
    "output_cost_per_image_token",
)
SUFFIXES = ("", "_above_128k_tokens", "_above_272k_tokens", "_flex", "_batches", "_above_128k_tokens_priority")

usages = st.builds(
    Usage,
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    unmeasured=st.sampled_from([(), (), (), ("web_search",)]),
    **dict.fromkeys(KINDS, COUNTS),
)
bases = st.builds(
    PricingBasis,
    call_type=st.sampled_from(["acompletion", "aimage_generation", "aspeech"]),
    service_tier=st.sampled_from([None, "default", "new", *sorted(SERVICE_TIERS)]),
    data_residency=st.sampled_from([None, "eu", "us"]),
    vertex_location=st.sampled_from([None, "global", "europe-west1"]),
    is_batch=st.booleans(),
    is_cache_hit=st.sampled_from([False, False, False, True]),
    is_failure=st.booleans(),
    custom_rates=st.none()
    | st.builds(CustomRates, input_per_token=st.none() | RATES, output_per_token=st.none() | RATES),
)
reports = st.builds(
    ReportedCost,
    total_usd=st.none() | AMOUNTS,
    guardrail_usd=AMOUNTS,
    tool_usage_usd=st.just(Decimal(0)) | AMOUNTS,
    fees_usd=AMOUNTS,
)
entries = st.dictionaries(
    st.tuples(st.sampled_from(RATE_KEYS), st.sampled_from(SUFFIXES)).map("".join), RATES.map(float), max_size=12
)
multipliers = st.fixed_dictionaries(
    {},
    optional={
        "regional_processing_uplift_multiplier_eu": st.just(1.1),
        "regional_endpoint_uplift_multiplier": st.just(1.25),
    },
)


@given(usages, bases, reports, entries, multipliers, st.booleans())
def test_a_rating_is_exactly_the_sum_of_its_lines_and_never_negative(
    usage: Usage,
    basis: PricingBasis,
    cost: ReportedCost,
    entry: dict[str, float],
    factors: dict[str, float],
    is_router: bool,
):
    book = book_of({"m": entry | factors, "azure/model-router": {"input_cost_per_token": 1.4e-7}})
    rating = rated(a_model("m", is_router=is_router), usage, basis, cost, book=book)
    for line in (*rating.components, *rating.fees):
        product = EXACT.multiply(EXACT.multiply(line.quantity, line.rate), line.multiplier)
        assert line.amount_usd == product >= 0
        assert line.quantity > 0
    assert rating.model_cost_usd == _exact_sum(line.amount_usd for line in rating.components)
    assert rating.fees_usd == _exact_sum(line.amount_usd for line in rating.fees)
    assert rating.cost_usd == EXACT.add(rating.model_cost_usd, rating.fees_usd)
    assert rating.enforced_usd == EXACT.add(rating.cost_usd, rating.assumed_usd)
    assert rating.assumed_usd >= 0
    assert (rating.model_cost_usd > 0) == (rating.price_state in {"priced", "reported"})
    assert (rating.reason is None) == (rating.price_state == "priced")
    assert rating.assumed_usd == 0 or rating.price_state == "unpriced"


def _exact_sum(amounts: Any) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


@given(usages, st.sampled_from(["acompletion", "aimage_edit", "aspeech"]))
def test_the_kinds_of_tokens_add_up_to_the_tokens(usage: Usage, call_type: str):
    kinds = dict(count_tokens(usage, call_type))
    outputs = {"text_output", "reasoning", "audio_output", "image_output", "video_output"}
    assert sum(tokens for kind, tokens in kinds.items() if kind in outputs) == usage.output_tokens
    assert sum(tokens for kind, tokens in kinds.items() if kind not in outputs) == usage.input_tokens
    assert all(tokens > 0 for tokens in kinds.values())


@given(st.integers(0, 271_999), st.integers(0, 100_000), st.integers(1, 1000))
def test_more_tokens_within_a_tier_never_cost_less(input_tokens: int, output_tokens: int, more: int):
    def cost(inputs: int, outputs: int) -> Decimal:
        return rated("gpt-5.4", Usage(input_tokens=inputs, output_tokens=outputs)).cost_usd

    assert cost(input_tokens, output_tokens) <= cost(min(input_tokens + more, 272_000), output_tokens)
    assert cost(input_tokens, output_tokens) < cost(input_tokens, output_tokens + more)


@given(entries, st.randoms(use_true_random=False))
def test_the_order_of_keys_in_a_map_means_nothing(entry: dict[str, float], shuffling: random.Random):
    names = list(entry)
    shuffling.shuffle(names)
    shuffled = {name: entry[name] for name in names}
    first = snapshot_of({"m": entry, "n": {"mode": "chat"}})
    assert first == snapshot_of({"n": {"mode": "chat"}, "m": shuffled})
    usage = Usage(input_tokens=300_000, output_tokens=10, cache_read_input_tokens=5)
    other = book_of(json.loads(json.dumps({"m": shuffled, "n": {"mode": "chat"}})))
    assert rated("m", usage, book=PriceBook.from_snapshot(first)) == rated("m", usage, book=other)


@pytest.mark.parametrize("digits", [1, 12, 40])
def test_precision_is_never_lost_to_the_digits_of_a_rate(digits: int):
    rate = Decimal(3).scaleb(-digits) + Decimal(1).scaleb(-1)
    book = book_of({"m": {"input_cost_per_token": 0.5}})
    basis = PricingBasis(custom_rates=CustomRates(input_per_token=rate, output_per_token=rate))
    usage = Usage(input_tokens=2**62, output_tokens=1)
    assert rated("m", usage, basis, book=book).cost_usd == EXACT.multiply(rate, Decimal(2**62 + 1))
