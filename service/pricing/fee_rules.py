"""A tenant's own fees: each rule that applies to a call is a line of its own. Pure."""

from decimal import Decimal

from service.pricing.fees import NO_FEES, Fees
from service.pricing.rules import PricingRules, RatedCall
from service.pricing.usage import PricingBasis, Usage


def rule_fees(
    rules: PricingRules, call: RatedCall, usage: Usage, basis: PricingBasis, model_cost_usd: Decimal | None
) -> Fees:
    """Return the fees of a call; `model_cost_usd` = what is billed for the model, None = nobody knows."""
    del rules, call, usage, basis, model_cost_usd
    return NO_FEES
