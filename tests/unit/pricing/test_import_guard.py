"""What is not accepted unasked, and what is worth a look."""

from typing import Any

import pytest

from service.pricing.book_candidate import entries_of
from service.pricing.book_diff import BookDiff, compare_books
from service.pricing.import_guard import objections_to, warnings_about
from tests.unit.pricing.builders import snapshot_of

PRICE = {"input_cost_per_token": 0.001}
BEFORE: dict[str, dict[str, Any]] = {f"m{number:02}": PRICE for number in range(50)} | {"free": {"mode": "chat"}}


def diff(new: dict[str, dict[str, Any]]) -> BookDiff:
    return compare_books(entries_of(snapshot_of(BEFORE)), entries_of(snapshot_of(new)))


def codes(new: dict[str, dict[str, Any]]) -> list[str]:
    return [objection.code for objection in objections_to(diff(new))]


@pytest.mark.parametrize(
    ("gone", "zeroed", "expected"),
    [(10, 0, []), (11, 0, ["prices_gone"]), (0, 11, ["prices_gone"]), (5, 6, ["prices_gone"]), (5, 5, [])],
)
def test_more_than_a_fifth_of_the_prices_may_not_go_unasked(gone: int, zeroed: int, expected: list[str]):
    left = dict(list(BEFORE.items())[gone:])
    zeros = {key: {"input_cost_per_token": 0} for key in list(left)[:zeroed]}
    assert codes(left | zeros) == expected


@pytest.mark.parametrize(("shifted", "expected"), [(10, []), (11, ["prices_far_off"])])
def test_a_list_by_the_million_is_not_accepted_unasked(shifted: int, expected: list[str]):
    assert codes(BEFORE | {key: {"input_cost_per_token": 1000} for key in list(BEFORE)[:shifted]}) == expected


def test_models_that_never_had_a_price_may_all_go():
    assert codes({name: entry for name, entry in BEFORE.items() if name != "free"}) == []


def test_nothing_speaks_against_a_first_book():
    assert objections_to(compare_books({}, entries_of(snapshot_of(BEFORE)))) == ()


def test_objections_say_how_many():
    [objection] = objections_to(diff({"m00": PRICE}))
    assert objection.detail == "49 of 50 models with a price would have none"


def test_warnings_name_model_value_and_numbers_and_used_models_come_first():
    new = {
        **BEFORE,
        "m01": {"input_cost_per_token": 0},
        "m02": {"input_cost_per_token": 1},
        "m03": {"input_cost_per_token": 0.002},
    }
    del new["m00"], new["m49"]
    found = warnings_about(diff(new), {"m49", "m01"})
    assert [(warning.code, warning.model, warning.name, warning.detail) for warning in found] == [
        ("used_model_removed", "m49", None, "it was used lately and would have no price"),
        ("model_lost_prices", "m01", None, "it had a price and would have none"),
        ("price_became_zero", "m01", "input_cost_per_token", "0.001 -> 0"),
        ("price_far_off", "m02", "input_cost_per_token", "0.001 -> 1"),
    ]
