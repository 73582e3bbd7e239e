"""A tenant's fees: a line per rule, exactly its rate times what it is taken of."""

from decimal import Decimal
from typing import Any

import pytest

from service.pricing.fee_rules import rule_fees
from service.pricing.fees import NO_FEES, Fees
from service.pricing.usage import PricingBasis, Usage
from tests.unit.pricing.rule_builders import a_call, a_fee, rules_of

USAGE = Usage(input_tokens=1200, output_tokens=300)
BASIS = PricingBasis(call_type="acompletion", duration_seconds=Decimal("2.5"))
COST = Decimal("0.04")


def fees(*rules: Any, usage: Usage = USAGE, basis: PricingBasis = BASIS, cost: Decimal | None = COST) -> Fees:
    return rule_fees(rules_of(*rules), a_call(), usage, basis, cost)


@pytest.mark.parametrize(
    ("kind", "amount", "line"),
    [
        ("usd_per_million_input_tokens", "0.14", ("1200", "token", "0.00000014", "0.000168")),
        ("usd_per_million_output_tokens", "0.14", ("300", "token", "0.00000014", "0.000042")),
        ("usd_per_million_total_tokens", "0.14", ("1500", "token", "0.00000014", "0.00021")),
        ("usd_per_request", "0.001", ("1", "request", "0.001", "0.001")),
        ("usd_per_second", "0.002", ("2.5", "second", "0.002", "0.005")),
        ("percent_of_model_cost", "5", ("0.04", "usd", "0.05", "0.002")),
    ],
)
def test_each_kind_of_fee_is_its_rate_times_its_quantity(kind: str, amount: str, line: tuple[str, str, str, str]):
    found = fees(a_fee(kind, amount, name="platform"))
    [fee] = found.lines
    assert (fee.name, fee.unit, fee.note, fee.price_key) == ("platform", line[1], None, None)
    assert (fee.quantity, fee.rate, fee.amount_usd) == (Decimal(line[0]), Decimal(line[2]), Decimal(line[3]))
    assert found.total_usd == fee.amount_usd
    assert found.state == "priced"


def test_each_rule_is_a_line_of_its_own_and_they_add_up():
    found = fees(a_fee("usd_per_request", "0.001", name="a"), a_fee("percent_of_model_cost", "10", name="b"))
    assert [line.name for line in found.lines] == ["a", "b"]
    assert found.total_usd == Decimal("0.005")


def test_rules_that_do_not_apply_are_no_fees():
    assert fees(a_fee("usd_per_request", "1", {"team": "other"})) is NO_FEES
    assert fees() is NO_FEES


@pytest.mark.parametrize(
    "kind", ["usd_per_million_input_tokens", "usd_per_million_output_tokens", "usd_per_million_total_tokens"]
)
def test_a_fee_on_no_tokens_is_no_fee(kind: str):
    assert fees(a_fee(kind, "1"), usage=Usage()) is NO_FEES


def test_a_percentage_of_nothing_is_no_fee():
    assert fees(a_fee("percent_of_model_cost", "5"), cost=Decimal(0)) is NO_FEES


def test_a_percentage_of_an_unknown_cost_is_unpriced():
    found = fees(a_fee("percent_of_model_cost", "5"), cost=None)
    assert (found.lines, found.total_usd, found.state) == ((), 0, "unpriced")


def test_seconds_nobody_measured_are_unpriced():
    assert fees(a_fee("usd_per_second", "5"), basis=PricingBasis()).state == "unpriced"


def test_what_is_known_is_charged_beside_what_is_not():
    found = fees(a_fee("usd_per_request", "0.001"), a_fee("percent_of_model_cost", "5"), cost=None)
    assert (len(found.lines), found.total_usd, found.state) == (1, Decimal("0.001"), "unpriced")
