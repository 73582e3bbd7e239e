"""Which rates of a price a tenant's overrides state, table by table: all others are the list's. Pure."""

from typing import Any

import msgspec

from service.pricing.map_entry import MapEntry, read_entry, read_unit_rates
from service.pricing.rate_keys import STANDARD, Slot
from service.pricing.unit_rates import unit_sources


class OverriddenSlots(msgspec.Struct, frozen=True):
    """The slots that overrides state: of the entry's own rates, its context tiers, its off-peak hours, its units."""

    rates: frozenset[Slot]
    context_tiers: tuple[frozenset[Slot], ...]
    off_peak: frozenset[Slot]
    unit_rates: frozenset[Slot]


def find_slots(price: MapEntry, entry: dict[str, Any], stated: dict[str, Any]) -> OverriddenSlots:
    """Return the slots of a price, read from `entry`, whose rates come from that part of it which overrides state."""
    part = read_entry(price.key, stated)
    own_units = read_unit_rates(price.key, stated).keys()
    has_token_rates = bool(price.rates or price.context_tiers)
    sources = unit_sources(read_unit_rates(price.key, entry), price.mode, has_token_rates=has_token_rates)
    return OverriddenSlots(
        rates=frozenset(part.rates),
        context_tiers=tuple(frozenset(tier.rates) for tier in part.context_tiers),
        off_peak=frozenset((kind, 0, STANDARD) for kind in (part.off_peak.rates if part.off_peak else ())),
        unit_rates=frozenset(slot for slot, made_of in sources.items() if not own_units.isdisjoint(made_of)),
    )
