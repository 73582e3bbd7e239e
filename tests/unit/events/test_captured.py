"""What a LiteLLM proxy really posted: every element is read, and read right."""

from decimal import Decimal
from typing import Any

import pytest

from service.events.elements import Undecoded, read_elements
from service.events.litellm import LITELLM, read_event
from service.events.litellm_payload import Payload
from service.events.usage_event import UsageEvent
from service.pricing.usage import CustomRates
from tests.builders import CAPTURED, CAPTURED_RECEIVED_AT, captured_body

BODIES = sorted(path.name for path in CAPTURED.iterdir() if path.suffix in {".json", ".ndjson"})


def read(name: str) -> list[UsageEvent]:
    return read_body(captured_body(name))


def read_body(body: bytes) -> list[UsageEvent]:
    events = []
    for chunk in read_elements(body, LITELLM):
        for payload in chunk:
            assert isinstance(payload, Payload), payload
            event = read_event(payload, received_at=CAPTURED_RECEIVED_AT)
            assert isinstance(event, UsageEvent), event
            events.append(event)
    return events


def test_there_are_bodies_to_read():
    assert len(BODIES) > 40


@pytest.mark.parametrize("name", BODIES)
def test_every_element_of_every_body_is_read(name: str):
    events = read(name)
    assert events
    for event in events:
        usage = event.usage
        assert usage.cache_read_input_tokens <= usage.input_tokens
        assert usage.reasoning_output_tokens <= usage.output_tokens
        assert event.reported.total_usd is not None
        assert event.dimensions.session is not None or name == "legacy_v1.json"


@pytest.mark.parametrize("name", BODIES)
def test_every_body_posted_again_has_the_same_ids_and_fingerprints(name: str):
    assert [(each.event_id, each.fingerprint) for each in read(name)] == [
        (each.event_id, each.fingerprint) for each in read(name)
    ]


def test_ids_tell_all_different_calls_apart():
    seen: dict[str, tuple[bytes, str]] = {}
    for name in BODIES:
        for event in read(name):
            fingerprint, _ = seen.setdefault(event.event_id, (event.fingerprint, name))
            assert fingerprint == event.fingerprint, f"{event.event_id} in {name} contradicts {seen[event.event_id][1]}"


def test_one_burst_is_the_same_events_in_every_log_format():
    assert read("format_json_array.json") == read("format_ndjson.ndjson")
    assert len(read("format_ndjson.ndjson")) == 6


def test_growing_arrays_repeat_their_events():
    first, second = read("repeated_events-1.json"), read("repeated_events-2.json")
    assert second[: len(first)] == first
    assert len({event.event_id for event in second}) == len(second) == len(first) + 1


def test_a_finished_batch_retrieved_twice_is_one_event():
    first, first_download = read("batch_retrieve-1.json")
    second, second_download = read("batch_retrieve-2.json")
    assert first.event_id == second.event_id == "retrieve_batch:result:openai:batch_67f1"
    assert first.fingerprint == second.fingerprint
    assert first.basis.is_batch
    assert (first.usage.input_tokens, first.usage.output_tokens) == (5000, 1000)
    assert first.models.model == "gpt-4.1-mini-2025-04-14"
    assert first_download.event_id != second_download.event_id
    assert first_download.basis.unbilled_reason == second_download.basis.unbilled_reason == "never_billed"
    assert not first_download.is_final


def test_a_failed_attempt_and_the_paid_success_share_the_call_but_not_the_id():
    [failure], [success] = read("retry_429_then_ok-1.json"), read("retry_429_then_ok-2.json")
    assert failure.request_id == success.request_id
    assert failure.event_id != success.event_id
    assert (failure.is_final, success.is_final) == (False, True)
    assert failure.response_id is None


def test_a_cache_hit_keeps_its_tokens_and_says_so():
    [miss], [hit] = read("cache_hit-1.json"), read("cache_hit-2.json")
    assert (miss.is_cache_hit, hit.is_cache_hit) == (False, True)
    assert hit.basis.is_cache_hit
    assert miss.usage == hit.usage
    assert hit.reported.total_usd == 0
    assert not hit.reported.is_unknown_price
    assert miss.event_id != hit.event_id


def units(**quantities: Any) -> tuple[tuple[str, Decimal], ...]:
    return tuple((name, Decimal(quantity)) for name, quantity in quantities.items())


