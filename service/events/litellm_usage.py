"""Reads what a call consumed, from whichever usage object a payload has and in whatever shape that is. Pure.

Where shapes repeat a quantity, the first that says something counts; they are never added up.
"""

from typing import Final

import msgspec

from service.events.litellm_answer import open_usage
from service.events.litellm_counts import Counts
from service.events.litellm_parts import Parts
from service.events.litellm_payload import UsagePart
from service.events.litellm_quantities import Used
from service.pricing.usage import Usage

_NO_USAGE: Final = UsagePart()


class FoundUsage(msgspec.Struct, frozen=True):
    """A usage object, and the path it was found at."""

    part: UsagePart
    path: str


def find_usage(parts: Parts) -> FoundUsage:
    """Return the first usage object that says anything; without one, the top-level token counts."""
    part = parts.metadata.usage_object
    if part is not None and part != _NO_USAGE:
        return FoundUsage(part, "metadata.usage_object")
    for raw, path in (
        (parts.hidden.usage_object, "hidden_params.usage_object"),
        (parts.response.usage, "response.usage"),
    ):
        found = open_usage(raw)
        if found is not None and found != _NO_USAGE:
            return FoundUsage(found, path)
    top = parts.payload
    return FoundUsage(UsagePart(prompt_tokens=top.prompt_tokens, completion_tokens=top.completion_tokens), "")


def measure_tokens(counts: Counts) -> Usage:
    """Return the normalised quantities of tokens."""
    if counts.has_parts:
        return _measure_parts(counts)
    return Usage(input_tokens=_count_input(counts, 0), output_tokens=_count_output(counts))


def with_used(tokens: Usage, used: Used) -> Usage:
    """Return the usage with what was used beside tokens."""
    if not (used.units or used.unmeasured or used.input_tokens):
        return tokens
    return msgspec.structs.replace(
        tokens,
        input_tokens=tokens.input_tokens or used.input_tokens,
        units=used.units,
        unmeasured=used.unmeasured,
    )


def _measure_parts(counts: Counts) -> Usage:
    part, inputs, outputs = counts.part, counts.inputs, counts.outputs
    reads = inputs.cached_tokens or part.cache_read_input_tokens or 0
    writes, writes_1h = _count_cache_writes(counts)
    total_in, total_out = _count_input(counts, reads + writes), _count_output(counts)
    reads = min(reads, total_in)
    writes = min(writes, total_in - reads)
    writes_1h = min(writes_1h, writes)
    audio = min(inputs.audio_tokens or 0, total_in)
    image = min(inputs.image_tokens or 0, total_in)
    reads_audio = min(counts.cached.audio_tokens or 0, reads, audio)
    return Usage(
        input_tokens=total_in,
        output_tokens=total_out,
        cache_read_input_tokens=reads,
        cache_write_5m_input_tokens=writes - writes_1h,
        cache_write_1h_input_tokens=writes_1h,
        audio_input_tokens=audio,
        image_input_tokens=image,
        video_input_tokens=min(inputs.video_tokens or 0, total_in),
        cache_read_audio_input_tokens=reads_audio,
        cache_read_image_input_tokens=min(counts.cached.image_tokens or 0, reads - reads_audio, image),
        reasoning_output_tokens=min(outputs.reasoning_tokens or 0, total_out),
        audio_output_tokens=min(outputs.audio_tokens or 0, total_out),
        image_output_tokens=min(outputs.image_tokens or 0, total_out),
        video_output_tokens=min(outputs.video_tokens or 0, total_out),
    )


def _count_output(counts: Counts) -> int:
    part = counts.part
    if part.completion_tokens is not None:
        return part.completion_tokens
    return part.output_tokens if part.output_tokens is not None else counts.top_output


def _count_input(counts: Counts, cached: int) -> int:
    part = counts.part
    if part.prompt_tokens is not None:
        return part.prompt_tokens
    if part.input_tokens is None:
        return counts.top_input
    # Anthropic's own shape counts cached tokens beside `input_tokens`; all other shapes count them inside.
    is_anthropic = part.cache_read_input_tokens is not None or part.cache_creation_input_tokens is not None
    return part.input_tokens + cached if is_anthropic else part.input_tokens


def _count_cache_writes(counts: Counts) -> tuple[int, int]:
    """Return the tokens written to the cache, and those among them that were written for an hour."""
    part, inputs, writes = counts.part, counts.inputs, counts.writes
    five_minutes = writes.ephemeral_5m_input_tokens or 0
    one_hour = writes.ephemeral_1h_input_tokens or 0
    total = inputs.cache_creation_tokens or inputs.cache_write_tokens or part.cache_creation_input_tokens
    return total or five_minutes + one_hour, one_hour
