"""What a call may cost at most, before it is made, by the same rating that will charge it; and the inverse. Pure.

The worst case (`worst_case`) is rated like an event: context tier, tier of service, off-peak hours of that instant,
fees, the tenant's overrides, discounts and markups. So no usage within its bounds is charged more.
"""

from datetime import datetime
from decimal import Decimal
from itertools import product
from typing import Final

import msgspec

from service.identity.dimensions import NO_DIMENSIONS, Dimensions
from service.identity.models import ModelIdentity
from service.kit.money import EXACT, ZERO
from service.pricing import rate_keys, reasons
from service.pricing.fallback import FallbackRates
from service.pricing.fee_rules import assumed_fees
from service.pricing.lines import token_lines
from service.pricing.model_price import ModelPrice, Rate
from service.pricing.price_book import PriceBook
from service.pricing.rate_selection import NoRates, SelectedRates, select_rates
from service.pricing.rating import rate, rated_call
from service.pricing.rating_result import Line, PriceState, Rating
from service.pricing.rules import NO_RULES, PricingRules
from service.pricing.usage import PricingBasis, ReportedCost
from service.pricing.worst_case import (
    NOTHING_DECLARED,
    Dearest,
    Declared,
    dearest_kinds,
    has_content,
    is_silent,
    with_usual_units,
)

DEFAULT_MAX_OUTPUT_TOKENS: Final = 4096

_ONE: Final = Decimal(1)
_ASSUMED_NOTE: Final = "fallback rate of the tenant: no price is known"
_NOTHING_REPORTED: Final = ReportedCost()
# What nothing prices is assumed to be text.
_TEXT: Final = Dearest(rate_keys.TEXT_INPUT, rate_keys.TEXT_OUTPUT, is_rated=False)
# More tokens than any call has: an amount that pays for so many sets no bound.
_MOST_TOKENS: Final = 10**15


class PlannedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call before it is made, and what it will be priced by.

    Without `max_output_tokens` the model's maximum is assumed, or less: 4096, or what nearly all calls of the requested
    model put out lately if that is more.
    """

    input_tokens: int
    max_output_tokens: int | None
    models: ModelIdentity
    basis: PricingBasis
    book: PriceBook
    fallback: FallbackRates
    occurred_at: datetime | None = None
    trust_custom_rates: bool = True
    rules: PricingRules = NO_RULES
    dimensions: Dimensions = NO_DIMENSIONS
    declared: Declared = NOTHING_DECLARED
    recent_output_tokens: int | None = None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The worst case of a call. amount_usd = sum of components and fees; list_cost_usd = without the adjustments.

    `price_state` is `free` only if neither the model nor a fee can cost anything; `unpriced` = assumed rates.
    """

    amount_usd: Decimal
    list_cost_usd: Decimal
    price_state: PriceState
    fees_price_state: PriceState
    served_model: str | None
    components: tuple[Line, ...]
    fees: tuple[Line, ...]
    max_output_tokens: int
    price_key: str | None
    price_book_version: str
    reason: str | None


class Prospect(msgspec.Struct, frozen=True):
    """What a planned call comes to at most: `rating` is that of `case`, the dearest of the `cases` it can be."""

    call: PlannedCall
    selected: SelectedRates | NoRates
    cases: tuple[Dearest, ...]
    output_tokens: int
    case: Dearest
    rating: Rating

    def estimate(self) -> Estimate:
        """Return the worst case."""
        rating = self.rating
        components, fees = self._assumed_lines() if rating.assumed_usd else (rating.components, ())
        return Estimate(
            amount_usd=rating.enforced_usd,
            list_cost_usd=EXACT.add(rating.list_cost_usd, rating.assumed_usd),
            price_state=self.price_state,
            fees_price_state=rating.fees_price_state,
            served_model=self.call.models.served_model,
            components=components,
            fees=(*rating.fees, *fees),
            max_output_tokens=self.output_tokens,
            price_key=rating.price_key,
            price_book_version=rating.price_book_version,
            reason=rating.reason if rating.price_state == "unpriced" else None,
        )

    def max_affordable_output_tokens(self, available_usd: Decimal) -> int | None:
        """Return how many output tokens `available_usd` pays for after all else, at most the model's maximum.

        0 also when the prompt alone is too dear; None = output costs nothing and the model has no known maximum.
        """
        price = self.selected.price
        maximum = None if price is None else price.entry.max_output_tokens
        per_token = self._usd_per_output_token()
        if per_token is None:
            return _search(self, available_usd, maximum)
        spent = EXACT.multiply(Decimal(self.output_tokens), per_token)
        left = EXACT.subtract(available_usd, EXACT.subtract(self.rating.enforced_usd, spent))
        if left < 0:
            return 0
        if not per_token:
            return maximum
        affordable = int(EXACT.divide_int(left, per_token))
        return affordable if maximum is None else min(affordable, maximum)

    @property
    def price_state(self) -> PriceState:
        """Return how sure the worst case is; see Estimate."""
        rating, selected = self.rating, self.selected
        if rating.price_state == "unpriced" and rating.reason != reasons.NO_USAGE:
            return "unpriced"
        rates = {} if isinstance(selected, NoRates) else selected.rates
        known = [rates[kind] for kind in (self.case.prompt, self.case.output) if kind in rates]
        return "priced" if rating.enforced_usd or any(each.charged_usd for each in known) else "free"

    def _assumed_lines(self) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
        """Return the lines of what is assumed of a model without a price, and those of fees that are a share of it."""
        call = self.call
        fallback, outputs = call.fallback, 0 if self.case.output is None else self.output_tokens
        per_kind = (
            (rate_keys.TEXT_INPUT, fallback.input_per_token, call.input_tokens),
            (rate_keys.TEXT_OUTPUT, fallback.output_per_token, outputs),
        )
        lines, assumed = token_lines(
            (kind, Rate(usd, usd, _ONE, None, _ASSUMED_NOTE), tokens) for kind, usd, tokens in per_kind if tokens
        )
        rated = rated_call(call.models, call.dimensions, call.basis, call.occurred_at, self.selected)
        return lines, assumed_fees(call.rules, rated, assumed).lines

    def _usd_per_output_token(self) -> Decimal | None:
        """Return what each output token adds; None when that cannot be said for all of them alike."""
        call, selected = self.call, self.selected
        if call.rules or call.declared.units:
            return None
        if isinstance(selected, NoRates):
            return call.fallback.output_per_token
        if len(self.cases) > 1 or not self.case.is_rated or not selected.is_plain:
            return None
        return ZERO if self.case.output is None else selected.rates[self.case.output].charged_usd


