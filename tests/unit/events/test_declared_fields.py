"""What may be kept of a refused element."""

import json
from typing import Any

import msgspec
import pytest

from service.events.declared_fields import MAX_DOCUMENT_BYTES, declared_document
from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.problems import EVENT_MISSING
from service.events.quarantine import quarantined_element
from service.events.usage_event import EventProblem, UsageEvent
from service.kit.clock import utc_now
from tests.builders import CAPTURED_RECEIVED_AT, a_litellm_event, captured_body

PROBLEM = EventProblem(code="invalid_field", detail="x")
SECRETS = ("Summarise the incident", "pong", "x-stainless", "203.0.113.10", "mira.okafor@example.com", "sk-")


def document(raw: bytes) -> dict[str, Any]:
    kept = declared_document(raw)
    assert kept is not None
    found: dict[str, Any] = json.loads(kept)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "plain_chat.json",
        "passthrough_anthropic.json",
        "router_fallback.json",
        "legacy_v1.json",
        "image_per_image.json",
        "ocr.json",
        "rerank_cohere.json",
        "transcription_whisper.json",
        "video.json",
        "websearch_openai_chat.json",
        "websearch_responses.json",
    ],
)
def test_a_document_tells_the_same_event_and_no_secrets(name: str):
    for chunk in read_elements(captured_body(name), LITELLM):
        for payload in chunk:
            assert isinstance(payload, Payload)
            kept = declared_document(payload)
            assert kept is not None
            assert not any(secret in kept.decode() for secret in SECRETS)
            [[again]] = list(read_elements(kept, LITELLM))
            assert isinstance(again, Payload)
            assert read_event(again, received_at=CAPTURED_RECEIVED_AT) == read_event(
                payload, received_at=CAPTURED_RECEIVED_AT
            )


MEASURED: list[dict[str, Any]] = [
    {"tallygate": {"quantities": {"input_characters": 47, "output_audio_seconds": "3.25"}}, "call_type": "aspeech"},
    {"call_type": "asearch", "model_parameters": {"query": ["secret a", "secret b"], "max_results": 30}},
    {"call_type": "asearch", "model_parameters": {"query": "secret"}},
    {"call_type": "aocr", "response": {"pages": [{"markdown": "secret"}] * 100}},
    {"call_type": "aimage_generation", "response": {"data": [{"b64_json": "secret"}, {}], "size": "1024x1024"}},
    {
        "call_type": "call_mcp_tool",
        "response_cost": 0.0,
        "metadata": {
            "mcp_tool_call_metadata": {
                "name": "search",
                "arguments": {"q": "secret"},
                "result": "secret",
                "mcp_server_cost_info": {"tool_name_to_cost_per_query": {"search": 0.025, "other": None}},
            }
        },
    },
    {"guardrail_information": [{"guardrail_usage": {"topicPolicyUnits": 2}, "guardrail_response": "secret"}]},
    {
        "call_type": "aresponses",
        "response": {
            "output": [
                {"type": "web_search_call", "action": {"type": "search", "query": "secret"}},
                {"type": "code_interpreter_call", "container_id": "cntr_1", "code": "secret"},
                {"type": "message", "content": [{"text": "secret"}]},
            ],
            "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["secret"]}}],
        },
        "standard_built_in_tools_params": {"web_search_options": {"search_context_size": "low", "x": "secret"}},
    },
    {
        "call_type": "_arealtime",
        "response": {
            "results": [
                {
                    "type": "conversation.item.input_audio_transcription.completed",
                    "usage": {"type": "duration", "seconds": 2.5},
                    "transcript": "secret",
                }
            ]
        },
        "metadata": {"usage_object": {}},
        "prompt_tokens": 0,
        "completion_tokens": 0,
    },
]


