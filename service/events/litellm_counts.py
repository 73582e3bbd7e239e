"""The counts of tokens of a usage object, checked to be whole numbers within bounds. Pure.

Nearly always all of them are: that is found out for all at once, and only otherwise one by one, with the field's path.
"""

from types import NoneType
from typing import Any, Final, TypeVar

import msgspec

from service.events.fields import MAX_COUNT, read_count
from service.events.litellm_payload import (
    CachedParts,
    CacheWrites,
    Count,
    InputDetails,
    OutputDetails,
    Payload,
    UsagePart,
)

_WHOLE_OR_ABSENT: Final = frozenset({int, NoneType})
_NO_INPUT: Final = InputDetails()
_NO_OUTPUT: Final = OutputDetails()
_NO_WRITES: Final = CacheWrites()
_NO_CACHED: Final = CachedParts()

_USAGE_COUNTS: Final = UsagePart.__struct_fields__.index("prompt_tokens_details")
_USAGE_QUANTITIES: Final = UsagePart.__struct_fields__.index("num_search_queries")
_USAGE_TEXTS: Final = UsagePart.__struct_fields__.index("video_resolution")
_INPUT_COUNTS: Final = InputDetails.__struct_fields__.index("cache_creation_token_details")
_INPUT_QUANTITIES: Final = InputDetails.__struct_fields__.index("web_search_requests")

_as_tuple = msgspec.structs.astuple

P = TypeVar("P", bound=msgspec.Struct)


class Counts(msgspec.Struct, frozen=True, gc=False):
    """A usage object with its parts, every count in it a whole number; absent parts are empty ones."""

    path: str
    part: UsagePart
    inputs: InputDetails
    outputs: OutputDetails
    writes: CacheWrites
    cached: CachedParts
    top_input: int
    top_output: int
    has_parts: bool  # whether any count but the totals says something
    has_quantities: bool  # whether anything is there that is no count of tokens


def open_counts(part: UsagePart, path: str, payload: Payload) -> Counts:
    """Return the checked counts of a usage object that was found at a path, with the payload's own totals."""
    inputs = part.prompt_tokens_details or part.input_tokens_details or _NO_INPUT
    outputs = part.completion_tokens_details or part.output_tokens_details or _NO_OUTPUT
    writes = inputs.cache_creation_token_details or part.cache_creation or _NO_WRITES
    cached = inputs.cached_tokens_details or _NO_CACHED
    top_input, top_output = payload.prompt_tokens, payload.completion_tokens
    part_values, input_values = _as_tuple(part), _as_tuple(inputs)
    totals = (*part_values[:_USAGE_COUNTS], top_input, top_output)
    parts: tuple[Any, ...] = input_values[:_INPUT_COUNTS] + _as_tuple(outputs)
    if writes is not _NO_WRITES or cached is not _NO_CACHED:
        parts += _as_tuple(writes) + _as_tuple(cached)
    tools = part.server_tool_use
    has_quantities = (
        any(part_values[_USAGE_QUANTITIES:_USAGE_TEXTS])
        or any(input_values[_INPUT_QUANTITIES:])
        or (tools is not None and bool(tools.web_search_requests))
        or part.server_side_tool_usage_details is not None
    )
    has_parts = any(parts) or bool(part.cache_read_input_tokens or part.cache_creation_input_tokens)
    if not _are_counts(totals) or (has_parts and not _are_counts(parts)):
        part = _checked(part, _USAGE_COUNTS, path)
        inputs = _checked(inputs, _INPUT_COUNTS, path, "prompt_tokens_details")
        outputs = _checked(outputs, len(outputs.__struct_fields__), path, "completion_tokens_details")
        writes = _checked(writes, len(writes.__struct_fields__), path, "cache_creation")
        cached = _checked(cached, len(cached.__struct_fields__), path, "prompt_tokens_details", "cached_tokens_details")
        top_input, top_output = read_count(top_input, "prompt_tokens"), read_count(top_output, "completion_tokens")
    return Counts(
        path, part, inputs, outputs, writes, cached, top_input or 0, top_output or 0, has_parts, has_quantities
    )


def _are_counts(values: tuple[Count, ...]) -> bool:
    # Also a zero may be none to store: -0.0 is read as 0 one by one.
    if not _WHOLE_OR_ABSENT.issuperset(map(type, values)):
        return False
    numbers = [*filter(None, values)]
    return not numbers or (min(numbers) > 0 and max(numbers) <= MAX_COUNT)


def _checked(part: P, number_of_counts: int, *path: str) -> P:
    """Return the part with its first fields checked one by one."""
    names = part.__struct_fields__[:number_of_counts]
    values = {name: getattr(part, name) for name in names}
    prefix = [step for step in path if step]
    checked = {name: None if value is None else read_count(value, *prefix, name) for name, value in values.items()}
    return msgspec.structs.replace(part, **checked)