def foresee(call: PlannedCall) -> Prospect:
    """Return the worst case of a call."""
    selected = select_rates(
        call.models,
        call.basis,
        call.book,
        call.input_tokens,
        occurred_at=call.occurred_at,
        trust_custom_rates=call.trust_custom_rates,
        rules=call.rules,
        dimensions=call.dimensions,
    )
    cases: tuple[Dearest, ...] = (_TEXT,)
    if isinstance(selected, SelectedRates):
        declared = with_usual_units(call.declared, selected.price)
        if declared is not call.declared:
            call = msgspec.structs.replace(call, declared=declared)
        cases = dearest_kinds(selected.rates, selected.price, call.basis, declared)
    output_tokens = call.max_output_tokens
    if output_tokens is None:
        output_tokens = _default_output_tokens(selected.price, call.declared, call.recent_output_tokens)
    case, rating = _dearest(call, cases, output_tokens, selected)
    return Prospect(call, selected, cases, output_tokens, case, rating)


def _default_output_tokens(price: ModelPrice | None, declared: Declared, recent: int | None) -> int:
    if is_silent(price) or (price is not None and has_content(declared) and not price.is_output_by_tokens):
        return 0
    maximum = None if price is None else price.entry.max_output_tokens
    usual = max(DEFAULT_MAX_OUTPUT_TOKENS, recent or 0)
    return min(maximum or usual, usual)


def _dearest(
    call: PlannedCall, cases: tuple[Dearest, ...], output_tokens: int, selected: SelectedRates | NoRates
) -> tuple[Dearest, Rating]:
    """Return the case that costs most, and its rating.

    An event may tell declared units and no tokens: it is then charged for them although tokens would cover them, or
    although its tokens have no price.
    """
    if len(cases) == 1 and not call.declared.units:
        return cases[0], _rate(call, cases[0], call.input_tokens, output_tokens, selected)
    nothing = (0,) if call.declared.units else ()
    inputs, outputs = (call.input_tokens, *nothing), (output_tokens, *nothing)
    rated = [(case, _rate(call, case, taken, made, selected)) for case, taken, made in product(cases, inputs, outputs)]
    return max(rated, key=lambda one: one[1].enforced_usd) if len(rated) > 1 else rated[0]


def _rate(
    call: PlannedCall, case: Dearest, input_tokens: int, output_tokens: int, selected: SelectedRates | NoRates
) -> Rating:
    return rate(
        case.usage(input_tokens, output_tokens, call.declared.units),
        call.basis,
        call.models,
        _NOTHING_REPORTED,
        call.book,
        call.fallback,
        occurred_at=call.occurred_at,
        trust_custom_rates=call.trust_custom_rates,
        rules=call.rules,
        dimensions=call.dimensions,
        # Rates depend on how long the prompt is.
        selected=selected if input_tokens == call.input_tokens else None,
    )


def _search(prospect: Prospect, available_usd: Decimal, maximum: int | None) -> int | None:
    """Return the same as the inverse of the worst case, whatever rules make of it: it never falls with more tokens."""

    def cost_of(output_tokens: int) -> Decimal:
        return _dearest(prospect.call, prospect.cases, output_tokens, prospect.selected)[1].enforced_usd

    affordable, cost = 0, cost_of(0)
    if cost > available_usd:
        return 0
    beyond = _MOST_TOKENS if maximum is None else maximum
    cost_beyond = cost_of(beyond)
    if cost_beyond <= available_usd:
        return maximum
    rounds = 0
    while beyond - affordable > 1:
        rounds += 1
        step = (beyond - affordable) // 2
        if rounds % 3:
            # On a straight line, and most costs are one, this is the answer at once.
            share = EXACT.multiply(EXACT.subtract(available_usd, cost), Decimal(beyond - affordable))
            on_line = int(EXACT.divide_int(share, EXACT.subtract(cost_beyond, cost)))
            step = min(max(on_line, 1), beyond - affordable - 1)
        tried = affordable + step
        cost_tried = cost_of(tried)
        if cost_tried <= available_usd:
            affordable, cost = tried, cost_tried
        else:
            beyond, cost_beyond = tried, cost_tried
    return affordable
