"""Every call type that reaches a logging event delivers what it is priced by, or says what nobody counted."""

from typing import Any

import pytest

from tests.unit.events.reading import NO_TOKENS, amounts, read_call, units_of

TOKENS = {"prompt_tokens": 100, "completion_tokens": 20}
DETAILS = {"prompt_tokens": 0, "completion_tokens": 0}

# call type, usage object, the rest of the event, units, names of what is not measured
CALLS: list[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ("chat", "acompletion", TOKENS, {}, {}, ()),
    ("text completion", "atext_completion", TOKENS, {}, {}, ()),
    ("responses", "aresponses", TOKENS, {"response": {"output": [{"type": "message"}]}}, {}, ()),
    ("messages", "anthropic_messages", TOKENS, {}, {}, ()),
    ("pass-through", "pass_through_endpoint", TOKENS, {"model": "", "model_group": ""}, {}, ()),
    ("generate content", "agenerate_content", TOKENS, {}, {}, ()),
    ("moderation", "amoderation", {}, {}, {}, ()),
    ("embedding of text", "aembedding", {"prompt_tokens": 37, "completion_tokens": 0}, {}, {}, ()),
    (
        "embedding of everything",
        "aembedding",
        DETAILS
        | {
            "prompt_tokens_details": {
                "character_count": 120,
                "image_count": 2,
                "audio_length_seconds": 3.25,
                "video_length_seconds": 10,
                "query_count": 4,
            }
        },
        {},
        {
            "input_characters": 120,
            "input_images": 2,
            "input_audio_seconds": "3.25",
            "input_video_seconds": 10,
            "queries": 4,
        },
        (),
    ),
    ("images by count", "aimage_generation", DETAILS | {"output_image_count": 2}, {}, {"output_images": 2}, ()),
    (
        "images by tokens",
        "aimage_generation",
        {"prompt_tokens": 50, "completion_tokens": 2112, "output_image_count": 2},
        {},
        {"output_images": 2},
        (),
    ),
    (
        "images by the answer's length",
        "aimage_edit",
        {},
        {"response": {"data": [{"b64_json": "x" * 9}, {"url": "y"}, {}]}, "model_parameters": {"n": 9}},
        {"output_images": 3},
        (),
    ),
    ("images as asked for", "image_variation", {}, {"model_parameters": {"n": 4}}, {"output_images": 4}, ()),
    ("images nobody counted", "aimage_generation", DETAILS, {}, {}, ("output_images",)),
    ("images through pass-through", "pass_through_endpoint", {"output_image_count": 1}, {}, {"output_images": 1}, ()),
    (
        "transcription by the usage",
        "atranscription",
        {"type": "duration", "seconds": 63},
        {"response": {"duration": 1}},
        {"input_audio_seconds": 63},
        (),
    ),
    (
        "transcription by the answer",
        "transcription",
        {},
        {"response": {"text": "secret", "duration": 63.4}},
        {"input_audio_seconds": "63.4"},
        (),
    ),
    (
        "transcription by an answer of text",
        "atranscription",
        {},
        {"response": {"duration": "12.50"}},
        {"input_audio_seconds": "12.5"},
        (),
    ),
    ("transcription by tokens", "atranscription", {"prompt_tokens": 640, "completion_tokens": 90}, {}, {}, ()),
    ("transcription of a length unknown", "atranscription", {}, {}, {}, ("input_audio_seconds",)),
    ("speech of a length unknown", "aspeech", {}, {"response": {"num_bytes": 600}}, {}, ("input_characters",)),
    ("speech by tokens", "aspeech", TOKENS, {}, {}, ()),
    ("speech by seconds", "speech", {"duration_seconds": 4.5}, {}, {"output_audio_seconds": "4.5"}, ()),
    ("session by tokens", "_arealtime", TOKENS, {}, {}, ()),
    (
        "session that transcribed",
        "_arealtime",
        {},
        {
            "response": {
                "results": [
                    {"type": "session.created", "session": {"model": "gpt-realtime-whisper"}},
                    {
                        "type": "conversation.item.input_audio_transcription.completed",
                        "transcript": "secret",
                        "usage": {"type": "duration", "seconds": 2.5},
                    },
                    {
                        "type": "conversation.item.input_audio_transcription.completed",
                        "usage": {"type": "duration", "seconds": 4},
                    },
                    {"type": "other", "usage": {"seconds": 100}},
                ]
            },
            "cost_breakdown": {"additional_costs": {"transcription_cost": 0.1}},
        },
        {"input_audio_seconds": "6.5"},
        (),
    ),
    (
        "session that spoke and transcribed with another model",
        "_arealtime",
        TOKENS,
        {
            "response": {
                "results": [
                    {
                        "type": "conversation.item.input_audio_transcription.completed",
                        "usage": {"type": "duration", "seconds": 2.5},
                    }
                ]
            },
            "cost_breakdown": {"additional_costs": {"transcription_cost": 0.1}},
        },
        {},
        ("additional_costs",),
    ),
    (
        "rerank by search units",
        "arerank",
        {},
        {"response": {"meta": {"billed_units": {"search_units": 2}}, "results": [{"index": 0}] * 3}},
        {"queries": 2},
        (),
    ),
    ("rerank nobody counted", "rerank", {}, {"model_parameters": {"query": "secret", "top_n": 2}}, {}, ("queries",)),
    (
        "OCR by pages",
        "aocr",
        {},
        {"response": {"usage_info": {"pages_processed": 3, "pages_processed_annotation": 1, "credits": None}}},
        {"pages": 3, "annotated_pages": 1},
        (),
    ),
    ("OCR by credits", "ocr", {}, {"response": {"usage_info": {"credits": 1.5}}}, {"credits": "1.5"}, ()),
    ("OCR by the pages read", "aocr", {}, {"response": {"pages": [{"markdown": "secret"}] * 5}}, {"pages": 5}, ()),
    ("OCR nobody counted", "aocr", {}, {}, {}, ("pages",)),
    ("search", "asearch", {}, {"model_parameters": {"query": "secret"}}, {"queries": 1}, ()),
    ("searches", "search", {}, {"model_parameters": {"query": ["a", "b", "c"]}}, {"queries": 3}, ()),
    ("vector store", "avector_store_search", {}, {"response": {"data": [{"score": 1}]}}, {"queries": 1}, ()),
    (
        "film by the usage",
        "acreate_video",
        {"duration_seconds": 8.0, "video_resolution": "1080p", "video_count": 2},
        {"response": {"seconds": "4"}},
        {"output_video_seconds": 16},
        (),
    ),
    ("film by the answer", "avideo_remix", {}, {"response": {"seconds": "12"}}, {"output_video_seconds": 12}, ()),
    (
        "film as asked for",
        "video_generation",
        {},
        {"model_parameters": {"seconds": 4}},
        {"output_video_seconds": 4},
        (),
    ),
    ("film nobody measured", "avideo_edit", {}, {}, {}, ("output_video_seconds",)),
    ("finished batch", "aretrieve_batch", TOKENS, {"response_cost": 0.1}, {}, ()),
    ("agent", "asend_message", {}, {"response_cost": 0.1}, {}, ()),
    ("seconds of nobody knows what", "brand_new", {"duration_seconds": 3}, {}, {}, ("seconds",)),
]


