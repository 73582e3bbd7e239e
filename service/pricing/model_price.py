"""The price of one model, ready to rate with: which rate each token kind has in a tier, a context, at a time. Pure.

Rates are resolved once per combination and kept, so that rating an event only looks them up. A rate the map does not
state is substituted by the documented rule, and the rate's note says so.
"""

from bisect import bisect_left, bisect_right
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from service.kit.money import EXACT
from service.pricing.map_entry import MapEntry
from service.pricing.overridden_slots import OverriddenSlots
from service.pricing.providers import CACHE_READ_AT_HALF
from service.pricing.rate_keys import (
    BATCHES,
    CACHE_READ,
    INPUT_KINDS,
    OUTPUT_KINDS,
    REASONING,
    SERVICE_TIERS,
    STANDARD,
    SUBSTITUTE_OF,
    TEXT_OUTPUT,
    TOKEN_KINDS,
    RateTable,
    Slot,
)
from service.pricing.units import (
    ANNOTATED_PAGES,
    CONTENT,
    DOCUMENTS,
    INPUT_CONTENT,
    OUTPUT_CONTENT,
    PAGES,
    QUERIES,
    REQUESTS,
    TOOLS,
    WEB_SEARCHES,
)
from service.pricing.usage import PricingBasis

_HALF = Decimal("0.5")
_ONE = Decimal(1)
_NOWHERE: frozenset[Slot] = frozenset()
_INPUT_UNITS = INPUT_CONTENT | DOCUMENTS

_TIER_NAMES = {tier: tier for tier in SERVICE_TIERS} | {"batch": BATCHES, "fast": "priority"}
_STANDARD_NAMES = frozenset({"", "default", "standard", "auto", "on_demand"})
_UNKNOWN_TIER = "unknown"

# Far more combinations than one model has; a bound all the same, because the names of rules come from elsewhere.
_MAX_RESOLVED = 512


class Precision(NamedTuple):
    """How close the slot that states a rate is to what was asked for; of two rates the greater one is closer."""

    substitutes: int = 0  # one less for each kind on the way to the one that stands in
    above_tokens: int = 0
    is_of_tier: bool = False


_EXACT_KIND = Precision()


class Rate(msgspec.Struct, frozen=True):
    """USD for one as stated, and what is charged: `charged_usd` = `usd` x `multiplier`, exactly."""

    usd: Decimal
    charged_usd: Decimal
    multiplier: Decimal
    price_key: str | None
    note: str | None
    is_overridden: bool = False  # its amount comes from a rate that the tenant states, its own or one that stands in
    precision: Precision = _EXACT_KIND


# By kind of token or unit (`units`); a kind is absent when the map has no rate for it and no rule gives one.
Rates = dict[str, Rate]


class _Selection(NamedTuple):
    """What chooses among the rates of one model; the key under which resolved rates are kept."""

    tier: str
    context: int  # index of the context tier, or the number of crossed thresholds
    is_off_peak: bool
    multipliers: tuple[str, ...]
    rule: str


_ANY_CALL = _Selection(STANDARD, 0, is_off_peak=False, multipliers=(), rule="")


class _Stated(msgspec.Struct, frozen=True):
    """A rate the map states for a kind itself, where, and why it is not exactly the one asked for."""

    usd: Decimal
    slot: Slot
    notes: tuple[str, ...]


class _Chosen(NamedTuple):
    """The rate of a kind, its own one or one that stands in for it."""

    usd: Decimal
    notes: tuple[str, ...]
    is_overridden: bool
    precision: Precision


