"""What LiteLLM's adapter reads from its environment, asks, reports and passes on, without LiteLLM."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest

from service.events.litellm import read_event
from service.events.litellm_payload import Payload
from service.events.usage_event import UsageEvent
from service.kit.clock import utc_now
from service.kit.text import bounded_text
from tests.unit.litellm_adapter import ADAPTER_PATH, adapter

# All but those of LiteLLM's payload of old, which the adapter never sees.
CAPTURED = sorted(path for path in (Path(__file__).parents[1] / "data").glob("*.json") if "legacy" not in path.name)


# Settings


def test_the_environment_needs_two_variables_and_knows_defaults_for_the_rest():
    found = adapter.Settings.from_environment({"TALLYGATE_URL": "http://tallygate:4100/", "TALLYGATE_TOKEN": "tg_x"})
    assert (found.url, found.token) == ("http://tallygate:4100", "tg_x")
    assert (found.on_unreachable, found.on_spool_full, found.deadline_seconds) == ("allow", "drop", 0.1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TALLYGATE_URL", ""),
        ("TALLYGATE_TOKEN", " "),
        ("TALLYGATE_DEADLINE_MS", "soon"),
        ("TALLYGATE_DEADLINE_MS", "nan"),
        ("TALLYGATE_HOLD_SECONDS", "1e400"),
        ("TALLYGATE_ON_UNREACHABLE", "maybe"),
        ("TALLYGATE_ON_SPOOL_FULL", "wait"),
        ("TALLYGATE_SPOOL_MAX_MIB", "-1"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_name(name: str, value: str):
    environment = {"TALLYGATE_URL": "http://tallygate:4100", "TALLYGATE_TOKEN": "tg_x", name: value}
    with pytest.raises(ValueError, match=name):
        adapter.Settings.from_environment(environment)


def test_the_readme_lists_every_variable_with_its_default():
    readme = (ADAPTER_PATH.parent / "README.md").read_text()
    named = {
        word
        for word in ADAPTER_PATH.read_text().replace('"', " ").replace(",", " ").split()
        if word[:10] == "TALLYGATE_"
    }
    assert len(named) >= 14
    assert {name for name in named if f"`{name}`" not in readme} == set()


# What is asked


@pytest.mark.parametrize(
    "call_type", ["acompletion", "aembedding", "anthropic_messages", "_arealtime", "aspeech", "new"]
)
def test_what_costs_is_asked_about(call_type: str):
    assert adapter.is_asked_about(call_type)


@pytest.mark.parametrize(
    "call_type",
    ["aget_responses", "aretrieve_batch", "alist_batches", "acancel_batch", "afile_content", "acreate_file"],
)
def test_looking_things_up_is_not_asked_about(call_type: str):
    assert not adapter.is_asked_about(call_type)


def test_the_prompt_is_never_estimated_below_a_token_for_two_bytes():
    text = "Grüße " * 1000
    estimate = adapter.estimate_input_tokens(
        {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    )
    assert estimate >= len(text.encode()) // 2
    assert adapter.estimate_input_tokens({"input": [[1, 2, 3], [4]]}) >= 4
    assert adapter.estimate_input_tokens({"model": "x" * 1000, "metadata": {"a": "b" * 1000}}) == 0


def test_media_count_by_their_size_and_not_as_text():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    estimate = adapter.estimate_input_tokens({"messages": [{"role": "user", "content": [picture]}]})
    assert 2_000 < estimate < 100_000


def test_a_prompt_of_many_parts_is_looked_at_in_bounded_time():
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert adapter.estimate_input_tokens({"messages": deep}) >= 1


@pytest.mark.parametrize(
    ("request_body", "limit"),
    [
        ({"max_tokens": 10}, 10),
        ({"max_tokens": 10, "max_completion_tokens": 30, "n": 3}, 90),
        ({"generationConfig": {"maxOutputTokens": 7}}, 7),
        ({"max_tokens": None}, None),
        ({"max_tokens": True, "n": "x"}, None),
        ({"max_tokens": -5}, None),
        ({"max_tokens": float("inf")}, None),
        ({"max_tokens": 10**30}, 10**12),
    ],
)
def test_the_output_limit_is_the_largest_one_for_all_choices(request_body: dict[str, Any], limit: int | None):
    assert adapter.output_limit(request_body) == limit


@pytest.mark.parametrize(
    ("call_type", "request_body", "limit"),
    [
        ("acompletion", {"max_tokens": 1, "additional_drop_params": ["max_tokens"]}, None),
        ("acompletion", {"max_tokens": 1, "extra_body": {"max_tokens": 9999, "n": 2}}, 19_998),
        ("acompletion", {"generationConfig": {"maxOutputTokens": 1}}, None),
        ("aresponses", {"max_tokens": 1}, None),
        ("anthropic_messages", {"max_completion_tokens": 1}, None),
        ("agenerate_content", {"max_tokens": 1, "config": {"maxOutputTokens": 7, "candidateCount": 2}}, 14),
        ("acompletion", {"n": 128}, 128 * 1000),
        ("acompletion", {"n": 500, "max_tokens": 3}, 1500),
    ],
)
def test_no_field_a_provider_does_not_heed_shrinks_the_hold(
    call_type: str, request_body: dict[str, Any], limit: int | None
):
    assert adapter.output_limit(request_body, call_type, 1000) == limit


@pytest.mark.parametrize(
    "asked",
    [
        {"documents": [[]] * 200_000},
        {"messages": [0, {"role": "user", "content": "word " * 400_000}]},
        {"messages": [{"role": "user", "content": "data:" + "word " * 400_000}]},
        {"tools": [{"data": "word " * 400_000}]},
        {"messages": [{"content": [{"image_url": {"url": "data:image/png;base64," + "word " * 400_000}}]}]},
        {"extra_body": {"messages": [{"role": "user", "content": "word " * 400_000}]}},
    ],
)
def test_no_way_to_write_a_prompt_takes_from_its_estimate(asked: dict[str, Any]):
    text = "word " * 400_000
    whole = {"messages": [{"role": "user", "content": text}]} if "documents" in asked else {}
    assert adapter.estimate_input_tokens(asked | whole) >= len(text) // 2


def test_fallbacks_are_those_of_the_request_the_key_or_the_router_with_what_they_fall_back_to():
    router = SimpleNamespace(fallbacks=[{"a": ["b"]}, {"b": ["c"]}, {"*": ["z"]}], content_policy_fallbacks=[])
    nobody = SimpleNamespace(router_settings=None)
    assert adapter.fallback_models({"model": "a"}, nobody, router) == ["b", "c", "z"]
    assert adapter.fallback_models({"model": "other"}, nobody, router) == ["z"]
    assert adapter.fallback_models({"model": "a", "fallbacks": ["x", {"model": "y"}]}, nobody, router) == ["x", "y"]
    by_key = SimpleNamespace(router_settings={"fallbacks": [{"a": ["k"]}]})
    assert adapter.fallback_models({"model": "a"}, by_key, router) == ["k"]
    assert adapter.fallback_models({"model": "a", "disable_fallbacks": True}, nobody, router) == []
    assert adapter.fallback_models({"model": "a"}, nobody, None) == []


def test_fallbacks_are_off_only_as_litellm_means_it_and_an_override_in_the_body_names_some():
    router = SimpleNamespace(fallbacks=[{"a": ["b"]}])
    nobody = SimpleNamespace(router_settings=None)
    assert adapter.fallback_models({"model": "a", "disable_fallbacks": "no"}, nobody, router) == ["b"]
    override = {"model": "a", "router_settings_override": {"fallbacks": [{"a": ["x"]}]}}
    assert adapter.fallback_models(override, nobody, router) == ["x"]


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "quick,dear"},
        {"model": "dear,"},
        {"fallbacks": [f"m{number}" for number in range(9)]},
        {"fallbacks": [{"m": [f"m{number}" for number in range(9)]}]},
        {"router_settings_override": {"content_policy_fallbacks": [{"model": "m"}] * 9}},
        {"extra_body": {"model": "dear"}},
    ],
)
def test_what_cannot_be_accounted_for_is_refused(asked: dict[str, Any]):
    assert adapter.refusal_of({"model": "m"} | asked, "acompletion")
    assert adapter.refusal_of({"model": "m", "fallbacks": ["m1"] * 8}, "acompletion") is None


def test_a_deployment_named_by_its_id_is_asked_about_as_itself_and_as_its_group():
    router = SimpleNamespace(
        model_list=[deployment("openai/a"), deployment("openai/b")],
        model_names={"g"},
        model_name_to_deployment_indices={"g": [0, 1]},
        model_id_to_deployment_index_map={"id-of-b": 1},
    )
    assert adapter.target_of("id-of-b", router).groups == adapter.target_of("g", router).groups == ["g"]
    assert routes("id-of-b", router) == [{"deployment": "openai/b"}]
    assert adapter.target_of("new", router).groups == adapter.target_of("new", None).groups == ["new"]


def routes(model: str | None, router: object) -> Any:
    return adapter.routes_of(adapter.target_of(model, router).deployments)


def deployment(model: str, **others: Any) -> dict[str, Any]:
    return {"model_name": "g", "litellm_params": {"model": model, **others}, "model_info": {}}


def test_the_check_is_told_where_litellm_may_send_a_call():
    azure = deployment("azure/mine") | {"model_info": {"base_model": "azure/gpt-4.1"}}
    router = SimpleNamespace(
        model_list=[
            deployment("openai/a"),
            deployment("b", custom_llm_provider="openai"),
            azure,
            deployment("openai/a"),
        ],
        model_name_to_deployment_indices={"g": [0, 1, 2, 3], "one": [0]},
        model_group_alias={"other": "one", "hidden": {"model": "g", "hidden": True}},
    )
    found = [{"deployment": "openai/a"}, {"deployment": "openai/b"}]
    found.append({"deployment": "azure/mine", "served_model": "azure/gpt-4.1"})
    assert routes("g", router) == routes("hidden", router) == found
    assert routes("other", router) == [{"deployment": "openai/a"}]
    assert routes("unknown", router) == routes(None, router) == routes("g", None) == []


def test_a_deployment_is_left_out_when_the_check_denied_it_and_a_group_when_all_of_it_was():
    call = adapter.Call()
    call.state.denied_routes = [
        {"deployment": "openai/A", "requested_fallback": None},
        {"deployment": None, "requested_fallback": "f"},
    ]
    call.state.allowed_routes = [{"deployment": "openai/b", "requested_fallback": None}]
    assert not adapter.is_allowed_route("g", deployment("openai/a"), call)
    assert adapter.is_allowed_route("g", deployment("openai/b"), call)
    assert not adapter.is_allowed_route("f", deployment("openai/b"), call)
    call.state.denied_routes = []
    assert adapter.is_allowed_route("g", deployment("openai/a"), call)


def test_who_asks_comes_from_the_proxy_and_not_from_the_clients_metadata():
    data = {
        "litellm_metadata": {
            "user_api_key_team_id": "forged",
            "agent_id": "forged",
            "user_api_key_auth": {"team_id": "f"},
        },
        "metadata": {
            "user_api_key_auth": SimpleNamespace(team_id="core"),
            "user_api_key_hash": "a" * 64,
            "user_api_key_team_id": "core",
            "tags": ["x", None, 3],
        },
    }
    found = adapter.dimensions_of(None, data, adapter.metadata_of(data))
    assert found == {"api_key": "a" * 64, "team": "core", "tags": ["x", "3"]}


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", "x" * 10_000, " ", None, True, 1.5, ["a"], {}])
def test_words_of_clients_become_what_a_check_takes(value: object):
    cleaned = adapter.clean_text(value)
    assert cleaned is None or (0 < len(cleaned) <= 1024 and "\x00" not in cleaned and cleaned.encode())


def test_a_call_cannot_be_forged_and_is_one_however_often_it_is_copied():
    call = adapter.Call(reservation_id="r1")
    metadata = {"tallygate": {"reservation_id": "forged"}}
    assert adapter.find_call({"litellm_params": {"metadata": metadata}}) is None
    adapter.attach_call({}, metadata, call)
    copied = copy.deepcopy({"litellm_params": {"metadata": metadata}})
    assert adapter.find_call(copied) is call
    assert json.dumps(copied["litellm_params"]["metadata"]["tallygate"]) == '{"reservation_id": "r1"}'


# What is reported

METADATA = {"user_api_key_auth": SimpleNamespace(team_id=None), "user_api_key_hash": "a" * 64}


def captured_payloads() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in CAPTURED:
        for number, payload in enumerate(json.loads(path.read_text())):
            if isinstance(payload, dict) and "call_type" in payload:
                yield f"{path.stem}-{number}", payload


PAYLOADS = dict(captured_payloads())
RECEIVED_AT = utc_now()


def read(payload: dict[str, Any]) -> Any:
    return read_event(msgspec.json.decode(adapter.encode_event(payload), type=Payload), received_at=RECEIVED_AT)


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_is_left_out_of_a_payload_changes_nothing_tallygate_makes_of_it(name: str):
    whole = PAYLOADS[name]
    lean = adapter.lean_payload(whole)
    assert read(lean) == read(whole)
    assert len(adapter.encode_event(lean)) <= len(adapter.encode_event(whole))


def test_the_captured_payloads_are_many_and_readable():
    assert len(PAYLOADS) >= 10
    assert any(isinstance(read(payload), UsageEvent) for payload in PAYLOADS.values())


def test_nobodys_words_are_in_a_lean_payload():
    words = "a secret nobody may read"
    payload = {
        "messages": [{"content": words}],
        "response": {
            "choices": [{"message": {"content": words, "annotations": [{"type": "url_citation", "url": words}]}}],
            "output": [{"type": "message", "content": [{"text": words}], "action": {"type": "search", "query": words}}],
            "data": [{"b64_json": words}],
            "results": [{"type": words[:0], "usage": {"seconds": 1}, "text": words}],
            "tools": [{"type": "function", "name": words, "container": {"file": words}}],
            "meta": {"billed_units": {"search_units": 1}, "warnings": [words]},
        },
        "metadata": {"requester_metadata": {"a": words}, "mcp_tool_call_metadata": {"name": "t", "arguments": words}},
        "model_parameters": {"tools": words, "query": [words], "web_search_options": {"user_location": words}},
        "error_str": words,
        "error_information": {"error_message": words},
        "guardrail_information": [{"guardrail_response": words, "guardrail_usage": {"units": 1}}],
        "standard_built_in_tools_params": {"web_search_options": {"user_location": words}, "file_search": {"q": words}},
    }
    assert words.encode() not in adapter.encode_event(adapter.lean_payload(payload))


def test_an_event_without_litellms_payload_is_told_from_its_parts():
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    kwargs = {
        "litellm_call_id": "c1",
        "call_type": "acompletion",
        "custom_llm_provider": "openai",
        "litellm_params": {"metadata": METADATA | {"model_group": "g", "deployment": "openai/m"}},
    }
    ended_at = RECEIVED_AT
    payload = adapter.payload_from_parts(
        kwargs, {"id": "r1", "model": "m", "usage": usage}, ended_at, ended_at, "success"
    )
    event = read(adapter.lean_payload(payload))
    assert isinstance(event, UsageEvent)
    assert (event.usage.input_tokens, event.usage.output_tokens, event.dimensions.api_key) == (7, 5, "a" * 64)


def test_an_event_is_json_whatever_is_in_it():
    circle: dict[str, Any] = {"nan": float("nan"), "inf": [float("inf")], "object": object(), "set": {1}}
    circle["circle"] = circle
    assert json.loads(adapter.encode_event(circle))["nan"] is None


class Unwritable:
    def model_dump(self, mode: str) -> Any:
        raise TypeError(mode)

    __str__ = __repr__ = model_dump


@pytest.mark.parametrize(
    "odd", [{("a", 1): 2}, {b"a": 1, None: 2}, {Unwritable(): 1}, Unwritable(), [10**5000], b"\xff"]
)
def test_an_event_is_not_lost_for_an_odd_part_of_it(odd: object):
    for part in (odd, [odd], {"deeper": odd}, MappingProxyType({"in": odd})):
        assert json.loads(adapter.encode_event({"id": "e1", "metadata": part}))["id"] == "e1"


@pytest.mark.parametrize(
    "tags",
    [{"a": 1}, [{"a": 1}], [["a"]], "abc", [1.5], [True], True, 7, ["\U0001f600" * 1000] * 60, ["\x01" * 300] * 99],
)
def test_tags_of_a_wrong_kind_or_size_do_not_make_a_call_free(tags: object):
    payload = next(each for name, each in PAYLOADS.items() if isinstance(read(each), UsageEvent)) | {
        "request_tags": tags
    }
    event = read(adapter.clean_event(adapter.lean_payload(payload)))
    assert isinstance(event, UsageEvent)
    assert event.usage.input_tokens + event.usage.output_tokens > 0


@pytest.mark.parametrize("wrong", [{"a": 1}, ["a"], True, 1.5, "\ud800", "a\x00b", "x" * 100_000])
@pytest.mark.parametrize(
    "path",
    [
        ("end_user",),
        ("session_id",),
        ("trace_id",),
        ("id",),
        ("model_group",),
        ("stream",),
        ("custom_llm_provider",),
        ("cost_breakdown",),
        ("cost_breakdown", "service_tier"),
        ("metadata", "user_api_key_end_user_id"),
        ("model_parameters", "size"),
        ("model_parameters", "web_search_options"),
        ("standard_built_in_tools_params", "web_search_options", "search_context_size"),
    ],
)
def test_what_a_client_chose_never_makes_tallygate_reject_an_event(path: tuple[str, ...], wrong: object):
    payload = copy.deepcopy(next(each for name, each in PAYLOADS.items() if isinstance(read(each), UsageEvent)))
    place = payload
    for name in path[:-1]:
        place[name] = place = dict(place.get(name) or {})
    place[path[-1]] = wrong
    assert isinstance(read(adapter.clean_event(adapter.lean_payload(payload))), UsageEvent)


def test_a_bare_event_has_the_figures_and_the_id_of_the_whole_one():
    payload = next(each for name, each in PAYLOADS.items() if isinstance(read(each), UsageEvent))
    whole = read(payload)
    broken = adapter.lean_payload(payload) | {"request_tags": {"a": 1}, "standard_built_in_tools_params": 7}
    bare = read(json.loads(adapter.bare_event(adapter.encode_event(broken))))
    assert (bare.event_id, bare.usage) == (whole.event_id, whole.usage)
    assert (bare.dimensions.team, bare.dimensions.api_key) == (whole.dimensions.team, whole.dimensions.api_key)


def test_tags_are_the_same_to_check_and_event_and_long_ones_stay_apart():
    tags = ["x" * 1000 + "1", "x" * 1000 + "2", "User-Agent: curl", "x", "x", None, 3]
    cleaned = adapter.clean_tags(tags)
    assert len(cleaned) == 5
    metadata = {"tags": tags}
    assert adapter.dimensions_of(None, {}, metadata)["tags"] == cleaned[:4]
    assert [bounded_text(tag) for tag in cleaned[:2]] == [bounded_text(tag) for tag in tags[:2]]


# Denials


def answered(status: int, content: object) -> Any:
    return adapter.Gate._read(httpx.Response(status, json=content, headers={"retry-after": "7", "x-other": "1"}))


def test_a_denial_is_passed_on_with_its_status_message_and_headers():
    error = {"message": "Budget has been exceeded!", "type": "budget_exceeded", "param": None, "code": "403"}
    denial = answered(403, {"error": error, "tallygate": {"code": "x"}})
    assert denial == adapter.Denial(
        403, "Budget has been exceeded!", "budget_exceeded", {"retry-after": "7"}, {"code": "x"}
    )


@pytest.mark.parametrize(
    "answer", [(403, {"code": "forbidden"}), (401, {}), (503, {}), (200, {}), (200, []), (404, {}), (200, "x")]
)
def test_what_is_no_decision_is_none(answer: tuple[int, Any]):
    with pytest.raises(adapter.UnreachableError) as raised:
        answered(*answer)
    assert raised.value.is_outage == (answer[0] in {401, 403, 503})


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_question_is_no_outage(status: int):
    with pytest.raises(adapter.RefusedQuestionError):
        answered(status, {"code": "invalid_field"})


async def test_a_refused_question_is_asked_again_with_less_and_then_denied(tmp_path: Path):
    asked: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        is_taken = "tags" not in asked[-1]["dimensions"] and asked[-1]["model"] == "m"
        return httpx.Response(200, json={"allowed": True}) if is_taken else httpx.Response(413, json={"code": "x"})

    settings = adapter.Settings(url="http://127.0.0.1:9", token="tg_x", spool_directory=tmp_path, deadline_seconds=9.0)
    gate = adapter.Gate(settings)
    gate._client = lambda: httpx.AsyncClient(base_url="http://t", transport=httpx.MockTransport(answer))
    question = {"model": "m", "dimensions": {"team": "t", "tags": ["x"]}, "service_tier": "x"}
    assert await gate.ask(question) == {"allowed": True}
    assert asked[1] == {"model": "m", "dimensions": {"team": "t"}}
    assert (await gate.ask(question | {"model": "other"})).status == 400


def test_the_longest_question_fits_into_a_check():
    hostile = "\U0001f600" * 100_000
    data = {"model": hostile, "user": hostile, "litellm_session_id": hostile, "service_tier": hostile}
    dimensions = adapter.dimensions_of(None, data, {"tags": [hostile + str(i) for i in range(60)]})
    assert len(json.dumps(dimensions, ensure_ascii=False).encode()) < 64 * 1024
