"""The grammar of keys for units, and what a key may turn out to state."""

import pytest

from service.pricing.unit_keys import UnitKey, kinds_of_key, parse_unit_key


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("input_cost_per_character", UnitKey("input_characters", 0, "", 1, is_second_name=False)),
        (
            "input_cost_per_character_above_128k_tokens",
            UnitKey("input_characters", 128_000, "", 1, is_second_name=False),
        ),
        ("ocr_cost_per_page_batches", UnitKey("pages", 0, "batches", 1, is_second_name=False)),
        ("output_cost_per_image_0.5K", UnitKey("output_images/0.5k", 0, "", 1, is_second_name=False)),
        ("output_cost_per_image_1024", UnitKey("output_images/1024", 0, "", 1, is_second_name=False)),
        ("output_cost_per_second_1080p", UnitKey("output_video_seconds/1080p", 0, "", 1, is_second_name=False)),
        ("output_cost_per_second_4k", UnitKey("output_video_seconds/4k", 0, "", 1, is_second_name=False)),
        ("file_search_cost_per_1k_calls", UnitKey("file_searches", 0, "", 1000, is_second_name=False)),
        ("cost_per_second", UnitKey("input_seconds", 0, "", 1, is_second_name=True)),
        ("input_cost_per_token", None),
        ("output_cost_per_image_token", None),
        ("output_cost_per_image_K", None),
        ("output_cost_per_second_p", None),
        ("output_cost_per_second_720", None),
        ("input_cost_per_video_per_second_above_8s_interval", None),
        ("mode", None),
    ],
)
def test_the_grammar_of_unit_keys(key: str, meaning: UnitKey | None):
    assert parse_unit_key(key) == meaning


@pytest.mark.parametrize(
    ("key", "kinds"),
    [
        ("input_cost_per_token_flex", {"text_input"}),
        ("cache_creation_input_audio_token_cost", {"cache_read_audio"}),
        ("input_cost_per_query", {"queries"}),
        ("input_cost_per_second", {"input_audio_seconds", "call_seconds"}),
        (
            "output_cost_per_second",
            {"input_audio_seconds", "output_audio_seconds", "output_video_seconds", "call_seconds"},
        ),
        ("output_cost_per_second_720p", {"output_video_seconds/720p"}),
        ("input_cost_per_pixel", {"output_pixels"}),
        ("input_cost_per_image", {"input_images", "output_images"}),
        ("output_cost_per_image", {"output_images", "requests"}),
        ("search_context_cost_per_query.search_context_size_low", {"web_searches/low"}),
        ("search_context_cost_per_query.search_context_size_huge", set()),
        ("guardrail_cost_per_unit.topicPolicyUnits", {"guardrail_units/topicPolicyUnits"}),
        ("mode", set()),
    ],
)
def test_what_a_key_may_state(key: str, kinds: set[str]):
    assert kinds_of_key(key) == kinds
