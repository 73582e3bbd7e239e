"""What is read of the answer and of the request's parameters to count what was used: never any content. Pure.

Nobody promised what these parts look like: one in a strange shape is as good as absent. Every field that holds content
is skipped undecoded; of lists only their length and the types of their items are looked at.
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from service.events.fields import EMPTY, find_quantity, first_byte, is_object
from service.events.litellm_payload import Payload, UsagePart
from service.kit.money import EXACT, ZERO

T = TypeVar("T")

# Longer lists are not counted: one of tiny items would take some 20 times its length of memory.
MAX_COUNTED_BYTES: Final = 8 << 20

# No answer has so many items; each of them is looked at several times.
_MAX_ITEMS: Final = 10_000
_MAX_GUARDRAILS: Final = 32
_MAX_POLICIES: Final = 32
_LONGEST_POLICY: Final = 64

Number = int | float | None


class AnswerPart(msgspec.Struct, frozen=True, gc=False):
    """What an answer says of its size: images, pages, seconds, billed units, tools."""

    data: msgspec.Raw = EMPTY
    pages: msgspec.Raw = EMPTY
    choices: msgspec.Raw = EMPTY
    results: msgspec.Raw = EMPTY
    meta: msgspec.Raw = EMPTY
    usage_info: msgspec.Raw = EMPTY
    tool_usage: msgspec.Raw = EMPTY
    tools: msgspec.Raw = EMPTY
    duration: msgspec.Raw = EMPTY
    seconds: msgspec.Raw = EMPTY
    size: msgspec.Raw = EMPTY
    quality: msgspec.Raw = EMPTY


class Item(msgspec.Struct, frozen=True, gc=False):
    """One of a list that is only counted."""


class SearchAction(msgspec.Struct, frozen=True, gc=False):
    """What a web search tool did: searched, or only opened a page that it had found."""

    type: str | None = None


class OutputItem(msgspec.Struct, frozen=True, gc=False):
    """One item of a Responses API answer."""

    type: str | None = None
    status: str | None = None
    action: SearchAction | None = None
    container_id: str | None = None


class Tool(msgspec.Struct, frozen=True, gc=False):
    """A tool that was offered to the model; a container named by its id was paid for when it was made."""

    type: str | None = None
    container: msgspec.Raw = EMPTY


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """What a passage of an answer refers to."""

    type: str | None = None


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message of an answer, without its text."""

    annotations: list[Annotation] | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One of the answers of a chat completion."""

    message: Message | None = None


class TranscribedUsage(msgspec.Struct, frozen=True, gc=False):
    """What was transcribed in a session, if that is told in seconds."""

    seconds: msgspec.Raw = EMPTY


class SessionEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a realtime session."""

    type: str | None = None
    usage: TranscribedUsage | None = None


class BilledUnits(msgspec.Struct, frozen=True, gc=False):
    """What a reranker bills."""

    search_units: Number = None
    total_tokens: Number = None


class AnswerMeta(msgspec.Struct, frozen=True, gc=False):
    """`meta` of a reranker's answer."""

    billed_units: BilledUnits | None = None


class UsageInfo(msgspec.Struct, frozen=True, gc=False):
    """`usage_info` of an answer of optical character recognition."""

    pages_processed: Number = None
    pages_processed_annotation: Number = None
    credits: Number = None


class SearchUsage(msgspec.Struct, frozen=True, gc=False):
    """How many searches a provider bills."""

    num_requests: Number = None


class ToolUsage(msgspec.Struct, frozen=True, gc=False):
    """`tool_usage` of a Responses API answer."""

    web_search: SearchUsage | None = None


class GuardrailRun(msgspec.Struct, frozen=True, gc=False):
    """What a guardrail counted, by its policies."""

    guardrail_usage: dict[str, Number] | None = None


class SearchOptions(msgspec.Struct, frozen=True, gc=False):
    """How a web search was asked for."""

    search_context_size: str | None = None


class BuiltInTools(msgspec.Struct, frozen=True, gc=False):
    """`standard_built_in_tools_params`: what the gateway understood of the tools asked for."""

    web_search_options: SearchOptions | None = None


class ModelParameters(msgspec.Struct, frozen=True, gc=False):
    """Parameters of the request that a price depends on."""

    n: msgspec.Raw = EMPTY
    size: msgspec.Raw = EMPTY
    quality: msgspec.Raw = EMPTY
    seconds: msgspec.Raw = EMPTY
    resolution: msgspec.Raw = EMPTY
    query: msgspec.Raw = EMPTY
    max_results: msgspec.Raw = EMPTY
    web_search_options: msgspec.Raw = EMPTY


