"""Which rates price a call: a tenant's overrides over the deployment's own ones it trusts over the price book. Pure.

Charges and checks both come through here, so that a hold and its charge can never disagree about a price. `rates` has
every kind of token and of other units (`units`, sizes and resolutions after a slash); `unit_choice.charge_unit` takes
the one that a quantity of a unit has, `charged_units` all of a call.
"""

from datetime import datetime
from typing import Final

import msgspec

from service.identity.dimensions import NO_DIMENSIONS, Dimensions
from service.identity.models import ModelIdentity
from service.pricing import reasons
from service.pricing.custom_rates import configured_price, customise, has_rates
from service.pricing.image_variants import IMAGE_CALLS
from service.pricing.model_price import ModelPrice, Rates
from service.pricing.overrides import find_overridden
from service.pricing.price_book import FoundPrice, PriceBook
from service.pricing.rate_keys import TOKEN_KINDS
from service.pricing.rules import NO_RULES, PricingRules, RatedCall
from service.pricing.usage import CustomRates, PricingBasis

_TOKEN_KINDS: Final = frozenset(TOKEN_KINDS)


class SelectedRates(msgspec.Struct, frozen=True):
    """The rates of a call. `is_zero`: all of them are zero on purpose, by the price list or by the operator.

    `prices_tokens`: tokens have a price; `is_plain`: a call that used nothing but tokens has no other.
    """

    rates: Rates
    is_zero: bool
    is_custom: bool
    price: ModelPrice
    prices_tokens: bool
    is_plain: bool

    def charges(self, kind: str) -> bool:
        """Tell whether tokens of a kind are charged, and not what else measures that direction."""
        return self.price.charges(kind)


class NoRates(msgspec.Struct, frozen=True):
    """Nothing prices this call; `reason` is one of `reasons`."""

    reason: str
    price: ModelPrice | None


def select_rates(
    models: ModelIdentity,
    basis: PricingBasis,
    book: PriceBook,
    input_tokens: int,
    *,
    occurred_at: datetime | None,
    trust_custom_rates: bool,
    rules: PricingRules = NO_RULES,
    dimensions: Dimensions = NO_DIMENSIONS,
) -> SelectedRates | NoRates:
    """Return the rates of a call with that many prompt tokens, or why there are none."""
    custom = basis.custom_rates if trust_custom_rates else None
    found = _find(models, basis, book, input_tokens)
    if rules is not NO_RULES and rules:
        call = RatedCall(models, dimensions, basis.call_type, occurred_at)
        overridden = find_overridden(rules, call, found, book)
        found = found if overridden is None else overridden.found
    if custom is not None and has_rates(custom):
        return _customised(custom, found, basis, input_tokens, occurred_at)
    if found is None:
        return NoRates(reasons.NO_PRICE if models.price_candidates else reasons.NO_MODEL, None)
    price = found.price
    if not price.has_rates:
        return NoRates(reasons.NO_RATES, price)
    return SelectedRates(
        price.rates_for(input_tokens, basis, occurred_at, found.rule),
        price.is_zero,
        is_custom=False,
        price=price,
        prices_tokens=price.is_priced_by_tokens,
        is_plain=price.is_plain,
    )


def _find(models: ModelIdentity, basis: PricingBasis, book: PriceBook, input_tokens: int) -> FoundPrice | None:
    """Return the price of the model, of an image without tokens that of its size and quality."""
    found = book.find_price(models.price_candidates, models.provider)
    if basis.call_type in IMAGE_CALLS and (found is None or not input_tokens or not found.price.is_priced_by_tokens):
        return book.find_variant(models, basis) or found
    return found


def _customised(
    custom: CustomRates,
    found: FoundPrice | None,
    basis: PricingBasis,
    input_tokens: int,
    occurred_at: datetime | None,
) -> SelectedRates | NoRates:
    """Lay the deployment's rates over the listed ones."""
    price = None if found is None else found.price
    own = configured_price(custom, price, basis.call_type)
    if own is None:
        return NoRates(reasons.OTHER_CUSTOM_PRICE, price)
    rates = customise(own, found, basis, input_tokens, occurred_at)
    is_zero = custom.input_per_token == 0 and not any(rates[kind].usd for kind in rates.keys() & _TOKEN_KINDS)
    return SelectedRates(
        rates,
        is_zero and not custom.others,
        is_custom=True,
        price=own,
        prices_tokens=own.is_priced_by_tokens,
        is_plain=own.is_plain,
    )
