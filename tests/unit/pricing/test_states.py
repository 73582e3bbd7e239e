"""priced, free, reported, unpriced: never mixed up, and what each counts for."""

from decimal import Decimal

import pytest

from service.pricing.fallback import FallbackRates
from service.pricing.rating import rate
from service.pricing.usage import CustomRates, PricingBasis, ReportedCost, Usage
from tests.unit.pricing.builders import a_model, amounts, book_of, notes, rated, reported, shipped_book, tokens

CALL = tokens(1000, 100)


def custom(**rates: str | None) -> PricingBasis:
    return PricingBasis(
        custom_rates=CustomRates(**{name: None if rate is None else Decimal(rate) for name, rate in rates.items()})
    )


def test_an_explicit_zero_in_the_book_is_free():
    book = book_of({"m": {"input_cost_per_token": 0.0, "output_cost_per_token": 0}})
    rating = rated("m", CALL, cost=reported("0.0"), book=book)
    assert (rating.price_state, rating.reason, rating.cost_usd) == ("free", "explicit_zero", 0)
    assert rating.enforced_usd == 0
    assert rating.price_key == "m"


def test_an_explicitly_free_model_is_free_also_without_usage():
    assert rated("omni-moderation-latest", tokens(), cost=reported("0.0")).price_state == "free"


def test_zeros_beside_a_price_by_another_unit_are_not_free():
    # rerank-v3.5: 0 per token, 0.002 per query
    rating = rated("rerank-v3.5", CALL, cost=reported("0"))
    assert (rating.price_state, rating.reason) == ("unpriced", "unmeasured:queries")
    assert rated("rerank-v3.5", tokens(), cost=reported("0.004")).cost_usd == Decimal("0.004")


def test_an_unknown_model_is_unpriced_and_counts_only_against_budgets():
    rating = rated("no-such-model", tokens(1_000_000, 100_000), cost=reported("0.0"))
    assert (rating.price_state, rating.reason, rating.price_key) == ("unpriced", "no_price", None)
    assert (rating.cost_usd, rating.assumed_usd, rating.enforced_usd) == (0, Decimal("7.5"), Decimal("7.5"))
    assert rating.components == ()


def test_the_tenants_fallback_rates_are_exact():
    rates = FallbackRates(Decimal("0.3"), Decimal("1.7"))
    assert rates.assume(7, 11) == Decimal("0.0000208")
    assert (rates.input_per_token, rates.output_per_token) == (Decimal("3E-7"), Decimal("0.0000017"))


def test_an_unknown_model_takes_the_gateways_figure():
    rating = rated("azure/contoso-chat-01", CALL, cost=reported("0.00075"))
    assert (rating.price_state, rating.reason) == ("reported", "no_price")
    assert rating.cost_usd == rating.enforced_usd == rating.reported_cost_usd == Decimal("0.00075")
    assert amounts(rating) == {"gateway's figure": Decimal("0.00075")}


def test_our_own_price_comes_before_the_gateways():
    rating = rated("gpt-4o-mini", tokens(1000, 500), cost=reported("123"))
    assert (rating.cost_usd, rating.reported_cost_usd) == (Decimal("0.00045"), 123)


def test_no_field_that_names_the_model_is_a_reason_of_its_own():
    assert rated(a_model(), CALL).reason == "no_model"


def test_a_success_without_any_usage_is_never_free():
    rating = rated("gpt-4.1-mini", tokens(), cost=reported("0.0"))
    assert (rating.price_state, rating.reason, rating.assumed_usd) == ("unpriced", "no_usage", 0)
    assert rated("gpt-4.1-mini", tokens(), cost=reported("0.2")).price_state == "reported"


def test_a_cache_hit_costs_nothing_whatever_the_breakdown_says():
    rating = rated("gpt-4.1-mini", tokens(200, 80), PricingBasis(is_cache_hit=True), reported("0.0"))
    assert (rating.price_state, rating.reason, rating.cost_usd, rating.components) == ("free", "cache_hit", 0, ())


def test_a_call_that_is_never_billed_is_free_for_that_reason():
    basis = PricingBasis(call_type="afile_content", unbilled_reason="file_operation")
    rating = rated("gpt-4.1", CALL, basis, reported("0.3"))
    assert (rating.price_state, rating.reason, rating.cost_usd) == ("free", "file_operation", 0)


def test_a_failure_that_produced_nothing_costs_nothing():
    rating = rated("gpt-4.1", tokens(1000), PricingBasis(is_failure=True), reported("0.0"))
    assert (rating.price_state, rating.reason, rating.cost_usd, rating.enforced_usd) == ("free", "failed", 0, 0)


