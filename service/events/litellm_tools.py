"""Counts the built-in tools a call used: web and file searches, grounding on maps, code sessions. Pure.

The gateway charges some of them once per call whatever their number; here each use counts.
"""

from decimal import Decimal
from typing import Final

import msgspec

from service.events.fields import EMPTY, find_number, read_quantity, text_of
from service.events.litellm_answer import (
    AnswerPart,
    OutputItem,
    find_search_options,
    has_annotation,
    open_output,
    open_search_usage,
    open_tools,
    open_usage,
)
from service.events.litellm_counts import Counts
from service.events.litellm_parts import Parts
from service.kit.money import ZERO
from service.pricing import units

# A picture made by another model in the middle of an answer: nothing says which model, or what it charged.
IMAGE_TOOL: Final = "image_generation"

_SEARCH, _FILE_SEARCH, _CODE, _IMAGE = (
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
)
# How the end of a value that is one of these is written; in the middle of a text the quote would be escaped.
_ITEM_TYPES: Final = tuple(f'{item_type}"'.encode() for item_type in (_SEARCH, _FILE_SEARCH, _CODE, _IMAGE))

_IN: Final = "prompt_tokens_details"
_ONE: Final = Decimal(1)
# Two of three signs tell that a chat completion searched: it was asked to, it cites, the gateway charges for a tool.
_ENOUGH_SIGNS: Final = 2


class Tools(msgspec.Struct, frozen=True, gc=False):
    """Uses by unit, those known to be none included; names of tools that were used and are not measured."""

    found: dict[str, Decimal]
    unmeasured: tuple[str, ...] = ()


def may_have_tools(parts: Parts) -> bool:
    """Return whether the event may tell of tools beside its usage object."""
    output, asked = parts.response.output, parts.payload.standard_built_in_tools_params
    if output is not EMPTY:
        items = bytes(output)
        if any(item_type in items for item_type in _ITEM_TYPES):
            return True
    return asked is not EMPTY and bytes(asked).find(b"{", 1) > 0


def read_tools(parts: Parts, counts: Counts, answer: AnswerPart, *, tool_usage_usd: Decimal) -> Tools:
    """Return the uses of built-in tools; `tool_usage_usd` is what the gateway charges for all of them."""
    found = _read_usage(counts)
    items = open_output(parts.response.output)
    if items:
        found = _count_items(items, answer) | found
    elif units.WEB_SEARCHES not in found:
        found |= _find_in_chat(parts, answer, bool(tool_usage_usd))
    return Tools(found, (IMAGE_TOOL,) if any(item.type == _IMAGE for item in items) else ())


def _read_usage(counts: Counts) -> dict[str, Decimal]:
    part, inputs, path = counts.part, counts.inputs, counts.path
    tools, xai = part.server_tool_use, part.server_side_tool_usage_details
    searches = (
        read_quantity(inputs.web_search_requests, path, _IN, "web_search_requests"),
        read_quantity(tools.web_search_requests, path, "server_tool_use.web_search_requests") if tools else ZERO,
        read_quantity(xai.web_search_calls, path, "server_side_tool_usage_details.web_search_calls") if xai else ZERO,
        read_quantity(part.num_search_queries, path, "num_search_queries"),
    )
    maps = read_quantity(inputs.google_maps_grounding_requests, path, _IN, "google_maps_grounding_requests")
    found = {units.WEB_SEARCHES: next(filter(None, searches), ZERO), units.MAPS_QUERIES: maps}
    return {unit: quantity for unit, quantity in found.items() if quantity}


def _count_items(items: list[OutputItem], answer: AnswerPart) -> dict[str, Decimal]:
    """Return what the items of a Responses API answer tell; a failed search is not charged."""
    done = [item for item in items if item.status != "failed"]
    counted: dict[str, Decimal] = {}
    if any(item.type == _SEARCH for item in done):
        billed = find_number(open_search_usage(answer.tool_usage).num_requests)
        counted[units.WEB_SEARCHES] = billed or Decimal(sum(map(_is_search, done)))
    file_searches = sum(item.type == _FILE_SEARCH for item in done)
    if file_searches:
        counted[units.FILE_SEARCHES] = Decimal(file_searches)
    containers = {item.container_id for item in done if item.type == _CODE}
    if containers:
        counted[units.CODE_SESSIONS] = ZERO if _had_container(answer) else Decimal(len(containers))
    return counted


def _is_search(item: OutputItem) -> bool:
    """Return whether the item is a web search; opening a page that was found is none."""
    return item.type == _SEARCH and (item.action is None or item.action.type in (None, "search"))


def _had_container(answer: AnswerPart) -> bool:
    """Return whether the code ran in a container made before, which was charged then."""
    return any(
        tool.type == "code_interpreter" and text_of(tool.container) is not None for tool in open_tools(answer.tools)
    )


def _find_in_chat(parts: Parts, answer: AnswerPart, is_charged: bool) -> dict[str, Decimal]:
    """Return what an answer without counts tells: one search, if it searched at all."""
    if is_charged:
        usage = open_usage(parts.response.usage)
        tools = usage.server_tool_use if usage else None
        searches = find_number(tools.web_search_requests) if tools else ZERO
        if searches:
            return {units.WEB_SEARCHES: searches}
    is_asked = find_search_options(parts.payload) is not None
    is_cited = has_annotation(answer.choices, "url_citation")
    if is_asked + is_cited + is_charged >= _ENOUGH_SIGNS:
        return {units.WEB_SEARCHES: _ONE}
    if is_charged and has_annotation(answer.choices, "file_citation"):
        return {units.FILE_SEARCHES: _ONE}
    return {}
