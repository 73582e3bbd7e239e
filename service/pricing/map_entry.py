"""One entry of a cost map in LiteLLM's JSON form, read into typed rates; says what it does not understand. Pure."""

from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any

import msgspec

from service.kit.money import EXACT, AmountError, check_amount
from service.pricing import rate_keys, unit_keys
from service.pricing.off_peak import OffPeak, parse_off_peak
from service.pricing.providers import is_google
from service.pricing.rate_keys import STANDARD, TEXT_INPUT, RateTable
from service.pricing.unit_rates import settle_units
from service.pricing.units import CALL_SECONDS, CONTENT, GUARDRAIL_UNITS, QUERIES, REQUESTS, WEB_SEARCHES, qualified

# Units that are the call itself, and not a tool or a part counted apart.
_MAIN_UNITS = CONTENT | {CALL_SECONDS, REQUESTS}


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
    unit_rates: RateTable  # of everything that is no token, by the names of `units`
    result_limits: tuple[int, ...]  # a search is priced by how many results it may return: the limits of the rows
    free_input_images: int  # of a prompt, before they are charged
    is_search_per_request: bool  # a request that searched is charged once, however often it did
    free_searches: str | None  # the allowance of a group of models, in words

    @property
    def all_rates(self) -> list[Decimal]:
        """Every token rate of the entry, in no order that means anything."""
        return [*self.rates.values(), *(rate for tier in self.context_tiers for rate in tier.rates.values())]

    @property
    def unit_kinds(self) -> frozenset[str]:
        """The units by which the call itself has a price that is not zero: seconds, pages, images …"""
        priced = {kind.partition("/")[0] for (kind, _, _), rate in self.unit_rates.items() if rate}
        return frozenset(priced & _MAIN_UNITS)

    @property
    def is_priced_by_tokens(self) -> bool:
        """Tell whether tokens price a call of this model (zeros beside another unit's price do not)."""
        rates = self.all_rates
        return any(rates) or (bool(rates) and not self.unit_kinds)

    def has_token_prices(self, kinds: AbstractSet[str], other_units: AbstractSet[str]) -> bool:
        """Tell whether these kinds of tokens have a price, or nothing else of that direction has one."""
        tables = (self.rates, *(tier.rates for tier in self.context_tiers))
        return not self.unit_kinds & other_units or any(
            rate for table in tables for (kind, _, _), rate in table.items() if kind in kinds
        )

    @property
    def is_priced_by_other_units(self) -> bool:
        """Tell whether something else than tokens prices a call, be it with zero."""
        return not self.is_priced_by_tokens and bool(self.unit_rates)

    @property
    def is_zero(self) -> bool:
        """Tell whether the map states explicitly that this model costs nothing."""
        stated = (TEXT_INPUT, 0, STANDARD) in self.rates or any(kind in _MAIN_UNITS for kind, _, _ in self.unit_rates)
        return stated and not any(self.all_rates) and not any(self.unit_rates.values())


def read_entry(key: str, entry: dict[str, Any]) -> MapEntry:
    """Return the entry's prices; CostMapError when a price-relevant value is not what it should be."""
    rows = _rows(key, entry)
    rates, context_tiers = _token_rates(key, entry), _context_tiers(key, rows)
    provider, mode = str(entry.get("litellm_provider", "")), str(entry.get("mode", ""))
    return MapEntry(
        key=key,
        provider=provider,
        mode=mode,
        max_output_tokens=_token_limit(entry),
        rates=rates,
        context_tiers=context_tiers,
        off_peak=_off_peak(key, entry),
        multipliers=_multipliers(key, entry),
        unit_rates=settle_units(read_unit_rates(key, entry), mode, has_token_rates=bool(rates or context_tiers)),
        result_limits=tuple(sorted(_result_rates(key, rows))),
        free_input_images=_free_input_images(key, entry),
        is_search_per_request=_is_search_per_request(provider, entry),
        free_searches=_free_searches(entry),
    )


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
    rates: RateTable = {}
    second_names: RateTable = {}
    for name, value in entry.items():
        parsed = rate_keys.parse_rate_key(rate_keys.SECOND_NAMES.get(name, name))
        if parsed is not None:
            target = second_names if name in rate_keys.SECOND_NAMES else rates
            target[parsed.kind, parsed.above_tokens, parsed.tier] = _amount(key, name, value)
    return second_names | rates


