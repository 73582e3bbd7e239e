"""Reads what a call used beside tokens: images, seconds, pages, queries, searches, as units of the price book. Pure.

Where shapes repeat a quantity, the first that says something counts; they are never added up. What an adapter adds in
`tallygate.quantities` comes before all of them. What the event shows as used but quantifies nowhere is named.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import msgspec

from service.events import problems
from service.events.fields import (
    EMPTY,
    check_quantity,
    decode_part,
    find_number,
    find_quantity,
    read_count,
    read_quantity,
)
from service.events.litellm_answer import (
    NO_ANSWER,
    NO_PARAMETERS,
    AnswerPart,
    ModelParameters,
    count_items,
    count_values,
    list_guardrail_units,
    open_answer,
    open_billed_units,
    open_parameters,
    open_usage_info,
    sum_transcribed_seconds,
)
from service.events.litellm_counts import Counts
from service.events.litellm_parts import Parts
from service.events.litellm_tools import may_have_tools, read_tools
from service.events.problems import RefusedEventError
from service.kit.money import EXACT, ZERO
from service.pricing import units

Found = dict[str, Decimal]

_ADDED: Final = "tallygate.quantities"
_MAX_ADDED_BYTES: Final = 16_384
_LONGEST_NAME: Final = 100
_NULL_BYTES: Final = len("null")
_ADDED_QUANTITIES = msgspec.json.Decoder(dict[str, Decimal])
# Names an adapter may use: those of lines that are derived from something else are none.
_NAMES: Final = units.UNIT_OF.keys() - {units.OUTPUT_PIXELS, units.CALL_SECONDS, units.REQUESTS}
_GUARDRAIL_PREFIX: Final = units.qualified(units.GUARDRAIL_UNITS, "")

_IN: Final = "prompt_tokens_details"
_FROM_INPUTS: Final = (
    ("query_count", units.QUERIES),
    ("character_count", units.INPUT_CHARACTERS),
    ("image_count", units.INPUT_IMAGES),
    ("audio_length_seconds", units.INPUT_AUDIO_SECONDS),
    ("video_length_seconds", units.INPUT_VIDEO_SECONDS),
)
_FROM_USAGE: Final = (("citation_tokens", units.CITATION_TOKENS), ("output_image_count", units.OUTPUT_IMAGES))
# Which seconds a usage object speaks of, by what the call is priced by.
_SECONDS_OF: Final = {
    units.INPUT_AUDIO_SECONDS: units.INPUT_AUDIO_SECONDS,
    units.OUTPUT_VIDEO_SECONDS: units.OUTPUT_VIDEO_SECONDS,
    units.INPUT_CHARACTERS: units.OUTPUT_AUDIO_SECONDS,
}

# Names of what was used and is not measured, beside those of units.
UNKNOWN_SECONDS: Final = "seconds"
OTHER_COSTS: Final = "additional_costs"
OTHER_TOOLS: Final = "tools"


class Used(msgspec.Struct, frozen=True, gc=False):
    """What a call used beside tokens; `answer` and `parameters` as far as they had to be opened."""

    units: tuple[tuple[str, Decimal], ...] = ()
    unmeasured: tuple[str, ...] = ()
    # Tokens that only the answer tells of (a reranker priced by tokens).
    input_tokens: int = 0
    answer: AnswerPart = NO_ANSWER
    parameters: ModelParameters = NO_PARAMETERS


_NOTHING: Final = Used()


def read_used(
    parts: Parts, counts: Counts, *, has_tokens: bool, has_other_costs: bool, tool_usage_usd: Decimal
) -> Used:
    """Return what the call used beside tokens.

    `has_other_costs` and `tool_usage_usd`: what the gateway's own figures say was paid for.
    """
    is_plain = not (
        counts.has_quantities
        or has_other_costs
        or tool_usage_usd
        or parts.kind.quantity is not None
        or parts.added.quantities is not EMPTY
        or memoryview(parts.payload.guardrail_information).nbytes > _NULL_BYTES
        or may_have_tools(parts)
    )
    return _NOTHING if is_plain else _Reading(parts, counts, has_tokens).read(has_other_costs, tool_usage_usd)


class _Reading:
    """What was found so far in one event."""

    def __init__(self, parts: Parts, counts: Counts, has_tokens: bool) -> None:
        self._parts = parts
        self._counts = counts
        self._has_tokens = has_tokens
        self._answer = open_answer(parts.payload.response)
        self._parameters = open_parameters(parts.payload.model_parameters)
        self._found: Found = {}
        self._unmeasured: list[str] = []
        self._input_tokens = 0

    def read(self, has_other_costs: bool, tool_usage_usd: Decimal) -> Used:
        """Return all that was used."""
        quantity, found, unmeasured = self._parts.kind.quantity, self._found, self._unmeasured
        if has_other_costs:
            unmeasured.append(OTHER_COSTS)
        if self._counts.has_quantities:
            self._read_usage_object()
        if quantity is not None and self._parts.payload.status == "success":
            self._read_answer(quantity)
        if quantity is not None and not found and not self._has_tokens and not self._input_tokens:
            unmeasured.append(quantity)
        tools = read_tools(self._parts, self._counts, self._answer, tool_usage_usd=tool_usage_usd)
        unmeasured += tools.unmeasured
        added = _read_added(self._parts.added.quantities)
        all_found = found | tools.found | self._read_guardrails() | added
        if tool_usage_usd and not units.TOOLS & all_found.keys():
            unmeasured.append(OTHER_TOOLS)
        return Used(
            units=tuple((name, amount) for name, amount in all_found.items() if amount),
            unmeasured=_without(unmeasured, added),
            input_tokens=self._input_tokens,
            answer=self._answer,
            parameters=self._parameters,
        )

    def _read_usage_object(self) -> None:
        part, inputs, path = self._counts.part, self._counts.inputs, self._counts.path
        for field, unit in _FROM_INPUTS:
            self._add(unit, read_quantity(getattr(inputs, field), path, _IN, field))
        for field, unit in _FROM_USAGE:
            self._add(unit, read_quantity(getattr(part, field), path, field))
        seconds = read_quantity(part.duration_seconds, path, "duration_seconds") or read_quantity(
            part.seconds, path, "seconds"
        )
        meaning = _SECONDS_OF.get(self._parts.kind.quantity or "")
        if meaning is not None:
            self._add(meaning, EXACT.multiply(seconds, self._number_of_videos()))
        elif seconds and not self._has_tokens:
            self._unmeasured.append(UNKNOWN_SECONDS)

    def _read_answer(self, quantity: str) -> None:
        """Look for what the call is priced by where the usage object did not tell it."""
        reader = _READERS.get(quantity)
        if reader is not None and quantity not in self._found:
            reader(self)

    def read_images(self) -> None:
        """Find how many images were made."""
        answered = Decimal(count_items(self._answer.data))
        self._add(units.OUTPUT_IMAGES, answered or find_quantity(self._parameters.n))

    def read_recording(self) -> None:
        """Find how long a recording is, or what a session transcribed that did nothing else."""
        seconds = find_quantity(self._answer.duration)
        if not seconds and not self._has_tokens:
            seconds = sum_transcribed_seconds(self._answer.results)
            if seconds and OTHER_COSTS in self._unmeasured:
                # The gateway shows the cost of just that.
                self._unmeasured.remove(OTHER_COSTS)
        self._add(units.INPUT_AUDIO_SECONDS, seconds)

    def read_films(self) -> None:
        """Find how long a film is, or several are together."""
        seconds = find_quantity(self._answer.seconds) or find_quantity(self._parameters.seconds)
        self._add(units.OUTPUT_VIDEO_SECONDS, EXACT.multiply(seconds, self._number_of_videos()))

    def _add(self, unit: str, quantity: Decimal) -> None:
        if quantity:
            self._found.setdefault(unit, quantity)

    def _number_of_videos(self) -> Decimal:
        return Decimal(read_count(self._counts.part.video_count, self._counts.path, "video_count") or 1)

    def read_pages(self) -> None:
        """Find how many pages were read."""
        info = open_usage_info(self._answer.usage_info)
        self._add(units.PAGES, find_number(info.pages_processed))
        self._add(units.ANNOTATED_PAGES, find_number(info.pages_processed_annotation))
        self._add(units.CREDITS, find_number(info.credits))
        if not self._found:
            self._add(units.PAGES, Decimal(count_items(self._answer.pages)))

    def _read_guardrails(self) -> Found:
        """Return the units of all guardrails that ran, by policy: each policy has a price of its own."""
        used: Found = {}
        for policy, count in list_guardrail_units(self._parts.payload.guardrail_information):
            name = units.qualified(units.GUARDRAIL_UNITS, policy)
            used[name] = EXACT.add(used.get(name, ZERO), find_number(count))
        return used

    def read_queries(self) -> None:
        """Find how many queries were made, and the tokens a reranker bills instead."""
        billed = open_billed_units(self._answer.meta)
        asked = max(count_values(self._parameters.query), self._parts.kind.least)
        self._add(units.QUERIES, find_number(billed.search_units) or Decimal(asked))
        if not self._has_tokens:
            self._input_tokens = int(find_number(billed.total_tokens))


_READERS: Final[dict[str, Callable[[_Reading], None]]] = {
    units.OUTPUT_IMAGES: _Reading.read_images,
    units.INPUT_AUDIO_SECONDS: _Reading.read_recording,
    units.OUTPUT_VIDEO_SECONDS: _Reading.read_films,
    units.PAGES: _Reading.read_pages,
    units.QUERIES: _Reading.read_queries,
}


def _read_added(raw: msgspec.Raw) -> Found:
    """Return what an adapter measured; refuse a name that no price is for."""
    if raw is EMPTY or bytes(raw) == b"null":
        return {}
    if memoryview(raw).nbytes > _MAX_ADDED_BYTES:
        raise RefusedEventError(problems.LIST_TOO_LONG, f"More than {_MAX_ADDED_BYTES} bytes.", _ADDED)
    added = decode_part(_ADDED_QUANTITIES, raw, _ADDED)
    for name in added:
        if len(name) > _LONGEST_NAME or (name not in _NAMES and not name.startswith(_GUARDRAIL_PREFIX)):
            known = ", ".join(sorted(_NAMES))
            detail = f"No quantity has this name; known are {known}, {_GUARDRAIL_PREFIX}<policy>."
            raise RefusedEventError(problems.INVALID_FIELD, detail, f"{_ADDED}.{name[:_LONGEST_NAME]}")
    return {name: check_quantity(amount, _ADDED, name) for name, amount in added.items()}


def _without(unmeasured: list[str], added: Found) -> tuple[str, ...]:
    """Return, each once, what an adapter has not measured either."""
    known = set(added)
    if any(name.endswith("_seconds") for name in known):
        known.add(UNKNOWN_SECONDS)
    return tuple(name for name in dict.fromkeys(unmeasured) if name not in known)
