"""From usage to money: what one call costs, line by line, and how sure that is. Pure; nothing is ever rounded.

The model component is, the first that applies: our own price (`priced`, or `free` for an explicit zero), the gateway's
figure less the fees (`reported`), or `unpriced`: then it costs nothing in reports, and an assumed amount in budgets.
"""

from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from service.identity.dimensions import NO_DIMENSIONS, Dimensions
from service.identity.models import ModelIdentity
from service.kit.money import EXACT, ZERO
from service.pricing import reasons, units
from service.pricing.adjustments import adjustment_lines
from service.pricing.charged_units import charge_units
from service.pricing.fallback import FallbackRates
from service.pricing.fee_rules import assumed_fees, rule_fees
from service.pricing.fees import Fees, add_fees, guardrail_fees, router_fees
from service.pricing.lines import PricedTokens, line_of, token_lines
from service.pricing.price_book import PriceBook
from service.pricing.quantities import count_tokens
from service.pricing.rate_keys import TEXT_INPUT
from service.pricing.rate_selection import NoRates, SelectedRates, select_rates
from service.pricing.rating_result import Line, PriceState, Rating
from service.pricing.rules import NO_RULES, PricingRules, RatedCall
from service.pricing.usage import PricingBasis, ReportedCost, Usage

_ONE: Final = Decimal(1)
# Gateways sum in binary floating point: what is left of a total after subtracting its parts may be pure noise.
_NOISE: Final = Decimal("1e-9")
REPORTED_LINE: Final = "gateway's figure"


class _Component(msgspec.Struct, frozen=True, gc=False):
    """The model's part of a rating."""

    lines: tuple[Line, ...]
    cost_usd: Decimal
    state: PriceState
    reason: str | None = None
    price_key: str | None = None


def rate(
    usage: Usage,
    basis: PricingBasis,
    models: ModelIdentity,
    reported: ReportedCost,
    book: PriceBook,
    fallback: FallbackRates,
    *,
    occurred_at: datetime | None = None,
    trust_custom_rates: bool = True,
    rules: PricingRules = NO_RULES,
    dimensions: Dimensions = NO_DIMENSIONS,
    selected: SelectedRates | NoRates | None = None,
) -> Rating:
    """Return what the call costs.

    `occurred_at` selects off-peak rates and the rules in force; `trust_custom_rates` = the tenant lets prices
    configured on the gateway's deployments come before the book's; `rules` are the tenant's own; `selected` are the
    rates of such a call with as many prompt tokens, if they have been selected before.
    """
    fees = guardrail_fees(usage, reported, book)
    if basis.is_cache_hit:
        return _rating(_Component((), ZERO, "free", reasons.CACHE_HIT), fees, ZERO, reported, book)
    if basis.unbilled_reason is not None:
        return _rating(_Component((), ZERO, "free", basis.unbilled_reason), fees, ZERO, reported, book)
    if basis.is_failure and not usage.output_tokens and not _remainder(reported, fees):
        return _rating(_Component((), ZERO, "free", reasons.FAILED), fees, ZERO, reported, book)
    if models.is_router:
        fees = add_fees(fees, router_fees(usage.input_tokens, models.provider, reported, book))
    if selected is None:
        selected = select_rates(
            models,
            basis,
            book,
            usage.input_tokens,
            occurred_at=occurred_at,
            trust_custom_rates=trust_custom_rates,
            rules=rules,
            dimensions=dimensions,
        )
    component = _own_price(usage, basis, models.provider, selected, reported, fees, book)
    assumed = ZERO
    if component.state == "unpriced":
        remainder = _remainder(reported, fees)
        if remainder:
            component = _reported(remainder, component.reason)
        else:
            assumed = fallback.assume(usage.input_tokens, usage.output_tokens)
    if rules is NO_RULES or not rules:
        return _rating(component, fees, assumed, reported, book)
    call = rated_call(models, dimensions, basis, occurred_at, selected)
    return _rating_by_rules(component, fees, assumed, reported, book, usage, basis, rules, call)


def rated_call(
    models: ModelIdentity,
    dimensions: Dimensions,
    basis: PricingBasis,
    occurred_at: datetime | None,
    selected: SelectedRates | NoRates,
) -> RatedCall:
    """Return what rules look at, with price key and mode of the entry the call is priced by."""
    price = selected.price
    entry = ("", "") if price is None else (price.key, price.entry.mode)
    return RatedCall(models, dimensions, basis.call_type, occurred_at, *entry)


def _remainder(reported: ReportedCost, fees: Fees) -> Decimal:
    """Return what the gateway's total leaves for the model after all fees; 0 when that is nothing but noise."""
    total = reported.total_usd
    if not total:
        return ZERO
    remainder = EXACT.subtract(total, fees.total_usd)
    return remainder if remainder > EXACT.multiply(total, _NOISE) else ZERO


