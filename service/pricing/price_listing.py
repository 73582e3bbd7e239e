"""Every rate of a price entry as a list for people and programs: what is priced, when, at how much. Pure."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from service.kit.money import format_amount
from service.pricing.map_entry import MapEntry
from service.pricing.off_peak import OffPeakWindow
from service.pricing.rate_keys import STANDARD, RateTable
from service.pricing.units import unit_of

_MINUTES_OF_HOUR = 60


class ListedRate(msgspec.Struct, frozen=True, kw_only=True):
    """One rate: USD for one unit of a kind, for requests with so many input tokens (null = without such an end).

    A kind may be qualified, such as `output_images/1024x1024`. `service_tier` null = the standard one.
    """

    kind: str
    unit: str
    usd: str
    service_tier: str | None = None
    from_input_tokens: int | None = None
    to_input_tokens: int | None = None
    is_off_peak: bool = False


class ListedWindow(msgspec.Struct, frozen=True):
    """When off-peak rates hold: spans of hours in UTC on ISO weekdays (Monday = 1) of the zone."""

    hours_utc: list[str]
    weekdays: list[int]
    weekday_timezone: str


def list_rates(entry: MapEntry) -> list[ListedRate]:
    """Return every rate of the entry, in the order of the map: by tokens, by context, off-peak, by other units."""
    return [
        *_table(entry, entry.rates),
        *(rate for index in range(len(entry.context_tiers)) for rate in _context_tier(entry, index)),
        *_off_peak(entry),
        *_table(entry, entry.unit_rates),
    ]


def list_windows(entry: MapEntry) -> list[ListedWindow]:
    """Return when the entry's off-peak rates hold."""
    off_peak = entry.off_peak
    if off_peak is None:
        return []
    return [
        ListedWindow(_hours(window), sorted(window.weekdays), str(off_peak.weekday_zone)) for window in off_peak.windows
    ]


def _table(entry: MapEntry, rates: RateTable) -> Iterator[ListedRate]:
    # Everybody's list says "more than N tokens", xAI's says "N tokens or more".
    first_above = 0 if entry.provider == "xai" else 1
    for (kind, above, tier), usd in rates.items():
        yield _listed(kind, usd, tier, from_tokens=above + first_above if above else None)


def _context_tier(entry: MapEntry, index: int) -> Iterator[ListedRate]:
    tiers = entry.context_tiers
    first = tiers[index - 1].up_to_tokens + 1 if index else 0
    # The last row also prices what is longer.
    last = tiers[index].up_to_tokens if index < len(tiers) - 1 else None
    for (kind, _, tier), usd in tiers[index].rates.items():
        yield _listed(kind, usd, tier, from_tokens=first or None, to_tokens=last)


def _off_peak(entry: MapEntry) -> Iterator[ListedRate]:
    if entry.off_peak is not None:
        for kind, usd in entry.off_peak.rates.items():
            yield _listed(kind, usd, STANDARD, is_off_peak=True)


def _listed(
    kind: str,
    usd: Decimal,
    tier: str,
    *,
    from_tokens: int | None = None,
    to_tokens: int | None = None,
    is_off_peak: bool = False,
) -> ListedRate:
    return ListedRate(
        kind=kind,
        unit=unit_of(kind),
        usd=format_amount(usd),
        service_tier=tier or None,
        from_input_tokens=from_tokens,
        to_input_tokens=to_tokens,
        is_off_peak=is_off_peak,
    )


def _hours(window: OffPeakWindow) -> list[str]:
    return [f"{_clock(start)}-{_clock(end)}" for start, end in window.spans]


def _clock(minutes: int) -> str:
    return f"{minutes // _MINUTES_OF_HOUR:02}:{minutes % _MINUTES_OF_HOUR:02}"