USAGES: dict[str, dict[str, Any]] = {
    "anthropic_cache_mixed.json": {
        "input_tokens": 16504,
        "output_tokens": 350,
        "cache_read_input_tokens": 10240,
        "cache_write_5m_input_tokens": 2048,
        "cache_write_1h_input_tokens": 4096,
    },
    "audio_chat.json": {
        "input_tokens": 300,
        "output_tokens": 420,
        "audio_input_tokens": 250,
        "audio_output_tokens": 360,
    },
    "embedding_batch.json": {"input_tokens": 37},
    "fail_429.json": {},
    "image_gpt_image.json": {"input_tokens": 50, "output_tokens": 2112, "units": units(output_images=2)},
    "image_per_image.json": {"units": units(output_images=1)},
    "messages_native.json": {
        "input_tokens": 17006,
        "output_tokens": 210,
        "cache_read_input_tokens": 15200,
        "cache_write_5m_input_tokens": 1800,
    },
    "moderation.json": {},
    "ocr.json": {"units": units(pages=3)},
    "ocr_known_name.json": {"units": units(pages=3)},
    "openai_cached.json": {
        "input_tokens": 8000,
        "output_tokens": 400,
        "cache_read_input_tokens": 7168,
        "reasoning_output_tokens": 192,
    },
    "perplexity_cost.json": {"input_tokens": 20, "output_tokens": 500, "units": units(web_searches=1)},
    "passthrough_anthropic.json": {"input_tokens": 300, "output_tokens": 50},
    "realtime.json": {
        "input_tokens": 500,
        "output_tokens": 400,
        "cache_read_input_tokens": 64,
        "audio_input_tokens": 400,
        "audio_output_tokens": 320,
    },
    "reasoning_o4mini.json": {"input_tokens": 300, "output_tokens": 2100, "reasoning_output_tokens": 1984},
    "rerank_cohere.json": {"units": units(queries=2)},
    "responses_stream.json": {"input_tokens": 910, "output_tokens": 120, "reasoning_output_tokens": 64},
    # How many characters were spoken is only in the prompt, which nobody reads.
    "speech_tts1.json": {"unmeasured": ("input_characters",)},
    "stream_upstream_cut.json": {"input_tokens": 10, "output_tokens": 15},
    "transcription_tokens.json": {"input_tokens": 640, "output_tokens": 90, "audio_input_tokens": 630},
    "transcription_whisper.json": {"units": units(input_audio_seconds="63.4")},
    "video.json": {"units": units(output_video_seconds=8)},
    "websearch_anthropic.json": {"input_tokens": 9000, "output_tokens": 500, "units": units(web_searches=3)},
    "websearch_gemini.json": {"input_tokens": 60, "output_tokens": 200, "units": units(web_searches=2)},
    # Nothing counts it: the answer cites, and the gateway charges for a tool.
    "websearch_openai_chat.json": {"input_tokens": 14, "output_tokens": 240, "units": units(web_searches=1)},
    "websearch_responses.json": {"input_tokens": 5000, "output_tokens": 400, "units": units(web_searches=2)},
    "zero_usage.json": {},
}


@pytest.mark.parametrize(("name", "quantities"), USAGES.items())
def test_quantities_are_those_the_provider_answered(name: str, quantities: dict[str, Any]):
    [event] = read(name)
    found = {field: getattr(event.usage, field) for field in event.usage.__struct_fields__}
    assert {field: value for field, value in found.items() if value} == quantities


BASES: dict[str, dict[str, Any]] = {
    "anthropic_geo_us.json": {"inference_geography": "us"},
    "fail_429.json": {"is_failure": True},
    "openai_eu_residency.json": {"data_residency": "eu"},
    "plain_chat.json": {},
    "tier_auto_served_flex.json": {"service_tier": "flex"},
    "vertex_region_uplift.json": {"vertex_location": "europe-west1"},
    "azure_ptu.json": {
        "custom_rates": CustomRates(
            input_per_token=Decimal(0),
            output_per_token=Decimal(0),
            cache_read_per_token=Decimal(0),
            cache_write_per_token=Decimal(0),
            others=(("input_cost_per_character", Decimal(0)), ("output_cost_per_character", Decimal(0))),
        )
    },
    "custom_price_per_second.json": {
        "custom_rates": CustomRates(has_other_rates=True, others=(("input_cost_per_second", Decimal("0.0005")),))
    },
    "image_gpt_image.json": {"image_size": "1024x1024", "image_quality": "medium"},
    "image_per_image.json": {"image_size": "1024x1024", "image_quality": "high"},
    "perplexity_cost.json": {"search_context_size": "low"},
    "video.json": {"video_resolution": "720p"},
    "websearch_openai_chat.json": {"search_context_size": "medium"},
    "custom_price_overrides_map.json": {
        "custom_rates": CustomRates(
            input_per_token=Decimal("0.0000015"),
            output_per_token=Decimal("0.000006"),
            cache_read_per_token=Decimal("0.0000004"),
        )
    },
    "zero_cost_model_info.json": {"custom_rates": CustomRates(input_per_token=Decimal(0), output_per_token=Decimal(0))},
    "vllm_unmapped.json": {},
}


@pytest.mark.parametrize(("name", "facts"), BASES.items())
def test_facts_that_select_a_rate_are_what_was_billed(name: str, facts: dict[str, Any]):
    [event] = read(name)
    always = {"call_type", "duration_seconds"}
    found = {field: getattr(event.basis, field) for field in event.basis.__struct_fields__ if field not in always}
    assert {field: value for field, value in found.items() if value} == facts