@pytest.mark.parametrize("overrides", MEASURED, ids=[str(number) for number in range(len(MEASURED))])
def test_a_document_tells_what_was_used_and_no_content(overrides: dict[str, Any]):
    [[payload]] = list(read_elements(msgspec.json.encode(a_litellm_event() | overrides), LITELLM))
    assert isinstance(payload, Payload)
    event = read_event(payload, received_at=utc_now())
    assert isinstance(event, UsageEvent), event
    kept = declared_document(payload)
    assert kept is not None
    assert b"secret" not in kept
    [[again]] = list(read_elements(kept, LITELLM))
    assert isinstance(again, Payload)
    assert read_event(again, received_at=utc_now()) == event
    assert event.usage.units or event.reported.total_usd


def test_amounts_are_kept_as_numbers_and_exactly():
    [[payload]] = list(read_elements(captured_body("router_gpt54mini.json"), LITELLM))
    assert isinstance(payload, Payload)
    kept = declared_document(payload) or b""
    assert b'"additional_costs":{"Azure Model Router Flat Cost":0.00016800000000000002}' in kept
    assert b'"response_cost":0.0026205' in kept


def test_what_stands_where_no_such_thing_belongs_is_not_kept():
    kept = document(
        b'{"id": {"secret": "x"}, "model": ["secret", {"a": "secret"}, [1], 5, null], "messages": "secret",'
        b' "metadata": "text", "cost_breakdown": {"additional_costs": {"fee": {"secret": 1}, "b": 2}, "x": "secret"},'
        b' "response": {"model": {"secret": 1}, "choices": "secret"}, "zero_cost_diagnostic": {"why": "secret"}}'
    )
    assert kept == {
        "id": {"": None},
        "model": ["secret", {}, [], 5, None],
        "metadata": "text",
        "cost_breakdown": {"additional_costs": {"fee": {}, "b": 2}},
        "response": {"model": {"": None}, "choices": []},
        "zero_cost_diagnostic": {"": None},
    }


def test_texts_numbers_and_lists_are_bounded_and_fit_for_the_database():
    tags = json.dumps([f"t{n}" for n in range(100)]).encode()
    kept = document(
        b'{"id": "%b", "model": "a\\u0000b\\ud800", "response_cost": 1e9999, "startTime": NaN, "prompt_tokens": %b,'
        b' "request_tags": %b, "stream": true}' % (b"x" * 20_000, b"9" * 500, tags)
    )
    assert len(kept["id"]) < 300
    assert kept["model"] == "a\ufffdb\ufffd"
    assert kept["response_cost"] == "1e9999"
    assert kept["startTime"] == []
    assert isinstance(kept["prompt_tokens"], str)
    assert len(kept["request_tags"]) == 64
    assert kept["stream"] is True


@pytest.mark.parametrize("raw", [b"[1]", b"5", b'"text"', b'{"a": tru}', b'{"id": "\xff"}', b"{" * 3000, b""])
def test_nothing_is_kept_of_what_is_no_object(raw: bytes):
    assert declared_document(raw) is None


def test_nothing_is_kept_of_what_would_be_too_large():
    names = (
        "id",
        "trace_id",
        "model",
        "model_group",
        "end_user",
        "session_id",
        "call_type",
        "status",
        "custom_llm_provider",
    )
    assert declared_document(msgspec.json.encode(dict.fromkeys(names, "€" * 16000))) is None
    assert MAX_DOCUMENT_BYTES < 9 * 16_000


def test_an_unreadable_element_leaves_its_length_and_a_digest():
    kept = quarantined_element(Undecoded(b'{"id": tru}', PROBLEM), PROBLEM)
    assert kept is not None
    assert (kept.document, kept.length_bytes, len(kept.digest)) == (None, 11, 32)


def test_the_same_element_has_the_same_digest_and_another_has_not():
    event = a_litellm_event(status="done")

    def digest(changed: dict[str, Any]) -> bytes:
        [[payload]] = list(read_elements(msgspec.json.encode(changed), LITELLM))
        kept = quarantined_element(payload, PROBLEM)
        assert kept is not None
        assert kept.length_bytes is None
        return kept.digest

    assert digest(event) == digest(event) == digest(event | {"messages": "other"})
    assert digest(event) != digest(event | {"model": "other"})


def test_a_missing_event_is_not_kept():
    assert quarantined_element(Undecoded(b"null", PROBLEM), EventProblem(code=EVENT_MISSING, detail="x")) is None
