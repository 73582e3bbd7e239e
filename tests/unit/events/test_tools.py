"""Built-in tools are counted use by use, wherever an event tells of them; what nobody counts is named."""

from typing import Any

import pytest

from tests.unit.events.reading import amounts, read_call, units_of

TOKENS = {"prompt_tokens": 100, "completion_tokens": 20}
CITED = {"choices": [{"message": {"content": "secret", "annotations": [{"type": "url_citation", "url_citation": {}}]}}]}
ASKED = {"web_search_options": {"search_context_size": "high"}, "file_search": None}
CHARGED = {"tool_usage_cost": 0.025}


def counted(usage_object: dict[str, Any] | None = None, **overrides: Any) -> dict[str, Any]:
    event = read_call("acompletion", TOKENS | (usage_object or {}), **overrides)
    assert "secret" not in repr(event)
    return units_of(event) | ({"unmeasured": event.usage.unmeasured} if event.usage.unmeasured else {})


@pytest.mark.parametrize(
    "usage_object",
    [
        {"prompt_tokens_details": {"web_search_requests": 3}, "num_search_queries": 9},
        {"server_tool_use": {"web_search_requests": 3, "tool_search_requests": None}},
        {"server_side_tool_usage_details": {"web_search_calls": 3, "x_search_calls": 1}},
        {"num_search_queries": 3},
    ],
    ids=["Gemini", "Anthropic", "xAI", "Perplexity"],
)
def test_searches_are_counted_in_every_providers_words(usage_object: dict[str, Any]):
    assert counted(usage_object, cost_breakdown={"tool_usage_cost": 0.03}) == amounts(web_searches=3)


def test_searches_and_maps_are_told_apart():
    usage = {"prompt_tokens_details": {"web_search_requests": 2, "google_maps_grounding_requests": 1}}
    assert counted(usage) == amounts(web_searches=2, maps_queries=1)


@pytest.mark.parametrize(
    ("asked", "cited", "charged", "searches"),
    [
        (True, True, True, 1),
        (True, True, False, 1),
        (True, False, True, 1),
        (False, True, True, 1),
        (True, False, False, 0),
        (False, True, False, 0),
    ],
)
def test_a_chat_that_counts_nothing_searched_once_if_two_signs_of_three_say_so(
    asked: bool, cited: bool, charged: bool, searches: int
):
    found = counted(
        response=CITED if cited else {"choices": [{"message": {"content": "secret", "annotations": []}}]},
        standard_built_in_tools_params=ASKED if asked else {"web_search_options": None, "file_search": None},
        cost_breakdown=CHARGED if charged else None,
    )
    assert found == (amounts(web_searches=1) if searches else {})


def test_a_search_asked_for_with_no_more_words_is_asked_for():
    assert counted(
        standard_built_in_tools_params={"web_search_options": {}, "file_search": None}, cost_breakdown=CHARGED
    ) == amounts(web_searches=1)
    assert counted(model_parameters={"web_search_options": {}}, cost_breakdown=CHARGED) == amounts(web_searches=1)


def test_a_tool_the_gateway_charges_and_nobody_names_is_not_measured():
    assert counted(cost_breakdown=CHARGED) == {"unmeasured": ("tools",)}


def test_a_file_search_of_a_chat_is_one():
    response = {"choices": [{"message": {"annotations": [{"type": "file_citation"}]}}]}
    assert counted(response=response, cost_breakdown=CHARGED) == amounts(file_searches=1)
    assert counted(response=response) == {}


def test_an_answer_in_the_providers_own_form_counts_where_the_usage_forgot():
    response = {"content": [{"text": "secret"}], "usage": {"server_tool_use": {"web_search_requests": 2}}}
    assert counted(response=response, cost_breakdown=CHARGED) == amounts(web_searches=2)


ITEMS: list[tuple[str, list[dict[str, Any]], dict[str, Any], dict[str, Any]]] = [
    ("nothing but a message", [{"type": "message", "content": [{"text": "secret"}]}], {}, {}),
    (
        "each search",
        [
            {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "secret"}},
            {"type": "web_search_call", "status": "completed", "action": None},
        ],
        {},
        amounts(web_searches=2),
    ),
    (
        "no opened page, no failed search",
        [
            {"type": "web_search_call", "action": {"type": "search"}},
            {"type": "web_search_call", "action": {"type": "open_page", "url": "secret"}},
            {"type": "web_search_call", "action": {"type": "find_in_page"}},
            {"type": "web_search_call", "status": "failed", "action": {"type": "search"}},
        ],
        {},
        amounts(web_searches=1),
    ),
    (
        "searches as the provider bills them",
        [{"type": "web_search_call"}] * 3,
        {"tool_usage": {"web_search": {"num_requests": 2}}},
        amounts(web_searches=2),
    ),
    ("each file search", [{"type": "file_search_call", "queries": ["secret"]}] * 3, {}, amounts(file_searches=3)),
    (
        "each container code ran in",
        [
            {"type": "code_interpreter_call", "container_id": "a", "code": "secret"},
            {"type": "code_interpreter_call", "container_id": "a"},
            {"type": "code_interpreter_call", "container_id": "b"},
        ],
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        amounts(code_sessions=2),
    ),
    (
        "no container that was paid for when it was made",
        [{"type": "code_interpreter_call", "container_id": "cntr_1"}],
        {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
        {},
    ),
    (
        "a picture of another model",
        [{"type": "image_generation_call", "result": "secret"}, {"type": "web_search_call"}],
        {},
        amounts(web_searches=1) | {"unmeasured": ("image_generation",)},
    ),
]


@pytest.mark.parametrize(
    ("items", "response", "expected"), [each[1:] for each in ITEMS], ids=[each[0] for each in ITEMS]
)
def test_items_of_an_answer_are_counted_by_their_type(
    items: list[dict[str, Any]], response: dict[str, Any], expected: dict[str, Any]
):
    assert counted(response={"output": items} | response) == expected


def test_what_is_known_to_be_nothing_is_measured():
    opened = {"output": [{"type": "web_search_call", "action": {"type": "open_page"}}]}
    assert counted(response=opened, cost_breakdown=CHARGED) == {}


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        ({"metadata": {"usage_object": TOKENS | {"num_search_queries": 1, "search_context_size": "low"}}}, "low"),
        ({"standard_built_in_tools_params": ASKED}, "high"),
        ({"model_parameters": {"web_search_options": {"search_context_size": "medium"}}}, "medium"),
        ({}, None),
    ],
)
def test_how_deep_a_search_went_is_what_selects_its_price(overrides: dict[str, Any], size: str | None):
    event = read_call("acompletion", TOKENS | {"num_search_queries": 1}, **overrides)
    assert event.basis.search_context_size == size


def test_how_deep_a_search_would_have_gone_says_nothing():
    assert read_call("acompletion", TOKENS, standard_built_in_tools_params=ASKED).basis.search_context_size is None


GUARDED = [
    {
        "guardrail_name": "a",
        "guardrail_usage": {"topicPolicyUnits": 2, "wordPolicyUnits": 0},
        "guardrail_response": "secret",
    },
    {"guardrail_name": "b", "guardrail_usage": {"topicPolicyUnits": 1, "contentPolicyUnits": 3}},
    {"guardrail_name": "c", "guardrail_usage": None},
]


def test_units_of_guardrails_are_counted_by_policy():
    assert counted(guardrail_information=GUARDED) == {
        "guardrail_units/topicPolicyUnits": 3,
        "guardrail_units/contentPolicyUnits": 3,
    }
    assert counted(guardrail_information=None) == counted(guardrail_information=[]) == {}
