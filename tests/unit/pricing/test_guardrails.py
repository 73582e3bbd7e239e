"""What guardrails cost: a fee of its own, priced by policy or as the gateway reports it."""

from decimal import Decimal

from service.pricing.usage import PricingBasis, Usage
from tests.unit.pricing.builders import a_model, amounts, book_of, rated, reported

M = 1_000_000


def test_guardrail_units_are_a_fee_priced_by_policy():
    usage = Usage(
        input_tokens=1000,
        units=(("guardrail_units/topicPolicyUnits", Decimal(2)), ("guardrail_units/wordPolicyUnits", Decimal(5))),
    )
    rating = rated("gpt-4.1-mini", usage, cost=reported("0.5", guardrail_usd="0.1"))
    assert [(line.name, line.amount_usd, line.note) for line in rating.fees] == [
        ("Guardrail cost", Decimal("0.0003"), "topicPolicyUnits"),
        ("Guardrail cost", 0, "wordPolicyUnits"),
    ]
    assert {line.price_key for line in rating.fees} == {"bedrock/guardrails"}
    assert (rating.fees_usd, rating.fees_price_state) == (Decimal("0.0003"), "priced")
    assert (rating.price_state, amounts(rating)) == ("priced", {"text_input": Decimal("0.0004")})


def test_a_guardrail_nobody_prices_is_charged_as_reported():
    usage = Usage(units=(("guardrail_units/topicPolicyUnits", Decimal(2)), ("guardrail_units/new", Decimal(1))))
    rating = rated("gpt-4.1-mini", usage, PricingBasis(is_failure=True), reported("0.1", guardrail_usd="0.1"))
    assert (rating.fees_usd, rating.fees_price_state) == (Decimal("0.1"), "reported")
    unknown = rated("m", usage, cost=reported("0.1", guardrail_usd="0.1"), book=book_of({"m": {}}))
    assert unknown.fees_price_state == "reported"
    free = Usage(units=(("guardrail_units/wordPolicyUnits", Decimal(2)),))
    assert rated("gpt-4.1-mini", free, PricingBasis(is_cache_hit=True)).fees_price_state == "free"


def test_a_router_and_a_guardrail_are_fees_side_by_side():
    usage = Usage(input_tokens=M, units=(("guardrail_units/topicPolicyUnits", Decimal(2)),))
    router = a_model("azure/gpt-5.4-mini", provider="azure", is_router=True)
    rating = rated(router, usage, PricingBasis())
    assert [line.name for line in rating.fees] == ["Guardrail cost", "Azure Model Router Flat Cost"]
    assert rating.fees_usd == Decimal("0.1403")
