"""The Azure Model Router: one call, up to two prices. The served model by its own price, the router's fee beside it."""

from decimal import Decimal

import pytest

from service.identity.models import ModelIdentity
from service.pricing.fees import ROUTER_FEE
from service.pricing.rating_result import Rating
from service.pricing.usage import PricingBasis
from tests.unit.pricing.builders import a_model, book_of, rated, reported, tokens

SERVED = "azure_ai/gpt-5.4-mini-2026-03-17"
MILLION = tokens(1_000_000)


def routed(*names: str, provider: str | None = "azure_ai") -> ModelIdentity:
    return a_model(*names, provider=provider, is_router=True)


def short(rating: Rating) -> tuple[str, str, str, str]:
    return (
        str(rating.model_cost_usd.normalize()),
        str(rating.fees_usd.normalize()),
        rating.price_state,
        rating.fees_price_state,
    )


def test_a_served_model_and_the_fee_are_both_charged():
    rating = rated(routed(SERVED, "azure/gpt-5.4-mini-2026-03-17"), MILLION, cost=reported("0.89", fees_usd="0.14"))
    assert short(rating) == ("0.75", "0.14", "priced", "priced")
    assert rating.cost_usd == rating.enforced_usd == Decimal("0.89")
    assert rating.price_key == "azure_ai/gpt-5.4-mini-2026-03-17"


def test_the_models_cost_is_not_lost_when_base_model_names_the_routers_fee():
    # The gateway was told base_model azure_ai/model_router and reports the fee alone.
    rating = rated(routed(SERVED), MILLION, cost=reported("0.14"))
    assert short(rating) == ("0.75", "0.14", "priced", "priced")


@pytest.mark.parametrize(
    "candidates", [(), ("azure_ai/model_router",), ("azure_ai/model-router", "azure/model-router")]
)
def test_a_call_known_only_by_the_routers_own_name_is_not_priced_by_the_routers_entry(candidates: tuple[str, ...]):
    rating = rated(routed(*candidates), MILLION, cost=reported("0.14"))
    assert short(rating) == ("0", "0.14", "unpriced", "priced")
    assert rating.assumed_usd == 5
    assert (rating.cost_usd, rating.enforced_usd) == (Decimal("0.14"), Decimal("5.14"))


def test_a_served_model_nobody_has_a_price_for_leaves_the_model_unpriced():
    rating = rated(routed("azure_ai/totally-new-model"), MILLION, cost=reported("0.14"))
    assert short(rating) == ("0", "0.14", "unpriced", "priced")
    assert rating.reason == "no_price"


def test_a_served_model_in_no_field_costs_what_the_gateway_reports_beyond_the_fee():
    rating = rated(routed(), tokens(640, 12), cost=reported("0.0001584", fees_usd="0.0000896"))
    assert short(rating) == ("0.0000688", "0.0000896", "reported", "priced")
    assert rating.cost_usd == Decimal("0.0001584")
    assert rating.reason == "no_model"
    assert rating.assumed_usd == 0


def test_binary_noise_in_the_gateways_total_is_no_price_of_the_model():
    rating = rated(routed(), tokens(2000, 500), cost=reported("0.00028000000000000003"))
    assert short(rating) == ("0", "0.00028", "unpriced", "priced")


def test_the_fee_is_a_line_of_its_own_over_all_prompt_tokens_cached_ones_included():
    rating = rated(routed(SERVED), tokens(880, 120, cache_read_input_tokens=512))
    (fee,) = rating.fees
    assert (fee.name, fee.quantity, fee.rate) == (ROUTER_FEE, 880, Decimal("1.4E-7"))
    assert fee.name == "Azure Model Router Flat Cost"
    assert (fee.price_key, fee.amount_usd) == ("azure_ai/model_router", Decimal("0.0001232"))
    assert rating.cost_usd == Decimal("0.0009776")


def test_the_providers_own_fee_entry_comes_first():
    rating = rated(routed("azure/gpt-5.4-mini", provider="azure"), MILLION)
    assert rating.fees[0].price_key == "azure/model-router"


def test_no_fee_for_a_cache_hit():
    rating = rated(
        routed(SERVED), tokens(600, 60), PricingBasis(is_cache_hit=True), reported("0.0", fees_usd="0.000084")
    )
    assert (rating.cost_usd, rating.fees, rating.price_state, rating.reason) == (0, (), "free", "cache_hit")


def test_no_fee_for_a_failure_that_produced_nothing():
    rating = rated(routed(), tokens(), PricingBasis(is_failure=True), reported("0"))
    assert (rating.cost_usd, rating.fees_price_state, rating.reason) == (0, "free", "failed")


def test_a_book_without_the_fee_takes_the_gateways_word_for_it():
    book = book_of({"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}})
    rating = rated(routed("m"), tokens(1000), cost=reported("0.00114", fees_usd="0.00014"), book=book)
    assert short(rating) == ("0.001", "0.00014", "priced", "reported")
    assert rating.fees[0].note == "reported by the gateway"


def test_a_fee_nobody_states_is_unpriced_not_free():
    book = book_of({"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}})
    assert short(rated(routed("m"), tokens(1000), book=book)) == ("0.001", "0", "priced", "unpriced")


def test_a_fee_of_zero_is_free():
    book = book_of({"azure_ai/model_router": {"input_cost_per_token": 0.0}, "m": {"input_cost_per_token": 1e-6}})
    assert short(rated(routed("m"), tokens(1000), book=book)) == ("0.001", "0", "priced", "free")


def test_a_success_without_usage_leaves_both_model_and_fee_unpriced():
    rating = rated(routed(SERVED), tokens(), cost=reported("0"))
    assert (rating.price_state, rating.fees_price_state, rating.reason) == ("unpriced", "unpriced", "no_usage")


def test_a_guardrail_beside_the_router_is_a_further_fee():
    rating = rated(routed(SERVED), MILLION, cost=reported("0.9", guardrail_usd="0.01", fees_usd="0.14"))
    assert [line.name for line in rating.fees] == ["Guardrail cost", ROUTER_FEE]
    assert (rating.fees_usd, rating.fees_price_state) == (Decimal("0.15"), "reported")
    assert rating.cost_usd == Decimal("0.90")
