"""Whatever a cost map holds: it is taken, or refused with the reason; it never breaks the server."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.pricing.book_candidate import entries_of, read_candidate
from service.pricing.book_diff import compare_books, flat_values
from service.pricing.cost_map import decode_entry
from service.pricing.map_entry import CostMapError
from service.pricing.price_book import PriceBook
from service.pricing.price_listing import list_rates, list_windows
from service.pricing.shipped import shipped_snapshot

_SHIPPED = entries_of(shipped_snapshot())
KEYS = sorted({key for entry in _SHIPPED.values() for key in decode_entry(entry)})
INNER = sorted(
    {
        part.rpartition(".")[2].partition("[")[0]
        for entry in _SHIPPED.values()
        for part, _, _ in flat_values(decode_entry(entry))
    }
    | {"hours_utc", "weekdays", "weekday_timezone", "windows", "range", "count", "period"}
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "Europe", "Europe/Berlin", "../x", "a\x00b", "24:00-25:00", "22:00-06:00", "per_query", "0"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER) | st.text(max_size=3), inner),
    max_leaves=8,
)
entries = st.dictionaries(st.sampled_from(KEYS) | st.just("x_cost"), values, max_size=6)
maps = st.dictionaries(st.sampled_from(["a", "b/c", "azure/model-router"]), entries, min_size=1, max_size=3)


def _with_off_peak_zone(zone: str) -> dict[str, Any]:
    windows = [{"hours_utc": "22:00-06:00"}]
    return {"a": {"off_peak_pricing": {"windows": windows, "weekday_timezone": zone, "input_cost_per_token": 1}}}


@settings(max_examples=400, deadline=None)
@given(maps, maps)
@example(_with_off_peak_zone("Europe"), _with_off_peak_zone("Europe/Berlin"))
@example(_with_off_peak_zone("x" * 5000), _with_off_peak_zone("../../etc/passwd"))
@example({"a": {"web_search_billing_unit": [1]}}, {"a": {"web_search_billing_unit": {}}})
def test_a_map_is_taken_whole_or_refused_with_a_reason(one: dict[str, Any], other: dict[str, Any]):
    taken = []
    for document in (one, other):
        try:
            taken.append(read_candidate(json.dumps(document).encode(), origin=""))
        except CostMapError as error:
            assert str(error)  # noqa: PT017 - nothing else may be raised
    for candidate in taken:
        book = PriceBook.from_snapshot(candidate.snapshot)
        for key in book:
            price = book.find(key)
            assert price is not None
            assert all(float(rate.usd) >= 0 for rate in list_rates(price.entry))
            assert isinstance(list_windows(price.entry), list)
    if len(taken) == 2:
        there = compare_books(taken[0].entries, taken[1].entries)
        back = compare_books(taken[1].entries, taken[0].entries)
        assert (there.added, there.removed, there.unchanged) == (back.removed, back.added, back.unchanged)
        assert there.is_empty == (taken[0].version == taken[1].version)
