"""Rules of any kind and number: amounts stay exact, bills never negative, and the order of rules means nothing."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.identity.dimensions import Dimensions
from service.kit.money import EXACT
from service.pricing.cost_map import make_snapshot, read_cost_map
from service.pricing.fallback import FallbackRates
from service.pricing.price_book import PriceBook
from service.pricing.rating import rate
from service.pricing.rating_result import Rating
from service.pricing.rule_match import parse_rule_match
from service.pricing.rule_terms import (
    ADJUSTMENT_KINDS,
    FEE_KINDS,
    parse_adjustment,
    parse_fee,
    parse_override,
)
from service.pricing.rules import PriceRule, PricingRules, RatedCall, call_values
from service.pricing.usage import PricingBasis, ReportedCost, Usage
from tests.unit.pricing.rule_builders import a_call

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
KEYS = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost", "input_cost_per_token_flex")
LISTED = {
    "litellm_provider": "openai",
    "mode": "chat",
    "input_cost_per_token": 1.5e-07,
    "output_cost_per_token": 6e-07,
    "input_cost_per_token_flex": 7e-08,
}

amounts = st.decimals("0.000001", "90", places=6).map(str)
rates = st.decimals("0", "0.001", places=12)
usages = st.builds(
    lambda read, text, output: Usage(input_tokens=read + text, output_tokens=output, cache_read_input_tokens=read),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
matches = st.fixed_dictionaries(
    {},
    optional={
        "team": st.sampled_from(["core", "other", ["core", "x"], "*", None]),
        "user": st.sampled_from(["u1", None, {"prefix": "u"}]),
        "model": st.sampled_from(["gpt-4o-mini", "gpt-*", "*", "claude*", ["a", "*mini"]]),
        "provider": st.sampled_from(["openai", "azure", "op*"]),
        "mode": st.sampled_from(["chat", "embedding"]),
        "tag": st.sampled_from(["a", "b", ["a", "c"]]),
    },
)
terms = st.one_of(
    st.builds(parse_fee, st.sampled_from(FEE_KINDS), amounts),
    st.builds(lambda kind, amount: parse_adjustment({kind: amount}), st.sampled_from(ADJUSTMENT_KINDS), amounts),
    st.builds(
        lambda prices, replace: parse_override({key: {"usd": usd} for key, usd in prices.items()}, replace=replace),
        st.dictionaries(st.sampled_from(KEYS), rates, min_size=1),
        st.booleans(),
    ),
    st.builds(
        lambda factors: parse_override({key: {"factor": factor} for key, factor in factors.items()}),
        st.dictionaries(st.sampled_from(KEYS), st.decimals("0", "3", places=3), min_size=1),
    ),
)
rules = st.lists(
    st.builds(
        lambda rule_id, terms, match, start, days: PriceRule(
            rule_id=rule_id,
            name=f"rule {rule_id.int % 97}",
            match=parse_rule_match(match),
            terms=terms,
            effective_from=NOON + timedelta(days=start),
            effective_to=None if days is None else NOON + timedelta(days=start + days),
        ),
        st.uuids(),
        terms,
        matches,
        st.integers(-2, 0),
        st.none() | st.integers(1, 3),
    ),
    max_size=12,
    unique_by=lambda rule: rule.rule_id,
)
people = st.builds(
    Dimensions,
    team=st.sampled_from([None, "core", "other"]),
    user=st.sampled_from([None, "u1"]),
    tags=st.sampled_from([(), ("a",), ("b", "c")]),
)


def book_of(entry: dict[str, Any]) -> PriceBook:
    text = json.dumps({"gpt-4o-mini": entry}).encode()
    return PriceBook.from_snapshot(make_snapshot(read_cost_map(text), origin="test", licence="none")[0])


BOOK = book_of(LISTED)


def rated(
    usage: Usage,
    rules: PricingRules,
    dimensions: Dimensions = Dimensions(),  # noqa: B008  (a constant)
    *,
    model: str = "gpt-4o-mini",
    book: PriceBook = BOOK,
    reported: str | None = None,
) -> Rating:
    return rate(
        usage,
        PricingBasis(call_type="acompletion", duration_seconds=Decimal("1.25")),
        a_call(model).models,
        ReportedCost(total_usd=None if reported is None else Decimal(reported)),
        book,
        FallbackRates(),
        occurred_at=NOON,
        rules=rules,
        dimensions=dimensions,
    )


def total(lines: Any) -> Decimal:
    found = Decimal(0)
    for line in lines:
        assert line.amount_usd == EXACT.multiply(EXACT.multiply(line.quantity, line.rate), line.multiplier)
        found = EXACT.add(found, line.amount_usd)
    return found


@given(
    usage=usages,
    rules=rules,
    dimensions=people,
    model=st.sampled_from(["gpt-4o-mini", "unknown"]),
    reported=st.sampled_from([None, "0.25"]),
)
@settings(deadline=None)
def test_lines_add_up_exactly_and_no_bill_is_negative(
    usage: Usage, rules: list[PriceRule], dimensions: Dimensions, model: str, reported: str | None
):
    rating = rated(usage, PricingRules(rules), dimensions, model=model, reported=reported)
    assert total(rating.components) == rating.model_cost_usd >= 0
    assert total(rating.fees) == rating.fees_usd >= 0
    assert rating.cost_usd == EXACT.add(rating.model_cost_usd, rating.fees_usd)
    assert rating.list_cost_usd >= rating.fees_usd
    adjusted = [line for line in rating.components if line.unit == "adjustment"]
    assert rating.list_cost_usd == EXACT.subtract(rating.cost_usd, total(adjusted))
    assert rating.price_state == "priced" or not adjusted


@given(usage=usages, rules=rules, dimensions=people)
@settings(deadline=None)
def test_shares_of_what_is_assumed_count_in_budgets_and_in_no_cost(
    usage: Usage, rules: list[PriceRule], dimensions: Dimensions
):
    rating = rated(usage, PricingRules(rules), dimensions, model="unknown")
    assume(rating.price_state == "unpriced")
    assumed = FallbackRates().assume(usage.input_tokens, usage.output_tokens)
    call = RatedCall(a_call("unknown").models, dimensions, "acompletion", NOON)
    percents = [fee.terms.amount for fee in PricingRules(rules).fees.in_force(call) if "percent" in fee.terms.kind]
    assert rating.assumed_usd == EXACT.add(assumed, EXACT.multiply(assumed, sum(percents, Decimal(0)) / 100))
    assert rating.enforced_usd == EXACT.add(rating.cost_usd, rating.assumed_usd)
    assert rating.cost_usd == rating.fees_usd == total(rating.fees)


@given(usage=usages, rules=rules, dimensions=people, order=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_rules_means_nothing(usage: Usage, rules: list[PriceRule], dimensions: Dimensions, order: Any):
    shuffled = list(rules)
    order.shuffle(shuffled)
    assert rated(usage, PricingRules(rules), dimensions) == rated(usage, PricingRules(shuffled), dimensions)


@given(usage=usages, rules=rules, dimensions=people)
@settings(deadline=None)
def test_what_is_remembered_changes_nothing(usage: Usage, rules: list[PriceRule], dimensions: Dimensions):
    remembering = PricingRules(rules)
    first = rated(usage, remembering, dimensions)
    rated(usage, remembering, Dimensions(team="another"))
    assert rated(usage, remembering, dimensions) == first


@given(usage=usages, prices=st.dictionaries(st.sampled_from(KEYS), rates, min_size=1))
@settings(deadline=None)
def test_overriding_equals_a_map_written_that_way(usage: Usage, prices: dict[str, Decimal]):
    override = PriceRule(
        rule_id=UUID(int=1),
        name="own",
        match=(),
        terms=parse_override({key: {"usd": usd} for key, usd in prices.items()}),
        effective_from=NOON,
    )
    own = rated(usage, PricingRules([override]))
    written = rated(usage, PricingRules(), book=book_of(LISTED | {key: float(usd) for key, usd in prices.items()}))
    assert [(line.name, line.quantity, line.rate, line.amount_usd) for line in own.components] == [
        (line.name, line.quantity, line.rate, line.amount_usd) for line in written.components
    ]
    assert (own.cost_usd, own.price_state) == (written.cost_usd, written.price_state)


@given(usage=usages, rules=rules)
@settings(deadline=None)
def test_a_discount_never_makes_a_call_dearer_and_a_markup_never_cheaper(usage: Usage, rules: list[PriceRule]):
    without = PricingRules(rule for rule in rules if not PricingRules([rule]).adjustments)
    base = rated(usage, without).model_cost_usd
    for sign, kinds in ((-1, "discount"), (1, "markup")):
        chosen = [
            rule for rule in rules if not PricingRules([rule]).adjustments or kinds in next(iter(rule.terms.document()))
        ]
        assert sign * (rated(usage, PricingRules(chosen)).model_cost_usd - base) >= 0


@given(
    rules=rules,
    dimensions=people,
    model=st.sampled_from(["gpt-4o-mini", "azure/claude-3", "x"]),
    mode=st.sampled_from(["", "chat"]),
)
def test_the_index_finds_exactly_the_rules_whose_conditions_all_hold(
    rules: list[PriceRule], dimensions: Dimensions, model: str, mode: str
):
    call = RatedCall(a_call(model).models, dimensions, "acompletion", NOON, "", mode)
    values = call_values(call)
    expected = {
        rule.rule_id
        for rule in rules
        if rule.is_in_force(NOON) and all(c.holds(values.get(c.dimension, ())) for c in rule.match)
    }
    known = PricingRules(rules)
    found = [
        matched.rule.rule_id
        for kind in (known.overrides, known.fees, known.adjustments)
        for matched in kind.in_force(call)
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)
