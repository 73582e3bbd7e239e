"""The declared fields of an element that was refused or contradicts another: all that may be kept of it. Pure.

No messages, no answer, no headers, no keys in clear: only fields that the structs of litellm_payload and its neighbours
declare, and of these only texts, numbers, booleans and short lists of them; of what is only counted, the length. What
else stands in their place becomes `{}` or `[]`, so that the document is refused for the same reason when tried again.
"""

import re
from typing import Any, Final, get_args

import msgspec

from service.events.fields import MAX_TEXT, first_byte
from service.events.litellm_answer import (
    MAX_COUNTED_BYTES,
    AnswerMeta,
    AnswerPart,
    BuiltInTools,
    Choice,
    GuardrailRun,
    ModelParameters,
    OutputItem,
    SearchOptions,
    SessionEvent,
    Tool,
    ToolUsage,
    UsageInfo,
)
from service.events.litellm_payload import Payload, PriceMapValue, ResponsePart, UsagePart
from service.events.litellm_tool_calls import ToolCall
from service.events.repair import repair_element

MAX_DOCUMENT_BYTES: Final = 131_072
_MAX_ITEMS: Final = 64
_MAX_COLLECTION_BYTES: Final = 65_536
_KEPT_CHARACTERS: Final = 200
_EMPTY_OBJECT: Final = re.compile(rb"\{\s*\}")

_DECODE_ERRORS: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_TEXT = msgspec.json.Decoder(str)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MAP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ABSENT: Final = msgspec.Raw(b"")
# What the database's own numbers can hold; anything wilder is kept as text.
_NUMBER = re.compile(rb"-?\d{1,64}(\.\d{1,64})?([eE][+-]?\d{1,3})?")
_WORDS: Final = (b"true", b"false", b"null")

# What an undecoded field holds if it holds an object; of any other one only that it was there is kept.
_OBJECTS_IN_RAW: Final[dict[str, tuple[type[msgspec.Struct], ...]]] = {
    "response": (ResponsePart, AnswerPart),
    "usage": (UsagePart,),
    "usage_object": (UsagePart,),
    "model_map_value": (PriceMapValue,),
    "model_parameters": (ModelParameters,),
    "standard_built_in_tools_params": (BuiltInTools,),
    "web_search_options": (SearchOptions,),
    "mcp_tool_call_metadata": (ToolCall,),
    "meta": (AnswerMeta,),
    "usage_info": (UsageInfo,),
    "tool_usage": (ToolUsage,),
    "output": (OutputItem,),
    "choices": (Choice,),
    "results": (SessionEvent,),
    "tools": (Tool,),
    "guardrail_information": (GuardrailRun,),
}
_MAPS_IN_RAW: Final = frozenset({"additional_costs", "quantities", "tool_name_to_cost_per_query", "guardrail_usage"})
# Lists of objects that are looked at one by one.
_LISTS: Final = frozenset({"output", "choices", "results", "tools", "annotations", "guardrail_information"})
# Only their length is ever read: what is in them is content.
_COUNTED: Final = frozenset({"data", "pages", "query"})
_MAX_COUNTED: Final = 4096

_encode = msgspec.json.Encoder(decimal_format="number").encode


def declared_document(element: Payload | bytes) -> bytes | None:
    """Return the declared fields as JSON; None for what is no JSON object, or would be too large."""
    try:
        raw = _encode(element) if isinstance(element, Payload) else element
        raw = repair_element(raw) or raw
        document = _encode(_PAYLOAD_VIEW.project(raw))
    except _DECODE_ERRORS:
        return None
    return document if len(document) <= MAX_DOCUMENT_BYTES else None


class _View:
    """A struct like declared ones together, in which every field stays undecoded."""

    def __init__(self, *declared: type[msgspec.Struct]) -> None:
        fields = list({field.name: field for each in declared for field in msgspec.structs.fields(each)}.values())
        self._names = [(field.name, field.encode_name) for field in fields]
        self._views = {field.encode_name: _view_below(field) for field in fields}
        view = msgspec.defstruct(
            f"{declared[0].__name__}View",
            [(field.name, msgspec.Raw, _ABSENT) for field in fields],
            rename=dict(self._names),
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(view)

    def project(self, raw: bytes | msgspec.Raw) -> dict[str, Any]:
        """Return the declared fields of an object that are there."""
        view = self._decoder.decode(raw)
        values = ((wire_name, getattr(view, name)) for name, wire_name in self._names)
        return {name: self._keep(name, value) for name, value in values if memoryview(value).nbytes}

    def _keep(self, name: str, value: msgspec.Raw) -> Any:
        first, view = first_byte(value), self._views[name]
        if name in _COUNTED or name in _LISTS:
            items = _counted_items(value) if first == b"[" else []
            return [{} if view is None else view.project_item(item) for item in items]
        if first != b"{":
            return _keep_plain(value)
        if view is not None:
            return view.project(value)
        if name in _MAPS_IN_RAW:
            return _keep_map(value)
        # An empty object may stand for nothing; one with contents, which are not kept, must not become one.
        return {} if _EMPTY_OBJECT.fullmatch(bytes(value)) else {"": None}

    def project_item(self, raw: msgspec.Raw) -> Any:
        """Return the same of one of a list; what is no object in it becomes `[]`."""
        return self.project(raw) if first_byte(raw) == b"{" else []


def _view_below(field: msgspec.structs.FieldInfo) -> _View | None:
    """Return the view of the struct a field holds, if it holds one."""
    declared = _OBJECTS_IN_RAW.get(field.encode_name, ()) if field.type is msgspec.Raw else _structs_in(field.type)
    return _View(*declared) if declared else None


def _structs_in(union: Any) -> tuple[type[msgspec.Struct], ...]:
    """Return the struct of a union, or of a list in it."""
    for each in get_args(union):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return (each,)
        found = _structs_in(each)
        if found:
            return found
    return ()


def _counted_items(value: msgspec.Raw) -> list[msgspec.Raw]:
    return [] if memoryview(value).nbytes > MAX_COUNTED_BYTES else _LIST.decode(value)[:_MAX_COUNTED]


def _keep_plain(value: msgspec.Raw) -> Any:
    """Return a text, a number, a boolean, null, or a list of them."""
    first = first_byte(value)
    if first == b'"':
        return _keep_text(_TEXT.decode(value))
    if first == b"[":
        return _keep_list(value)
    if first == b"{":
        return {}
    text = bytes(value)
    return msgspec.Raw(text) if text in _WORDS or _NUMBER.fullmatch(text) else _keep_text(text.decode("ascii"))


def _keep_text(text: str) -> str:
    kept = text if len(text) <= MAX_TEXT else f"{text[:_KEPT_CHARACTERS]}…"
    return kept.replace("\x00", "\ufffd")


def _keep_list(value: msgspec.Raw) -> list[Any]:
    if memoryview(value).nbytes > _MAX_COLLECTION_BYTES:
        return []
    items = _LIST.decode(value)[:_MAX_ITEMS]
    return [[] if first_byte(item) == b"[" else _keep_plain(item) for item in items]


def _keep_map(value: msgspec.Raw) -> dict[str, Any]:
    if memoryview(value).nbytes > _MAX_COLLECTION_BYTES:
        return {}
    items = list(_MAP.decode(value).items())[:_MAX_ITEMS]
    return {_keep_text(name): [] if first_byte(item) == b"[" else _keep_plain(item) for name, item in items}


_PAYLOAD_VIEW: Final = _View(Payload)