class ModelPrice:
    """All prices of one model; immutable but for the memory of what was resolved."""

    __slots__ = (
        "_any_unit_rates",
        "_bounds",
        "_halves_cache_reads",
        "_has_multipliers",
        "_is_configured",
        "_off_peak",
        "_overridden",
        "_override_note",
        "_resolved",
        "_unit_kinds",
        "entry",
        "has_rates",
        "has_tiers",
        "is_input_by_tokens",
        "is_output_by_tokens",
        "is_overridden",
        "is_plain",
        "is_priced_by_tokens",
        "is_zero",
        "key",
        "tool_kinds",
        "unit_kinds",
    )

    def __init__(
        self,
        entry: MapEntry,
        *,
        overridden: OverriddenSlots | None = None,
        override_names: tuple[str, ...] = (),
        is_configured: bool = False,
    ) -> None:
        """Take an entry; of one that a tenant's overrides changed, also where they state rates and their names.

        `is_configured`: it is no entry of a price book but what a deployment on the gateway is configured with.
        """
        self.entry = entry
        self.key = entry.key
        self.is_priced_by_tokens = entry.is_priced_by_tokens
        self.is_input_by_tokens = entry.is_priced_by_tokens and entry.has_token_prices(INPUT_KINDS, _INPUT_UNITS)
        self.is_output_by_tokens = entry.is_priced_by_tokens and entry.has_token_prices(OUTPUT_KINDS, OUTPUT_CONTENT)
        # Tokens are all there is to charge for, unless the call used a tool or something else that is counted.
        self.unit_kinds = entry.unit_kinds
        self.is_plain = self.is_input_by_tokens and self.is_output_by_tokens and REQUESTS not in self.unit_kinds
        self.is_zero = entry.is_zero
        self.is_overridden = overridden is not None
        self.has_tiers = any(tier for _, _, tier in entry.rates)
        self.has_rates = bool(entry.all_rates or entry.unit_rates)
        thresholds = sorted({above for _, above, _ in (*entry.rates, *entry.unit_rates) if above})
        self._bounds = [tier.up_to_tokens for tier in entry.context_tiers] or thresholds
        self._off_peak = entry.off_peak
        self._has_multipliers = bool(entry.multipliers)
        self._unit_kinds = tuple(sorted({kind for kind, _, _ in entry.unit_rates}))
        self.tool_kinds = tuple(kind for kind in self._unit_kinds if kind.partition("/")[0] in TOOLS)
        self._overridden = overridden
        self._halves_cache_reads = entry.provider in CACHE_READ_AT_HALF and not is_configured
        self._is_configured = is_configured
        self._override_note = (f"override {', '.join(override_names)}",)
        self._any_unit_rates: Rates | None = None
        self._resolved: dict[tuple[str, int, bool, tuple[str, ...], str], Rates] = {}

    def rates_for(self, input_tokens: int, basis: PricingBasis, occurred_at: datetime | None, rule: str) -> Rates:
        """Return the rates of a call with that many prompt tokens; notes tell the `rule` by which the entry was found.

        Without `occurred_at` the off-peak rates never hold.
        """
        off_peak = self._off_peak
        selection = (
            BATCHES if basis.is_batch else STANDARD if basis.service_tier is None else _tier_of(basis.service_tier),
            self._context_of(input_tokens) if self._bounds else 0,
            off_peak is not None and occurred_at is not None and off_peak.holds_at(occurred_at),
            self._multipliers_of(basis) if self._has_multipliers else (),
            rule,
        )
        return self._resolved.get(selection) or self._resolve(_Selection(*selection))

    def charges(self, kind: str) -> bool:
        """Tell whether tokens of a kind are charged, and not what else measures that direction."""
        return self.is_input_by_tokens if kind in INPUT_KINDS else self.is_output_by_tokens

    def _context_of(self, input_tokens: int) -> int:
        tiers = self.entry.context_tiers
        if tiers:
            return min(bisect_left(self._bounds, input_tokens), len(tiers) - 1)
        # Everybody's list says "more than N tokens", xAI's says "N tokens or more".
        is_inclusive = self.entry.provider == "xai"
        return bisect_right(self._bounds, input_tokens) if is_inclusive else bisect_left(self._bounds, input_tokens)

    def _multipliers_of(self, basis: PricingBasis) -> tuple[str, ...]:
        """Return the names of those multipliers of the entry that apply to the call."""
        names = []
        if basis.data_residency is not None:
            names.append(f"data residency {basis.data_residency.lower()}")
        if basis.vertex_location is not None and basis.vertex_location.lower() != "global":
            names.append("regional endpoint")
        if basis.inference_geography is not None:
            names.append(f"inference geography {basis.inference_geography.lower()}")
        if basis.speed is not None:
            names.append(f"{basis.speed.lower()} mode")
        return tuple(name for name in names if name in self.entry.multipliers) if names else ()

    def _resolve(self, selection: _Selection) -> Rates:
        if len(self._resolved) >= _MAX_RESOLVED:
            self._resolved.clear()
        multiplier = _ONE
        for name in selection.multipliers:
            multiplier = EXACT.multiply(multiplier, self.entry.multipliers[name])
        told = (*self._origin_note(selection.rule), *_notes_of(selection))
        resolved = {
            kind: Rate(
                chosen.usd,
                EXACT.multiply(chosen.usd, multiplier),
                multiplier,
                self._line_key,
                "; ".join((*chosen.notes, *told)) or None,
                chosen.is_overridden,
                chosen.precision,
            )
            for kind, chosen in self._substituted(selection).items()
        }
        self._resolved[selection] = resolved | self._unit_rates(selection)
        return self._resolved[selection]

    def _substituted(self, selection: _Selection) -> dict[str, _Chosen]:
        """Return rate and notes of each kind of token that has a rate of its own or one that stands in for it."""
        table, crossed = self._table_of(selection)
        overridden = self._overridden_of(selection)
        stated = {kind: _stated_rate(table, kind, selection.tier, crossed) for kind in TOKEN_KINDS}
        if _is_less_specific(stated[REASONING], stated[TEXT_OUTPUT]):
            stated[REASONING] = None
        rates: dict[str, _Chosen] = {}
        for kind in TOKEN_KINDS:  # what stands in for a kind comes before it in this order
            own = stated[kind]
            parent = SUBSTITUTE_OF.get(kind, "")
            if own is not None:
                rates[kind] = self._chosen(own, overridden)
            elif parent in rates:
                usd, notes, is_overridden, precision = rates[parent]
                note = f"no {kind} rate: {parent} rate"
                if kind == CACHE_READ and self._halves_cache_reads and selection.tier != BATCHES:
                    usd, note = EXACT.multiply(usd, _HALF), f"no {kind} rate: half the {parent} rate"
                rates[kind] = _Chosen(usd, (note, *notes), is_overridden, _one_further(precision))
        return rates

    def _chosen(self, stated: _Stated, overridden: frozenset[Slot]) -> _Chosen:
        is_overridden = stated.slot in overridden
        notes = (*self._override_note, *stated.notes) if is_overridden else stated.notes
        _, above, tier = stated.slot
        return _Chosen(stated.usd, notes, is_overridden, Precision(0, above, tier != STANDARD))

    def unit_rates(self) -> Rates:
        """Return the rates of all that is no token, whatever the call."""
        if self._any_unit_rates is None:
            self._any_unit_rates = self._unit_rates(_ANY_CALL)
        return self._any_unit_rates

    def _unit_rates(self, selection: _Selection) -> Rates:
        """Return the rates of all that is no token; multipliers are of tokens, tiers and batches of content."""
        table = self.entry.unit_rates
        crossed = [] if self.entry.context_tiers else self._bounds[: selection.context]
        told = self._origin_note(selection.rule)
        overridden = _NOWHERE if self._overridden is None else self._overridden.unit_rates
        rates: Rates = {}
        for kind in self._unit_kinds:
            unit = kind.partition("/")[0]
            stated = _stated_rate(table, kind, selection.tier if unit in CONTENT else STANDARD, crossed)
            if stated is not None:
                usd, notes, is_overridden, precision = self._chosen(stated, overridden)
                notes = (*notes, *_qualifier_note(kind), *self._allowance(unit), *told)
                rates[kind] = Rate(usd, usd, _ONE, self._line_key, "; ".join(notes) or None, is_overridden, precision)
        if PAGES in rates and ANNOTATED_PAGES not in rates:
            pages = rates[PAGES]
            note = "; ".join((f"no {ANNOTATED_PAGES} rate: {PAGES} rate", *([pages.note] if pages.note else [])))
            precision = _one_further(pages.precision)
            rates[ANNOTATED_PAGES] = msgspec.structs.replace(pages, note=note, precision=precision)
        return rates

    @property
    def _line_key(self) -> str | None:
        return None if self._is_configured else self.key

    def _origin_note(self, rule: str) -> tuple[str, ...]:
        if self._is_configured:
            return ("rate configured on the deployment",)
        return (f"price found by {rule}",) if rule else ()

    def _allowance(self, unit: str) -> tuple[str, ...]:
        free = self.entry.free_searches
        return (f"without the free allowance of {free}",) if free and unit == WEB_SEARCHES else ()

    def _table_of(self, selection: _Selection) -> tuple[RateTable, list[int]]:
        """Return the rates to choose from and the thresholds the prompt is above."""
        entry = self.entry
        if entry.context_tiers:
            return entry.context_tiers[selection.context].rates, []
        table = entry.rates
        if selection.is_off_peak and entry.off_peak is not None:
            table = table | {(kind, 0, STANDARD): rate for kind, rate in entry.off_peak.rates.items()}
        return table, self._bounds[: selection.context]

    def _overridden_of(self, selection: _Selection) -> frozenset[Slot]:
        """Return which slots of that table overrides state."""
        entry, overridden = self.entry, self._overridden
        if overridden is None:
            return _NOWHERE
        if entry.context_tiers:
            return overridden.context_tiers[selection.context]
        if selection.is_off_peak and entry.off_peak is not None:
            return overridden.rates - {(kind, 0, STANDARD) for kind in entry.off_peak.rates} | overridden.off_peak
        return overridden.rates


