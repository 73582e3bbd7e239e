"""Discounts and markups on the price of the model, as lines of their own. Pure.

Every percentage is one of the list cost, as contracts state them, so they add up and none depends on another: the order
of rules means nothing, and each line can be checked by itself. What is billed never falls below zero.
"""

from decimal import Decimal
from typing import Final

from service.kit.money import EXACT, ZERO
from service.pricing.rating_result import Line
from service.pricing.rule_terms import AdjustmentTerms
from service.pricing.rules import MatchedRule, PricingRules, RatedCall

UNIT: Final = "adjustment"
DISCOUNT_LINE: Final = "discount"
MARKUP_LINE: Final = "markup"

_PER_CENT: Final = Decimal("0.01")
_ONE: Final = Decimal(1)


def adjustment_lines(rules: PricingRules, call: RatedCall, model_cost_usd: Decimal) -> tuple[Line, ...]:
    """Return a line for each discount (negative) and markup on the list cost of a priced model component.

    Markups come first, then percentages, then the older rule; a discount beyond what is left to pay is cut to that.
    """
    found = rules.adjustments.in_force(call)
    if not found:
        return ()
    lines: list[Line] = []
    left = model_cost_usd
    for matched in sorted(found, key=_place):
        line = _line(matched, model_cost_usd)
        if EXACT.add(left, line.amount_usd) < 0:
            line = _cut(line, left)
        if line.amount_usd:
            lines.append(line)
            left = EXACT.add(left, line.amount_usd)
    return tuple(lines)


def _place(matched: MatchedRule[AdjustmentTerms]) -> tuple[bool, bool, int]:
    return matched.terms.is_discount, not matched.terms.is_percentage, matched.rule.rule_id.int


def _line(matched: MatchedRule[AdjustmentTerms], list_cost_usd: Decimal) -> Line:
    terms = matched.terms
    rate = EXACT.multiply(terms.amount, _PER_CENT) if terms.is_percentage else terms.amount
    if terms.is_discount:
        rate = EXACT.subtract(ZERO, rate)
    quantity = list_cost_usd if terms.is_percentage else _ONE
    return Line(
        name=DISCOUNT_LINE if terms.is_discount else MARKUP_LINE,
        quantity=quantity,
        unit=UNIT,
        rate=rate,
        amount_usd=EXACT.multiply(quantity, rate),
        note=matched.rule.name,
    )


def _cut(line: Line, left: Decimal) -> Line:
    amount = EXACT.subtract(ZERO, left)
    return Line(
        name=line.name,
        quantity=_ONE,
        unit=UNIT,
        rate=amount,
        amount_usd=amount,
        note=f"{line.note}; limited to what was left to pay",
    )
