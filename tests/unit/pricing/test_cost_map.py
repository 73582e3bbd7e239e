"""Reading cost maps, making snapshots of them, and telling what is not understood."""

import gzip
import json
import re
from decimal import Decimal
from typing import Any

import pytest

from service.pricing.cost_map import decode_entry, make_snapshot, read_cost_map, read_snapshot
from service.pricing.map_entry import CostMapError
from service.pricing.map_keys import NOT_CHARGED, is_price_relevant, not_charged, not_understood
from service.pricing.rate_keys import parse_rate_key
from service.pricing.shipped import shipped_snapshot


def snapshot(text: str, *, origin: str = "here") -> bytes:
    return make_snapshot(read_cost_map(text.encode()), origin=origin, licence="MIT")[0]


def test_numbers_are_read_as_text_never_as_floats():
    entries = read_cost_map(b'{"m": {"input_cost_per_token": 1.4e-07, "x": 0.1234567890123456789012345}}')
    assert entries["m"]["input_cost_per_token"] == Decimal("0.00000014")
    assert entries["m"]["x"] == Decimal("0.1234567890123456789012345")


def test_explanations_among_the_models_are_no_models():
    assert read_cost_map(b'{"sample_spec": {"mode": "chat"}, "fallback_generalizations": {}, "m": {}}') == {"m": {}}


@pytest.mark.parametrize("text", [b"", b"[]", b'{"m": 5}', b"\xff", b'{"m": {"input_cost_per_token": NaN}}'])
def test_what_is_no_cost_map_is_refused(text: bytes):
    with pytest.raises(CostMapError):
        read_cost_map(text)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"input_cost_per_token": "free"}, "m: input_cost_per_token must be a number, not 'free'"),
        ({"input_cost_per_token": True}, "m: input_cost_per_token must be a number, not True"),
        ({"input_cost_per_token": -1}, "m: input_cost_per_token = -1 is negative"),
        ({"input_cost_per_token": 10**13}, "m: input_cost_per_token = 10000000000000 is larger than 10^12"),
        ({"tiered_pricing": 5}, "m: tiered_pricing must be a list of objects"),
        ({"tiered_pricing": [5]}, "m: tiered_pricing must be a list of objects"),
        ({"tiered_pricing": [{"range": 5}]}, "m: tiered_pricing range must be [from, to], not 5"),
        ({"off_peak_pricing": 5}, "m: off_peak_pricing"),
        ({"off_peak_pricing": {"windows": []}}, "m: off_peak_pricing"),
        ({"provider_specific_entry": 5}, "m: provider_specific_entry must be an object, not 5"),
        ({"provider_specific_entry": {"us": "x"}}, "m: us must be a number, not 'x'"),
        ({"input_cost_per_second": "x"}, "m: input_cost_per_second must be a number, not 'x'"),
        ({"search_context_cost_per_query": 5}, "m: search_context_cost_per_query must be an object, not 5"),
        (
            {"search_context_cost_per_query": {"search_context_size_low": -1}},
            "m: search_context_cost_per_query.search_context_size_low = -1 is negative",
        ),
        ({"guardrail_cost_per_unit": {"a": "x"}}, "m: guardrail_cost_per_unit.a must be a number, not 'x'"),
        (
            {"tiered_pricing": [{"max_results_range": [1], "input_cost_per_query": 1}]},
            "m: tiered_pricing max_results_range must be [from, to], not [1]",
        ),
        (
            {"tiered_pricing": [{"max_results_range": [1, 2], "input_cost_per_query": "x"}]},
            "m: input_cost_per_query must be a number, not 'x'",
        ),
        (
            {"provider_specific_entry": {"minimax_free_input_images": "x"}},
            "m: minimax_free_input_images must be a number, not 'x'",
        ),
        ({"regional_endpoint_uplift_multiplier": "x"}, "m: regional_endpoint_uplift_multiplier must be a number"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(entry: dict[str, Any], told: str):
    with pytest.raises(CostMapError, match=re.escape(told)):
        make_snapshot({"m": entry}, origin="", licence="")


def test_null_says_as_little_as_a_missing_key():
    text = '{"m": {"input_cost_per_token": null, "mode": "chat"}}'
    assert snapshot(text) == snapshot('{"m": {"mode": "chat"}}')


def test_a_snapshot_keeps_prices_limits_provider_and_mode_only():
    text = """{"m": {"input_cost_per_token": 1e-6, "litellm_provider": "openai", "mode": "chat", "max_tokens": 5,
        "supports_vision": true, "source": "https://example.com", "search_context_cost_per_query": {"low": 0.01}}}"""
    read = read_snapshot(snapshot(text))
    assert (read.origin, read.licence) == ("here", "MIT")
    assert decode_entry(read.entries()["m"]) == {
        "input_cost_per_token": Decimal("0.000001"),
        "litellm_provider": "openai",
        "max_tokens": 5,
        "mode": "chat",
        "search_context_cost_per_query": {"low": Decimal("0.01")},
    }


def test_the_same_prices_are_the_same_bytes_and_version_however_they_are_written():
    first = snapshot('{"a": {"mode": "x", "input_cost_per_token": 1.40e-7}, "b": {"input_cost_per_token": 2.0}}')
    second = snapshot('{"b": {"input_cost_per_token": 2}, "a": {"input_cost_per_token": 0.00000014, "mode": "x"}}')
    assert first == second
    elsewhere = snapshot(
        '{"a": {"mode": "x", "input_cost_per_token": 1.4e-7}, "b": {"input_cost_per_token": 2}}', origin="there"
    )
    assert read_snapshot(elsewhere).version == read_snapshot(first).version


def test_another_price_is_another_version():
    versions = {read_snapshot(snapshot(f'{{"m": {{"input_cost_per_token": {rate}}}}}')).version for rate in (1, 2)}
    assert len(versions) == 2
    assert all(version.startswith("sha256-") and len(version) == 23 for version in versions)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"no gzip", gzip.compress(b"no json", mtime=0), gzip.compress(b"{}", mtime=0), snapshot('{"m": {}}')[:-9]],
)
def test_a_damaged_snapshot_is_refused(damaged: bytes):
    with pytest.raises(CostMapError, match="not a price snapshot"):
        read_snapshot(damaged)


