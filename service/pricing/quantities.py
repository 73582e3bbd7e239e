"""How many tokens of each kind a call is charged for. Pure.

The kinds of a direction never overlap and add up to the tokens of that direction: nothing is charged twice.
"""

from itertools import compress
from typing import Final

from service.pricing import rate_keys
from service.pricing.image_variants import IMAGE_CALLS
from service.pricing.rate_keys import TOKEN_KINDS
from service.pricing.usage import Usage

# What these calls put out is what they are for, also when the provider does not break its output tokens down.
_SPEECH_CALLS: Final = frozenset({"aspeech", "speech"})

# (token kind, tokens) of the kinds the call has any of, in the order of TOKEN_KINDS.
Quantities = list[tuple[str, int]]


def count_tokens(usage: Usage, call_type: str) -> Quantities:
    """Return the chargeable tokens of each kind the call has any of."""
    counts = (*_count_input(usage), *_count_output(usage, call_type))
    return list(compress(zip(TOKEN_KINDS, counts, strict=True), counts))


def output_kinds(call_type: str) -> tuple[str, ...]:
    """Return the kinds of token a call may put out when nothing is said about them."""
    if call_type in IMAGE_CALLS:
        return (rate_keys.IMAGE_OUTPUT,)
    if call_type in _SPEECH_CALLS:
        return (rate_keys.AUDIO_OUTPUT,)
    return (rate_keys.TEXT_OUTPUT, rate_keys.REASONING)


def _count_input(usage: Usage) -> tuple[int, int, int, int, int, int, int, int, int]:
    read_audio, read_image = usage.cache_read_audio_input_tokens, usage.cache_read_image_input_tokens
    read = usage.cache_read_input_tokens - read_audio - read_image
    write_5m, write_1h = usage.cache_write_5m_input_tokens, usage.cache_write_1h_input_tokens
    audio, image = usage.audio_input_tokens - read_audio, usage.image_input_tokens - read_image
    video = usage.video_input_tokens
    text = usage.input_tokens - usage.cache_read_input_tokens - write_5m - write_1h - audio - image - video
    if text < 0 or read < 0 or audio < 0 or image < 0:
        return _disentangle_input(usage)
    return (text, read, read_audio, read_image, write_5m, write_1h, audio, image, video)


def _disentangle_input(usage: Usage) -> tuple[int, int, int, int, int, int, int, int, int]:
    """Return parts that add up although the reported ones overlap: tokens of a modality that were read from the cache.

    The provider counted such tokens in both. What is cached is charged as cached, and the modality gives way.
    """
    left = usage.input_tokens
    taken: list[int] = []
    for part in (
        usage.cache_write_1h_input_tokens,
        usage.cache_write_5m_input_tokens,
        usage.cache_read_input_tokens,
        usage.video_input_tokens,
        usage.image_input_tokens,
        usage.audio_input_tokens,
    ):
        taken.append(min(max(part, 0), left))
        left -= taken[-1]
    write_1h, write_5m, read, video, image, audio = taken
    read_audio = min(max(usage.cache_read_audio_input_tokens, 0), read)
    read_image = min(max(usage.cache_read_image_input_tokens, 0), read - read_audio)
    return (left, read - read_audio - read_image, read_audio, read_image, write_5m, write_1h, audio, image, video)


def _count_output(usage: Usage, call_type: str) -> tuple[int, int, int, int, int]:
    reasoning, audio = usage.reasoning_output_tokens, usage.audio_output_tokens
    image, video = usage.image_output_tokens, usage.video_output_tokens
    text = usage.output_tokens - reasoning - audio - image - video
    if text < 0:
        audio = min(audio, usage.output_tokens)
        image = min(image, usage.output_tokens - audio)
        video = min(video, usage.output_tokens - audio - image)
        reasoning = min(reasoning, usage.output_tokens - audio - image - video)
        text = usage.output_tokens - audio - image - video - reasoning
    if text and call_type in IMAGE_CALLS and not image:
        text, image = 0, text
    elif text and call_type in _SPEECH_CALLS and not audio:
        text, audio = 0, text
    return (text, reasoning, audio, image, video)
