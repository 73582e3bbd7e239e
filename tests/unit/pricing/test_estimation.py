"""The worst case of a call, and how many output tokens an amount pays for."""

from decimal import Decimal
from typing import Any

import pytest

from service.identity.models import ModelIdentity
from service.pricing.estimation import Estimate, PlannedCall, foresee
from service.pricing.price_book import PriceBook
from service.pricing.usage import CustomRates, PricingBasis
from tests.unit.pricing.builders import FALLBACK, WEDNESDAY_AT_8, a_model, book_of, rated, shipped_book, tokens

CHAT = PricingBasis(call_type="acompletion")


def planned(
    model: str | ModelIdentity,
    input_tokens: int,
    max_output_tokens: int | None,
    basis: PricingBasis = CHAT,
    book: PriceBook | None = None,
    **given: Any,
) -> PlannedCall:
    return PlannedCall(
        input_tokens=input_tokens,
        max_output_tokens=max_output_tokens,
        models=a_model(model) if isinstance(model, str) else model,
        basis=basis,
        book=book or shipped_book(),
        fallback=FALLBACK,
        occurred_at=WEDNESDAY_AT_8,
        **given,
    )


def estimated(*call: Any, **given: Any) -> Estimate:
    return foresee(planned(*call, **given)).estimate()


def affordable(available: str, model: str | ModelIdentity, input_tokens: int = 1000, **given: Any) -> int | None:
    return foresee(planned(model, input_tokens, None, **given)).max_affordable_output_tokens(Decimal(available))


def test_an_estimate_is_what_the_call_would_be_charged_at_most():
    result = estimated("claude-opus-4-6", 1200, 800)
    assert result.amount_usd == rated("claude-opus-4-6", tokens(1200, 800)).cost_usd == Decimal("0.026")
    assert (result.price_state, result.price_key, result.reason) == ("priced", "claude-opus-4-6", None)
    assert [(line.name, line.quantity) for line in result.components] == [("text_input", 1200), ("text_output", 800)]
    assert result.price_book_version == shipped_book().version


@pytest.mark.parametrize(("input_tokens", "cost"), [(272_000, "0.695"), (272_001, "1.382505")])
def test_the_prompt_is_priced_in_its_context_tier(input_tokens: int, cost: str):
    assert estimated("gpt-5.4", input_tokens, 1000).amount_usd == Decimal(cost)


def test_tier_and_multiplier_count_like_in_the_charge():
    basis = PricingBasis(service_tier="flex", data_residency="eu")
    assert estimated("gpt-5.4", 1000, 500, basis).amount_usd == Decimal("0.0055")


@pytest.mark.parametrize(("reasoning", "dearest"), [(9e-6, "reasoning"), (3e-6, "text_output")])
def test_output_counts_at_the_dearer_of_output_and_reasoning(reasoning: float, dearest: str):
    entry = {"input_cost_per_token": 0, "output_cost_per_token": 4e-6, "output_cost_per_reasoning_token": reasoning}
    result = estimated("m", 0, 1000, book=book_of({"m": entry}))
    assert [line.name for line in result.components] == [dearest]
    assert result.amount_usd == Decimal(str(max(reasoning, 4e-6))) * 1000


@pytest.mark.parametrize(("maximum", "assumed"), [(1000, 1000), (128_000, 4096), (None, 4096), (0, 4096)])
def test_without_a_maximum_the_models_own_or_4096_is_assumed(maximum: int | None, assumed: int):
    entry = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "mode": "chat"}
    entry |= {} if maximum is None else {"max_output_tokens": maximum}
    assert estimated("m", 1, None, book=book_of({"m": entry})).max_output_tokens == assumed


def test_a_model_that_puts_out_nothing_is_estimated_by_its_prompt():
    result = estimated("text-embedding-3-small", 1000, None)
    assert (result.amount_usd, result.max_output_tokens) == (Decimal("0.00002"), 0)
    bare = book_of({"m": {"input_cost_per_token": 1e-6, "mode": "embedding"}})
    assert estimated("m", 1000, 50, book=bare).amount_usd == Decimal("0.001")
    assert affordable("1", "m", book=bare) is None