def _own_price(
    usage: Usage,
    basis: PricingBasis,
    provider: str | None,
    selected: SelectedRates | NoRates,
    reported: ReportedCost,
    fees: Fees,
    book: PriceBook,
) -> _Component:
    """Return the component by our own rates, or an unpriced one with the reason."""
    if isinstance(selected, NoRates):
        return _unpriced(selected.reason)
    # An operator who configures a deployment to cost nothing means whatever it is used for.
    is_free_whatever = selected.is_zero and selected.is_custom and not _remainder(reported, fees)
    if not is_free_whatever:
        if usage.unmeasured:
            return _unpriced(f"{reasons.UNMEASURED}:{','.join(usage.unmeasured)}")
        if reported.tool_usage_usd and not any(unit in units.TOOLS for unit, _ in usage.units):
            return _unpriced(f"{reasons.UNMEASURED}:tools")
    if is_free_whatever or (selected.is_plain and not usage.units):
        return _by_tokens(usage, basis, selected)
    return _by_units(usage, basis, provider, selected, book)


def _by_tokens(usage: Usage, basis: PricingBasis, selected: SelectedRates) -> _Component:
    """Return the component of a call that used nothing but tokens."""
    if not usage.input_tokens and not usage.output_tokens and not selected.is_zero:
        return _unpriced(reasons.NO_USAGE)
    rates = selected.rates
    parts: list[PricedTokens] = []
    price_key = None
    for kind, tokens in count_tokens(usage, basis.call_type):
        stated = rates.get(kind)
        if stated is None:
            return _unpriced(f"{reasons.NO_RATE}:{kind}")
        parts.append((kind, stated, tokens))
        price_key = price_key or stated.price_key
    lines, total = token_lines(parts)
    return _component(lines, total, price_key)


def _by_units(
    usage: Usage, basis: PricingBasis, provider: str | None, selected: SelectedRates, book: PriceBook
) -> _Component:
    """Return the component of a call that is charged for more than tokens, or for something else."""
    charged = charge_units(usage, basis, selected, book, provider)
    if isinstance(charged, str):
        return _unpriced(charged)
    is_by_characters = any(part.name == units.INPUT_CHARACTERS for part in charged)
    parts: list[PricedTokens] = []
    for kind, tokens in count_tokens(usage, basis.call_type) if selected.prices_tokens else ():
        if selected.charges(kind) and not (is_by_characters and kind == TEXT_INPUT):
            stated = selected.rates.get(kind)
            if stated is None:
                return _unpriced(f"{reasons.NO_RATE}:{kind}")
            parts.append((kind, stated, tokens))
    if not parts and not charged and not selected.is_zero:
        return _unpriced(reasons.NO_USAGE)
    lines, total = token_lines(parts)
    for part in charged:
        unit_line = line_of(*part)
        lines += (unit_line,)
        total = EXACT.add(total, unit_line.amount_usd)
    return _component(lines, total, next((line.price_key for line in lines if line.price_key is not None), None))


def _component(lines: tuple[Line, ...], total: Decimal, price_key: str | None) -> _Component:
    if total:
        return _Component(lines, total, "priced", None, price_key)
    return _Component(lines, ZERO, "free", reasons.EXPLICIT_ZERO, price_key)


def _unpriced(reason: str) -> _Component:
    return _Component((), ZERO, "unpriced", reason)


def _reported(remainder: Decimal, reason: str | None) -> _Component:
    line = Line(name=REPORTED_LINE, quantity=_ONE, unit="request", rate=remainder, amount_usd=remainder, note=reason)
    return _Component((line,), remainder, "reported", reason)


def _rating(
    component: _Component,
    fees: Fees,
    assumed_usd: Decimal,
    reported: ReportedCost,
    book: PriceBook,
    list_cost_usd: Decimal | None = None,
) -> Rating:
    cost = EXACT.add(component.cost_usd, fees.total_usd)
    return Rating(
        components=component.lines,
        fees=fees.lines,
        model_cost_usd=component.cost_usd,
        fees_usd=fees.total_usd,
        list_cost_usd=cost if list_cost_usd is None else EXACT.add(list_cost_usd, fees.total_usd),
        cost_usd=cost,
        assumed_usd=assumed_usd,
        enforced_usd=EXACT.add(cost, assumed_usd),
        reported_cost_usd=reported.total_usd,
        price_state=component.state,
        fees_price_state=fees.state,
        price_key=component.price_key,
        price_book_version=book.version,
        reason=component.reason,
    )


def _rating_by_rules(
    component: _Component,
    fees: Fees,
    assumed_usd: Decimal,
    reported: ReportedCost,
    book: PriceBook,
    usage: Usage,
    basis: PricingBasis,
    rules: PricingRules,
    call: RatedCall,
) -> Rating:
    """Return the rating with the tenant's discounts and markups on our own price, and with its fees."""
    list_cost = component.cost_usd
    if component.state == "priced":
        for line in adjustment_lines(rules, call, list_cost):
            component = msgspec.structs.replace(
                component,
                lines=(*component.lines, line),
                cost_usd=EXACT.add(component.cost_usd, line.amount_usd),
            )
    known_cost = None if component.state == "unpriced" else component.cost_usd
    fees = add_fees(fees, rule_fees(rules, call, usage, basis, known_cost))
    assumed_usd = EXACT.add(assumed_usd, assumed_fees(rules, call, assumed_usd).total_usd)
    return _rating(component, fees, assumed_usd, reported, book, list_cost)
