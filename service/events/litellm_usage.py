"""Reads what a call consumed, from whichever usage object a payload has and in whatever shape that is. Pure.

Where shapes repeat a quantity, the first that says something counts; they are never added up.
"""

from typing import Final

import msgspec

from service.events.call_types import CallKind
from service.events.fields import is_object, is_positive
from service.events.litellm_counts import Counts, open_counts
from service.events.litellm_parts import Parts
from service.events.litellm_payload import InputDetails, UsagePart
from service.pricing.usage import Usage

_USAGE = msgspec.json.Decoder(UsagePart)

_NO_USAGE: Final = UsagePart()

# Quantities with a price of their own, by the field that shows them; tokens do not pay for these.
_PRICED_INPUTS: Final = (
    ("web_search_requests", "web_search"),
    ("google_maps_grounding_requests", "maps_grounding"),
    ("query_count", "queries"),
    ("character_count", "characters"),
    ("image_count", "images"),
    ("audio_length_seconds", "seconds"),
    ("video_length_seconds", "seconds"),
)
_PRICED_EXTRAS: Final = (("num_search_queries", "web_search"), ("citation_tokens", "citations"))
_PRICED_INSTEAD: Final = (
    ("output_image_count", "images"),
    ("duration_seconds", "seconds"),
    ("seconds", "seconds"),
)


_IN: Final = "prompt_tokens_details"
_FIRST_INPUT_QUANTITY: Final = InputDetails.__struct_fields__.index("web_search_requests")


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
        found = _decode_fallback(raw)
        if found is not None and found != _NO_USAGE:
            return FoundUsage(found, path)
    top = parts.payload
    return FoundUsage(UsagePart(prompt_tokens=top.prompt_tokens, completion_tokens=top.completion_tokens), "")


def _decode_fallback(raw: msgspec.Raw) -> UsagePart | None:
    """Return a usage object nobody promised to be there; one in a strange shape is as good as none."""
    if not is_object(raw):
        return None
    try:
        return _USAGE.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def measure_usage(found: FoundUsage, parts: Parts, unmeasured: tuple[str, ...]) -> Usage:
    """Return the normalised quantities; `unmeasured` are those the cost breakdown already showed."""
    counts = open_counts(found.part, found.path, parts.payload)
    if counts.has_parts:
        usage = _measure_parts(counts)
    else:
        usage = Usage(input_tokens=_count_input(counts, 0), output_tokens=_count_output(counts))
    has_tokens = bool(usage.input_tokens or usage.output_tokens)
    names = _find_unmeasured(counts, parts.kind, unmeasured, has_tokens=has_tokens)
    return msgspec.structs.replace(usage, unmeasured=names) if names else usage


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


def _find_unmeasured(counts: Counts, kind: CallKind, known: tuple[str, ...], *, has_tokens: bool) -> tuple[str, ...]:
    """Return the names of what the call used and tokens do not pay for, each once."""
    part, inputs, path = counts.part, counts.inputs, counts.path
    names = list(known)
    if any(msgspec.structs.astuple(inputs)[_FIRST_INPUT_QUANTITY:]):
        names += [name for field, name in _PRICED_INPUTS if is_positive(getattr(inputs, field), path, _IN, field)]
    if part.num_search_queries or part.citation_tokens:
        names += [name for field, name in _PRICED_EXTRAS if is_positive(getattr(part, field), path, field)]
    tools = part.server_tool_use
    if tools is not None and is_positive(tools.web_search_requests, path, "server_tool_use.web_search_requests"):
        names.append("web_search")
    if not has_tokens:
        names += [name for field, name in _PRICED_INSTEAD if is_positive(getattr(part, field), path, field)]
        names += [kind.unreported_quantity] if kind.unreported_quantity is not None else []
    return tuple(dict.fromkeys(names)) if names else ()
