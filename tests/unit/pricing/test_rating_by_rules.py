"""A tenant's overrides, discounts and fees in a rating: what comes before what, and what lines tell of it."""

from decimal import Decimal
from typing import Any

import pytest

from service.pricing.rating_result import Rating
from service.pricing.rules import PricingRules
from service.pricing.usage import CustomRates, PricingBasis, Usage
from tests.unit.pricing.builders import a_model, amounts, book_of, notes, rated, reported, tokens
from tests.unit.pricing.rule_builders import a_fee, an_adjustment, an_override, rules_of

M = 1_000_000
ENTRY = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}


def by(rules: PricingRules, usage: Usage, entry: dict[str, Any] | None = None, **options: Any) -> Rating:
    return rated("m", usage, book=book_of({"m": entry or ENTRY}), rules=rules, **options)


def a_contract(**rates: str) -> PricingBasis:
    return PricingBasis(custom_rates=CustomRates(**{name: Decimal(rate) for name, rate in rates.items()}))


def test_an_overridden_rate_replaces_the_lists_and_its_lines_say_so():
    rules = rules_of(an_override({"input_cost_per_token": "0.000003"}, name="contract 7"))
    rating = by(rules, tokens(2 * M, M, cache_read_input_tokens=M))
    assert amounts(rating) == {"text_input": 3, "cache_read": 3, "text_output": 4}
    assert notes(rating) == {
        "text_input": "override contract 7",
        "cache_read": "no cache_read rate: text_input rate; override contract 7",
        "text_output": None,
    }
    assert (rating.price_key, rating.list_cost_usd) == ("m", rating.model_cost_usd)


def test_the_names_of_several_overrides_are_told_together():
    rules = rules_of(
        an_override({"input_cost_per_token": "0.000003"}, name="one"),
        an_override({"output_cost_per_token": "0.000003"}, {"price_key": "m"}, name="two"),
    )
    assert set(notes(by(rules, tokens(M, M))).values()) == {"override one, two"}


@pytest.mark.parametrize(
    ("mode", "key", "unit"),
    [
        ("audio_transcription", "input_cost_per_second", "input_audio_seconds"),
        ("video_generation", "output_cost_per_second", "output_video_seconds"),
        ("image_generation", "input_cost_per_image", "output_images"),
        ("image_generation", "input_cost_per_pixel", "output_pixels"),
        ("audio_speech", "output_cost_per_image", "requests"),
        ("search", "input_cost_per_query", "queries"),
    ],
)
def test_an_overridden_unit_is_told_whatever_the_mode_makes_of_its_key(mode: str, key: str, unit: str):
    rules = rules_of(an_override({key: "0.5"}, name="ours"))
    used = {"output_pixels": "output_images", "requests": "output_images"}.get(unit, unit)
    rating = by(
        rules, Usage(units=((used, Decimal(1)),)), {key: 0.1, "mode": mode}, basis=PricingBasis(image_size="10x10")
    )
    assert notes(rating) == {unit: "override ours"}
    assert rating.components[0].rate == Decimal("0.5")


def test_parts_of_structured_keys_can_be_overridden():
    entry = ENTRY | {
        "search_context_cost_per_query": {"search_context_size_low": 0.01, "search_context_size_medium": 0.02},
        "litellm_provider": "openai",
    }
    rules = rules_of(an_override({"search_context_cost_per_query.search_context_size_medium": "0.5"}, name="deal"))
    rating = by(rules, Usage(input_tokens=M, units=(("web_searches", Decimal(2)),)), entry)
    assert amounts(rating)["web_searches"] == 1
    assert notes(rating) == {"text_input": None, "web_searches": "override deal; medium search context"}


def test_an_override_comes_before_the_deployments_own_rates_and_those_before_the_list():
    rules = rules_of(an_override({"input_cost_per_token": "0.000003"}, name="deal"))
    basis = a_contract(input_per_token="0.000009", output_per_token="0.000008")
    rating = by(rules, tokens(2 * M, M, cache_read_input_tokens=M), basis=basis)
    assert amounts(rating) == {"text_input": 3, "cache_read": 3, "text_output": 8}
    assert notes(rating)["text_output"] == "rate configured on the deployment"
    assert notes(rating)["text_input"] == "override deal"
    assert rating.price_key == "m"


def test_an_override_with_amounts_prices_a_model_the_book_does_not_know():
    rules = rules_of(an_override({"input_cost_per_token": "0.000003", "output_cost_per_token": "0"}))
    rating = rated("acme/own", tokens(M, M), rules=rules, book=book_of({"m": ENTRY}))
    assert (rating.price_state, rating.cost_usd, rating.price_key) == ("priced", 3, "acme/own")