def test_how_long_a_call_took_is_known_to_the_microsecond():
    [event] = read("custom_price_per_second.json")
    assert event.basis.duration_seconds == Decimal("0.356624")
    assert event.duration_ms == 357


@pytest.mark.parametrize(
    ("name", "is_unknown"),
    [
        ("vllm_unmapped.json", True),
        ("prefix_missing.json", True),
        ("azure_no_base_model.json", False),
        ("zero_cost_model_info.json", False),
        ("azure_ptu.json", False),
        ("moderation.json", False),
        ("plain_chat.json", False),
        ("cache_hit-2.json", False),
        ("fail_429.json", False),
    ],
)
def test_a_cost_of_zero_is_told_from_a_price_nobody_knows(name: str, is_unknown: bool):
    [event] = read(name)
    assert event.reported.is_unknown_price is is_unknown


def test_costs_of_guardrails_routers_and_tools_are_set_apart():
    [blocked] = read("guardrail_block.json")
    assert (blocked.status, blocked.reported.guardrail_usd) == ("failure", Decimal("0.0003"))
    [routed] = read("router_gpt54mini.json")
    assert routed.reported.fees_usd == Decimal("0.00016800000000000002")
    assert routed.models.has_router_fee
    [searched] = read("websearch_openai_chat.json")
    assert searched.reported.tool_usage_usd == Decimal("0.025")


def test_all_names_of_a_routed_call_are_carried():
    [event] = read("router_gpt54mini.json")
    assert event.models.model == "azure_ai/gpt-5.4-mini-2026-03-17"
    assert event.models.deployment_model == "azure_ai/model_router/azure-model-router"
    assert event.models.response_model == "azure_ai/gpt-5.4-mini-2026-03-17"
    assert event.models.model_group == "azure-model-router"
    assert event.models.provider == "azure_ai"
    [hidden] = read("router_hidden_name.json")
    assert hidden.models.gateway_price_key == "azure_ai/model_router"
    assert not hidden.models.has_router_fee


def test_a_fallback_is_told_from_the_headers():
    failure, success = read("router_fallback.json")
    assert (failure.models.has_fallen_back, success.models.has_fallen_back) == (None, True)
    assert (failure.models.is_failure, success.models.is_failure) == (True, False)
    [plain] = read("plain_chat.json")
    assert plain.models.has_fallen_back is False
    [stream] = read("router_gpt54mini_stream.json")
    assert stream.models.has_fallen_back is None
    assert stream.is_stream


def test_people_tags_and_sessions_are_carried():
    [event] = read("plain_chat.json")
    dimensions = event.dimensions
    assert (dimensions.organization, dimensions.team, dimensions.user) == ("org-emea", "team-4f1c", "u-1001")
    assert dimensions.api_key == "2057f4e5d133d1b968ea93d9468ba7c29a5ca9a0d8d2bcaa6adb7e90e79369d8"
    assert dimensions.tags == ("env:prod", "cost-center:cc-118", "dept:payments")
    assert event.automatic_tags == ("User-Agent: OpenAI", "User-Agent: OpenAI/Python 2.54.0")
    assert event.key_alias == "checkout-bot-prod"
    [with_session] = read("session_and_trace.json")
    assert with_session.dimensions.session == with_session.trace_id == "session-2207"
    assert any(each.dimensions.end_user for each in read("tags_body_and_header.json"))
    assert all("" not in each.dimensions.tags for each in read("tags_body_and_header.json"))


def test_times_are_exact_to_the_microsecond():
    [event] = read("plain_chat.json")
    assert event.occurred_at.isoformat() == "2026-11-06T10:20:52.722773+00:00"
    assert event.duration_ms == 215


def test_the_payload_of_old_says_nearly_as_much():
    plain, anthropic, routed = read("legacy_v1.json")
    assert plain.dimensions.team == "team-4f1c"
    assert plain.dimensions.tags == ("env:prod", "cost-center:cc-118", "dept:payments")
    assert plain.reported.total_usd == Decimal("0.000056")
    assert plain.occurred_at.isoformat() == "2026-11-06T10:31:45.139335+00:00"
    assert anthropic.usage.cache_read_input_tokens == 900
    assert anthropic.models.requested_model == "sonnet"
    assert routed.models.deployment_model == "azure_ai/model_router/azure-model-router"
    assert routed.models.response_model == "azure_ai/gpt-5.4-mini-2026-03-17"
    assert routed.models.provider == "azure_ai"
    assert "#" in plain.event_id, "no call id: the content tells calls apart"


def test_nothing_private_is_in_what_was_read():
    for name in BODIES:
        for event in read(name):
            text = repr(event)
            assert "Summarise the incident" not in text
            assert "x-api-key" not in text
            assert "sk-" not in text


def test_a_null_is_an_event_the_gateway_failed_to_build():
    [plain] = read_elements(b"[null]", LITELLM)
    assert isinstance(plain[0], Undecoded)
    assert plain[0].problem.code == "event_missing"
