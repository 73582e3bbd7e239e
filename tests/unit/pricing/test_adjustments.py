"""Discounts and markups: percentages of the list cost that add up, and never a bill below zero."""

from decimal import Decimal

import pytest

from service.pricing.adjustments import adjustment_lines
from service.pricing.rating_result import Line
from service.pricing.rules import PriceRule
from tests.unit.pricing.rule_builders import a_call, an_adjustment, rules_of

LIST = Decimal("0.0800")


def lines(*rules: PriceRule, cost: Decimal = LIST, team: str | None = None) -> tuple[Line, ...]:
    return adjustment_lines(rules_of(*rules), a_call(team=team), cost)


@pytest.mark.parametrize(
    ("kind", "amount", "name", "quantity", "rate", "adjusted"),
    [
        ("discount_percent", "25", "discount", "0.08", "-0.25", "-0.02"),
        ("discount_usd", "0.01", "discount", "1", "-0.01", "-0.01"),
        ("markup_percent", "25", "markup", "0.08", "0.25", "0.02"),
        ("markup_usd", "0.01", "markup", "1", "0.01", "0.01"),
    ],
)
def test_each_kind_is_a_line_that_names_the_rule(
    kind: str, amount: str, name: str, quantity: str, rate: str, adjusted: str
):
    [line] = lines(an_adjustment(name="contract", **{kind: amount}))
    assert (line.name, line.unit, line.note, line.multiplier) == (name, "adjustment", "contract", 1)
    assert (line.quantity, line.rate, line.amount_usd) == (Decimal(quantity), Decimal(rate), Decimal(adjusted))


def test_percentages_are_of_the_list_cost_and_add_up():
    found = lines(an_adjustment(discount_percent="10"), an_adjustment(discount_percent="20"))
    assert [line.amount_usd for line in found] == [Decimal("-0.008"), Decimal("-0.016")]


def test_markups_come_before_discounts_and_percentages_before_amounts():
    found = lines(
        an_adjustment(name="d", discount_usd="0.001", number=1),
        an_adjustment(name="c", discount_percent="1", number=2),
        an_adjustment(name="b", markup_usd="0.001", number=3),
        an_adjustment(name="a", markup_percent="1", number=4),
        an_adjustment(name="c2", discount_percent="1", number=5),
    )
    assert [line.note for line in found] == ["a", "b", "c", "c2", "d"]


def test_a_discount_is_cut_to_what_is_left_to_pay():
    found = lines(an_adjustment(name="a", discount_percent="75"), an_adjustment(name="b", discount_percent="50"))
    assert [line.amount_usd for line in found] == [Decimal("-0.06"), Decimal("-0.02")]
    assert found[1].note == "b; limited to what was left to pay"
    assert (found[1].quantity, found[1].rate) == (1, Decimal("-0.02"))
    assert (found[1].name, found[1].unit) == ("discount", "adjustment")


def test_a_discount_of_exactly_what_is_left_is_not_cut():
    found = lines(an_adjustment(name="a", discount_percent="50"), an_adjustment(name="b", discount_usd="0.04"))
    assert [line.note for line in found] == ["a", "b"]
    assert sum(line.amount_usd for line in found) == -LIST


def test_where_nothing_is_left_there_is_no_line():
    found = lines(an_adjustment(name="a", discount_percent="100"), an_adjustment(name="b", discount_usd="1"))
    assert [line.note for line in found] == ["a"]


def test_a_markup_is_what_a_discount_may_take():
    found = lines(an_adjustment(name="off", discount_usd="0.1"), an_adjustment(name="on", markup_usd="0.03"))
    assert [(line.note, line.amount_usd) for line in found] == [("on", Decimal("0.03")), ("off", Decimal("-0.1"))]


def test_rules_that_do_not_apply_change_nothing():
    rule = an_adjustment({"team": "core"}, discount_percent="10")
    assert lines(rule, team="other") == ()
    assert len(lines(rule, team="core")) == 1
