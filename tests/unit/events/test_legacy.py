"""The payload of old: read without evaluating anything, or refused."""

import json
from typing import Any

import pytest

from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.python_repr import ReprError, read_fields, read_literal, read_texts
from service.events.usage_event import EventProblem, UsageEvent
from tests.builders import CAPTURED_RECEIVED_AT, captured_events


def legacy(**changes: str) -> dict[str, Any]:
    return captured_events("legacy_v1.json")[0] | changes


def read(event: dict[str, Any]) -> UsageEvent | EventProblem:
    [[element]] = list(read_elements(json.dumps(event).encode(), LITELLM))
    if isinstance(element, Undecoded):
        return element.problem
    assert isinstance(element, Payload)
    return read_event(element, received_at=CAPTURED_RECEIVED_AT)


def test_a_failed_call_of_old_has_no_response():
    event = read(legacy(response="None", usage="None", cost="None"))
    assert isinstance(event, UsageEvent)
    assert event.status == "failure"
    assert event.usage.input_tokens == 0
    assert event.reported.total_usd is None


@pytest.mark.parametrize("metadata", ["", "None", "{'user_api_key_hash': 'abc'", "no dict", "{" * 5000, "'" * 5001])
def test_metadata_that_cannot_be_read_is_refused_and_not_guessed(metadata: str):
    problem = read(legacy(metadata=metadata))
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == ("unreadable_legacy_payload", "metadata")


def test_a_time_that_cannot_be_read_is_missing():
    problem = read(legacy(startTime="yesterday"))
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == ("field_missing", "startTime")


def test_what_a_caller_writes_into_metadata_cannot_pass_for_the_gateways_word():
    metadata = (
        "{'requester_metadata': {'user_api_key_team_id': 'evil', 'x': \"'user_api_key_team_id': 'evil'\"}, 'a': 1}"
    )
    event = read(legacy(metadata=metadata))
    assert isinstance(event, UsageEvent)
    assert event.dimensions.team is None


def test_the_text_of_the_answer_is_not_read():
    event = read(legacy(response="ModelResponse(choices=[x(content=\"id='1', created=2, model='evil'\")])"))
    assert isinstance(event, UsageEvent)
    assert event.models.response_model is None


def test_negative_tokens_are_refused_in_the_old_form_too():
    problem = read(legacy(usage="Usage(completion_tokens=-1, prompt_tokens=60)"))
    assert isinstance(problem, EventProblem)
    assert (problem.code, problem.field) == ("invalid_number", "metadata.usage_object.completion_tokens")


def test_a_nested_bomb_of_usage_is_no_usage():
    event = read(legacy(usage="A(x=" * 4000 + ")" * 4000))
    assert isinstance(event, UsageEvent | EventProblem)


def test_half_a_surrogate_pair_in_old_text_is_replaced():
    event = read(legacy(metadata=r"{'user_api_key_team_id': 't\ud83d'}"))
    assert isinstance(event, UsageEvent)
    assert event.dimensions.team == "t?"


def test_fields_are_found_by_brackets_and_quotes_alone():
    text = "{'a': 1, \"b\": Thing(x=<odd, stuff>, y='}'), 'c': 'it\\'s, {', 'd': (1, 2), 5: 6, 'e': None}"
    assert read_fields(text) == {
        "a": "1",
        "b": "Thing(x=<odd, stuff>, y='}')",
        "c": "'it\\'s, {'",
        "d": "(1, 2)",
        "e": "None",
    }
    assert read_fields("Usage(a=1, b=Other(c=2, d='x, y'), e=None)") == {
        "a": "1",
        "b": "Other(c=2, d='x, y')",
        "e": "None",
    }
    assert read_fields("Empty()") == {}


@pytest.mark.parametrize("text", ["", "{", "{'a': 'x", "plain", "{'a': (1, 2}"[:-1], "x" * (1 << 21)])
def test_texts_that_do_not_close_are_refused(text: str):
    with pytest.raises(ReprError):
        read_fields(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it\\'s'", "it's"),
        ("12", 12),
        ("1.5", 1.5),
        ("True", True),
        ("None", None),
        ("[1]", None),
        ("__import__('os')", None),
        ("f()", None),
        ("'" + "x" * 20_000 + "'", None),
        ("(" * 1000, None),
        (None, None),
    ],
)
def test_only_literals_are_values(text: str | None, value: object):
    assert read_literal(text) == value


def test_lists_of_texts_are_read():
    assert read_texts("('a', \"b, c\", 5, f(x))") == ["a", "b, c"]
    assert read_texts("['a']") == ["a"]
    assert read_texts("None") == read_texts(None) == read_texts("()") == []