def test_a_broken_stream_is_charged_for_what_it_put_out():
    rating = rated("gpt-4o-mini", tokens(10, 15), PricingBasis(is_failure=True), reported("0.0000105"))
    assert (rating.price_state, rating.cost_usd) == ("priced", Decimal("0.0000105"))


def test_a_failure_the_gateway_was_charged_for_is_rated_from_its_usage():
    failed = PricingBasis(is_failure=True)
    assert rated("gpt-4o-mini", tokens(1000), failed, reported("0.00015")).price_state == "priced"
    rating = rated("gpt-4o-mini", tokens(), failed, reported("0.00015"))
    assert (rating.price_state, rating.cost_usd) == ("reported", Decimal("0.00015"))


def test_a_call_a_guardrail_blocked_costs_the_guardrail():
    rating = rated("gpt-4.1-mini", tokens(), PricingBasis(is_failure=True), reported("0.0003", guardrail_usd="0.0003"))
    assert (rating.price_state, rating.reason) == ("free", "failed")
    assert (rating.cost_usd, rating.fees_price_state) == (Decimal("0.0003"), "reported")
    assert [line.name for line in rating.fees] == ["Guardrail cost"]


def test_a_guardrails_cost_is_a_fee_and_no_part_of_the_models():
    rating = rated("gpt-4.1-mini", tokens(100, 20), cost=reported("0.000922", guardrail_usd="0.00085"))
    assert (rating.model_cost_usd, rating.fees_usd) == (Decimal("0.000072"), Decimal("0.00085"))
    assert rated("new", CALL, cost=reported("0.000922", guardrail_usd="0.00085")).model_cost_usd == Decimal("0.000072")


def test_a_guardrail_the_total_does_not_contain_is_not_charged():
    hit = PricingBasis(is_cache_hit=True)
    assert rated("gpt-4.1-mini", CALL, hit, reported("0", guardrail_usd="0.001")).fees == ()
    assert rated("gpt-4.1-mini", CALL, hit, reported("0.001", guardrail_usd="0.001")).cost_usd == Decimal("0.001")
    assert rated("gpt-4.1-mini", CALL, cost=reported(guardrail_usd="0.001")).fees_usd == Decimal("0.001")


@pytest.mark.parametrize("cost", [reported("0.0645"), reported("0.0645", tool_usage_usd="0.03")])
def test_what_tokens_do_not_measure_is_priced_by_the_gateways_figure(cost: ReportedCost):
    rating = rated("claude-sonnet-4-5", tokens(9000, 500, unmeasured=("web_search", "seconds")), cost=cost)
    assert (rating.price_state, rating.reason) == ("reported", "unmeasured:web_search,seconds")
    assert rating.cost_usd == Decimal("0.0645")


def test_a_tool_cost_alone_shows_that_tokens_are_not_all():
    rating = rated("gpt-4o-search-preview", tokens(14, 240), cost=reported("0.027435", tool_usage_usd="0.025"))
    assert (rating.price_state, rating.reason) == ("reported", "unmeasured:tools")


def test_what_is_not_measured_and_not_reported_is_unpriced():
    rating = rated("gpt-4.1", tokens(1000, 100, unmeasured=("web_search",)), cost=reported("0"))
    assert (rating.price_state, rating.reason) == ("unpriced", "unmeasured:web_search")
    assert rating.assumed_usd == Decimal("0.0075")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("whisper-1", "unmeasured:input_audio_seconds"),
        ("tts-1", "unmeasured:input_characters"),
        ("amazon.nova-canvas-v1:0", "unmeasured:output_images"),
        ("openai/sora-2", "unmeasured:output_video_seconds"),
        ("mistral/mistral-ocr-latest", "unmeasured:annotated_pages,pages"),
        ("bedrock/us-east-1/1-month-commitment/anthropic.claude-v1", "unmeasured:call_seconds"),
    ],
)
def test_models_priced_by_units_nobody_counted_take_the_gateways_figure(model: str, reason: str):
    rating = rated(model, CALL, cost=reported("0.006"))
    assert (rating.price_state, rating.reason, rating.cost_usd) == ("reported", reason, Decimal("0.006"))


def test_a_model_without_a_rate_for_what_it_put_out_is_not_half_priced():
    book = book_of({"m": {"input_cost_per_token": 1e-6, "mode": "chat"}})
    rating = rated("m", CALL, book=book)
    assert (rating.price_state, rating.reason, rating.cost_usd) == ("unpriced", "no_rate:text_output", 0)