def test_a_snapshot_of_another_format_is_refused():
    document = {"format": 2, "origin": "", "licence": "", "models": {}}
    with pytest.raises(CostMapError, match="format 2, this program reads format 1"):
        read_snapshot(gzip.compress(json.dumps(document).encode()))


def test_every_price_relevant_key_that_is_not_understood_is_reported_with_its_count():
    entries = {
        "a": {"input_cost_per_token": 1, "input_cost_per_parcel": 1, "mode": "chat", "supports_vision": True},
        "b": {
            "input_cost_per_parcel": 2,
            "output_cost_per_token_turbo": 1,
            "provider_specific_entry": {"us": 1, "q": 2, "minimax_free_input_images": 3},
            "web_search_billing_unit": "per_moon",
        },
        "c": {
            "tiered_pricing": [
                {"max_results_range": [0, 5], "input_cost_per_query": 1, "input_cost_per_token": 1},
                {"range": [0, 5], "input_cost_per_query": 1},
                {"moons": 5, "input_cost_per_token": 1},
            ]
        },
        "d": {"off_peak_pricing": {"windows": [{"hours_utc": "1:00-2:00"}], "input_cost_per_token": 1, "moon": "full"}},
        "e": {
            "input_cost_per_token_cache_hit": 1,
            "search_context_cost_per_query": {"search_context_size_low": 1, "search_context_size_huge": 1},
            "guardrail_cost_per_unit": {"topicPolicyUnits": 1},
            "web_search_billing_unit": "per_query",
        },
    }
    report = make_snapshot(entries, origin="", licence="")[1]
    assert report.not_understood_keys == {
        "input_cost_per_parcel": 2,
        "off_peak_pricing.moon": 1,
        "output_cost_per_token_turbo": 1,
        "provider_specific_entry.q": 1,
        "search_context_cost_per_query.search_context_size_huge": 1,
        "tiered_pricing.input_cost_per_query": 1,
        "tiered_pricing.input_cost_per_token": 2,
        "tiered_pricing.moons": 1,
        "web_search_billing_unit.per_moon": 1,
    }
    assert report.understood_keys == {
        "guardrail_cost_per_unit": 1,
        "input_cost_per_token": 1,
        "input_cost_per_token_cache_hit": 1,
        "off_peak_pricing": 1,
        "provider_specific_entry": 1,
        "search_context_cost_per_query": 1,
        "tiered_pricing": 1,
        "web_search_billing_unit": 2,
    }
    assert report.not_charged_keys == {}


