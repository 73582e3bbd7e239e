"""Usage objects in all shapes that gateways and providers write."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from service.events.elements import read_elements
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.usage_event import UsageEvent
from tests.builders import a_litellm_event

NOW = datetime(2026, 11, 6, 12, 0, tzinfo=UTC)


def read(**overrides: Any) -> UsageEvent:
    event = a_litellm_event(began_at=NOW - timedelta(seconds=2), **overrides)
    [[payload]] = list(read_elements(msgspec.json.encode(event), LITELLM))
    assert isinstance(payload, Payload), payload
    found = read_event(payload, received_at=NOW)
    assert isinstance(found, UsageEvent), found
    return found


def quantities(usage_object: dict[str, Any] | None, **overrides: Any) -> dict[str, Any]:
    usage = read(metadata={"usage_object": usage_object}, **overrides).usage
    values = {name: getattr(usage, name) for name in usage.__struct_fields__}
    return {name: value for name, value in values.items() if value}


def units(**amounts: Any) -> tuple[tuple[str, Decimal], ...]:
    return tuple((name, Decimal(amount)) for name, amount in amounts.items())


SHAPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "chat completions",
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_input_tokens": 60,
            "audio_input_tokens": 10,
            "reasoning_output_tokens": 20,
        },
    ),
    (
        "Responses: cached tokens are inside",
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "input_tokens_details": {"cached_tokens": 60},
            "output_tokens_details": {"reasoning_tokens": 20},
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_input_tokens": 60,
            "reasoning_output_tokens": 20,
        },
    ),
    (
        "Anthropic: cached tokens are beside",
        {
            "input_tokens": 10,
            "output_tokens": 50,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_input_tokens": 60,
            "cache_write_5m_input_tokens": 20,
            "cache_write_1h_input_tokens": 10,
        },
    ),
    (
        "the same quantity in three places counts once",
        {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "prompt_tokens_details": {
                "cached_tokens": 60,
                "cache_creation_tokens": 30,
                "cache_write_tokens": 30,
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0},
            },
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 30,
        },
        {
            "input_tokens": 100,
            "output_tokens": 5,
            "cache_read_input_tokens": 60,
            "cache_write_5m_input_tokens": 30,
        },
    ),
    (
        "details that say nothing yield to the next place",
        {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": None},
            "cache_read_input_tokens": 40,
        },
        {"input_tokens": 100, "output_tokens": 5, "cache_read_input_tokens": 40},
    ),
    (
        "writes without a split live for five minutes",
        {"prompt_tokens": 100, "completion_tokens": 5, "cache_creation_input_tokens": 30},
        {"input_tokens": 100, "output_tokens": 5, "cache_write_5m_input_tokens": 30},
    ),
    (
        "a part is never larger than its whole",
        {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 500, "image_tokens": 200, "cache_write_tokens": 70},
            "completion_tokens_details": {"reasoning_tokens": 9, "audio_tokens": 6, "image_tokens": 7},
        },
        {
            "input_tokens": 100,
            "output_tokens": 5,
            "cache_read_input_tokens": 100,
            "image_input_tokens": 100,
            "reasoning_output_tokens": 5,
            "audio_output_tokens": 5,
            "image_output_tokens": 5,
        },
    ),
    (
        "cached audio is named as a part of both",
        {
            "prompt_tokens": 500,
            "completion_tokens": 5,
            "prompt_tokens_details": {
                "cached_tokens": 90,
                "audio_tokens": 400,
                "image_tokens": 20,
                "cached_tokens_details": {"audio_tokens": 50, "image_tokens": 10, "text_tokens": 30},
            },
        },
        {
            "input_tokens": 500,
            "output_tokens": 5,
            "cache_read_input_tokens": 90,
            "audio_input_tokens": 400,
            "image_input_tokens": 20,
            "cache_read_audio_input_tokens": 50,
            "cache_read_image_input_tokens": 10,
        },
    ),
    (
        "what tokens do not pay for is counted, each once",
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": {"web_search_requests": 2, "image_count": 1, "video_length_seconds": 1.5},
            "server_tool_use": {"web_search_requests": 2},
            "num_search_queries": 1,
            "citation_tokens": 7,
        },
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "units": units(input_images=1, input_video_seconds="1.5", citation_tokens=7, web_searches=2),
        },
    ),
    (
        "images are counted beside tokens, seconds nobody can name are not",
        {"prompt_tokens": 10, "completion_tokens": 5, "output_image_count": 2, "duration_seconds": 3.5},
        {"input_tokens": 10, "output_tokens": 5, "units": units(output_images=2)},
    ),
]


@pytest.mark.parametrize(("usage", "expected"), [each[1:] for each in SHAPES], ids=[each[0] for each in SHAPES])
def test_usage_is_normalised(usage: dict[str, Any], expected: dict[str, Any]):
    assert quantities(usage) == expected


def test_the_first_usage_object_that_says_anything_counts():
    answer = {"response": {"usage": {"input_tokens": 7, "output_tokens": 3}}}
    assert quantities({"prompt_tokens": 1, "completion_tokens": 2}, **answer) == {"input_tokens": 1, "output_tokens": 2}
    assert quantities({}, **answer) == {"input_tokens": 7, "output_tokens": 3}
    assert quantities(None, **answer) == {"input_tokens": 7, "output_tokens": 3}
    hidden = {"hidden_params": {"usage_object": {"prompt_tokens": 4, "completion_tokens": 4}}}
    assert quantities(None, **hidden, **answer) == {"input_tokens": 4, "output_tokens": 4}


def test_the_totals_of_the_payload_stand_in_for_a_missing_usage():
    strange: dict[str, Any] = {"response": {"usage": {"prompt_tokens": "many"}}}
    assert quantities(None, prompt_tokens=11, completion_tokens=12, **strange) == {
        "input_tokens": 11,
        "output_tokens": 12,
    }
    assert quantities({"completion_tokens": 5}, prompt_tokens=11, completion_tokens=12) == {
        "input_tokens": 11,
        "output_tokens": 5,
    }


@pytest.mark.parametrize(
    ("call_type", "unmeasured"),
    [
        ("arerank", ("queries",)),
        ("aocr", ("pages",)),
        ("atranscription", ("input_audio_seconds",)),
        ("_arealtime", ("input_audio_seconds",)),
        ("speech", ("input_characters",)),
        ("aimage_edit", ("output_images",)),
        ("avideo_generation", ("output_video_seconds",)),
        ("avector_store_search", ()),
        ("acompletion", ()),
        ("amoderation", ()),
    ],
)
def test_calls_priced_by_what_events_do_not_carry_say_so(call_type: str, unmeasured: tuple[str, ...]):
    nothing = {"prompt_tokens": 0, "completion_tokens": 0}
    assert quantities(nothing, call_type=call_type, **nothing).get("unmeasured", ()) == unmeasured
    # With tokens they are priced by tokens.
    assert "unmeasured" not in quantities({"prompt_tokens": 5, "completion_tokens": 1}, call_type=call_type)


def test_additional_costs_that_are_no_routers_fee_are_not_paid_by_tokens():
    event = read(cost_breakdown={"additional_costs": {"transcription_cost": 0.1, "Azure Model Router Flat Cost": 0.2}})
    assert event.usage.unmeasured == ("additional_costs",)
    assert str(event.reported.fees_usd) == "0.2"
    assert event.models.has_router_fee
    assert read(cost_breakdown={"additional_costs": {"x": 0.0}}).usage.unmeasured == ()


def test_the_negative_zero_of_a_count_is_zero():
    usage = read(metadata={"usage_object": {"prompt_tokens": -0.0, "completion_tokens": 3}}, prompt_tokens=-0.0).usage
    assert "-" not in repr([getattr(usage, name) for name in usage.__struct_fields__ if "token" in name])