def test_contract_rates_of_the_deployment_replace_the_list():
    basis = custom(input_per_token="0.0000015", output_per_token="0.000006", cache_read_per_token="0.0000004")
    rating = rated("gpt-4.1", tokens(2000, 300, cache_read_input_tokens=1024), basis)
    assert rating.cost_usd == Decimal("0.0036736")
    assert (rating.price_state, rating.price_key) == ("priced", None)
    assert set(notes(rating).values()) == {"rate configured on the deployment"}


def test_contract_rates_price_a_model_the_book_does_not_know():
    rating = rated(
        "openai/acme-tuned-7b", tokens(1000, 1000), custom(input_per_token="3.1E-6", output_per_token="7.7E-6")
    )
    assert (rating.price_state, rating.cost_usd) == ("priced", Decimal("0.0108"))


def test_contract_rates_do_not_mix_with_the_lists_cache_rates():
    usage = tokens(10_000, 500, cache_read_input_tokens=7168, cache_write_5m_input_tokens=100)
    rating = rated("gpt-4.1", usage, custom(input_per_token="3E-6", output_per_token="7E-6"))
    assert rating.cost_usd == Decimal("0.0335")
    assert notes(rating)["cache_read"] == "no cache_read rate: text_input rate; rate configured on the deployment"


def test_a_contract_cache_write_rate_prices_both_kinds_of_writes():
    basis = custom(input_per_token="1E-6", output_per_token="1E-6", cache_write_per_token="2E-6")
    usage = tokens(300, 0, cache_write_5m_input_tokens=100, cache_write_1h_input_tokens=200)
    assert rated("gpt-4.1", usage, basis).cost_usd == Decimal("0.0006")


def test_a_side_without_contract_rate_keeps_the_lists_with_its_multiplier():
    basis = PricingBasis(custom_rates=CustomRates(input_per_token=Decimal("1E-6")), data_residency="eu")
    rating = rated("gpt-5.4", tokens(1000, 1000), basis)
    assert amounts(rating) == {"text_input": Decimal("0.001"), "text_output": Decimal("0.0165")}
    assert [line.multiplier for line in rating.components] == [1, Decimal("1.1")]
    assert rating.price_key == "gpt-5.4"


@pytest.mark.parametrize(
    "usage", [CALL, tokens(1000, 10, cache_read_input_tokens=900), tokens(), tokens(5, unmeasured=("seconds",))]
)
def test_a_deployment_declared_free_is_free_whatever_it_is_used_for(usage: Usage):
    rating = rated("azure/gpt-4.1", usage, custom(input_per_token="0", output_per_token="0"), reported("0.0"))
    assert (rating.price_state, rating.reason, rating.cost_usd) == ("free", "explicit_zero", 0)


def test_a_deployment_with_one_free_side_is_not_declared_free():
    assert rated("azure/gpt-4.1", tokens(), custom(input_per_token="0")).reason == "no_usage"
    assert rated("azure/gpt-4.1", tokens(5), custom(input_per_token="0")).reason == "explicit_zero"


def test_a_tool_the_gateway_charges_for_is_not_covered_by_a_free_deployment():
    basis = custom(input_per_token="0", output_per_token="0")
    rating = rated("azure/gpt-4.1", CALL, basis, reported("0.01", tool_usage_usd="0.01"))
    assert (rating.price_state, rating.cost_usd) == ("reported", Decimal("0.01"))


def test_contract_rates_are_trusted_and_nothing_else_is_asked_for_unless_said_otherwise():
    basis = custom(input_per_token="0.000002", output_per_token="0.000002")
    rating = rate(CALL, basis, a_model("gpt-4.1"), ReportedCost(), shipped_book(), FallbackRates())
    assert (rating.cost_usd, rating.list_cost_usd, rating.fees) == (Decimal("0.0022"), Decimal("0.0022"), ())


def test_a_tenant_that_does_not_trust_the_gateways_prices_keeps_the_books():
    basis = custom(input_per_token="0", output_per_token="0")
    assert rated("gpt-4.1", CALL, basis, trust_custom_rates=False).cost_usd == Decimal("0.0028")


def test_a_deployment_priced_by_the_second_takes_the_gateways_figure():
    basis = PricingBasis(custom_rates=CustomRates(has_other_rates=True))
    rating = rated("gpt-4.1", CALL, basis, reported("0.00018"))
    assert (rating.price_state, rating.reason) == ("reported", "other_custom_price")
    assert rated("gpt-4.1", CALL, basis, reported("1"), trust_custom_rates=False).price_state == "priced"


def test_a_custom_rates_object_without_rates_changes_nothing():
    assert rated("gpt-4.1", CALL, PricingBasis(custom_rates=CustomRates())).cost_usd == Decimal("0.0028")
