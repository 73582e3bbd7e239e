"""What rules may say: every rate rating knows, within bounds; anything else is refused with its field."""

from decimal import Decimal
from typing import Any

import pytest

from service.errors import InvalidInput
from service.pricing.rule_terms import (
    ADJUSTMENT_KINDS,
    FEE_KINDS,
    MAX_RATES,
    AdjustmentTerms,
    FeeTerms,
    OverrideTerms,
    RuleKind,
    Terms,
    is_rate_key,
    parse_adjustment,
    parse_fee,
    parse_override,
    stored_terms,
)


def refused(field: str):
    """The refusal that names this field and says something."""
    return pytest.raises(InvalidInput, match=r"\w", check=lambda error: error.field == field)


@pytest.mark.parametrize(
    "key",
    [
        "input_cost_per_token",
        "cache_creation_input_token_cost_above_1hr",
        "input_cost_per_token_above_200k_tokens",
        "output_cost_per_token_above_272k_tokens_priority",
        "output_cost_per_token_batches",
        "input_cost_per_second",
        "output_cost_per_image",
        "ocr_cost_per_page",
        "code_interpreter_cost_per_session",
        "search_context_cost_per_query.search_context_size_medium",
        "guardrail_cost_per_unit.contextual_grounding",
    ],
)
def test_every_rate_of_the_map_is_a_rate_of_a_rule(key: str):
    assert is_rate_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "input_cost",
        "input_cost_per_token_above_200_tokens",
        "output_cost_per_token_cheap",
        "tiered_pricing",
        "off_peak_pricing",
        "max_tokens",
        "litellm_provider",
        "regional_endpoint_uplift_multiplier",
        "provider_specific_entry",
        "provider_specific_entry.us",
        "search_context_cost_per_query",
        "search_context_cost_per_query.",
        "search_context_cost_per_query.huge",
        "guardrail_cost_per_unit",
        "guardrail_cost_per_unit.",
        "input_cost_per_token.us",
        "cost_per_second",
        "input_cost_per_token_cache_hit",
    ],
)
def test_what_would_change_nothing_is_no_rate(key: str):
    assert not is_rate_key(key)
    with pytest.raises(InvalidInput) as refusal:
        parse_override({key: {"usd": "1"}})
    assert (refusal.value.code, refusal.value.field) == ("unknown_rate", f"rates.{key}")


def test_a_rate_is_a_price_or_a_factor():
    terms = parse_override(
        {"input_cost_per_token": {"usd": "0.0000010"}, "output_cost_per_token": {"factor": Decimal("0.90")}}
    )
    assert terms.document() == {
        "rates": {"input_cost_per_token": {"usd": "0.000001"}, "output_cost_per_token": {"factor": "0.9"}},
        "replace": False,
    }


def test_a_price_of_zero_is_a_price():
    assert parse_override({"input_cost_per_token": {"usd": "0.00"}}).rates["input_cost_per_token"].value == 0


@pytest.mark.parametrize(
    ("rate", "field"),
    [
        ({}, ""),
        ({"usd": "1", "factor": "1"}, ""),
        ({"eur": "1"}, ""),
        ("1", ""),
        (None, ""),
        ({"usd": "-0.1"}, ".usd"),
        ({"usd": "1000000.1"}, ".usd"),
        ({"usd": "NaN"}, ".usd"),
        ({"usd": "Infinity"}, ".usd"),
        ({"usd": "ten"}, ".usd"),
        ({"usd": None}, ".usd"),
        ({"usd": 0.5}, ".usd"),
        ({"usd": "\u0663"}, ".usd"),
        ({"usd": "1_0"}, ".usd"),
        ({"usd": " 1"}, ".usd"),
        ({"factor": "1_0"}, ".factor"),
        ({"usd": Decimal("1e999999")}, ".usd"),
        ({"usd": "0." + "0" * 20 + "1"}, ".usd"),
        ({"factor": "-1"}, ".factor"),
        ({"factor": "1000.1"}, ".factor"),
    ],
)
def test_a_rate_that_cannot_be_taken_is_refused_with_its_path(rate: Any, field: str):
    with refused(f"rates.input_cost_per_token{field}"):
        parse_override({"input_cost_per_token": rate})


