"""From the event to the price: what each call type delivers is what the shipped price book charges for."""

from typing import Any

import pytest

from service.identity.aliases import AliasBook
from service.identity.resolution import resolve_models
from service.kit.money import format_amount
from service.pricing.rating_result import Rating
from tests.unit.events.reading import read_call
from tests.unit.pricing.builders import rated

TOKENS = {"prompt_tokens": 100, "completion_tokens": 10}


def priced(call_type: str, model: str, usage_object: dict[str, Any], overrides: dict[str, Any]) -> Rating:
    quiet: dict[str, Any] = {"response_cost": 0.0, "model_map_information": None, "hidden_params": {}}
    event = read_call(
        call_type, usage_object, model=model, custom_llm_provider=model.partition("/")[0], **(quiet | overrides)
    )
    models = resolve_models(event.models, AliasBook(), event.occurred_at)
    return rated(models, event.usage, event.basis, event.reported, occurred_at=event.occurred_at)


def answered(**response: Any) -> dict[str, Any]:
    return {"response": response}


# call type, model, usage object, the rest of the event, cost, units of the lines
CALLS: list[tuple[str, str, str, dict[str, Any], dict[str, Any], str, list[str]]] = [
    ("transcription", "atranscription", "openai/whisper-1", {}, answered(duration=63.4), "0.00634", ["second"]),
    ("transcription by a minute", "atranscription", "deepgram/nova-3", {"seconds": 60}, {}, "0.0043002", ["second"]),
    (
        "speech, counted by an adapter",
        "aspeech",
        "openai/tts-1",
        {},
        {"tallygate": {"quantities": {"input_characters": 47}}},
        "0.000705",
        ["character"],
    ),
    (
        "rerank by search units",
        "arerank",
        "cohere/rerank-v3.5",
        {},
        answered(meta={"billed_units": {"search_units": 2}}),
        "0.004",
        ["query"],
    ),
    (
        "rerank by tokens",
        "arerank",
        "jina_ai/jina-reranker-v2-base-multilingual",
        {},
        answered(meta={"billed_units": {"total_tokens": 1000}}),
        "0.00005",
        ["token"],
    ),
    ("searches", "asearch", "tavily/search", {}, {"model_parameters": {"query": ["a", "b"]}}, "0.016", ["query"]),
    (
        "search by the number of results",
        "asearch",
        "exa_ai/search",
        {},
        {"model_parameters": {"query": "a", "max_results": 50}},
        "0.025",
        ["query"],
    ),
    (
        "OCR with annotations",
        "aocr",
        "mistral/mistral-ocr-latest",
        {},
        answered(usage_info={"pages_processed": 3, "pages_processed_annotation": 2}),
        "0.022",
        ["page", "page"],
    ),
    ("film", "acreate_video", "openai/sora-2", {"duration_seconds": 8.0}, {}, "0.8", ["second"]),
    (
        "film by its resolution",
        "acreate_video",
        "gemini/veo-3.1-generate-preview",
        {"duration_seconds": 8.0, "video_resolution": "4k"},
        {},
        "4.8",
        ["second"],
    ),
    (
        "image by count",
        "aimage_generation",
        "azure_ai/FLUX-1.1-pro",
        {"output_image_count": 2},
        answered(size="1024x1024", quality="high"),
        "0.08",
        ["image"],
    ),
    (
        "image by tokens",
        "aimage_generation",
        "gemini/gemini-2.5-flash-image",
        {
            "prompt_tokens": 10,
            "completion_tokens": 1290,
            "completion_tokens_details": {"image_tokens": 1290},
            "output_image_count": 1,
        },
        {},
        "0.038703",
        ["token", "token"],
    ),
    (
        "embedding of everything",
        "aembedding",
        "vertex_ai/multimodalembedding@001",
        {"prompt_tokens_details": {"character_count": 120, "image_count": 1, "video_length_seconds": 8}},
        {},
        "0.004124",
        ["character", "image", "second"],
    ),
    (
        "session that transcribed",
        "_arealtime",
        "openai/gpt-realtime-whisper",
        {},
        answered(
            results=[
                {
                    "type": "conversation.item.input_audio_transcription.completed",
                    "usage": {"type": "duration", "seconds": 60},
                }
            ]
        ),
        "0.01699999999998",
        ["second"],
    ),
    (
        "web searches",
        "aresponses",
        "openai/gpt-4.1",
        TOKENS,
        answered(output=[{"type": "web_search_call"}] * 2),
        "0.05028",
        ["token", "token", "search"],
    ),
    (
        "file searches and code",
        "aresponses",
        "openai/gpt-4.1",
        TOKENS,
        answered(output=[{"type": "file_search_call"}] * 2 + [{"type": "code_interpreter_call", "container_id": "a"}]),
        "0.03528",
        ["token", "token", "search", "session"],
    ),
    (
        "grounding on maps",
        "acompletion",
        "gemini/gemini-2.5-flash",
        {"prompt_tokens": 50, "completion_tokens": 10, "prompt_tokens_details": {"google_maps_grounding_requests": 1}},
        {},
        "0.02504",
        ["token", "token", "query"],
    ),
    (
        "a finished batch at half the price",
        "aretrieve_batch",
        "openai/gpt-4.1-mini",
        {"prompt_tokens": 5000, "completion_tokens": 1000},
        answered(status="completed"),
        "0.0018",
        ["token", "token"],
    ),
]


@pytest.mark.parametrize(
    ("call_type", "model", "usage_object", "overrides", "cost", "line_units"),
    [each[1:] for each in CALLS],
    ids=[each[0] for each in CALLS],
)
def test_a_call_is_charged_by_the_book_for_what_it_used(
    call_type: str,
    model: str,
    usage_object: dict[str, Any],
    overrides: dict[str, Any],
    cost: str,
    line_units: list[str],
):
    rating = priced(call_type, model, usage_object, overrides)
    assert (rating.price_state, rating.reason) == ("priced", None)
    assert format_amount(rating.cost_usd) == cost
    assert [line.unit for line in rating.components] == line_units


def test_a_tool_call_costs_what_its_server_states():
    call = {"name": "search", "mcp_server_cost_info": {"tool_name_to_cost_per_query": {"search": 0.025}}}
    rating = priced("call_mcp_tool", "MCP: search", {}, {"metadata": {"mcp_tool_call_metadata": call}})
    assert (rating.price_state, format_amount(rating.cost_usd)) == ("reported", "0.025")


def test_a_tool_nobody_counts_leaves_the_gateways_figure():
    charged = {"response_cost": 0.5, "cost_breakdown": {"tool_usage_cost": 0.4}}
    rating = priced("acompletion", "openai/gpt-4.1", TOKENS, charged)
    assert (rating.price_state, rating.reason, format_amount(rating.cost_usd)) == (
        "reported",
        "unmeasured:tools",
        "0.5",
    )


def test_speech_nobody_counted_leaves_the_gateways_figure():
    rating = priced("aspeech", "openai/tts-1", {}, {"response_cost": 0.5})
    assert (rating.price_state, rating.reason) == ("reported", "unmeasured:input_characters")
