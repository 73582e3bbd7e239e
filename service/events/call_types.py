"""What each call type of LiteLLM means for the ledger: the one table of keys, billing and finality. Pure.

Every call type exists twice, as `name` and as `aname` (some as `_aname`); the table knows the first form.
"""

from functools import lru_cache
from typing import Final, Literal

import msgspec

from service.pricing import units

Billing = Literal["by_usage", "as_reported", "never"]


class CallKind(msgspec.Struct, frozen=True, kw_only=True):
    """How a call of this type is keyed, billed and settled.

    `billing`: `by_usage` = our own price first; `as_reported` = only what the gateway says it cost, 0 is nothing;
    `never` = no model ran. `is_poll`: asking again for something made earlier, whose result is billed once however
    often it is fetched. `quantity`: what the price is per (a name of pricing.units), where that is not tokens; a
    success is at `least` so many of it. `is_tool_call`: of an MCP tool, whose server may state its price.
    """

    billing: Billing = "by_usage"
    is_poll: bool = False
    is_batch: bool = False
    is_final: bool = True
    is_tool_call: bool = False
    quantity: str | None = None
    least: int = 0


_MODEL_CALL: Final = CallKind()
_NEVER: Final = CallKind(billing="never", is_final=False)
_TOOL: Final = CallKind(billing="as_reported", is_final=False)
_CREATION: Final = CallKind(billing="as_reported", is_final=False)
_POLL: Final = CallKind(is_poll=True)


_SEARCH: Final = CallKind(quantity=units.QUERIES, least=1, is_final=False)


def _priced_by(quantity: str) -> CallKind:
    return CallKind(quantity=quantity)


_KINDS: Final[dict[str, CallKind]] = {
    "image_generation": _priced_by(units.OUTPUT_IMAGES),
    "image_edit": _priced_by(units.OUTPUT_IMAGES),
    "image_variation": _priced_by(units.OUTPUT_IMAGES),
    "realtime": _priced_by(units.INPUT_AUDIO_SECONDS),
    "transcription": _priced_by(units.INPUT_AUDIO_SECONDS),
    "speech": _priced_by(units.INPUT_CHARACTERS),
    "rerank": _priced_by(units.QUERIES),
    "ocr": _priced_by(units.PAGES),
    "search": _SEARCH,
    "vector_store_search": _SEARCH,
    "video_generation": _priced_by(units.OUTPUT_VIDEO_SECONDS),
    "create_video": _priced_by(units.OUTPUT_VIDEO_SECONDS),
    "video_remix": _priced_by(units.OUTPUT_VIDEO_SECONDS),
    "video_edit": _priced_by(units.OUTPUT_VIDEO_SECONDS),
    "video_extension": _priced_by(units.OUTPUT_VIDEO_SECONDS),
    # A batch costs nothing when it is made; retrieving it carries its whole cost, each time anew.
    "create_batch": _CREATION,
    "retrieve_batch": CallKind(is_poll=True, is_batch=True),
    # Reading a response back repeats the usage of the call that made it, unless it was made in the background.
    "get_responses": _POLL,
    "video_status": _POLL,
    "video_retrieve": _POLL,
    "video_retrieve_job": _POLL,
    "video_content": _NEVER,
    "create_file": _NEVER,
    "list_input_items": _NEVER,
    "count_tokens": _NEVER,
    "retrieve_fine_tuning_job": _NEVER,
    "create_fine_tuning_job": _CREATION,
    "get_assistants": _NEVER,
    "create_assistants": _NEVER,
    "create_thread": _NEVER,
    "get_thread": _NEVER,
    "add_message": _NEVER,
    "get_messages": _NEVER,
    "vector_store_create": _NEVER,
    "vector_store_retrieve": _NEVER,
    "vector_store_update": _NEVER,
    "create_container": _CREATION,
    "retrieve_container": _NEVER,
    "upload_container_file": _NEVER,
    "create_skill": _NEVER,
    "create_realtime_client_secret": _NEVER,
    "create_realtime_transcription_session": _NEVER,
    "call_mcp_tool": CallKind(billing="as_reported", is_final=False, is_tool_call=True),
    "create_sandbox": _TOOL,
    "run_code": _TOOL,
    "code_interpreter_tool": _TOOL,
    "send_message": CallKind(billing="as_reported"),
}

_NEVER_BILLED_BEGINNINGS: Final = ("file_", "list_", "cancel_", "delete_", "vector_store_file_")
_NEVER_BILLED_ENDINGS: Final = ("_list", "_delete")


@lru_cache(maxsize=512)
def call_kind(call_type: str) -> CallKind:
    """Return what a call type means; one nobody has heard of is an ordinary, billed model call."""
    names = _names_of(call_type)
    for name in names:
        if name in _KINDS:
            return _KINDS[name]
    for name in names:
        if name.startswith(_NEVER_BILLED_BEGINNINGS) or name.endswith(_NEVER_BILLED_ENDINGS):
            return _NEVER
    return _MODEL_CALL


@lru_cache(maxsize=512)
def canonical_call_type(call_type: str) -> str:
    """Return the one name of a call type known under several (`aretrieve_batch` -> `retrieve_batch`)."""
    return next((name for name in _names_of(call_type) if name in _KINDS), call_type)


def _names_of(call_type: str) -> tuple[str, ...]:
    name = call_type.strip().lower().removeprefix("_")
    return (name, name[1:].removeprefix("_")) if name.startswith("a") else (name,)
