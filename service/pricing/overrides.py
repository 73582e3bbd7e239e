"""A tenant's own rates over those of the price book. Pure.

Of several overrides that state a rate the most specific one wins: more conditions, then more exact ones, then the newer
rule. Factors are of the listed rate, or of the rates of an override that replaces the list; where there is none, a
factor stands back for the most specific price. What comes out is a map entry like any other, so that a call costs what
it would by a map written that way.
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
from service.pricing.rule_terms import OverrideTerms
from service.pricing.rules import MatchedRule, PricingRules, RatedCall
from service.pricing.unit_keys import PART_RATES, slot_of_key

_MAX_COMPILED: Final = 1024

Entry = dict[str, Any]
# By map key: the names of the overrides whose rate it is, of which tables have one each.
Applied = dict[str, tuple[str, ...]]


class Overridden(msgspec.Struct, frozen=True):
    """A price as a tenant's overrides have changed it: the map's keys they state, and their names."""

    found: FoundPrice
    keys: frozenset[str]
    names: tuple[str, ...]


class _Stated(msgspec.Struct, frozen=True):
    """What overrides state of a key, each with the override's name: the price, and the factor more specific than it."""

    usd: tuple[Decimal, str] | None = None
    factor: tuple[Decimal, str] | None = None


# By map key.
Statements = dict[str, _Stated]


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
        rules.compiled[known] = _compile(key, listed, matching)
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


def _compile(key: str, listed: Entry, matching: Sequence[MatchedRule[OverrideTerms]]) -> _Compiled | None:
    """Return the price by the listed entry and the overrides, from the least to the most specific; None if the same."""
    applied: Applied = {}
    replacing = [number for number, matched in enumerate(matching) if matched.terms.replace]
    if replacing:
        base, matching = matching[replacing[-1]], matching[replacing[-1] + 1 :]
        bare = {name: value for name, value in listed.items() if not is_price_relevant(name)}
        listed, applied = _overlaid(bare, _stated_by([base]))
    stated = _stated_by(matching)
    overlaid, own = _overlaid(listed, stated)
    applied |= own
    if not applied:
        return None
    keys, names = frozenset(applied), tuple(dict.fromkeys(name for each in applied.values() for name in each))
    entry = read_entry(key, overlaid)
    # Laid over nothing but the rates they name, overrides make the part of the price that is theirs.
    part, _ = _overlaid(_named(listed, keys), stated)
    overridden = find_slots(entry, overlaid, part)
    return _Compiled(ModelPrice(entry, overridden=overridden, override_names=names), keys, names)


def _stated_by(matching: Sequence[MatchedRule[OverrideTerms]]) -> Statements:
    """Return what counts of each key, of overrides from the least to the most specific."""
    stated: Statements = {}
    for matched in matching:
        for key, rate in matched.terms.rates.items():
            own = (rate.value, matched.rule.name)
            usd = stated[key].usd if key in stated else None
            stated[key] = _Stated(usd=usd, factor=own) if rate.is_factor else _Stated(usd=own)
    return stated


def _overlaid(listed: Mapping[str, Any], stated: Statements) -> tuple[Entry, Applied]:
    """Return the entry with the rates that win, also in the tables that come before the entry's own rates."""
    entry, applied = dict(listed), Applied()
    for key, rate in stated.items():
        name, dot, part = key.partition(".")
        table = dict(entry.get(name, {})) if dot else entry
        _state(table, part or key, rate, key, applied)
        if dot and table:
            entry[name] = table
    if TIERED_PRICING in entry:
        rows = entry[TIERED_PRICING]
        entry[TIERED_PRICING] = [_in_table(row, stated, applied, adds="range" in row) for row in rows]
    if OFF_PEAK_PRICING in entry:
        entry[OFF_PEAK_PRICING] = _in_table(entry[OFF_PEAK_PRICING], stated, applied, adds=False)
    return entry, applied


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


def _in_table(table: Mapping[str, Any], stated: Statements, applied: Applied, *, adds: bool) -> Entry:
    """Return a table of rates with those that win: a context tier takes any, off-peak hours only what they state."""
    changed = dict(table)
    for key, rate in stated.items():
        if adds or key in changed:
            _state(changed, key, rate, key, applied)
    return changed


def _state(table: Entry, name: str, stated: _Stated, key: str, applied: Applied) -> None:
    """State a rate in a table: by the factor where one is listed, else by the price; neither changes nothing."""
    if stated.factor is not None and name in table:
        value, override = stated.factor
        table[name] = EXACT.multiply(Decimal(table[name]), value)
    elif stated.usd is not None:
        table[name], override = stated.usd
    else:
        return
    applied[key] = tuple(dict.fromkeys((*applied.get(key, ()), override)))
