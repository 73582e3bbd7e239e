"""What another price book would change."""

import json
from typing import Any

import pytest

from service.pricing.book_candidate import entries_of, read_candidate
from service.pricing.book_diff import BookDiff, compare_books
from service.pricing.shipped import shipped_snapshot
from tests.unit.pricing.builders import snapshot_of

Book = dict[str, dict[str, Any]]


def diff(old: Book, new: Book) -> BookDiff:
    return compare_books(entries_of(snapshot_of(old)), entries_of(snapshot_of(new)))


def change(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[Any, ...]]:
    [model] = diff({"m": old}, {"m": new}).changed
    return [(value.name, value.old, value.new, value.relative_change) for value in model.values]


def test_a_book_compared_with_itself_shows_nothing():
    entries = entries_of(shipped_snapshot())
    found = compare_books(entries, entries)
    assert found.is_empty
    assert (found.unchanged, found.priced_gone, found.priced_far_off) == (len(entries), 0, 0)


def test_models_added_removed_and_left_are_told_apart():
    price = {"input_cost_per_token": 1}
    found = diff({"a": price, "b": price, "free": {"mode": "chat"}}, {"b": price, "d": price, "c": {}})
    assert (found.added, found.removed, found.unchanged) == (("c", "d"), ("a", "free"), 1)
    assert found.removed_priced == {"a"}
    assert (found.priced_before, found.priced_gone) == (2, 1)
    assert not found.is_empty


def test_each_value_is_shown_old_and_new_with_its_relative_change():
    old = {"input_cost_per_token": 2e-6, "output_cost_per_token": 4e-6, "mode": "chat", "max_tokens": 100}
    new = {"input_cost_per_token": 2.5e-6, "cache_read_input_token_cost": 0, "mode": "responses", "max_tokens": 50}
    assert [(name, str(before), str(after), relative) for name, before, after, relative in change(old, new)] == [
        ("cache_read_input_token_cost", "None", "0", None),
        ("input_cost_per_token", "0.000002", "0.0000025", "0.25"),
        ("max_tokens", "100", "50", "-0.5"),
        ("mode", "chat", "responses", None),
        ("output_cost_per_token", "0.000004", "None", None),
    ]


def test_values_inside_structures_are_named_by_their_way_in():
    tiers = [{"range": [0, 10], "input_cost_per_token": 1}, {"range": [10, 20], "input_cost_per_token": 2}]
    cheaper = json.loads(json.dumps(tiers))
    cheaper[1]["input_cost_per_token"] = 1
    [query, tier] = change(
        {"tiered_pricing": tiers, "search_context_cost_per_query": {"search_context_size_low": 0.01}},
        {"tiered_pricing": cheaper, "search_context_cost_per_query": {"search_context_size_low": 0.02}},
    )
    assert (query[0], tier[0]) == (
        "search_context_cost_per_query.search_context_size_low",
        "tiered_pricing[1].input_cost_per_token",
    )


@pytest.mark.parametrize(
    ("old", "new", "relative"),
    [(3, 1, "-0.6667"), (1, 3, "2"), ("0.0000003", "0.0000003000001", "0.0000003333"), (0, 1, None)],
)
def test_relative_changes_have_four_digits_and_none_from_zero(old: Any, new: Any, relative: str | None):
    text = f'{{"m": {{"input_cost_per_token": {old}}}}}', f'{{"m": {{"input_cost_per_token": {new}}}}}'
    books = [read_candidate(each.encode(), origin="").entries for each in text]
    [model] = compare_books(*books).changed
    assert model.values[0].relative_change == relative


@pytest.mark.parametrize(
    ("old", "new", "is_far_off", "became_zero"),
    [
        (1, 10, False, False),
        (1, 10.000001, True, False),
        (10, 1, False, False),
        (10, 0.999999, True, False),
        (1, 0, False, True),
        (0, 1, False, False),
        (0, 0.0, None, None),
    ],
)
def test_far_off_is_more_than_ten_times_either_way(
    old: Any, new: Any, is_far_off: bool | None, became_zero: bool | None
):
    models = diff({"m": {"input_cost_per_token": old}}, {"m": {"input_cost_per_token": new}}).changed
    if is_far_off is None:
        assert models == ()
        return
    [value] = models[0].values
    assert (value.is_far_off, value.became_zero) == (is_far_off, became_zero)


def test_what_is_no_price_is_never_far_off():
    [model] = diff({"m": {"max_tokens": 1}}, {"m": {"max_tokens": 1000}}).changed
    assert [value.is_far_off for value in model.values] == [False]
    [model] = diff({"m": {"max_tokens": 1}}, {"m": {"max_tokens": 0}}).changed
    assert [value.became_zero for value in model.values] == [False]


def test_a_model_that_keeps_only_zeros_has_lost_its_prices():
    old, new = {"input_cost_per_token": 1, "output_cost_per_token": 1}, {"input_cost_per_token": 0, "mode": "chat"}
    [model] = diff({"m": old}, {"m": new}).changed
    assert model.lost_all_prices
    [model] = diff({"m": new}, {"m": {"mode": "x"}}).changed
    assert not model.lost_all_prices


def test_far_off_models_are_counted_once_each():
    old = {"input_cost_per_token": 1, "output_cost_per_token": 1}
    new = {"input_cost_per_token": 100, "output_cost_per_token": 100}
    assert diff({"a": old, "b": old}, {"a": new, "b": old}).priced_far_off == 1
