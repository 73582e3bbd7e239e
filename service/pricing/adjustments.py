"""Discounts and markups on the price of the model, as lines of their own. Pure."""

from decimal import Decimal

from service.pricing.rating_result import Line
from service.pricing.rules import PricingRules, RatedCall


def adjustment_lines(rules: PricingRules, call: RatedCall, model_cost_usd: Decimal) -> tuple[Line, ...]:
    """Return a line for each discount (negative) and markup on the list cost of a priced model component."""
    del rules, call, model_cost_usd
    return ()
