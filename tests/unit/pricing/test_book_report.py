"""The report of an import: complete in its counts, bounded in its lists."""

import json
from typing import Any

import msgspec

from service.pricing.book_candidate import BookCandidate, read_candidate
from service.pricing.book_diff import compare_books
from service.pricing.book_report import BookReport, report_on
from service.pricing.import_guard import warnings_about

PRICE = {"input_cost_per_token": 1}
Map = dict[str, dict[str, Any]]


def read(models: Map) -> BookCandidate:
    return read_candidate(json.dumps(models).encode(), origin="")


def report(old: Map, new: Map) -> BookReport:
    candidate = read(new)
    diff = compare_books(read(old).entries, candidate.entries)
    return report_on(candidate, "sha256-before", diff, warnings_about(diff, ()))


def test_values_are_told_as_text_old_and_new():
    told = report({"m": PRICE | {"mode": "chat"}}, {"m": {"input_cost_per_token": 1.5e-7, "max_tokens": 8}})
    assert told.compared_with == "sha256-before"
    [model] = told.changed.models
    assert [(value.name, value.old, value.new) for value in model.values] == [
        ("input_cost_per_token", "1", "0.00000015"),
        ("max_tokens", None, "8"),
        ("mode", "chat", None),
    ]
    assert [warning.code for warning in told.warnings.warnings] == ["price_far_off"]


def test_lists_end_where_counts_do_not():
    old = {f"old-{number:04}": PRICE for number in range(700)} | {f"both-{number:04}": PRICE for number in range(600)}
    new = {f"new-{number:04}": PRICE for number in range(800)}
    new |= {f"both-{number:04}": {"input_cost_per_token": 0} for number in range(600)}
    told = report(old, new)
    counts = (told.added.count, told.removed.count, told.changed.count, told.warnings.count)
    assert counts == (800, 700, 600, 1200)
    lists = (told.added.models, told.removed.models, told.changed.models, told.warnings.warnings)
    assert [len(shown) for shown in lists] == [500] * 4
    assert told.added.models[-1] == "new-0499"


def test_of_one_model_at_most_fifty_values_are_listed():
    tiers = [{"range": [number, number + 1], "input_cost_per_token": number} for number in range(60)]
    [model] = report({"m": {"mode": "chat"}}, {"m": {"tiered_pricing": tiers}}).changed.models
    assert len(model.values) == 50


def test_what_somebody_wrote_into_a_map_is_bounded_and_can_be_kept():
    keys = {f"{number}_cost_{'x' * 1000}": 1 for number in range(600)}
    keys |= {f"input_cost_per_token_above_{number}k_tokens": 1 for number in range(1, 600)}
    strange = {"a_cost\x00\x1b[2J": 1, "mode": "m\x1b" * 5000}
    told = report({"m": PRICE | strange}, {"m": PRICE | keys | {"a_cost\x00\x1b[2J": 0, "mode": "other"}})
    for counts in (told.content.not_understood_keys, told.content.understood_keys):
        assert len(counts) == 500
        assert max(map(len, counts)) <= 256
    assert [warning.name for warning in told.warnings.warnings] == ["a_cost\ufffd\ufffd[2J"]
    text = msgspec.json.encode(told)
    assert len(text) < 200_000
    assert b"u0000" not in text
    assert b"u001b" not in text


def test_models_stated_twice_are_named():
    candidate = read_candidate(b'{"m": {}, "n": {}, "m": {"mode": "chat"}}', origin="")
    told = report_on(candidate, None, compare_books({}, candidate.entries), ())
    assert (told.repeated_models.count, told.repeated_models.models, told.compared_with) == (1, ["m"], None)