@pytest.mark.parametrize("unit", ["per_query", "per_request"])
def test_both_units_by_which_searches_are_billed_are_known(unit: str):
    assert list(not_understood({"web_search_billing_unit": unit})) == []


def test_a_billing_unit_in_a_strange_shape_is_reported_like_an_unknown_one():
    report = make_snapshot({"m": {"web_search_billing_unit": ["per_query"]}}, origin="", licence="")[1]
    assert report.not_understood_keys == {"web_search_billing_unit.['per_query']": 1}


def test_what_is_known_and_no_part_of_a_price_is_reported_with_the_reason():
    entries = {
        "a": {"search_free_requests": {"count": 5}, "input_dbu_cost_per_token": 1, "input_cost_per_token": 1},
        "b": {"provider_specific_entry": {"bedrock_invocation_schema": "x"}, "input_dbu_cost_per_token": 1},
        "c": {"vector_store_cost_per_gb_per_day": 1},
    }
    report = make_snapshot(entries, origin="", licence="")[1]
    assert report.not_understood_keys == {}
    assert report.understood_keys == {"input_cost_per_token": 1, "provider_specific_entry": 1}
    assert {key: known.count for key, known in report.not_charged_keys.items()} == {
        "input_dbu_cost_per_token": 2,
        "provider_specific_entry.bedrock_invocation_schema": 1,
        "search_free_requests": 1,
        "vector_store_cost_per_gb_per_day": 1,
    }
    assert all(known.reason == NOT_CHARGED[key] for key, known in report.not_charged_keys.items())


def test_the_report_counts_models_by_what_prices_them():
    entries = {
        "tokens": {"input_cost_per_token": 1, "input_cost_per_request": 1},
        "table": {"tiered_pricing": [{"range": [0, 5], "input_cost_per_token": 1}]},
        "seconds": {"input_cost_per_second": 1, "input_cost_per_token": 0},
        "zero": {"input_cost_per_token": 0},
        "nothing": {"mode": "chat"},
    }
    report = make_snapshot(entries, origin="", licence="")[1]
    assert report.models == 5
    assert (report.models_priced_by_tokens, report.models_priced_by_other_units) == (3, 1)
    assert report.models_without_price == 1


def test_the_shipped_prices_have_no_key_that_is_not_understood():
    entries = {key: decode_entry(raw) for key, raw in read_snapshot(shipped_snapshot()).entries().items()}
    report = make_snapshot(entries, origin="", licence="")[1]
    assert report.not_understood_keys == {}
    assert len(report.understood_keys) > 120
    assert report.version == read_snapshot(shipped_snapshot()).version


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("input_cost_per_token", ("text_input", 0, "")),
        ("output_cost_per_token_flex", ("text_output", 0, "flex")),
        ("cache_read_input_token_cost_above_272k_tokens_priority", ("cache_read", 272_000, "priority")),
        ("cache_creation_input_token_cost_above_1hr", ("cache_write_1h", 0, "")),
        ("cache_creation_input_token_cost_above_1hr_above_200k_tokens", ("cache_write_1h", 200_000, "")),
        ("input_cost_per_audio_token_batches", ("audio_input", 0, "batches")),
        ("output_cost_per_reasoning_token", ("reasoning", 0, "")),
    ],
)
def test_the_grammar_of_rate_keys(key: str, meaning: tuple[str, int, str]):
    parsed = parse_rate_key(key)
    assert parsed is not None
    assert (parsed.kind, parsed.above_tokens, parsed.tier) == meaning


@pytest.mark.parametrize(
    "key", ["input_cost_per_second", "input_cost_per_token_turbo", "mode", "_above_1k_tokens", "flex"]
)
def test_what_is_no_token_rate(key: str):
    assert parse_rate_key(key) is None


def test_keys_that_are_about_something_else_than_money():
    assert not is_price_relevant("supports_vision")
    assert list(not_understood({"mode": "chat", "supports_vision": True})) == []
    assert list(not_charged({"mode": "chat", "supports_vision": True})) == []