def read_unit_rates(key: str, entry: dict[str, Any]) -> RateTable:
    """Return the rates of all that is no token, by what keys say and not yet by what the mode makes of it."""
    queries = _result_rates(key, _rows(key, entry))
    rates: RateTable = {(qualified(QUERIES, str(limit)), 0, STANDARD): rate for limit, rate in queries.items()}
    second_names: RateTable = {}
    for name, value in entry.items():
        parsed = unit_keys.parse_unit_key(name)
        if parsed is not None:
            target = second_names if parsed.is_second_name else rates
            amount = _amount(key, name, value)
            target[parsed.kind, parsed.above_tokens, parsed.tier] = EXACT.divide(amount, Decimal(parsed.per))
    for size, rate in _part_rates(key, unit_keys.SEARCH_CONTEXT, entry).items():
        if size in unit_keys.SEARCH_SIZES:
            rates[qualified(WEB_SEARCHES, unit_keys.SEARCH_SIZES[size]), 0, STANDARD] = rate
    for policy, rate in _part_rates(key, unit_keys.GUARDRAIL, entry).items():
        rates[qualified(GUARDRAIL_UNITS, policy), 0, STANDARD] = rate
    return second_names | rates


def _part_rates(key: str, name: str, entry: dict[str, Any]) -> dict[str, Decimal]:
    """Return the rates of a key that holds one for each size or policy."""
    parts = entry.get(name, {})
    if not isinstance(parts, dict):
        raise CostMapError(f"{key}: {name} must be an object, not {parts!r}")
    return {part: _amount(key, f"{name}.{part}", rate) for part, rate in parts.items()}


def _rows(key: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
    rows = entry.get(rate_keys.TIERED_PRICING, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CostMapError(f"{key}: tiered_pricing must be a list of objects")
    return rows


def _context_tiers(key: str, rows: list[dict[str, Any]]) -> tuple[ContextTier, ...]:
    """Return the rows by prompt length."""
    tiers = [ContextTier(_upper_bound(key, row, "range"), _token_rates(key, row)) for row in rows if "range" in row]
    return tuple(sorted(tiers, key=lambda tier: tier.up_to_tokens))


def _result_rates(key: str, rows: list[dict[str, Any]]) -> dict[int, Decimal]:
    """Return the price of a query by up to how many results it may return."""
    name = unit_keys.RESULTS_RATE
    return {
        _upper_bound(key, row, unit_keys.RESULTS_RANGE): _amount(key, name, row[name])
        for row in rows
        if unit_keys.RESULTS_RANGE in row and name in row
    }


def _upper_bound(key: str, row: dict[str, Any], name: str) -> int:
    bounds = row[name]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise CostMapError(f"{key}: tiered_pricing {name} must be [from, to], not {bounds!r}")
    return int(_amount(key, f"tiered_pricing {name}", bounds[1]))


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
    specific = _provider_specific(key, entry)
    stated = [(name, entry.get(name), label) for name, label in rate_keys.MULTIPLIER_KEYS.items()]
    stated += [(name, specific.get(name), label) for name, label in rate_keys.PROVIDER_MULTIPLIERS.items()]
    return {label: _amount(key, name, value) for name, value, label in stated if value is not None}


def _provider_specific(key: str, entry: dict[str, Any]) -> dict[str, Any]:
    specific = entry.get(rate_keys.PROVIDER_SPECIFIC, {})
    if not isinstance(specific, dict):
        raise CostMapError(f"{key}: provider_specific_entry must be an object, not {specific!r}")
    return specific


def _free_searches(entry: dict[str, Any]) -> str | None:
    allowance = entry.get(unit_keys.SEARCH_ALLOWANCE)
    if not isinstance(allowance, dict):
        return None
    return f"{allowance.get('count')} per {allowance.get('period')}"


def _free_input_images(key: str, entry: dict[str, Any]) -> int:
    stated = _provider_specific(key, entry).get(unit_keys.FREE_INPUT_IMAGES, 0)
    return int(_amount(key, unit_keys.FREE_INPUT_IMAGES, stated))


def _is_search_per_request(provider: str, entry: dict[str, Any]) -> bool:
    """Tell whether a request that searched is charged once, however often it did.

    Google charges grounded prompts of Gemini 2, and each query of later models, which the list says. Perplexity takes
    a fee per request by the context size, and where the size makes no difference one per query.
    """
    if provider == "perplexity":
        return len(set(entry.get(unit_keys.SEARCH_CONTEXT, {}).values())) > 1
    return is_google(provider) and entry.get(unit_keys.SEARCH_BILLING) != unit_keys.PER_QUERY
