"""Conditions with patterns: what budgets do not have and price rules do."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.identity.conditions import (
    MAX_LIST_VALUES,
    MAX_PATTERNS,
    MAX_PREFIX_CHARACTERS,
    Condition,
    match_document,
    matches_pattern,
    parse_conditions,
)


def parse(document: Any, most: int = 8):
    return parse_conditions(
        document, ("team", "model", "mode"), field="match", most=most, hints={"models": "model"}, patterned={"model"}
    )


@given(pattern=st.text("ab*", max_size=8), text=st.text("ab", max_size=10))
def test_a_star_stands_for_any_characters(pattern: str, text: str):
    meant = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert matches_pattern(pattern, text) == (re.fullmatch(meant, text) is not None)


def test_a_hostile_pattern_is_answered_at_once():
    assert not matches_pattern("a*" * 100 + "b", "a" * 100_000)


@pytest.mark.parametrize(
    ("written", "condition"),
    [
        ("GPT-5*", Condition("model", "pattern", ("gpt-5*",))),
        (["b", "azure/*"], Condition("model", "pattern", ("azure/*", "b"))),
        ("gpt-5", Condition("model", "any_of", ("gpt-5",))),
        ("*", Condition("model", "each")),
        ({"prefix": "a*"}, Condition("model", "prefix", ("a*",))),
        (None, Condition("model", "absent")),
    ],
)
def test_a_text_with_a_star_is_a_pattern(written: Any, condition: Condition):
    assert parse({"model": written}) == (condition,)


def test_a_star_means_itself_where_there_are_no_patterns():
    [condition] = parse({"team": "a*"})
    assert condition == Condition("team", "any_of", ("a*",))


@pytest.mark.parametrize(
    ("kind", "values", "seen", "holds"),
    [
        ("pattern", ("x", "gpt-*"), ("azure/gpt-5", "gpt-5"), True),
        ("pattern", ("x", "gpt-*"), ("azure/gpt-5",), False),
        ("pattern", ("*x",), (), False),
        ("any_of", ("a", "b"), ("c", "b"), True),
        ("any_of", ("a", "b"), ("ab",), False),
        ("prefix", ("az",), ("b", "azure"), True),
        ("prefix", ("az",), ("b",), False),
        ("each", (), ("b",), True),
        ("each", (), (), False),
        ("absent", (), (), True),
        ("absent", (), ("b",), False),
    ],
)
def test_a_condition_holds_for_any_value_of_the_call(kind: Any, values: Any, seen: tuple[str, ...], holds: bool):
    assert Condition("model", kind, values).holds(seen) is holds


def test_the_document_of_a_pattern_reads_as_the_same_pattern():
    for document in ({"model": "gpt-*"}, {"model": ["azure/*", "b"]}):
        assert match_document(parse(document)) == document


def test_modes_are_compared_without_regard_to_case():
    assert parse({"mode": " Chat"}) == parse({"mode": "chat"})


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"model": ["x*"] * 1 + [str(n) for n in range(MAX_PATTERNS)]}, "match.model"),
        ({"model": "x*" + "y" * MAX_PREFIX_CHARACTERS}, "match.model"),
        ({"model": ["*"]}, "match.model[0]"),
        ({"models": "x"}, "match.models"),
        ("x", "match"),
    ],
)
def test_a_pattern_beyond_its_bounds_is_refused(document: Any, field: str):
    with pytest.raises(InvalidInput) as refused:
        parse(document)
    assert refused.value.field == field


def test_there_are_as_many_conditions_as_are_allowed():
    assert len(parse({"team": "a", "mode": "chat"}, most=2)) == 2
    with pytest.raises(InvalidInput, match="at most 1 "):
        parse({"team": "a", "mode": "chat"}, most=1)


def test_the_hint_of_a_name_is_told():
    with pytest.raises(InvalidInput, match="write model"):
        parse({"Models": "x"})
    with pytest.raises(InvalidInput, match="there are team, model, mode"):
        parse({"colour": "x"})


def test_the_bounds_themselves_are_taken():
    parse({"model": ["x*", *(str(n) for n in range(MAX_PATTERNS - 1))]})
    parse({"model": "*" + "y" * (MAX_PREFIX_CHARACTERS - 1)})
    parse({"model": {"prefix": "y" * MAX_PREFIX_CHARACTERS}})
    parse({"team": [str(n) for n in range(MAX_LIST_VALUES)]})
    with pytest.raises(InvalidInput, match="at most"):
        parse({"team": [str(n) for n in range(MAX_LIST_VALUES + 1)]})


def test_an_absent_value_is_written_as_null():
    assert match_document(parse({"team": None, "mode": "*"})) == {"team": None, "mode": "*"}
