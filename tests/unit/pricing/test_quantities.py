"""How many tokens of each kind are charged: nothing twice, nothing below zero, always the whole."""

import pytest

from service.pricing.quantities import count_tokens, output_kinds
from service.pricing.usage import Usage
from tests.unit.pricing.builders import tokens


def counted(usage: Usage, call_type: str = "acompletion") -> dict[str, int]:
    return dict(count_tokens(usage, call_type))


def test_text_is_what_the_other_kinds_leave():
    usage = tokens(100, 50, cache_read_input_tokens=60, image_input_tokens=10, reasoning_output_tokens=20)
    assert counted(usage) == {
        "text_input": 30,
        "cache_read": 60,
        "image_input": 10,
        "text_output": 30,
        "reasoning": 20,
    }


def test_no_tokens_are_no_kinds():
    assert counted(tokens()) == {}


def test_cached_audio_is_charged_once_as_cached():
    usage = tokens(300, 0, audio_input_tokens=200, cache_read_input_tokens=128, cache_read_audio_input_tokens=64)
    assert counted(usage) == {"text_input": 36, "cache_read": 64, "cache_read_audio": 64, "audio_input": 136}


def test_cached_images_are_charged_once_as_cached():
    usage = tokens(300, 0, image_input_tokens=200, cache_read_input_tokens=128, cache_read_image_input_tokens=100)
    assert counted(usage) == {"text_input": 72, "cache_read": 28, "cache_read_image": 100, "image_input": 100}


def test_an_overlap_nobody_explains_is_taken_for_cached_tokens_of_the_modality():
    usage = tokens(1000, 0, audio_input_tokens=900, cache_read_input_tokens=500)
    assert counted(usage) == {"cache_read": 500, "audio_input": 500}


@pytest.mark.parametrize(
    "usage",
    [
        tokens(10, cache_read_input_tokens=8, cache_write_5m_input_tokens=8),
        tokens(10, audio_input_tokens=2, cache_read_input_tokens=9, cache_read_audio_input_tokens=5),
        tokens(10, image_input_tokens=2, cache_read_input_tokens=9, cache_read_image_input_tokens=20),
        tokens(10, cache_read_input_tokens=2, cache_read_audio_input_tokens=9, audio_input_tokens=9),
        tokens(10, 10, reasoning_output_tokens=8, audio_output_tokens=8, image_output_tokens=5, video_output_tokens=5),
    ],
)
def test_parts_that_contradict_each_other_still_add_up(usage: Usage):
    kinds = counted(usage)
    assert sum(kinds.values()) == usage.input_tokens + usage.output_tokens
    assert min(kinds.values()) > 0


@pytest.mark.parametrize(
    ("call_type", "kind"),
    [
        ("image_generation", "image_output"),
        ("aimage_generation", "image_output"),
        ("image_edit", "image_output"),
        ("aimage_edit", "image_output"),
        ("speech", "audio_output"),
        ("aspeech", "audio_output"),
    ],
)
def test_what_a_call_is_for_is_what_it_puts_out(call_type: str, kind: str):
    assert counted(tokens(0, 7), call_type) == {kind: 7}
    assert output_kinds(call_type) == (kind,)


def test_a_breakdown_of_the_output_is_believed():
    usage = tokens(0, 10, image_output_tokens=7)
    assert counted(usage, "aimage_generation") == {"text_output": 3, "image_output": 7}
    assert counted(tokens(0, 10, audio_output_tokens=7), "aspeech") == {"text_output": 3, "audio_output": 7}
    assert output_kinds("acompletion") == ("text_output", "reasoning")
