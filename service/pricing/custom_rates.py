"""Rates that an operator configured on the gateway's deployment, made into a price like any other. Pure.

They are a contract: each side (input, output) is replaced whole, so that list rates for cached tokens never mix into
it, least of all into one of zero. Tiers, batches and multipliers of the list do not apply to them.
"""

from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

import msgspec

from service.pricing.map_entry import CostMapError, read_entry
from service.pricing.model_price import ModelPrice, Rates
from service.pricing.price_book import FoundPrice
from service.pricing.rate_keys import TOKEN_KINDS
from service.pricing.usage import CustomRates, PricingBasis

_PER_TOKEN_KEYS: Final = (
    ("input_per_token", "input_cost_per_token"),
    ("output_per_token", "output_cost_per_token"),
    ("cache_read_per_token", "cache_read_input_token_cost"),
    ("cache_write_per_token", "cache_creation_input_token_cost"),
)
_MODES: Final[dict[str, str]] = {
    "transcription": "audio_transcription",
    "speech": "audio_speech",
    "image_generation": "image_generation",
    "image_edit": "image_edit",
    "video_generation": "video_generation",
    "embedding": "embedding",
}
_AS_CONFIGURED: Final = PricingBasis()


@lru_cache(maxsize=1024)
def has_rates(custom: CustomRates) -> bool:
    """Tell whether anything is configured."""
    return custom.has_other_rates or bool(_keys(custom))


@lru_cache(maxsize=1024)
def configured_price(custom: CustomRates, listed: ModelPrice | None, call_type: str) -> ModelPrice | None:
    """Return the price of a deployment, what its model is for taken from the list; None when it cannot be read."""
    keys = _keys(custom)
    if custom.has_other_rates and not custom.others:
        return None
    mode = _MODES.get(call_type.removeprefix("a"), "") if listed is None else listed.entry.mode
    provider = "" if listed is None else listed.entry.provider
    try:
        entry = read_entry("" if listed is None else listed.key, {"litellm_provider": provider, "mode": mode, **keys})
    except CostMapError:
        return None
    if listed is not None:
        entry = msgspec.structs.replace(
            entry,
            max_output_tokens=listed.entry.max_output_tokens,
            is_search_per_request=listed.entry.is_search_per_request,
        )
    return ModelPrice(entry, is_configured=True)


def customise(
    own: ModelPrice, found: FoundPrice | None, basis: PricingBasis, input_tokens: int, occurred_at: datetime | None
) -> Rates:
    """Return the deployment's rates, over the list's for tools and for a side that is not configured.

    What a tenant's overrides state comes before both; where it only stands in (for another kind, a longer prompt, a
    service tier), what the deployment states for just that comes first.
    """
    rates = dict(own.rates_for(input_tokens, basis if own.has_tiers else _AS_CONFIGURED, occurred_at, ""))
    if found is None or not found.price.has_rates:
        return rates
    price = found.price
    listed = price.rates_for(input_tokens, basis, occurred_at, found.rule)
    for kind in price.tool_kinds:
        rates.setdefault(kind, listed[kind])
    if own.is_priced_by_tokens and price.is_priced_by_tokens:
        for kind in TOKEN_KINDS:
            if kind in listed:
                rates.setdefault(kind, listed[kind])
    if price.is_overridden:
        for kind, rate in listed.items():
            if rate.is_overridden and (kind not in rates or rate.precision >= rates[kind].precision):
                rates[kind] = rate
    return rates


def _keys(custom: CustomRates) -> dict[str, Decimal]:
    per_token = ((key, getattr(custom, field)) for field, key in _PER_TOKEN_KEYS)
    return {key: rate for key, rate in per_token if rate is not None} | dict(custom.others)
