"""Reads the model and the size of a call from its JSON body, which may break off anywhere and may be anything.

What a body that breaks off would have said is not known: a model or a number at its very end does not count. Input is
taken for a token per two bytes: more than texts come to in any language, and a bound no reading of the prompt is
needed for.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from pydantic_core import from_json

from service.kit.text import bounded_text
from service.pricing.estimation import DEFAULT_MAX_OUTPUT_TOKENS

BYTES_PER_TOKEN: Final = 2
MOST_TOKENS: Final = 1_000_000_000_000

_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_ANSWER_COUNTS: Final = ("n", "best_of")
_NUMBER_CHARACTERS: Final = "0123456789+-.eE"
_MOST_NUMBER_CHARACTERS: Final = 64


class CallSize(msgspec.Struct, frozen=True, kw_only=True):
    """What a body says. `models`: all it names, the one most readers would take first. None = no limit is named."""

    models: tuple[str, ...] = ()
    input_tokens: int = 0
    max_output_tokens: int | None = None


Members = list[tuple[str, Any]]


def read_call(body: bytes, length: int) -> CallSize:
    """Return what the beginning of a body of that length says; nothing is ever raised."""
    return call_size(read_members(body), length)


def read_members(body: bytes) -> Members:
    """Return the members of the outermost object, as often as they are named; none if it is no object."""
    whole: Members = []

    def keep(members: Members) -> dict[str, Any]:
        nonlocal whole
        whole = members  # objects end from within: the outermost comes last
        return dict(members)

    text = body.decode(json.detect_encoding(body), "replace")
    try:
        decoded = json.loads(text, object_pairs_hook=keep, strict=False)
    except (ValueError, RecursionError):
        return _broken_members(text)
    return whole if isinstance(decoded, dict) else []


def call_size(members: Members, length: int) -> CallSize:
    """Return what the members of a body of that length say of the call."""
    # Some decoders take a member whatever its case.
    named = [(name.lower(), value) for name, value in members]
    models = [value for name, value in named if name == "model" and isinstance(value, str) and value]
    output = max([_positive(value) for name, value in named if name in _OUTPUT_LIMITS], default=0) or None
    answers = max([_positive(value) for name, value in named if name in _ANSWER_COUNTS], default=0)
    answers = max(answers, 1) * max([_prompts(value) for name, value in named if name == "prompt"], default=1)
    if answers > 1:
        output = min((output or DEFAULT_MAX_OUTPUT_TOKENS) * answers, MOST_TOKENS)
    return CallSize(
        models=tuple(dict.fromkeys(map(_name, reversed(models)))),
        input_tokens=tokens_of(length),
        max_output_tokens=output,
    )


def tokens_of(length: int) -> int:
    """Return how many tokens so many bytes are taken for."""
    return min(-(-length // BYTES_PER_TOKEN), MOST_TOKENS)


def _broken_members(text: str) -> Members:
    try:
        decoded = from_json(text.rstrip(_NUMBER_CHARACTERS), allow_partial=True)
    except ValueError:
        return []
    return list(decoded.items()) if isinstance(decoded, Mapping) else []


def _name(value: str) -> str:
    """Return the name without what no text can hold: JSON can spell half a character."""
    return bounded_text(value.encode("utf-8", "replace").decode())


def _positive(value: Any) -> int:
    """Return a count above 0, however it is spelled: 50, 50.0 and "50" are one to many servers; 0 = none is said."""
    if isinstance(value, str) and len(value) <= _MOST_NUMBER_CHARACTERS:
        value = _number(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        return 0
    if value >= MOST_TOKENS:
        return MOST_TOKENS
    return int(value) if value == int(value) else 0


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _prompts(value: Any) -> int:
    """Return how many prompts there are; a list of numbers is one prompt in tokens."""
    return max(len(value), 1) if isinstance(value, list) and not any(isinstance(each, int) for each in value) else 1
