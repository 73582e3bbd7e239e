"""Rates of an entry as a list."""

from typing import Any

from service.pricing.map_entry import MapEntry, read_entry
from service.pricing.price_listing import list_rates, list_windows
from tests.unit.pricing.builders import book_of, shipped_book

ALWAYS: tuple[Any, ...] = (None, None, None, False)


def listed(entry: dict[str, Any]) -> list[tuple[Any, ...]]:
    price = book_of({"m": entry}).find("m")
    assert price is not None
    return [
        (
            rate.kind,
            rate.unit,
            rate.usd,
            (rate.service_tier, rate.from_input_tokens, rate.to_input_tokens, rate.is_off_peak),
        )
        for rate in list_rates(price.entry)
    ]


def test_tiers_of_service_and_thresholds_of_the_prompt():
    assert listed(
        {
            "input_cost_per_token": 1e-6,
            "input_cost_per_token_flex": 5e-7,
            "input_cost_per_token_above_200k_tokens": 2e-6,
            "output_cost_per_image_1024x1024": 0.04,
        }
    )[:3] == [
        ("text_input", "token", "0.000001", ALWAYS),
        ("text_input", "token", "0.000002", (None, 200_001, None, False)),
        ("text_input", "token", "0.0000005", ("flex", None, None, False)),
    ]


def test_xai_counts_the_threshold_itself():
    entry = {"litellm_provider": "xai", "input_cost_per_token_above_200k_tokens": 1}
    assert listed(entry) == [("text_input", "token", "1", (None, 200_000, None, False))]


def test_rows_by_context_join_each_other_and_the_last_has_no_end():
    rows = [{"range": [0, 256_000], "input_cost_per_token": 1}, {"range": [256_000, 10**6], "input_cost_per_token": 2}]
    assert listed({"tiered_pricing": rows}) == [
        ("text_input", "token", "1", (None, None, 256_000, False)),
        ("text_input", "token", "2", (None, 256_001, None, False)),
    ]


def test_units_have_their_own_names():
    assert listed({"mode": "rerank", "input_cost_per_query": 0.002}) == [("queries", "query", "0.002", ALWAYS)]


def test_off_peak_rates_and_their_windows():
    document = {
        "windows": [{"hours_utc": "22:30-06:00", "weekdays": [2, 1]}],
        "weekday_timezone": "Asia/Shanghai",
        "input_cost_per_token": 0.5,
    }
    entry = {"input_cost_per_token": 1, "off_peak_pricing": document}
    assert listed(entry)[1] == ("text_input", "token", "0.5", (None, None, None, True))
    price = book_of({"m": entry}).find("m")
    assert price is not None
    [window] = list_windows(price.entry)
    assert (window.hours_utc, window.weekdays) == (["22:30-24:00", "00:00-06:00"], [1, 2])
    assert window.weekday_timezone == "Asia/Shanghai"


def test_an_entry_without_windows_lists_none():
    assert list_windows(read_entry("m", {})) == []


def test_every_rate_of_the_shipped_prices_is_listed_once():
    def count(entry: MapEntry) -> int:
        tiers = sum(len(tier.rates) for tier in entry.context_tiers)
        return len(entry.rates) + len(entry.unit_rates) + tiers + len(entry.off_peak.rates if entry.off_peak else ())

    for key in shipped_book():
        price = shipped_book().find(key)
        assert price is not None
        rates = list_rates(price.entry)
        assert len(set(rates)) == len(rates) == count(price.entry), key