@pytest.mark.parametrize(
    ("call_type", "usage_object", "overrides", "units", "unmeasured"),
    [each[1:] for each in CALLS],
    ids=[each[0] for each in CALLS],
)
def test_a_call_delivers_what_it_is_priced_by(
    call_type: str,
    usage_object: dict[str, Any],
    overrides: dict[str, Any],
    units: dict[str, Any],
    unmeasured: tuple[str, ...],
):
    event = read_call(call_type, usage_object, **overrides)
    assert units_of(event) == amounts(**units)
    assert event.usage.unmeasured == unmeasured
    assert event.usage.input_tokens == usage_object.get("prompt_tokens", 0)
    assert event.usage.output_tokens == usage_object.get("completion_tokens", 0)
    assert event.basis.unbilled_reason is None
    assert "secret" not in repr(event)


def test_a_reranker_that_bills_tokens_tells_them():
    event = read_call("arerank", response={"meta": {"billed_units": {"search_units": None, "total_tokens": 812}}})
    assert (event.usage.input_tokens, event.usage.units, event.usage.unmeasured) == (812, (), ())
    counted = read_call("arerank", TOKENS, response={"meta": {"billed_units": {"total_tokens": 812}}})
    assert counted.usage.input_tokens == 100


@pytest.mark.parametrize("call_type", ["aimage_generation", "aocr", "asearch", "avideo_generation", "arerank"])
def test_a_failure_made_nothing(call_type: str):
    event = read_call(
        call_type,
        status="failure",
        model_parameters={"n": 2, "seconds": 4, "query": ["a"]},
        response={"data": [{}], "pages": [{}], "meta": {"billed_units": {"search_units": 1}}},
    )
    assert event.usage.units == ()


