"""A tenant's own rates over those of the price book. Pure.

Of several overrides that state a rate the most specific one wins: more conditions, then more exact ones, then the newer
rule. Factors are of the listed rate, or of the rates of an override that replaces the list. What comes out is a map
entry like any other, so that a call costs what it would by a map written that way.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from service.kit.money import EXACT
from service.pricing.map_entry import read_entry
from service.pricing.map_keys import is_price_relevant
from service.pricing.model_price import ModelPrice
from service.pricing.overridden_slots import find_slots
from service.pricing.price_book import FoundPrice, PriceBook
from service.pricing.rate_keys import OFF_PEAK_PRICING, TIERED_PRICING
from service.pricing.rule_terms import OverrideRate, OverrideTerms
from service.pricing.rules import MatchedRule, PricingRules, RatedCall
from service.pricing.unit_keys import PART_RATES, slot_of_key

_MAX_COMPILED: Final = 1024

Entry = dict[str, Any]
# By map key: the rate that wins and the name of its override.
Winners = dict[str, tuple[OverrideRate, str]]


class Overridden(msgspec.Struct, frozen=True):
    """A price as a tenant's overrides have changed it: the map's keys they state, and their names."""

    found: FoundPrice
    keys: frozenset[str]
    names: tuple[str, ...]


class _Compiled(msgspec.Struct, frozen=True):
    price: ModelPrice
    keys: frozenset[str]
    names: tuple[str, ...]


def find_overridden(
    rules: PricingRules, call: RatedCall, found: FoundPrice | None, book: PriceBook
) -> Overridden | None:
    """Return the price of the call under the overrides in force; None when none changes it."""
    if not rules.overrides:
        return None
    key = _price_key(call, found)
    if key is None:
        return None
    if found is not None:
        call = msgspec.structs.replace(call, price_key=key, mode=found.price.entry.mode)
    matching = rules.overrides.in_force(call)
    if not matching:
        return None
    origin = (found is None, call.models.provider if found is None else None)
    known = (book.version, key, origin, tuple([matched.rule.rule_id for matched in matching]))
    if known not in rules.compiled:
        if len(rules.compiled) >= _MAX_COMPILED:
            rules.compiled.clear()
        listed = _listed_entry(call, key, found, book)
        rules.compiled[known] = _compile(key, listed, matching, is_listed=found is not None)
    compiled: _Compiled | None = rules.compiled[known]
    if compiled is None:
        return None
    return Overridden(FoundPrice(compiled.price, "" if found is None else found.rule), compiled.keys, compiled.names)


def _price_key(call: RatedCall, found: FoundPrice | None) -> str | None:
    """Return the key the price has or, of a model the book does not know, gets."""
    if found is not None:
        return found.price.key
    candidates = call.models.price_candidates
    return candidates[0].name if candidates else call.models.served_model


def _listed_entry(call: RatedCall, key: str, found: FoundPrice | None, book: PriceBook) -> Entry:
    if found is None:
        return {"litellm_provider": call.models.provider or ""}
    entry = book.raw_entry(key)
    assert entry is not None, "a price was found in a book that has no such key"
    return entry


def _compile(
    key: str, listed: Entry, matching: Sequence[MatchedRule[OverrideTerms]], *, is_listed: bool
) -> _Compiled | None:
    """Return the price by the listed entry and the overrides, from the least to the most specific."""
    stated: Winners = {}
    replacing = [number for number, matched in enumerate(matching) if matched.terms.replace]
    if replacing:
        base, matching = matching[replacing[-1]], matching[replacing[-1] + 1 :]
        stated = _rates_of([base])
        listed = _overlaid({name: value for name, value in listed.items() if not is_price_relevant(name)}, stated)
    winners = _rates_of(matching)
    if not is_listed and not replacing and all(rate.is_factor for rate, _ in winners.values()):
        return None
    stated |= winners
    keys, names = frozenset(stated), tuple(dict.fromkeys(name for _, name in stated.values()))
    overlaid = _overlaid(listed, winners)
    entry = read_entry(key, overlaid)
    # Laid over nothing but the rates they name, the overrides make the part of the price that they state.
    overridden = find_slots(entry, overlaid, _overlaid(_named(listed, keys), winners))
    return _Compiled(ModelPrice(entry, overridden=overridden, override_names=names), keys, names)


def _rates_of(matching: Sequence[MatchedRule[OverrideTerms]]) -> Winners:
    return {key: (rate, matched.rule.name) for matched in matching for key, rate in matched.terms.rates.items()}


def _overlaid(listed: Mapping[str, Any], winners: Winners) -> Entry:
    """Return the entry with the rates that win, also in the tables that come before the entry's own rates."""
    entry = dict(listed)
    for key, (rate, _) in winners.items():
        name, dot, part = key.partition(".")
        if dot:
            entry[name] = _with_rate(dict(entry.get(name, {})), part, rate)
        else:
            _with_rate(entry, key, rate)
    if TIERED_PRICING in entry:
        entry[TIERED_PRICING] = [_in_table(row, winners, adds="range" in row) for row in entry[TIERED_PRICING]]
    if OFF_PEAK_PRICING in entry:
        entry[OFF_PEAK_PRICING] = _in_table(entry[OFF_PEAK_PRICING], winners, adds=False)
    return entry


def _named(listed: Mapping[str, Any], keys: frozenset[str]) -> Entry:
    """Return the entry with no other rates than those of the keys, in its tables neither."""
    entry = _named_in_table(listed, keys)
    for name in PART_RATES & entry.keys():
        entry[name] = {part: rate for part, rate in entry[name].items() if f"{name}.{part}" in keys}
    if TIERED_PRICING in entry:
        entry[TIERED_PRICING] = [_named_in_table(row, keys) for row in entry[TIERED_PRICING]]
    if OFF_PEAK_PRICING in entry:
        entry[OFF_PEAK_PRICING] = _named_in_table(entry[OFF_PEAK_PRICING], keys)
    return entry


def _named_in_table(table: Mapping[str, Any], keys: frozenset[str]) -> Entry:
    return {name: value for name, value in table.items() if name in keys or slot_of_key(name) is None}


def _in_table(table: Mapping[str, Any], winners: Winners, *, adds: bool) -> Entry:
    """Return a table of rates with those that win: a context tier takes any, off-peak hours only what they state."""
    changed = dict(table)
    for key, (rate, _) in winners.items():
        if adds or key in changed:
            _with_rate(changed, key, rate)
    return changed


def _with_rate(table: Entry, key: str, rate: OverrideRate) -> Entry:
    """State a rate in a table; a factor of what is not listed changes nothing."""
    if not rate.is_factor:
        table[key] = rate.value
    elif key in table:
        table[key] = EXACT.multiply(Decimal(table[key]), rate.value)
    return table