def test_a_discount_is_a_line_of_the_model_and_the_list_cost_is_kept():
    rating = by(rules_of(an_adjustment(name="ten", discount_percent="10")), tokens(M, M))
    assert amounts(rating) == {"text_input": 1, "text_output": 4, "discount": Decimal("-0.5")}
    assert (rating.list_cost_usd, rating.model_cost_usd, rating.cost_usd) == (5, Decimal("4.5"), Decimal("4.5"))
    assert (rating.price_state, rating.reason) == ("priced", None)
    assert rating.components[-1].unit == "adjustment"


def test_only_our_own_price_is_discounted():
    rules = rules_of(an_adjustment(discount_percent="10"))
    rating = rated("nobody", tokens(M, M), cost=reported("2"), rules=rules)
    assert (rating.price_state, rating.cost_usd, rating.list_cost_usd) == ("reported", 2, 2)
    free = by(rules, tokens(M), {"input_cost_per_token": 0})
    assert (free.price_state, free.components[-1].name) == ("free", "text_input")


def test_a_model_discounted_to_nothing_is_still_priced():
    rating = by(rules_of(an_adjustment(discount_percent="100")), tokens(M))
    assert (rating.price_state, rating.cost_usd, rating.list_cost_usd) == ("priced", 0, 1)


def test_fees_are_taken_of_what_is_billed_and_stand_beside_the_list_cost():
    rules = rules_of(
        an_adjustment(discount_percent="50"),
        a_fee("percent_of_model_cost", "10", name="share"),
        a_fee("usd_per_request", "1"),
    )
    rating = by(rules, tokens(2 * M))
    assert [(line.name, line.amount_usd) for line in rating.fees] == [("share", Decimal("0.1")), ("a rule", 1)]
    assert (rating.model_cost_usd, rating.fees_usd, rating.cost_usd) == (1, Decimal("1.1"), Decimal("2.1"))
    assert (rating.list_cost_usd, rating.fees_price_state) == (Decimal("3.1"), "priced")


def test_a_share_of_what_nobody_knows_is_unpriced():
    rules = rules_of(a_fee("percent_of_model_cost", "10"), a_fee("usd_per_request", "1"))
    rating = rated("nobody", tokens(M), rules=rules)
    assert (rating.price_state, rating.fees_price_state, rating.fees_usd) == ("unpriced", "unpriced", 1)
    assert [line.name for line in rating.fees] == ["a rule"]
    assert (rating.cost_usd, rating.assumed_usd, rating.enforced_usd) == (1, Decimal("5.5"), Decimal("6.5"))
    of_the_gateways = rated("nobody", tokens(M), cost=reported("2"), rules=rules)
    assert (of_the_gateways.price_state, of_the_gateways.fees_usd) == ("reported", Decimal("1.2"))


@pytest.mark.parametrize(
    "basis",
    [PricingBasis(is_cache_hit=True), PricingBasis(unbilled_reason="file_operation"), PricingBasis(is_failure=True)],
)
def test_a_call_that_costs_nothing_by_its_nature_bears_no_fee(basis: PricingBasis):
    rules = rules_of(a_fee("usd_per_request", "1"), an_adjustment(markup_usd="1"))
    rating = by(rules, tokens(M), basis=basis)
    assert (rating.cost_usd, rating.fees) == (0, ())


def test_rules_see_the_entry_that_priced_the_call():
    rules = rules_of(
        a_fee("usd_per_request", "1", {"price_key": "m"}, name="key"),
        a_fee("usd_per_request", "2", {"mode": "chat"}, name="mode"),
        a_fee("usd_per_request", "4", {"mode": "ocr"}, name="other"),
    )
    assert [line.name for line in by(rules, tokens(M), ENTRY | {"mode": "chat"}).fees] == ["key", "mode"]
    assert rated(a_model("nobody"), tokens(M), rules=rules).fees == ()


def test_a_discount_without_a_fee_and_a_fee_without_a_discount():
    router = a_model("azure/gpt-5.4-mini", provider="azure", is_router=True)
    rating = rated(router, tokens(M), rules=rules_of(an_adjustment(discount_percent="10")))
    assert [line.name for line in rating.fees] == ["Azure Model Router Flat Cost"]
    assert rating.list_cost_usd == Decimal("0.89")
    with_fee = rated(router, tokens(M), rules=rules_of(a_fee("usd_per_request", "1", name="ours")))
    assert [line.name for line in with_fee.fees] == ["Azure Model Router Flat Cost", "ours"]
