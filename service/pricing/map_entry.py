"""One entry of a cost map in LiteLLM's JSON form, read into typed rates; says what it does not understand. Pure."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from service.kit.money import AmountError, check_amount
from service.pricing import rate_keys
from service.pricing.off_peak import OffPeak, parse_off_peak
from service.pricing.rate_keys import STANDARD, TEXT_INPUT

# (token kind, above how many prompt tokens, service tier) -> USD per token
RateTable = dict[tuple[str, int, str], Decimal]

# A price of every single request beside its tokens: the tokens alone would be too little.
_REQUEST_KEY = "input_cost_per_request"


class CostMapError(ValueError):
    """A cost map, an entry of one or a snapshot cannot be used; the text says why, of an entry with key and value."""


class ContextTier(msgspec.Struct, frozen=True):
    """A row of `tiered_pricing`: prices the whole request when its prompt has at most `up_to_tokens`."""

    up_to_tokens: int
    rates: RateTable


class MapEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of one model as the map states them."""

    key: str
    provider: str
    mode: str
    max_output_tokens: int | None
    rates: RateTable
    context_tiers: tuple[ContextTier, ...]
    off_peak: OffPeak | None
    multipliers: dict[str, Decimal]
    has_other_units: bool  # the call, or a part of it, has a price by seconds, pages, images …
    has_request_price: bool

    @property
    def all_rates(self) -> list[Decimal]:
        """Every token rate of the entry, in no order that means anything."""
        return [*self.rates.values(), *(rate for tier in self.context_tiers for rate in tier.rates.values())]

    @property
    def is_priced_by_tokens(self) -> bool:
        """Tell whether tokens alone price a call of this model (zeros beside another unit's price do not)."""
        rates = self.all_rates
        return not self.has_request_price and (any(rates) or (bool(rates) and not self.has_other_units))

    @property
    def is_zero(self) -> bool:
        """Tell whether the map states explicitly that this model costs nothing."""
        return self.is_priced_by_tokens and (TEXT_INPUT, 0, STANDARD) in self.rates and not any(self.all_rates)


def read_entry(key: str, entry: dict[str, Any]) -> MapEntry:
    """Return the entry's prices; CostMapError when a price-relevant value is not what it should be."""
    return MapEntry(
        key=key,
        provider=str(entry.get("litellm_provider", "")),
        mode=str(entry.get("mode", "")),
        max_output_tokens=_token_limit(entry),
        rates=_token_rates(key, entry),
        context_tiers=_context_tiers(key, entry),
        off_peak=_off_peak(key, entry),
        multipliers=_multipliers(key, entry),
        has_other_units=_has_other_units(entry),
        has_request_price=bool(entry.get(_REQUEST_KEY)),
    )


def not_understood(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the price-relevant keys of the entry that rating does not use; a dot leads into a structured key."""
    for name, value in entry.items():
        if not rate_keys.is_price_relevant(name):
            continue
        if not rate_keys.is_understood(name):
            yield name
        elif name == rate_keys.PROVIDER_SPECIFIC:
            yield from (f"{name}.{part}" for part in value if part not in rate_keys.PROVIDER_MULTIPLIERS)
        elif name == rate_keys.TIERED_PRICING:
            yield from (f"{name}.{part}" for row in value for part in row if not _is_tier_part(part))
        elif name == rate_keys.OFF_PEAK_PRICING:
            yield from (f"{name}.{part}" for part in value if not _is_off_peak_part(part))


def _is_tier_part(part: str) -> bool:
    return part == "range" or rate_keys.parse_rate_key(part) is not None


def _is_off_peak_part(part: str) -> bool:
    return part in {"windows", "weekday_timezone"} or rate_keys.parse_rate_key(part) is not None


def _amount(key: str, name: str, value: object) -> Decimal:
    """Return a rate or factor: a number that is not negative. The map's numbers were read as text, never as floats."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise CostMapError(f"{key}: {name} must be a number, not {value!r}")
    try:
        amount = check_amount(Decimal(value))
    except AmountError as error:
        raise CostMapError(f"{key}: {name} = {value} is {error}") from error
    if amount < 0:
        raise CostMapError(f"{key}: {name} = {value} is negative")
    return amount


def _token_limit(entry: dict[str, Any]) -> int | None:
    limit = entry.get("max_output_tokens", entry.get("max_tokens"))
    return limit if isinstance(limit, int) else None


def _token_rates(key: str, entry: dict[str, Any]) -> RateTable:
    parsed = ((name, rate_keys.parse_rate_key(name), value) for name, value in entry.items())
    return {
        (rate_key.kind, rate_key.above_tokens, rate_key.tier): _amount(key, name, value)
        for name, rate_key, value in parsed
        if rate_key is not None
    }


def _context_tiers(key: str, entry: dict[str, Any]) -> tuple[ContextTier, ...]:
    """Return the rows by prompt length; tables by something else (search results) hold no token rates."""
    rows = entry.get(rate_keys.TIERED_PRICING, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CostMapError(f"{key}: tiered_pricing must be a list of objects")
    tiers = [ContextTier(_upper_bound(key, row), _token_rates(key, row)) for row in rows if "range" in row]
    return tuple(sorted(tiers, key=lambda tier: tier.up_to_tokens))


def _upper_bound(key: str, row: dict[str, Any]) -> int:
    bounds = row["range"]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise CostMapError(f"{key}: tiered_pricing range must be [from, to], not {bounds!r}")
    return int(_amount(key, "tiered_pricing range", bounds[1]))


def _off_peak(key: str, entry: dict[str, Any]) -> OffPeak | None:
    document = entry.get(rate_keys.OFF_PEAK_PRICING)
    if document is None:
        return None
    try:
        flat = {kind: rate for (kind, _, _), rate in _token_rates(key, document).items()}
        return parse_off_peak(flat, document)
    except (AttributeError, ValueError) as error:
        raise CostMapError(f"{key}: off_peak_pricing: {error}") from error


def _multipliers(key: str, entry: dict[str, Any]) -> dict[str, Decimal]:
    """Return the factors of the entry by the name lines show them under."""
    specific = entry.get(rate_keys.PROVIDER_SPECIFIC, {})
    if not isinstance(specific, dict):
        raise CostMapError(f"{key}: provider_specific_entry must be an object, not {specific!r}")
    stated = [(name, entry.get(name), label) for name, label in rate_keys.MULTIPLIER_KEYS.items()]
    stated += [(name, specific.get(name), label) for name, label in rate_keys.PROVIDER_MULTIPLIERS.items()]
    return {label: _amount(key, name, value) for name, value, label in stated if value is not None}


def _has_other_units(entry: dict[str, Any]) -> bool:
    tables = entry.get(rate_keys.TIERED_PRICING, [])
    return any(bool(value) and rate_keys.prices_other_units(name) for name, value in entry.items()) or any(
        "range" not in row for row in tables
    )
