"""Which rates price a call: the deployment's own ones the tenant trusts, over those of the price book. Pure.

Charges and checks both come through here, so that a hold and its charge can never disagree about a price.
"""

from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from service.identity.models import ModelIdentity
from service.pricing import rate_keys, reasons
from service.pricing.model_price import ModelPrice, Rate, Rates
from service.pricing.price_book import PriceBook
from service.pricing.rate_keys import TOKEN_KINDS
from service.pricing.usage import CustomRates, PricingBasis

_ONE: Final = Decimal(1)
_CUSTOM_NOTE: Final = "rate configured on the deployment"
_INPUT_KINDS: Final = frozenset(TOKEN_KINDS[: TOKEN_KINDS.index(rate_keys.TEXT_OUTPUT)])
_READ_KINDS: Final = frozenset({rate_keys.CACHE_READ, rate_keys.CACHE_READ_AUDIO, rate_keys.CACHE_READ_IMAGE})
_WRITE_KINDS: Final = frozenset({rate_keys.CACHE_WRITE_5M, rate_keys.CACHE_WRITE_1H})


class SelectedRates(msgspec.Struct, frozen=True):
    """The rates of a call. `is_zero`: all of them are zero on purpose, by the price list or by the operator."""

    rates: Rates
    is_zero: bool
    is_custom: bool
    price: ModelPrice | None

    @property
    def is_declared_free(self) -> bool:
        """Tell whether the operator configured the deployment to cost nothing, whatever it is used for."""
        return self.is_zero and self.is_custom


class NoRates(msgspec.Struct, frozen=True):
    """Tokens cannot price this call; `reason` is one of `reasons`."""

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
) -> SelectedRates | NoRates:
    """Return the rates of a call with that many prompt tokens, or why there are none."""
    custom = basis.custom_rates if trust_custom_rates else None
    found = book.find_price(models.price_candidates, models.provider)
    price = None if found is None else found.price
    if custom is not None and custom.has_other_rates:
        return NoRates(reasons.OTHER_CUSTOM_PRICE, price)
    listed = None
    if found is not None and found.price.is_priced_by_tokens:
        listed = found.price.rates_for(input_tokens, basis, occurred_at, found.rule)
    if custom is not None and _has_rates(custom):
        return _customised(custom, listed, price)
    if listed is None or price is None:
        return NoRates(_why_no_rates(models, price), price)
    return SelectedRates(listed, price.is_zero, is_custom=False, price=price)


def _why_no_rates(models: ModelIdentity, price: ModelPrice | None) -> str:
    if price is not None:
        return reasons.NOT_BY_TOKENS
    return reasons.NO_PRICE if models.price_candidates else reasons.NO_MODEL


def _has_rates(custom: CustomRates) -> bool:
    return any(
        rate is not None
        for rate in (
            custom.input_per_token,
            custom.output_per_token,
            custom.cache_read_per_token,
            custom.cache_write_per_token,
        )
    )


def _customised(custom: CustomRates, listed: Rates | None, price: ModelPrice | None) -> SelectedRates:
    """Lay the deployment's rates over the listed ones, each side whole.

    A configured input rate also prices cached tokens unless they have a configured rate: list rates must not mix into
    a contract price, least of all into one of zero. Tiers, contexts and multipliers of the list do not apply to it.
    """
    configured = {kind: rate for kind in TOKEN_KINDS if (rate := _custom_rate(kind, custom)) is not None}
    rates = (listed or {}) | configured
    is_zero = custom.input_per_token == 0 and not any(rate.usd for rate in rates.values())
    return SelectedRates(rates, is_zero, is_custom=True, price=price)


def _custom_rate(kind: str, custom: CustomRates) -> Rate | None:
    if kind not in _INPUT_KINDS:
        usd, base = custom.output_per_token, rate_keys.TEXT_OUTPUT
    else:
        usd, base = custom.input_per_token, rate_keys.TEXT_INPUT
        if kind in _READ_KINDS and custom.cache_read_per_token is not None:
            usd, base = custom.cache_read_per_token, rate_keys.CACHE_READ
        elif kind in _WRITE_KINDS and custom.cache_write_per_token is not None:
            usd, base = custom.cache_write_per_token, rate_keys.CACHE_WRITE_5M
    if usd is None:
        return None
    note = _CUSTOM_NOTE if kind == base else f"no {kind} rate: {base} rate; {_CUSTOM_NOTE}"
    return Rate(usd, usd, _ONE, None, note)