@pytest.mark.parametrize("call_type", ["avideo_status", "avideo_retrieve", "video_retrieve_job"])
def test_asking_how_far_a_film_is_costs_nothing_again(call_type: str):
    event = read_call(call_type, {"duration_seconds": 8.0}, response={"seconds": "8"}, response_cost=0.0)
    assert event.basis.unbilled_reason == "no_result_yet"
    assert event.usage.units == ()
    assert not event.is_final


def test_fetching_a_film_is_never_billed():
    event = read_call("avideo_content", {"duration_seconds": 8.0}, response_cost=0.8)
    assert (event.basis.unbilled_reason, event.usage.units, event.usage.unmeasured) == ("never_billed", (), ())


def test_an_unfinished_batch_is_billed_for_nothing():
    event = read_call("aretrieve_batch", NO_TOKENS, response={"status": "in_progress"}, response_cost=0.0)
    assert event.basis.unbilled_reason == "no_result_yet"


@pytest.mark.parametrize(
    ("info", "gateway", "cost"),
    [
        ({"default_cost_per_query": 0.01}, 0.0, "0.01"),
        ({"default_cost_per_query": 0.01, "tool_name_to_cost_per_query": {"search": 0.025}}, 0.0, "0.025"),
        ({"default_cost_per_query": 0.01, "tool_name_to_cost_per_query": {"other": 0.025}}, 0.0, "0.01"),
        ({"default_cost_per_query": 0.01, "tool_name_to_cost_per_query": {"search": None}}, 0.0, "0.01"),
        ({"tool_name_to_cost_per_query": {"search": 0.025}}, 0.004, "0.004"),
    ],
    ids=["of the server", "of the tool", "of another tool", "of a tool without", "as the gateway reports it"],
)
def test_a_tool_call_costs_what_its_server_states(info: dict[str, Any], gateway: float, cost: str):
    metadata = {
        "mcp_tool_call_metadata": {"name": "search", "arguments": {"q": "secret"}, "mcp_server_cost_info": info}
    }
    event = read_call("call_mcp_tool", metadata=metadata, response_cost=gateway, model="MCP: search")
    assert str(event.reported.total_usd) == cost
    assert event.basis.unbilled_reason is None
    assert "secret" not in repr(event)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"mcp_tool_call_metadata": None},
        {"mcp_tool_call_metadata": {"name": "search", "mcp_server_cost_info": None}},
        {"mcp_tool_call_metadata": {"name": "search", "mcp_server_cost_info": {"default_cost_per_query": 0}}},
    ],
)
def test_a_tool_without_a_price_is_free(metadata: dict[str, Any]):
    event = read_call("call_mcp_tool", metadata=metadata, response_cost=0.0)
    assert event.basis.unbilled_reason == "no_cost_reported"


def test_the_cost_info_of_a_tool_says_nothing_of_other_calls():
    info = {"mcp_tool_call_metadata": {"name": "x", "mcp_server_cost_info": {"default_cost_per_query": 1}}}
    assert not read_call("acompletion", TOKENS, metadata=info, response_cost=0.0).reported.total_usd


@pytest.mark.parametrize("length", [20, 300])
def test_the_model_of_an_answer_is_read_whatever_its_length(length: int):
    found = read_call("acompletion", TOKENS, response={"model": "m" * length}).models.response_model
    assert found is not None
    assert found.startswith("m" * 20)
    assert len(found) <= 256
