"""A tenant's own fees: each rule that applies to a call is a line of its own. Pure.

These fees are Tallygate's: no gateway's figure has them in it, and none is taken for a call nobody bills.
"""

from decimal import Decimal
from typing import Final

import msgspec

from service.kit.money import EXACT, ZERO
from service.pricing.fees import NO_FEES, Fees, add_fees
from service.pricing.rating_result import Line
from service.pricing.rule_terms import FeeKind, FeeTerms
from service.pricing.rules import PricingRules, RatedCall
from service.pricing.usage import PricingBasis, Usage

_PER_MILLION: Final = Decimal("0.000001")
_PER_CENT: Final = Decimal("0.01")
_ONE: Final = Decimal(1)
_UNIT: Final[dict[FeeKind, str]] = {
    "usd_per_million_input_tokens": "token",
    "usd_per_million_output_tokens": "token",
    "usd_per_million_total_tokens": "token",
    "usd_per_request": "request",
    "usd_per_second": "second",
    "percent_of_model_cost": "usd",
}
_ASSUMED_NOTE: Final = "of the assumed cost of a model without a price"
_UNPRICED: Final = Fees((), ZERO, "unpriced")


def rule_fees(
    rules: PricingRules, call: RatedCall, usage: Usage, basis: PricingBasis, model_cost_usd: Decimal | None
) -> Fees:
    """Return the fees of a call; `model_cost_usd` = what is billed for the model, None = nobody knows.

    A fee on what nobody knows is `unpriced` and has no line; one on nothing (no tokens, no cost) is no fee.
    """
    fees = NO_FEES
    for matched in rules.fees.in_force(call):
        quantity = _quantity(matched.terms.kind, usage, basis, model_cost_usd)
        if quantity is None:
            fees = add_fees(fees, _UNPRICED)
        elif quantity:
            line = _line(matched.rule.name, matched.terms, quantity)
            fees = add_fees(fees, Fees((line,), line.amount_usd, "priced"))
    return fees


def assumed_fees(rules: PricingRules, call: RatedCall, assumed_usd: Decimal) -> Fees:
    """Return the shares of what is assumed of an unpriced model; like that they count in budgets and in no cost."""
    fees = NO_FEES
    if not assumed_usd:
        return fees
    for matched in rules.fees.in_force(call):
        if matched.terms.kind == "percent_of_model_cost":
            line = msgspec.structs.replace(_line(matched.rule.name, matched.terms, assumed_usd), note=_ASSUMED_NOTE)
            fees = add_fees(fees, Fees((line,), line.amount_usd, "unpriced"))
    return fees


def _quantity(kind: FeeKind, usage: Usage, basis: PricingBasis, model_cost_usd: Decimal | None) -> Decimal | None:
    match kind:
        case "usd_per_million_input_tokens":
            return Decimal(usage.input_tokens)
        case "usd_per_million_output_tokens":
            return Decimal(usage.output_tokens)
        case "usd_per_million_total_tokens":
            return Decimal(usage.input_tokens + usage.output_tokens)
        case "usd_per_request":
            return _ONE
        case "usd_per_second":
            return basis.duration_seconds
        case "percent_of_model_cost":
            return model_cost_usd


def _line(name: str, terms: FeeTerms, quantity: Decimal) -> Line:
    rate = terms.amount
    if terms.kind == "percent_of_model_cost":
        rate = EXACT.multiply(rate, _PER_CENT)
    elif _UNIT[terms.kind] == "token":
        rate = EXACT.multiply(rate, _PER_MILLION)
    return Line(
        name=name, quantity=quantity, unit=_UNIT[terms.kind], rate=rate, amount_usd=EXACT.multiply(quantity, rate)
    )