def _tier_of(name: str) -> str:
    """Return the tier whose suffix to look for; all names no map knows are one tier: they cannot fill the memory."""
    lowered = name.lower()
    return STANDARD if lowered in _STANDARD_NAMES else _TIER_NAMES.get(lowered, _UNKNOWN_TIER)


def _stated_rate(table: RateTable, kind: str, tier: str, crossed: list[int]) -> _Stated | None:
    """Return the rate of the highest crossed threshold that has one; there, the tier's own before the standard one."""
    for above in (*reversed(crossed), 0):
        exact = table.get((kind, above, tier))
        if exact is not None:
            return _Stated(exact, (kind, above, tier), ())
        standard = table.get((kind, above, STANDARD))
        if standard is not None and tier == BATCHES:
            return _Stated(
                EXACT.multiply(standard, _HALF), (kind, above, STANDARD), ("no batch rate: half the standard rate",)
            )
        if standard is not None:
            return _Stated(standard, (kind, above, STANDARD), ("no rate of this service tier: standard rate",))
    return None


def _is_less_specific(reasoning: _Stated | None, output: _Stated | None) -> bool:
    """Tell whether the output rate is stated for this very tier and context and the reasoning rate is not."""
    if reasoning is None or output is None:
        return False
    return reasoning.slot[1] < output.slot[1] or bool(reasoning.notes and not output.notes)


def _one_further(precision: Precision) -> Precision:
    """Return the precision of a rate for a kind that it stands in for."""
    return precision._replace(substitutes=precision.substitutes - 1)


def _qualifier_note(kind: str) -> tuple[str, ...]:
    """Return for which size, resolution … a rate is, as its line tells."""
    unit, _, qualifier = kind.partition("/")
    if not qualifier:
        return ()
    if unit == WEB_SEARCHES:
        return (f"{qualifier} search context",)
    return (f"up to {qualifier} results",) if unit == QUERIES else (qualifier,)


def _notes_of(selection: _Selection) -> tuple[str, ...]:
    """Return what every line of the call has to tell."""
    return (
        *(("off-peak",) if selection.is_off_peak else ()),
        *(f"multiplied for {name}" for name in selection.multipliers),
    )
