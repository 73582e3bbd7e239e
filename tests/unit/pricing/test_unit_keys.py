"""The grammar of keys for units, and where the rate of a key is kept."""

import pytest

from service.pricing.unit_keys import UnitKey, parse_unit_key, slot_of_key


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
    ("key", "slot"),
    [
        ("input_cost_per_token", ("text_input", 0, "")),
        ("input_cost_per_token_above_200k_tokens_flex", ("text_input", 200_000, "flex")),
        ("cache_creation_input_audio_token_cost", ("cache_read_audio", 0, "")),
        ("input_cost_per_query", ("queries", 0, "")),
        ("cost_per_second", ("input_seconds", 0, "")),
        ("ocr_cost_per_page_batches", ("pages", 0, "batches")),
        ("search_context_cost_per_query.search_context_size_low", ("web_searches/low", 0, "")),
        ("search_context_cost_per_query.search_context_size_huge", None),
        ("search_context_cost_per_query", None),
        ("guardrail_cost_per_unit.topicPolicyUnits", ("guardrail_units/topicPolicyUnits", 0, "")),
        ("guardrail_cost_per_unit", None),
        ("mode", None),
    ],
)
def test_where_the_rate_of_a_key_is_kept(key: str, slot: tuple[str, int, str] | None):
    assert slot_of_key(key) == slot