def test_images_are_estimated_at_the_image_rate():
    result = estimated("gpt-image-1", 50, 2112, PricingBasis(call_type="aimage_generation"))
    assert result.amount_usd == Decimal("0.08473")


def test_a_router_is_estimated_by_fallback_rates_and_its_fee():
    router = a_model(provider="azure_ai", is_router=True)
    result = estimated(router, 1000, 100)
    assert result.amount_usd == Decimal("0.00764")
    assert (result.price_state, result.reason) == ("unpriced", "no_model")
    assert [line.amount_usd for line in result.fees] == [Decimal("0.00014")]


def test_a_router_whose_served_model_is_known_is_priced():
    router = a_model("azure_ai/gpt-5.4-mini", provider="azure_ai", is_router=True)
    assert estimated(router, 1_000_000, 0).amount_usd == Decimal("0.89")
    assert affordable("0.89", router, 1_000_000) == 0
    assert affordable("0.8900045", router, 1_000_000) == 1


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("no-such-model", "no_price"),
        ("whisper-1", "unmeasured:call_seconds"),
        ("only-input", "no_rate:text_output"),
        ("only-output", "no_rate:text_input"),
    ],
)
def test_what_has_no_token_price_is_estimated_at_the_fallback_rates(model: str, reason: str):
    book = book_of(
        {
            "whisper-1": {"input_cost_per_second": 1e-4},
            "only-input": {"input_cost_per_token": 1e-6},
            "only-output": {"output_cost_per_token": 1e-6},
        }
    )
    result = estimated(model, 1000, 100, book=book)
    assert (result.amount_usd, result.price_state, result.reason) == (Decimal("0.0075"), "unpriced", reason)
    assert result.price_key is None
    assert {line.note for line in result.components} == {"fallback rate of the tenant: no price is known"}


def test_free_means_that_nothing_can_be_charged():
    free = book_of({"m": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}})
    result = estimated("m", 1000, 100, book=free)
    assert (result.amount_usd, result.price_state) == (0, "free")
    assert estimated("gpt-4.1", 0, 0).price_state == "priced"
    assert affordable("0", "m", book=free) is None


def test_a_free_model_behind_a_router_is_not_free():
    book = book_of({"m": {"input_cost_per_token": 0.0}, "azure_ai/model_router": {"input_cost_per_token": 1e-6}})
    book_model = a_model("m", is_router=True)
    basis = PricingBasis(custom_rates=CustomRates(input_per_token=Decimal(0), output_per_token=Decimal(0)))
    assert estimated(book_model, 1000, 100, basis, book).price_state == "priced"


def test_prices_of_the_deployment_count_in_estimates_too():
    basis = PricingBasis(custom_rates=CustomRates(input_per_token=Decimal("1E-6"), output_per_token=Decimal("2E-6")))
    assert estimated("gpt-4.1", 1000, 100, basis).amount_usd == Decimal("0.0012")


def test_the_rest_of_an_amount_is_turned_into_output_tokens():
    # claude-opus-4-6: 1,000 prompt tokens cost 0.005, an output token 0.000025.
    assert affordable("0.029", "claude-opus-4-6") == 960
    assert affordable("0.0290249", "claude-opus-4-6") == 960
    assert affordable("0.005", "claude-opus-4-6") == 0


def test_nothing_is_affordable_when_the_prompt_is_too_dear():
    assert affordable("0.0049", "claude-opus-4-6") == 0
    assert affordable("-1", "claude-opus-4-6") == 0


def test_no_more_than_the_model_can_put_out_is_affordable():
    assert affordable("1000000", "claude-opus-4-6") == 128_000
    assert affordable("1000000", "no-such-model") == 39_999_999_800


def test_what_is_affordable_is_admitted_and_one_token_more_is_not():
    for model in ("gpt-4.1-mini", "gpt-5.4", "gemini-2.5-pro", "no-such-model"):
        count = affordable("0.01", model, 37)
        assert count is not None
        assert estimated(model, 37, count).amount_usd <= Decimal("0.01") < estimated(model, 37, count + 1).amount_usd
