"""Match documents: one form for what means the same, and a refusal with the field path for what means nothing."""

from typing import Any

import pytest

from service.budgets.match import parse_match
from service.errors import InvalidInput
from service.identity.conditions import MAX_LIST_VALUES, match_document


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"team": "core", "user": "*"}, {"user": {"each": True}, "team": ["core"]}),
        ({"served_model": ["B", "a", "b"]}, {"served_model": ["a", "b"]}),
        ({"requested_model": {"prefix": "OpenAI/"}}, {"requested_model": {"prefix": "openai/"}}),
    ],
)
def test_forms_that_mean_the_same_are_the_same(one: dict[str, Any], other: dict[str, Any]):
    assert parse_match(one) == parse_match(other)


def test_people_are_compared_with_regard_to_case():
    assert parse_match({"team": "Core"}) != parse_match({"team": "core"})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"team": "core", "user": "*", "tag": ["a", "b"], "provider": {"prefix": "azure"}, "session": None},
        {"api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"},
    ],
)
def test_the_document_of_a_match_reads_as_the_same_match(document: dict[str, Any]):
    assert match_document(parse_match(document)) == document


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "match"),
        ("core", "match"),
        ({"tags": "a"}, "match.tags"),
        ({"models": "a"}, "match.models"),
        ({"Team": "a"}, "match.Team"),
        ({"": "a"}, "match."),
        ({"team": ""}, "match.team"),
        ({"team": 1}, "match.team"),
        ({"team": True}, "match.team"),
        ({"team": []}, "match.team"),
        ({"team": ["a", ""]}, "match.team[1]"),
        ({"team": ["a", 1]}, "match.team[1]"),
        ({"team": ["*"]}, "match.team[0]"),
        ({"team": [str(n) for n in range(MAX_LIST_VALUES + 1)]}, "match.team"),
        ({"team": {}}, "match.team"),
        ({"team": {"each": False}}, "match.team"),
        ({"team": {"each": 1}}, "match.team"),
        ({"team": {"prefix": ""}}, "match.team.prefix"),
        ({"team": {"prefix": 1}}, "match.team.prefix"),
        ({"team": {"prefix": "x" * 201}}, "match.team.prefix"),
        ({"team": {"prefix": "a", "each": True}}, "match.team"),
        ({"team": "\ud800"}, "match.team"),
        ({"tag": "User-Agent: curl"}, "match.tag"),
        ({"api_key": "sk-live-1234"}, "match.api_key"),
        ({"api_key": " SK-live-1234"}, "match.api_key"),
        ({"team": " \u200b"}, "match.team"),
        ({"team": {"prefix": "  "}}, "match.team.prefix"),
        ({"api_key": {"prefix": "sk-live"}}, "match.api_key.prefix"),
        ({"tag": {"prefix": "User-Agent: "}}, "match.tag.prefix"),
        ({"requested_model": "/"}, "match.requested_model"),
    ],
)
def test_a_wrong_document_is_refused_with_the_path_of_the_field(document: Any, field: str):
    with pytest.raises(InvalidInput, match=r"\w \w") as refused:
        parse_match(document)
    assert refused.value.field == field


def test_a_plural_name_is_answered_with_the_singular():
    with pytest.raises(InvalidInput, match="write tag"):
        parse_match({"tags": ["a"]})


def test_a_key_written_by_mistake_is_not_repeated():
    with pytest.raises(InvalidInput) as refused:
        parse_match({"api_key": "sk-live-1234"})
    assert "live" not in refused.value.detail


def test_more_than_eight_conditions_are_refused():
    names = ("organization", "team", "project", "user", "api_key", "end_user", "agent", "session", "tag")
    with pytest.raises(InvalidInput, match="at most 8"):
        parse_match(dict.fromkeys(names, "x"))


def test_a_value_too_long_for_a_key_is_cut_as_it_is_in_events():
    [condition] = parse_match({"team": "x" * 1000})
    assert len(condition.values[0]) < 256
    assert parse_match({"team": "x" * 1000}) != parse_match({"team": "x" * 1001})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"provider": " OpenAI"}, {"provider": "openai"}),
        ({"provider": "Bedrock_Converse"}, {"provider": "bedrock"}),
        ({"provider": {"prefix": "Azure"}}, {"provider": {"prefix": "azure"}}),
        ({"team": " Core\u200b"}, {"team": "Core"}),
        ({"api_key": "AB" * 32}, {"api_key": "ab" * 32}),
        ({"requested_model": " Claude-Opus-4-6@"}, {"requested_model": "claude-opus-4-6"}),
        ({"deployment": {"prefix": "Azure/"}}, {"deployment": {"prefix": "azure/"}}),
        ({"team": {"prefix": " \u200bCore "}}, {"team": {"prefix": "Core "}}),
    ],
)
def test_a_value_is_written_as_calls_carry_it(written: Any, meant: Any):
    assert match_document(parse_match(written)) == meant
