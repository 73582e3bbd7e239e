"""Cost maps that somebody made to do harm, or that were damaged on their way."""

import pytest

from service.pricing.cost_map import make_snapshot, read_cost_map, repeated_models
from service.pricing.map_entry import CostMapError


def take(text: bytes) -> None:
    make_snapshot(read_cost_map(text), origin="", licence="")


@pytest.mark.parametrize(
    "number",
    ["1e999999999", "1e-999999999", "-1e999999999", "0." + "1" * 5000, "1e400", "9" * 400, "-0.000001", "1e-41"],
    ids=lambda number: number[:12],
)
@pytest.mark.parametrize("entry", ['{{"input_cost_per_token": {}}}', '{{"tiered_pricing": [{{"range": [0, {}]}}]}}'])
def test_a_number_that_no_price_has_is_refused_at_once_and_names_the_model(number: str, entry: str):
    with pytest.raises(CostMapError, match=r"^m: "):
        take(f'{{"m": {entry.format(number)}}}'.encode())


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "01", "1.", "0x10", "1e", "+1"])
def test_what_is_no_json_number_is_no_cost_map(literal: str):
    with pytest.raises(CostMapError, match="not a cost map"):
        take(f'{{"m": {{"input_cost_per_token": {literal}}}}}'.encode())


@pytest.mark.parametrize("depth", [600, 900, 100_000])
def test_a_structure_without_end_is_refused(depth: int):
    with pytest.raises(CostMapError):
        take(b'{"m": {"a_cost": ' + b"[" * depth + b"]" * depth + b"}}")


@pytest.mark.parametrize(
    "name", ["", "a\\u0000b", "a\\nb", "a\\u202eb", "x" * 257], ids=lambda name: name[:8] or "none"
)
def test_a_name_no_model_has_is_refused(name: str):
    with pytest.raises(CostMapError, match="cannot be the name of a model"):
        take(f'{{"{name}": {{}}}}'.encode())


def test_models_stated_twice_are_told_and_the_last_counts():
    text = b'{"a": {"input_cost_per_token": 1}, "b": {}, "a": {"input_cost_per_token": 2}}'
    assert repeated_models(text) == ["a"]
    assert read_cost_map(text) == {"a": {"input_cost_per_token": 2}, "b": {}}
