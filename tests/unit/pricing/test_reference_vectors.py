"""The reference vectors of the pricing rules: each to the last digit."""

from decimal import Decimal

import pytest

from service.pricing.usage import PricingBasis, Usage
from tests.unit.pricing.builders import a_model, rated, tokens

FLEX, PRIORITY = PricingBasis(service_tier="flex"), PricingBasis(service_tier="priority")


@pytest.mark.parametrize(
    ("model", "usage", "basis", "cost"),
    [
        ("gpt-4o-mini", tokens(1000, 500), None, "0.00045"),
        ("gpt-4o-mini", tokens(1000, 500, cache_read_input_tokens=600), None, "0.000405"),
        ("gpt-5.4", tokens(1000, 500), None, "0.01"),
        ("gpt-5.4", tokens(1000, 500), FLEX, "0.005"),
        ("gpt-5.4", tokens(1000, 500), PRIORITY, "0.02"),
        ("gpt-5.4", tokens(272_000, 1000), None, "0.695"),
        ("gpt-5.4", tokens(272_001, 1000), None, "1.382505"),
        ("gemini-2.5-pro", tokens(200_000, 1000), None, "0.26"),
        ("gemini-2.5-pro", tokens(200_001, 1000), None, "0.5150025"),
        ("xai/grok-4.20", tokens(200_000, 1000), None, "0.505"),
        (
            "claude-sonnet-4-5",
            tokens(
                10_000,
                100,
                cache_read_input_tokens=5000,
                cache_write_5m_input_tokens=1000,
                cache_write_1h_input_tokens=2000,
            ),
            None,
            "0.02475",
        ),
        (
            "claude-sonnet-4-5",
            tokens(10_000, 100, cache_read_input_tokens=5000, cache_write_5m_input_tokens=3000),
            None,
            "0.02025",
        ),
        ("dashscope/qwen-flash", tokens(256_000, 100), None, "0.01284"),
        ("dashscope/qwen-flash", tokens(256_001, 100), None, "0.06420025"),
        ("dashscope/qwen-flash", tokens(2_000_000, 100), None, "0.5002"),
        ("o3", tokens(1000, 500, reasoning_output_tokens=400), None, "0.006"),
        ("perplexity/sonar-deep-research", tokens(1000, 500, reasoning_output_tokens=400), None, "0.004"),
        ("claude-opus-4-6", tokens(1000, 100), None, "0.0075"),
        ("claude-opus-4-6", tokens(1000, 100), PricingBasis(inference_geography="us"), "0.00825"),
        ("claude-opus-4-6", tokens(1000, 100), PricingBasis(inference_geography="eu"), "0.0075"),
        ("text-embedding-3-small", tokens(1000), None, "0.00002"),
    ],
)
def test_cost_is_exactly_the_reference(model: str, usage: Usage, basis: PricingBasis | None, cost: str):
    rating = rated(model, usage, basis)
    assert rating.cost_usd == Decimal(cost)
    assert (rating.price_state, rating.price_key, rating.assumed_usd) == ("priced", model, 0)


def test_a_cost_is_what_lines_add_up_to_and_names_its_book():
    rating = rated("gpt-4o-mini", tokens(1000, 500, cache_read_input_tokens=600))
    assert [(line.name, line.quantity, line.unit) for line in rating.components] == [
        ("text_input", 400, "token"),
        ("cache_read", 600, "token"),
        ("text_output", 500, "token"),
    ]
    assert sum(line.amount_usd for line in rating.components) == rating.model_cost_usd == rating.list_cost_usd
    assert rating.price_book_version.startswith("sha256-")
    assert (rating.fees, rating.fees_usd, rating.fees_price_state) == ((), 0, "free")


def test_nothing_is_lost_of_a_huge_quantity_at_a_tiny_rate():
    usage = tokens(9_007_199_254_740_993, 1)
    assert rated(a_model("gpt-4o-mini"), usage).cost_usd == Decimal("1351079888.21114955")