@pytest.mark.parametrize("bound", ["0", "1000000", "0." + "0" * 19 + "1"])
def test_the_bounds_themselves_are_taken(bound: str):
    [rate] = parse_override({"input_cost_per_token": {"usd": bound}}).rates.values()
    assert rate.value == Decimal(bound)
    assert not rate.is_factor


def test_with_replace_there_is_nothing_to_be_a_factor_of():
    with refused("rates.input_cost_per_token.factor"):
        parse_override({"input_cost_per_token": {"factor": "0.5"}}, replace=True)
    assert parse_override({"input_cost_per_token": {"usd": "0.5"}}, replace=True).replace


@pytest.mark.parametrize("rates", [{}, None, [], "input_cost_per_token"])
def test_an_override_without_rates_is_refused(rates: Any):
    with refused("rates"):
        parse_override(rates)


def test_an_override_states_a_hundred_rates_at_most():
    rates = {f"input_cost_per_token_above_{n}k_tokens": {"usd": "1"} for n in range(1, MAX_RATES + 1)}
    assert len(parse_override(rates).rates) == MAX_RATES
    with refused("rates"):
        parse_override({**rates, "output_cost_per_token": {"usd": "1"}})


def test_a_key_of_any_length_is_refused_in_few_words():
    key = "guardrail_cost_per_unit." + "x" * 97
    with refused(f"rates.{key}"[:120]):
        parse_override({key: {"usd": "1"}})
    assert parse_override({key[:120]: {"usd": "1"}})


@pytest.mark.parametrize("kind", FEE_KINDS)
def test_every_kind_of_fee_has_a_positive_amount(kind: str):
    assert parse_fee(kind, "0.10").amount == Decimal("0.1")
    for amount in ("0", "-1", "1000001", "x", None):
        with refused("amount"):
            parse_fee(kind, amount)


def test_a_percentage_fee_is_bounded_as_one():
    assert parse_fee("percent_of_model_cost", "10000").amount == 10_000
    with refused("amount"):
        parse_fee("percent_of_model_cost", "10000.1")


@pytest.mark.parametrize("kind", ["usd_per_day", "", None, 1])
def test_another_kind_of_fee_is_refused(kind: Any):
    with refused("kind"):
        parse_fee(kind, "1")


@pytest.mark.parametrize("kind", ADJUSTMENT_KINDS)
def test_every_adjustment_has_a_positive_amount(kind: str):
    terms = parse_adjustment({kind: "50"})
    assert (terms.kind, terms.amount) == (kind, 50)
    assert terms.is_discount == kind.startswith("discount")
    assert terms.is_percentage == kind.endswith("percent")
    with refused(kind):
        parse_adjustment({kind: "0"})


@pytest.mark.parametrize(
    ("kind", "most"),
    [("discount_percent", 100), ("discount_usd", 1_000_000), ("markup_percent", 10_000), ("markup_usd", 1_000_000)],
)
def test_an_adjustment_is_bounded_by_its_kind(kind: str, most: int):
    assert parse_adjustment({kind: Decimal(most)}).amount == most
    with refused(kind):
        parse_adjustment({kind: Decimal(most) + Decimal("0.1")})


def test_an_adjustment_is_exactly_one():
    for amounts in ({}, {"discount_percent": "1", "markup_percent": "1"}):
        with refused("discount_percent"):
            parse_adjustment(amounts)


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        (
            "override",
            parse_override({"input_cost_per_token": {"usd": "0.1"}, "output_cost_per_token": {"factor": "2"}}),
        ),
        ("override", parse_override({"input_cost_per_token": {"usd": "0.1"}}, replace=True)),
        ("fee", parse_fee("usd_per_request", "0.001")),
        ("discount", parse_adjustment({"markup_usd": "0.001"})),
        ("discount", parse_adjustment({"discount_percent": "12.5"})),
    ],
)
def test_terms_are_read_from_storage_as_they_were_stored(kind: RuleKind, terms: Terms):
    stored = stored_terms(kind, terms.document())
    assert stored == terms
    assert isinstance(stored, OverrideTerms | FeeTerms | AdjustmentTerms)