_USAGE = msgspec.json.Decoder(UsagePart)
_ANSWER = msgspec.json.Decoder(AnswerPart)
_ITEMS = msgspec.json.Decoder(list[Item])
_VALUES = msgspec.json.Decoder(list[msgspec.Raw])
_OUTPUT = msgspec.json.Decoder(list[OutputItem])
_SESSION = msgspec.json.Decoder(list[SessionEvent])
_TOOLS = msgspec.json.Decoder(list[Tool])
_CHOICES = msgspec.json.Decoder(list[Choice])
_META = msgspec.json.Decoder(AnswerMeta)
_USAGE_INFO = msgspec.json.Decoder(UsageInfo)
_TOOL_USAGE = msgspec.json.Decoder(ToolUsage)
_BUILT_IN_TOOLS = msgspec.json.Decoder(BuiltInTools)
_GUARDRAILS = msgspec.json.Decoder(list[GuardrailRun])
_PARAMETERS = msgspec.json.Decoder(ModelParameters)
_SEARCH_OPTIONS = msgspec.json.Decoder(SearchOptions)

_TRANSCRIBED: Final = "conversation.item.input_audio_transcription.completed"

NO_ANSWER: Final = AnswerPart()
NO_PARAMETERS: Final = ModelParameters()
_NO_BILLED_UNITS: Final = BilledUnits()
_NO_USAGE_INFO: Final = UsageInfo()
_NO_SEARCH_USAGE: Final = SearchUsage()


def _open_object(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw) -> T | None:
    return _open(decoder, raw) if is_object(raw) else None


def _open_list(decoder: msgspec.json.Decoder[list[Any]], raw: msgspec.Raw) -> list[Any]:
    if first_byte(raw) != b"[" or memoryview(raw).nbytes > MAX_COUNTED_BYTES:
        return []
    return _open(decoder, raw) or []


def _open(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw) -> T | None:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def open_answer(response: msgspec.Raw) -> AnswerPart:
    """Return what an answer says of its size."""
    return _open_object(_ANSWER, response) or NO_ANSWER


def open_parameters(model_parameters: msgspec.Raw) -> ModelParameters:
    """Return the parameters of the request that a price depends on."""
    return _open_object(_PARAMETERS, model_parameters) or NO_PARAMETERS


def count_items(raw: msgspec.Raw) -> int:
    """Return the length of a list of objects."""
    return len(_open_list(_ITEMS, raw))


def count_values(raw: msgspec.Raw) -> int:
    """Return the length of a list of anything."""
    return len(_open_list(_VALUES, raw))


def open_output(output: msgspec.Raw) -> list[OutputItem]:
    """Return the items of a Responses API answer, without their content."""
    return _open_list(_OUTPUT, output)[:_MAX_ITEMS]


def open_tools(tools: msgspec.Raw) -> list[Tool]:
    """Return the tools that were offered to the model."""
    return _open_list(_TOOLS, tools)


def has_annotation(choices: msgspec.Raw, annotation_type: str) -> bool:
    """Return whether a chat completion refers to something of this type."""
    return any(
        annotation.type == annotation_type
        for choice in _open_list(_CHOICES, choices)
        if choice.message is not None
        for annotation in choice.message.annotations or ()
    )


def open_billed_units(meta: msgspec.Raw) -> BilledUnits:
    """Return what a reranker bills."""
    found = _open_object(_META, meta)
    return (found.billed_units if found else None) or _NO_BILLED_UNITS


def open_usage_info(usage_info: msgspec.Raw) -> UsageInfo:
    """Return how many pages were read."""
    return _open_object(_USAGE_INFO, usage_info) or _NO_USAGE_INFO


def open_search_usage(tool_usage: msgspec.Raw) -> SearchUsage:
    """Return how many web searches the provider bills."""
    found = _open_object(_TOOL_USAGE, tool_usage)
    return (found.web_search if found else None) or _NO_SEARCH_USAGE


def sum_transcribed_seconds(results: msgspec.Raw) -> Decimal:
    """Return how much speech a realtime session transcribed, as far as it is told in seconds."""
    total = ZERO
    for event in _open_list(_SESSION, results):
        if event.type == _TRANSCRIBED and event.usage is not None:
            total = EXACT.add(total, find_quantity(event.usage.seconds))
    return total


def list_guardrail_units(guardrail_information: msgspec.Raw) -> Iterator[tuple[str, Number]]:
    """Yield each policy's name and what a guardrail counted for it."""
    for run in _open_list(_GUARDRAILS, guardrail_information)[:_MAX_GUARDRAILS]:
        policies = (run.guardrail_usage or {}).items()
        yield from islice(
            ((policy, count) for policy, count in policies if len(policy) <= _LONGEST_POLICY), _MAX_POLICIES
        )


def open_usage(usage: msgspec.Raw) -> UsagePart | None:
    """Return a usage object nobody promised to be there."""
    return _open_object(_USAGE, usage)


def find_search_options(payload: Payload) -> SearchOptions | None:
    """Return how a web search was asked for, if one was."""
    built_in = _open_object(_BUILT_IN_TOOLS, payload.standard_built_in_tools_params)
    if built_in is not None and built_in.web_search_options is not None:
        return built_in.web_search_options
    return _open_object(_SEARCH_OPTIONS, open_parameters(payload.model_parameters).web_search_options)
