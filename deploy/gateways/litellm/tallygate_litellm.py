"""Tallygate for the LiteLLM proxy: asks before each call, reports after it. README.md says how to use and set it.

Guarantees: no call goes on that Tallygate denied; what LiteLLM hands over as an event is on disk before anything else
happens to it, and is sent until Tallygate answered for it. Needs what LiteLLM brings, on Python >= 3.9 and POSIX.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import json
import logging
import math
import os
import queue
import random
import re
import sqlite3
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from errno import ENOTDIR
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
from litellm.integrations.custom_logger import CustomLogger

try:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
except ImportError as missing:
    raise ImportError("Tallygate's adapter needs a POSIX system: its spool is locked by flock().") from missing

log = logging.getLogger("tallygate")

_JSON: Final = {"content-type": "application/json"}
_OK: Final = 200
_ACCEPTED: Final = 202
_UNAUTHORIZED: Final = frozenset({401, 403, 404})
_TOO_LARGE_OR_MALFORMED: Final = frozenset({400, 413, 422})
_DENIALS: Final = frozenset({402, 403, 422, 429})
_HOLD_IS_OVER: Final = frozenset({404, 409})

_MIB: Final = 1 << 20
_LONGEST_TEXT: Final = 1024
_MOST_TAGS: Final = 32
_MOST_AUTOMATIC_TAGS: Final = 8
_LONGEST_TAG: Final = 256
_MOST_FALLBACKS: Final = 8
_MOST_TOKENS: Final = 10**12


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- Settings ---------------------------------------------------------------------------------------------------------


class Settings(NamedTuple):
    """What the environment says; README.md lists the variables."""

    url: str
    token: str
    check: bool = True
    deadline_seconds: float = 0.1
    on_unreachable: str = "allow"
    denial_seconds: float = 1.0
    hold_seconds: int = 900
    spool_directory: Path = Path("tallygate-spool")
    spool_bytes: int = 1024 * _MIB
    on_spool_full: str = "drop"
    batch_events: int = 200
    send_timeout_seconds: float = 10.0
    flush_seconds: float = 2.0
    sends_content: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Return the settings; raise ValueError with the variable's name for what cannot be meant."""
        known = _Variables(environment)
        return cls(
            url=known.text("TALLYGATE_URL").rstrip("/"),
            token=known.text("TALLYGATE_TOKEN"),
            check=known.choice("TALLYGATE_CHECK", "true", ("true", "false")) == "true",
            deadline_seconds=known.number("TALLYGATE_DEADLINE_MS", 100, 5, 60_000) / 1000,
            on_unreachable=known.choice("TALLYGATE_ON_UNREACHABLE", "allow", ("allow", "deny")),
            denial_seconds=known.number("TALLYGATE_DENIAL_SECONDS", 1, 0, 60),
            hold_seconds=int(known.number("TALLYGATE_HOLD_SECONDS", 900, 30, 86_400)),
            spool_directory=Path(known.text("TALLYGATE_SPOOL_DIR", "./tallygate-spool")).absolute(),
            spool_bytes=int(known.number("TALLYGATE_SPOOL_MAX_MIB", 1024, 1, 1_000_000)) * _MIB,
            on_spool_full=known.choice("TALLYGATE_ON_SPOOL_FULL", "drop", ("drop", "deny")),
            batch_events=int(known.number("TALLYGATE_BATCH_EVENTS", 200, 1, 5_000)),
            send_timeout_seconds=known.number("TALLYGATE_SEND_TIMEOUT_SECONDS", 10, 0.1, 600),
            flush_seconds=known.number("TALLYGATE_FLUSH_SECONDS", 2, 0, 600),
            sends_content=known.choice("TALLYGATE_SEND_CONTENT", "false", ("true", "false")) == "true",
        )


class _Variables:
    """Reads the environment; every refusal names the variable and what it may be."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str = "") -> str:
        found = self._environment.get(name, "").strip() or default
        if not found:
            raise ValueError(f"{name} is not set: Tallygate's adapter needs its address and a token (see README.md).")
        return found

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        found = self.text(name, default).lower()
        if found not in choices:
            raise ValueError(f"{name} is one of {', '.join(choices)}, not {found!r}.")
        return found

    def number(self, name: str, default: float, least: float, most: float) -> float:
        text = self.text(name, str(default))
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            raise ValueError(f"{name} is a number from {least:g} to {most:g}, not {text!r}.")
        return found


# --- One call under way -----------------------------------------------------------------------------------------------


class CallState:
    """How far a call is; outlives the call itself."""

    is_denied = False
    holds = False
    held_since = 0.0
    renewed_at = 0.0
    has_failed_attempt = False
    denied_routes: Sequence[Mapping[str, Any]] = ()
    allowed_routes: Sequence[Mapping[str, Any]] = ()
    # What was asked, without a hold, and the model groups it was asked about; None: nothing needs asking.
    question: Mapping[str, Any] | None = None
    groups: frozenset[str] = frozenset()
    # The router chooses the provider, whatever is said of it; no hook of the proxy's saw the call.
    is_routed = False
    is_late = False
    # Who asked, by the names of LiteLLM's metadata: what the event says, whatever became of that metadata meanwhile.
    identity: Mapping[str, str | None] = MappingProxyType({})


class Call(dict):  # type: ignore[type-arg]  # rides in LiteLLM's metadata, which some loggers write as JSON
    """What the check of a call leaves for its event. A client cannot forge one: it sends JSON, this is an instance.

    Copies are the same call: while anything of LiteLLM's still refers to it, the call is not over.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.state = CallState()
        self.number = uuid.uuid4().hex

    def __copy__(self) -> Call:
        return self

    def __deepcopy__(self, memo: object) -> Call:
        return self


_CALL_KEY: Final = "tallygate"
_SERVED_KEY: Final = "tallygate_served_model"
_METADATA_KEYS: Final = ("litellm_metadata", "metadata")


def metadata_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata the proxy itself wrote to, known by an object no client can send.

    On some routes that is `litellm_metadata`, and `metadata` is the client's, for the provider.
    """
    found = [each for each in map(data.get, _METADATA_KEYS) if isinstance(each, dict)]
    return next((each for each in found if hasattr(each.get("user_api_key_auth"), "team_id")), {})


def attach_call(data: dict[str, Any], metadata: dict[str, Any], call: Call) -> None:
    """Let the call be found from LiteLLM's events and hooks; nothing of it reaches the provider."""
    if metadata:
        metadata[_CALL_KEY] = call
    details = getattr(data.get("litellm_logging_obj"), "model_call_details", None)
    if isinstance(details, dict):
        details[_CALL_KEY] = call


def find_call(kwargs: Mapping[str, Any] | None) -> Call | None:
    """Return the call an event or a request belongs to."""
    if not isinstance(kwargs, Mapping):
        return None
    places: list[Any] = [kwargs, kwargs.get("litellm_params"), *map(kwargs.get, _METADATA_KEYS)]
    if isinstance(places[1], Mapping):
        places += map(places[1].get, _METADATA_KEYS)
    places.append(getattr(kwargs.get("litellm_logging_obj"), "model_call_details", None))
    found = (place.get(_CALL_KEY) for place in places if isinstance(place, Mapping))
    return next((each for each in found if isinstance(each, Call)), None)


# --- What is asked ----------------------------------------------------------------------------------------------------

# By the call types' names without their leading "a" and "_"; whatever is not named here is a model call with a hold.
_NO_MODEL_RUNS: Final = ("file_", "list_", "cancel_", "delete_", "get_", "retrieve_", "upload_", "vector_store_file")
_NO_MODEL_RUNS_EITHER: Final = _words(
    """add_message create_file create_skill create_thread create_assistants count_tokens vector_store_create
    vector_store_list vector_store_retrieve vector_store_update vector_store_delete video_status video_list
    video_content video_get_character video_retrieve list_mcp_tools"""
)
# Nobody knows before what these cost: they pass while there is money left, and hold nothing.
_COST_UNKNOWN: Final = _words(
    """create_batch create_fine_tuning_job call_mcp_tool create_container create_realtime_client_secret realtime_calls
    create_realtime_transcription_session ingest create_sandbox run_code code_interpreter_tool"""
)


def plain_call_type(call_type: str) -> str:
    """Return one name for `chat`, `achat` and `_achat`."""
    name = str(getattr(call_type, "value", call_type)).lstrip("_")
    is_async = name.startswith("a") and not name.startswith(("anthropic", "add_"))
    return name[1:].lstrip("_") if is_async else name


def is_asked_about(call_type: str) -> bool:
    """Tell whether a call of this type can cost anything."""
    name = plain_call_type(call_type)
    return not (name in _NO_MODEL_RUNS_EITHER or name.startswith(_NO_MODEL_RUNS))


def clean_text(value: object, longest: int = _LONGEST_TEXT) -> str | None:
    """Return a text as Tallygate takes it, or None: clients choose some of these, and must not break the question."""
    if value is None or isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    text = str(value)[:longest].replace("\x00", "").encode("utf-8", "replace").decode("utf-8").strip()
    return text or None


_AUTOMATIC_TAG: Final = "User-Agent:"


def clean_tags(tags: object) -> list[str]:
    """Return the tags as check and event both take them: as many as Tallygate reads, together below 64 KiB of JSON."""
    texts = (_short_tag(tag) for tag in _as_list(tags)[:_MOST_NODES])
    each_once = dict.fromkeys(tag for tag in texts if tag is not None)
    automatic = [tag for tag in each_once if tag.startswith(_AUTOMATIC_TAG)][:_MOST_AUTOMATIC_TAGS]
    chosen = [tag for tag in each_once if not tag.startswith(_AUTOMATIC_TAG)][:_MOST_TAGS]
    return chosen + automatic


def _short_tag(tag: object) -> str | None:
    """Return a long tag cut with a digest, as Tallygate itself would cut it: long ones stay apart."""
    text = clean_text(tag, 10 * _LONGEST_TEXT)
    if text is None or len(text) <= _LONGEST_TAG:
        return text
    return f"{text[:200]}\u2026{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return min(number, _MOST_TOKENS) if number > 0 else None


_IDENTITY: Final = (
    ("api_key", "user_api_key_hash", "api_key"),
    ("team", "user_api_key_team_id", "team_id"),
    ("user", "user_api_key_user_id", "user_id"),
    ("organization", "user_api_key_org_id", "org_id"),
    ("project", "user_api_key_project_id", "project_id"),
    ("end_user", "user_api_key_end_user_id", "end_user_id"),
    ("agent", "agent_id", "agent_id"),
)
# What LiteLLM writes into a client's metadata even where it leaves the rest of it to the client.
_ALWAYS_WRITTEN: Final = ("api_key", "team", "user")
_OF_THE_KEY: Final = ("api_key", "team", "user", "organization", "project")


def identity_of(auth: object, metadata: Mapping[str, Any]) -> Mapping[str, str | None]:
    """Return what an event says of the key that was used; nothing where LiteLLM told neither the key nor of it."""
    if not (metadata or hasattr(auth, "team_id")):
        return {}
    asked = dimensions_of(auth, {}, metadata)
    said = {key: asked.get(dimension) for dimension, key, _ in _IDENTITY if dimension in _OF_THE_KEY}
    return said | {
        "user_api_key_alias": clean_text(metadata.get("user_api_key_alias") or getattr(auth, "key_alias", ""))
    }


def dimensions_of(auth: object, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return who asks, from where LiteLLM takes what its event will say."""
    found: dict[str, Any] = {}
    is_written = auth is not None or hasattr(metadata.get("user_api_key_auth"), "team_id")
    for dimension, key, attribute in _IDENTITY:
        if not (is_written or dimension in _ALWAYS_WRITTEN):
            continue
        # As the event will say it; where LiteLLM wrote nothing (pass-through), as the key says it.
        value = clean_text(metadata.get(key)) or clean_text(getattr(auth, attribute, None))
        if value is not None:
            found[dimension] = value
    end_user = found.get("end_user") or clean_text(data.get("user"))
    if end_user is not None:
        found["end_user"] = end_user
    session = _session_of(data, metadata)
    if session is not None:
        found["session"] = session
    tags = metadata.get("tags")
    if isinstance(tags, (list, tuple)):
        found["tags"] = [tag for tag in clean_tags(tags) if not tag.startswith(_AUTOMATIC_TAG)]
    return found


def _session_of(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """Return the conversation, else the trace, if the client named one; in the order of LiteLLM."""
    candidates = (
        data.get("litellm_session_id"),
        data.get("litellm_trace_id"),
        metadata.get("session_id"),
        metadata.get("trace_id"),
    )
    return next(filter(None, map(clean_text, candidates)), None)


# Where a request keeps what the model reads.
_PROMPTS: Final = (
    "messages",
    "prompt",
    "input",
    "system",
    "instructions",
    "contents",
    "systemInstruction",
    "system_instruction",
    "tools",
    "functions",
    "response_format",
    "query",
    "documents",
    "prediction",
    "text",
    "tool_choice",
    "generationConfig",
    "config",
)
# What no model reads of the rest a client sends, to LiteLLM or with `extra_body` to the provider.
_NOT_READ: Final = _words(
    """model user metadata tags fallbacks context_window_fallbacks content_policy_fallbacks router_settings_override
    proxy_server_request secret_fields stop logit_bias extra_body extra_headers headers cache guardrails mock_response
    custom_llm_provider safety_identifier prompt_cache_key"""
)
_MEDIA_KEYS: Final = _words(
    "url image_url file_url file_uri fileUri image file file_data data b64_json input_image audio_url video_url"
)
# Below these a list of numbers is one of tokens.
_TOKENS_KEYS: Final = ("prompt", "input")
_MEDIA_AT_LEAST: Final = 64
_DATA_URL: Final = re.compile(r"data:[\w.+;=/-]{0,200},")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=-]+")
_MEDIA_TOKENS: Final = 2_000
_BYTES_PER_MEDIA_TOKEN: Final = 20
_MOST_NODES: Final = 20_000


def estimate_input_tokens(data: Mapping[str, Any]) -> int:
    """Return how many tokens the prompt has at most: one per two bytes of text, with media counted by their size.

    No tokenizer: one takes longer than the whole check. Tokens of real texts are three to four bytes long. A prompt of
    more parts than are looked at counts by its bytes.
    """
    total, nodes = 0, 0
    prompts = list(_prompts_of(data))
    pending: list[tuple[str, Any]] = list(prompts)
    while pending:
        name, value = pending.pop()
        nodes += 1
        if isinstance(value, str):
            total += _tokens_of_text(name, value)
        elif isinstance(value, Mapping):
            total += 4 + sum(_size(str(key)) // 2 for key in value)
            nodes += len(value)
            pending += [(str(key), each) for key, each in value.items()] if nodes <= _MOST_NODES else []
        elif isinstance(value, (list, tuple)):
            if name in _TOKENS_KEYS and value and all(isinstance(each, int) for each in value):
                total += len(value)
            else:
                nodes += len(value)
                pending += [(name, each) for each in value] if nodes <= _MOST_NODES else []
        elif isinstance(value, (int, float)):
            total += 1 + (value.bit_length() // 7 if isinstance(value, int) else 8)  # half its digits
        elif value is not None:
            total += 1
        if nodes > _MOST_NODES:
            return min(total + _tokens_by_size(prompts), _MOST_TOKENS)
    return min(total, _MOST_TOKENS)


def _prompts_of(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what the model may read: where prompts are, and whatever else the client sends that is not known."""
    sent, extra = _mapping(_mapping(data.get("proxy_server_request")).get("body")), _mapping(data.get("extra_body"))
    for place, names in ((data, [*_PROMPTS, *sent]), (extra, [*extra])):
        for name in dict.fromkeys(str(each) for each in names):
            is_read = name not in _NOT_READ and not name.startswith("litellm_")
            if is_read and place.get(name) is not None:
                yield name, place[name]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _tokens_by_size(prompts: object) -> int:
    try:
        return len(json.dumps(prompts, default=str, ensure_ascii=False).encode("utf-8", "replace")) // 2
    except (ValueError, RecursionError):
        return _MOST_TOKENS


def _tokens_of_text(name: str, text: str) -> int:
    if name in _MEDIA_KEYS and len(text) >= _MEDIA_AT_LEAST:
        prefix = _DATA_URL.match(text)
        if _BASE64.fullmatch(text, prefix.end() if prefix else 0):
            return _MEDIA_TOKENS + len(text) // _BYTES_PER_MEDIA_TOKEN
    size = _size(text)
    if name in _MEDIA_KEYS and text.startswith(("http://", "https://")):
        return max(_MEDIA_TOKENS, size // 2 + 1)
    return size // 2 + 1


# By call type, which limits the provider gets; where a type is not named, any of them.
_CHAT_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_OUTPUT_LIMITS: Final = {
    "completion": _CHAT_LIMITS,
    "text_completion": _CHAT_LIMITS,
    "anthropic_messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "generate_content": (),
    "generate_content_stream": (),
}
_ANY_LIMIT: Final = (*_CHAT_LIMITS, "max_output_tokens", "max_tokens_to_sample")
_CONFIGURATIONS: Final = ("generationConfig", "generation_config", "config")
# What a model nobody knows may answer at most, where several choices make up the limit.
_LONGEST_ANSWER: Final = 131_072


def output_limit(data: Mapping[str, Any], call_type: str = "", longest_answer: int = _LONGEST_ANSWER) -> int | None:
    """Return how many tokens may come back at most, of all choices together; None when nobody limited it.

    `longest_answer`: what one choice of the model can have, in tokens.
    """
    name = plain_call_type(call_type)
    places = [data, _mapping(data.get("extra_body"))]
    configurations = [_mapping(place.get(each)) for place in places for each in _CONFIGURATIONS]
    limits = [_count(place.get(each)) for place in places for each in _OUTPUT_LIMITS.get(name, _ANY_LIMIT)]
    if name not in _OUTPUT_LIMITS or name.startswith("generate_content"):
        limits += [_count(each.get(key)) for each in configurations for key in ("maxOutputTokens", "max_output_tokens")]
    stated = [limit for limit in limits if limit is not None]
    if any(place.get("additional_drop_params") for place in places):
        stated = []  # it may be the limit that LiteLLM is told to drop
    choices = max(
        1,
        *[_count(place.get(each)) or 1 for place in places for each in ("n", "best_of")],
        *[_count(each.get(key)) or 1 for each in configurations for key in ("candidateCount", "candidate_count")],
    )
    choices *= max(1, *[_number_of_prompts(place.get("prompt")) for place in places])
    if not stated and choices == 1:
        return None
    return min(max(stated or [longest_answer]) * choices, _MOST_TOKENS)


def _number_of_prompts(prompt: object) -> int:
    """Return how many answers a prompt is given: a list is one of several, unless it is one of tokens."""
    prompts = _as_list(prompt)
    return 1 if not prompts or isinstance(prompts[0], int) else len(prompts)


def longest_answer_of(routes: Sequence[Mapping[str, str]], model: str | None) -> int:
    """Return the most tokens one answer of a model can have, as LiteLLM's prices say it."""
    prices = _mapping(getattr(sys.modules.get("litellm"), "model_cost", None))
    names = [name for route in routes for name in route.values()] + [model or ""]
    entries = [_mapping(prices.get(name) or prices.get(name.partition("/")[2])) for name in names]
    limits = [_count(entry.get("max_output_tokens")) for entry in entries]
    return max([limit for limit in limits if limit is not None] or [_LONGEST_ANSWER])


def quantities_of(call_type: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the check says beside tokens, as far as the request tells it."""
    name, found = plain_call_type(call_type), {}
    if name.startswith("image_"):
        found = {
            "quantities": {"output_images": min(_count(data.get("n")) or 1, 1_000)},
            "image_size": clean_text(data.get("size"), 100),
            "image_quality": clean_text(data.get("quality"), 100),
        }
    elif name == "speech":
        found = {"quantities": {"input_characters": characters_of(data)}}
    elif name.startswith("video_") or name == "create_video":
        seconds = _count(data.get("seconds"))
        found = {"quantities": {"output_video_seconds": seconds}} if seconds else {}
    elif name in {"rerank", "search", "vector_store_search"}:
        query = data.get("query")
        found = {"quantities": {"queries": len(query) if isinstance(query, list) and query else 1}}
    return {key: value for key, value in found.items() if value}


def characters_of(data: Mapping[str, Any]) -> int:
    """Return the length of a text to be spoken."""
    text = data.get("input")
    return len(text) if isinstance(text, str) else 0


_FALLBACK_RULES: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def fallback_models(data: Mapping[str, Any], auth: object, router: object) -> list[str]:
    """Return the model groups LiteLLM may turn to when the requested one fails, the first first."""
    if data.get("disable_fallbacks") is True:
        return []
    override, by_key = _mapping(data.get("router_settings_override")), _mapping(getattr(auth, "router_settings", None))
    rules = [
        data.get(name) or override.get(name) or by_key.get(name) or getattr(router, name, None)
        for name in _FALLBACK_RULES
    ]
    requested = clean_text(data.get("model"))
    found: dict[str, None] = {}
    pending = [requested]
    while pending and len(found) < _MOST_FALLBACKS:
        model = pending.pop(0)
        for name in (name for rule in rules for name in _targets(rule, model)):
            if name != requested and name not in found:
                found[name] = None
                pending.append(name)
    return list(found)[:_MOST_FALLBACKS]


def refusal_of(data: Mapping[str, Any], call_type: str) -> str | None:
    """Return why a request is not let through, whatever its budgets say: one that Tallygate could not account for."""
    model = data.get("model")
    if plain_call_type(call_type) == "completion" and isinstance(model, str) and "," in model:
        return "`model` names several models, which would be called all at once: name one."
    if "model" in _mapping(data.get("extra_body")):
        return "`extra_body.model` would replace the model asked for: name it in `model`."
    if data.get("specific_deployment"):
        return "`specific_deployment` would replace the model group asked for: name that in `model`."
    if not all(map(_is_rule, _rules_of(data))):
        return "A fallback is a model's name, or `model` with nothing beside it but " + _AND_WHAT_ELSE
    if len(list(_entries_of(data))) > _MOST_FALLBACKS:
        return f"More than {_MOST_FALLBACKS} fallbacks are named."
    return None


# What a client may send beside a fallback's name: LiteLLM would put anything else over what it knows of the request,
# who asks and what it pays among it.
_OF_FALLBACK: Final = _words(
    """messages tools tool_choice response_format max_tokens max_completion_tokens reasoning_effort temperature top_p
    stop timeout"""
)
_AND_WHAT_ELSE: Final = ", ".join(f"`{name}`" for name in sorted(_OF_FALLBACK)) + "."


def _rules_of(data: Mapping[str, Any]) -> list[Any]:
    """Return the lists of fallbacks a client sent, of all kinds."""
    places = (data, _mapping(data.get("router_settings_override")))
    return [rule for rule in (place.get(name) for place in places for name in _FALLBACK_RULES) if rule]


def _is_rule(rule: object) -> bool:
    """Tell whether a list is one of fallbacks as LiteLLM means it: of names and objects, or of such lists by model."""
    if not isinstance(rule, list):
        return False
    by_model = [entry for entry in rule if isinstance(entry, Mapping) and "model" not in entry]
    others = [entry for entry in rule if entry not in by_model]
    if by_model and any(isinstance(entry, Mapping) for entry in others):
        return False  # LiteLLM would take the lists by model for objects, too
    lists = [each for entry in by_model for each in entry.values()]
    return all(isinstance(each, list) for each in lists) and all(
        _is_fallback(entry) for each in (others, *lists) for entry in each
    )


def _is_fallback(entry: object) -> bool:
    if isinstance(entry, Mapping):
        return isinstance(entry.get("model"), str) and entry.keys() - {"model"} <= _OF_FALLBACK
    return isinstance(entry, str)


def _entries_of(data: Mapping[str, Any]) -> Iterator[Any]:
    """Yield each fallback a client names, also below the models they are for: LiteLLM knows models by several names."""
    for entry in (entry for rule in _rules_of(data) for entry in _as_list(rule)):
        if isinstance(entry, Mapping) and "model" not in entry:
            yield from (each for values in entry.values() for each in (_as_list(values) or [values]))
        else:
            yield entry


def fallbacks_named(data: Mapping[str, Any]) -> list[str]:
    """Return the models a client names as fallbacks."""
    if data.get("disable_fallbacks") is True:
        return []
    names = (clean_text(each.get("model") if isinstance(each, Mapping) else each) for each in _entries_of(data))
    return list(dict.fromkeys(name for name in names if name is not None and name != clean_text(data.get("model"))))


def strip_fallbacks(data: Mapping[str, Any]) -> None:
    """Take out of a client's fallbacks what would replace who asks and what it pays, where nothing is refused."""
    for entry in _entries_of(data):
        if isinstance(entry, dict):
            for name in entry.keys() - _OF_FALLBACK - {"model"}:
                del entry[name]


def attempts_of(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a request as it is sent first, and as a client's fallbacks have it."""
    return [data, *({**data, **each} for each in _entries_of(data) if isinstance(each, Mapping) and len(each) > 1)]


def _targets(rule: object, model: str | None) -> Iterator[str]:
    """Yield what one list of fallbacks names for a model: as LiteLLM writes it, or plain names sent by a client."""
    if not isinstance(rule, (list, tuple)):
        return
    targets: list[Any] = []
    generic: list[Any] = []
    for entry in rule:
        if isinstance(entry, Mapping) and "model" not in entry:
            targets += _as_list(entry.get(model))
            generic += _as_list(entry.get("*"))
        else:
            targets.append(entry)
    for target in targets or generic:
        name = clean_text(target.get("model") if isinstance(target, Mapping) else target)
        if name is not None:
            yield name


_MOST_ROUTES: Final = 8


class Target(NamedTuple):
    """What a client means by a model: the groups it is asked about as, and the deployments LiteLLM chooses among."""

    groups: Sequence[str | None]
    deployments: Sequence[Mapping[str, Any]]


def target_of(model: str | None, router: object, team: str | None = None) -> Target:
    """Return what LiteLLM takes a name for: a group, a deployment by its id, an alias, a pattern, what is sent on.

    In its order. A deployment named by what is sent to the provider is asked about as each group that has it.
    """
    listed = getattr(router, "model_list", None) or ()
    names = getattr(router, "model_names", None) or ()
    by_id = None if model in names else _deployment_of_id(model, router)
    if by_id is not None:
        return Target([clean_text(by_id.get("model_name")) or model], [by_id])
    name = target_of_alias(model, router)
    places = _mapping(getattr(router, "model_name_to_deployment_indices", None)).get(name or "")
    of_teams: Mapping[Any, Any] = _mapping(getattr(router, "team_model_to_deployment_indices", None))
    places = places or of_teams.get((team, name))
    if places or name is None or name in names:
        return Target([model], [_mapping(listed[place]) for place in places or () if place < len(listed)])
    found = _by_pattern(name, router, team)
    if found:
        return Target([model], found)
    found = [each for each in map(_mapping, listed) if _is_sent_as(each, name, team)]
    groups = [clean_text(each.get("model_name")) for each in found] if name == model else []
    return Target(list(dict.fromkeys(each for each in groups if each is not None)) or [model], found)


def _is_sent_as(deployment: Mapping[str, Any], name: str, team: str | None) -> bool:
    is_open = _mapping(deployment.get("model_info")).get("team_id") in {None, team}
    return is_open and _mapping(deployment.get("litellm_params")).get("model") == name


def _by_pattern(name: str, router: object, team: str | None) -> list[Mapping[str, Any]]:
    """Return the deployments of a pattern like `openai/*` that a name matches, with the name put in."""
    of_team = _mapping(getattr(router, "team_pattern_routers", None)).get(team or "")
    for patterns in (getattr(router, "pattern_router", None), of_team):
        find = getattr(patterns, "get_deployments_by_pattern", None)
        with suppress(Exception):  # another version's: nothing is known then, as of a name nobody knows
            found = [each for each in _as_list(find(model=name)) if isinstance(each, Mapping)] if find else []
            if found:
                return found
    default = getattr(router, "default_deployment", None)
    if not isinstance(default, Mapping):
        return []
    return [{**default, "litellm_params": {**_mapping(default.get("litellm_params")), "model": name}}]


def _deployment_of_id(model: str | None, router: object) -> Mapping[str, Any] | None:
    place = _mapping(getattr(router, "model_id_to_deployment_index_map", None)).get(model or "")
    deployments = getattr(router, "model_list", None) or ()
    return _mapping(deployments[place]) if isinstance(place, int) and place < len(deployments) else None


def target_of_alias(model: str | None, router: object) -> str | None:
    """Return the model group behind an alias of the router's, else the model itself."""
    alias = _mapping(getattr(router, "model_group_alias", None)).get(model or "")
    return clean_text(alias.get("model") if isinstance(alias, Mapping) else alias) or model


def routes_of(deployments: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the ways a call may go, each once; none where it cannot be said shortly."""
    found: list[dict[str, str]] = []
    for deployment in deployments:
        route = _route_of(deployment)
        if not route:
            return []
        if route not in found:
            found.append(route)
    return found if len(found) <= _MOST_ROUTES else []


def told_routes(routes: Sequence[dict[str, str]], others: int = 0) -> dict[str, Any]:
    """Return what the check is told of the ways a call may go; `others`: how many fallbacks it is told beside."""
    if len(routes) == 1:
        served = routes[0].get("served_model")
        return {"deployment": routes[0]["deployment"], "served_models": [] if served is None else [served]}
    return {"routes": routes} if routes and len(routes) + others <= _MOST_ROUTES else {}


def _route_of(deployment: Mapping[str, Any]) -> dict[str, str]:
    name = deployment_name(deployment)
    if name is None:
        return {}
    base = clean_text(_mapping(deployment.get("model_info")).get("base_model"))
    # Of a router the base model is the router again.
    is_known = base is not None and "router" not in base
    return {"deployment": name} | ({"served_model": base} if base is not None and is_known else {})


def deployment_name(deployment: object) -> str | None:
    """Return what LiteLLM sends to the provider, with the provider in front, as its event will name it."""
    parameters = _mapping(_mapping(deployment).get("litellm_params"))
    name, provider = clean_text(parameters.get("model")), clean_text(parameters.get("custom_llm_provider"))
    if name is not None and provider is None and "/" not in name:
        provider = _provider_of(name, clean_text(parameters.get("api_base")))
    if name is None or provider is None or name.startswith(f"{provider}/"):
        return name
    return f"{provider}/{name}"


@lru_cache(maxsize=10_000)
def _provider_of(name: str, address: str | None) -> str | None:
    """Return the provider LiteLLM takes a model for that is named without one; None where it knows none."""
    find = getattr(sys.modules.get("litellm"), "get_llm_provider", None)
    try:
        return clean_text(find(model=name, api_base=address)[1]) if find else None
    except Exception:  # noqa: BLE001  # LiteLLM says the same to the client
        return None


# What a client could say of it, instead of the deployment, whose price is then another.
_SAYS_THE_PROVIDER: Final = ("custom_llm_provider", "azure", "deployment_id")


def is_routed(call_type: str, data: Mapping[str, Any]) -> bool:
    """Tell whether the router chooses where a call goes, and not the client or the route itself."""
    name = plain_call_type(call_type)
    goes_elsewhere = "pass_through" in name or "passthrough" in name or name.endswith(("_eval", "_run"))
    return _router() is not None and data.get("model") is not None and not goes_elsewhere


def drop_provider(data: dict[str, Any]) -> None:
    """Take out what a client says of the provider: the deployment says it."""
    for name in _SAYS_THE_PROVIDER:
        data.pop(name, None)


def restore_provider(kwargs: dict[str, Any], router: object) -> None:
    """Give a call that is about to be sent the provider of its deployment, where the router knows that."""
    info = (_mapping(_mapping(kwargs.get(each)).get("model_info")).get("id") for each in _METADATA_KEYS)
    found = next((each for each in (_deployment_of_id(clean_text(i), router) for i in info) if each), None)
    if found is None:
        return
    drop_provider(kwargs)
    provider = _mapping(found.get("litellm_params")).get("custom_llm_provider")
    if provider is not None:
        kwargs["custom_llm_provider"] = provider


def is_allowed_route(group: str, deployment: object, call: Call) -> bool:
    """Tell whether the check lets the call go to a deployment, being in the group that was asked for or a fallback."""
    state = call.state
    fallbacks = {route.get("requested_fallback") for route in (*state.denied_routes, *state.allowed_routes)}
    fallback = group if group in fallbacks else None
    denied = [route for route in state.denied_routes if route.get("requested_fallback") == fallback]
    allowed = [route for route in state.allowed_routes if route.get("requested_fallback") == fallback]
    if not denied or not allowed:
        return not denied
    name = (deployment_name(deployment) or "").lower()
    return not any(str(route.get("deployment")).lower() == name for route in denied)


def _as_list(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


# --- The gate ---------------------------------------------------------------------------------------------------------


class Denial(NamedTuple):
    """What the client is told instead of an answer."""

    status: int
    message: str
    type: str
    headers: dict[str, str]
    detail: Any = None


class UnreachableError(Exception):
    """Tallygate gave no decision; `was_sent` when it may have taken the question all the same."""

    def __init__(self, reason: str, *, was_sent: bool, is_outage: bool = True) -> None:
        super().__init__(reason)
        self.was_sent = was_sent
        # Not so where the answer was about this one question: then others have no part in it.
        self.is_outage = is_outage


class RefusedQuestionError(Exception):
    """Tallygate answered that it does not take such a question."""


class Gate:
    """Asks `POST /v1/check` within the deadline, on connections kept open per event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    async def ask(self, question: dict[str, Any]) -> dict[str, Any] | Denial:
        """Return Tallygate's answer, or the denial to pass on. Raises UnreachableError.

        A question Tallygate does not take is asked once more without what it can do without.
        """
        try:
            return await self._ask_once(question)
        except RefusedQuestionError as error:
            log.error("Tallygate refused a question, which is asked again with less: %s", error)  # noqa: TRY400
        try:
            return await self._ask_once(_bare_question(question))
        except RefusedQuestionError:
            return _NO_QUESTION

    async def _ask_once(self, question: dict[str, Any]) -> dict[str, Any] | Denial:
        # Making a client takes longer than asking: it is no part of the time.
        client = self._client()
        asked = asyncio.ensure_future(
            self._post(client, json.dumps(question, ensure_ascii=False).encode("utf-8", "replace"))
        )
        try:
            if not await self._is_done_in_time(asked):
                raise UnreachableError("no answer within the deadline", was_sent=True)
            return self._read(asked.result())
        except httpx.ConnectError as error:
            raise UnreachableError(f"no connection: {error}", was_sent=False) from error
        except httpx.HTTPError as error:
            raise UnreachableError(f"{type(error).__name__}: {error}", was_sent=True) from error
        finally:
            asked.cancel()

    async def _is_done_in_time(self, asked: asyncio.Future[httpx.Response]) -> bool:
        """Wait for the deadline, and once more where the proxy itself held everything up, as it does when it is new."""
        deadline, started = self._settings.deadline_seconds, time.monotonic()
        await asyncio.wait({asked}, timeout=deadline)
        held_up = time.monotonic() - started - deadline
        if not asked.done() and held_up > deadline / 4:
            await asyncio.wait({asked}, timeout=deadline)
        return asked.done()

    @staticmethod
    async def _post(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
        try:
            return await client.post("/v1/check?enforce=true", content=body, headers=_JSON)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # An idle connection was closed meanwhile; the same question under the same id has one answer.
            return await client.post("/v1/check?enforce=true", content=body, headers=_JSON)

    async def renew(self, reservation_id: str) -> bool | None:
        """Let a hold last its time anew: whether it did, or None where Tallygate did not say."""
        body = json.dumps({"ttl_seconds": self._settings.hold_seconds}).encode()
        try:
            response = await self._client().post(
                f"/v1/reservations/{reservation_id}/renew", content=body, headers=_JSON, timeout=5
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the other holds are renewed all the same
            log.warning("A hold could not be renewed: %r", error)
            return None
        if response.status_code in _HOLD_IS_OVER:
            return False
        if response.status_code != _OK:
            log.warning("A hold could not be renewed: status %d", response.status_code)
            return None
        return True

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx.AsyncClient(
                base_url=self._settings.url,
                headers={"authorization": f"Bearer {self._settings.token}"},
                timeout=3 * self._settings.deadline_seconds,
                limits=httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=30),
                trust_env=False,
            )
        return client

    @staticmethod
    def _read(response: httpx.Response) -> dict[str, Any] | Denial:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code == _OK and isinstance(answer, dict) and isinstance(answer.get("allowed"), bool):
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        if response.status_code in _DENIALS and isinstance(error, dict):
            shown = ("retry-after", "ratelimit", "ratelimit-policy")
            return Denial(
                status=response.status_code,
                message=str(error.get("message")),
                type=str(error.get("type")),
                headers={name: response.headers[name] for name in shown if name in response.headers},
                detail=answer.get("tallygate"),
            )
        reason = f"status {response.status_code}: {response.text[:300]}"
        if response.status_code in _TOO_LARGE_OR_MALFORMED:
            raise RefusedQuestionError(reason)
        is_outage = response.status_code in {401, 403} or response.status_code >= _SERVER_ERRORS
        raise UnreachableError(reason, was_sent=False, is_outage=is_outage)


_SERVER_ERRORS: Final = 500
_NO_QUESTION: Final = Denial(
    400, "Tallygate cannot check this request: a field of it is refused.", "invalid_request_error", {}
)
_INDISPENSABLE: Final = _words(
    """request_id reserve ttl_seconds model deployment fallback_models routes call_type input_tokens max_output_tokens
    estimated_cost_usd dimensions"""
)


def _bare_question(question: Mapping[str, Any]) -> dict[str, Any]:
    """Return a question without what a client words freely."""
    bare = _some(question, _INDISPENSABLE)
    bare["dimensions"] = {
        name: value for name, value in question["dimensions"].items() if name not in {"tags", "session", "end_user"}
    }
    return bare


# --- The spool --------------------------------------------------------------------------------------------------------


class Item(NamedTuple):
    """One thing to tell Tallygate: an event (`body` is what is sent, byte for byte), or a hold to void by its id."""

    kind: str
    body: bytes
    expires_at: float = 0.0


class Stored(NamedTuple):
    """An item on disk, in the order it came."""

    seq: int
    item: Item


EVENT: Final = "event"
VOID: Final = "void"

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS item (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body BLOB NOT NULL, expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS rejected (
    seq INTEGER PRIMARY KEY, rejected_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, reason TEXT NOT NULL,
    body BLOB NOT NULL
);
"""
_MOST_REJECTED: Final = 10_000
_DROP_OLD_REJECTED: Final = """
DELETE FROM rejected WHERE seq NOT IN (SELECT seq FROM rejected ORDER BY seq DESC LIMIT ?)
"""


# The files locked in this process: a forked child closes its copies, or they would stay locked after the parent's end.
_OPEN_LOCKS: Final[set[int]] = set()


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """Open a file to be locked; it is unlocked in the end."""
    number = os.open(str(path), os.O_CREAT | os.O_RDWR, 0o600)
    _OPEN_LOCKS.add(number)
    try:
        yield number
    finally:
        flock(number, LOCK_UN)
        _OPEN_LOCKS.discard(number)
        os.close(number)


def _close_inherited_locks() -> None:
    while _OPEN_LOCKS:
        os.close(_OPEN_LOCKS.pop())


def _make_directory(directory: Path) -> None:
    """Make the spool's directory, or raise OSError that says what is wrong with it."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(ENOTDIR, "TALLYGATE_SPOOL_DIR names no directory", str(directory)) from None


class _Rarely:
    """Lets a message through that is another than the last, and the same once a minute."""

    def __init__(self) -> None:
        self._last = ""
        self._again_at = 0.0

    def is_due(self, message: object) -> bool:
        now, text = time.monotonic(), str(message)
        if text == self._last and now < self._again_at:
            return False
        self._last, self._again_at = text, now + _SAME_MESSAGE_SECONDS
        return True


_SAME_MESSAGE_SECONDS: Final = 60.0


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell a damaged file from a full disk, a lock, a mistake of ours: those have classes of their own."""
    return type(error) is sqlite3.DatabaseError


_Result = TypeVar("_Result")


class Spool:
    """A SQLite file shared by all workers of a proxy: what is stored survives kill -9 and power loss.

    A damaged file is put aside, and what of it can be read is kept, whoever finds it first; the others follow.
    Blocking; one instance is used by one thread.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        _make_directory(directory)
        self._path = directory / "spool.sqlite3"
        self._lock_path = directory / "spool.lock"
        self._database: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._read_from: tuple[int, int] | None = None
        self._reopen(None)

    def _run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Do the work on the file in use; where that turns out damaged, on the one that replaces it."""
        for _ in range(3):
            damage = None
            with _lock_file(self._lock_path) as lock:
                flock(lock, LOCK_SH)
                if self._database is not None and self._opened == self._in_use():
                    try:
                        return work(self._database)
                    except sqlite3.DatabaseError as error:
                        if not _is_damage(error):
                            raise
                        damage = error
            self._reopen(damage)
        raise sqlite3.OperationalError(f"the spool {self._path} is damaged again and again")

    def _in_use(self) -> tuple[int, int] | None:
        """Return which file is the spool at the moment."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _reopen(self, damage: sqlite3.DatabaseError | None) -> None:
        """Open the file in use, and replace it before if it is damaged and nobody else did."""
        with _lock_file(self._lock_path) as lock:
            flock(lock, LOCK_EX)
            is_replaced = self._opened != self._in_use()
            self.close()
            if damage is not None and not is_replaced:
                self._replace(damage)
            try:
                self._database = self._open()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._replace(error)
                self._database = self._open()
            self._opened = self._in_use()

    def _open(self) -> sqlite3.Connection:
        # The file is the operator's alone, like what is in it; SQLite makes those beside it alike.
        os.close(os.open(str(self._path), os.O_CREAT | os.O_RDWR, 0o600))
        for each in self._files():
            with suppress(FileNotFoundError):  # the last of the others closed it
                each.chmod(0o600)
        database = _connect(self._path)
        try:
            # FULL: a commit is on disk when it returns.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_TABLES)
        except BaseException:
            database.close()
            raise
        return database

    def _files(self) -> list[Path]:
        names = (f"{self._path.name}{end}" for end in ("-wal", "-shm", ""))
        return [each for each in map(self._path.with_name, names) if each.exists()]

    def _replace(self, damage: Exception) -> None:
        """Begin anew with what can be read of a damaged file, which is put aside."""
        fresh = self._path.with_name("spool.salvaged")
        for name in (fresh.name, f"{fresh.name}-journal"):
            fresh.with_name(name).unlink(missing_ok=True)
        kept = _salvage(self._path, fresh)
        aside = f"spool.damaged-{int(time.time())}-{uuid.uuid4().hex[:8]}"
        for each in self._files():
            with suppress(FileNotFoundError):
                each.rename(each.with_name(each.name.replace(self._path.name, aside)))
        fresh.rename(self._path)
        log.error("The spool %s is damaged (%s): %d kept, the rest put aside as %s.", self._path, damage, kept, aside)

    def store(self, items: Iterable[Item]) -> int:
        """Store the items, and return how many there was no room for; on disk when it returns."""
        wanted = list(items)
        return self._run(lambda database: self._store(database, wanted))

    def _store(self, database: sqlite3.Connection, items: list[Item]) -> int:
        room = self._max_bytes - _used_bytes(database)
        kept: list[Item] = []
        dropped = 0
        for item in items:
            room -= len(item.body) + 64
            if room >= 0:
                kept.append(item)
            else:
                dropped += 1
        if kept:
            with _transaction(database):
                database.executemany("INSERT INTO item (kind, body, expires_at) VALUES (?, ?, ?)", kept)
        return dropped

    def used_bytes(self) -> int:
        """Return the bytes in use; what was sent makes room again."""
        return self._run(_used_bytes)

    def is_full(self) -> bool:
        """Tell whether there is no room for further events."""
        return self.used_bytes() >= self._max_bytes

    def read(self, limit: int, most_bytes: int, without: Iterable[int] = (), start: int = 0) -> list[Stored]:
        """Return the oldest items from `start` on, at least one if there is any."""
        left_out = list(without)
        found = self._run(lambda database: _read(database, limit, most_bytes, left_out, start))
        self._read_from = self._opened
        return found

    def finish(self, done: Iterable[int], rejected: Mapping[int, str]) -> None:
        """Take out what was taken, and put aside what never will be, with the reason.

        Does nothing where the spool was replaced since it was read: it is read and sent again then.
        """
        finished = list(done)
        self._run(lambda database: self._finish(database, finished, rejected))

    def _finish(self, database: sqlite3.Connection, done: list[int], rejected: Mapping[int, str]) -> None:
        if self._opened != self._read_from:
            return
        with _transaction(database):
            database.executemany(
                "INSERT OR REPLACE INTO rejected (seq, reason, body) SELECT seq, ?, body FROM item WHERE seq = ?",
                [(reason, seq) for seq, reason in rejected.items()],
            )
            database.executemany("DELETE FROM item WHERE seq = ?", [(seq,) for seq in (*done, *rejected)])
            if rejected:
                database.execute(_DROP_OLD_REJECTED, (_MOST_REJECTED,))

    def count(self) -> int:
        """Return how many items wait."""
        return self._run(lambda database: int(database.execute("SELECT count(*) FROM item").fetchone()[0]))

    def rejected(self) -> list[tuple[str, bytes]]:
        """Return what was put aside: reason and body."""
        query = "SELECT reason, body FROM rejected ORDER BY seq"
        rows = self._run(lambda database: database.execute(query).fetchall())
        return [(reason, bytes(body)) for reason, body in rows]

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
        self._database = None


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(str(path), timeout=30, isolation_level=None, check_same_thread=False)
    database.text_factory = lambda text: text.decode("utf-8", "replace")
    return database


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _used_bytes(database: sqlite3.Connection) -> int:
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    (size,) = database.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def _read(
    database: sqlite3.Connection, limit: int, most_bytes: int, left_out: Sequence[int], start: int
) -> list[Stored]:
    found: list[Stored] = []
    size = 0
    but = ", ".join("?" * len(left_out))
    query = f"SELECT seq, kind, body, expires_at FROM item WHERE seq >= ? AND seq NOT IN ({but}) ORDER BY seq LIMIT ?"  # noqa: S608  # marks only
    rows = database.execute(query, (start, *left_out, limit))
    for row in rows:
        if not _is_sound(row):
            raise sqlite3.DatabaseError("a row is malformed")
        seq, kind, body, expires_at = row
        size += len(body)
        if found and size > most_bytes:
            break
        found.append(Stored(seq, Item(kind, body, expires_at)))
    rows.close()
    return found


def _is_sound(row: tuple[Any, ...]) -> bool:
    _, kind, body, expires_at = row
    return kind in {EVENT, VOID} and isinstance(body, bytes) and isinstance(expires_at, float)


_MOST_SALVAGED: Final = 10_000_000
_SALVAGED_AT_ONCE: Final = 500


def _salvage(damaged: Path, fresh: Path) -> int:
    """Copy what can be read into a new file, and return how many items that are; on disk when it returns."""
    source, target = _connect(damaged), _connect(fresh)
    kept = 0
    try:
        fresh.chmod(0o600)
        target.execute("PRAGMA synchronous = FULL")
        target.executescript(_TABLES)
        with _transaction(target):
            for row in filter(_is_sound, _readable_rows(source)):
                target.execute("INSERT INTO item (seq, kind, body, expires_at) VALUES (?, ?, ?, ?)", row)
                kept += 1
    finally:
        source.close()
        target.close()
    return kept


def _readable_rows(source: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Return the rows in their order, without those on pages that cannot be read, which halving finds."""
    newest = _number(source, "SELECT seq FROM sqlite_sequence WHERE name = 'item'")
    newest = _number(source, "SELECT max(seq) FROM item") if newest is None else newest
    oldest = _number(source, "SELECT min(seq) FROM item")
    if newest is None:
        return
    oldest = max(newest - _MOST_SALVAGED, 1) if oldest is None else oldest
    pending = [(oldest, min(newest, oldest + _MOST_SALVAGED))]
    while pending:
        first, last = pending.pop()
        rows: list[tuple[Any, ...]] | None = None
        if last - first < _SALVAGED_AT_ONCE:
            try:
                query = "SELECT seq, kind, body, expires_at FROM item WHERE seq BETWEEN ? AND ? ORDER BY seq"
                rows = source.execute(query, (first, last)).fetchall()
            except sqlite3.Error:
                rows = [] if first == last else None
        if rows is None:
            middle = (first + last) // 2
            pending += [(middle + 1, last), (first, middle)]
        else:
            yield from rows


def _number(source: sqlite3.Connection, query: str) -> int | None:
    try:
        found = source.execute(query).fetchone()
    except sqlite3.Error:
        return None
    return found[0] if found is not None and isinstance(found[0], int) else None


# What may wait for a disk that cannot be written; beyond that it is dropped.
_MOST_IN_MEMORY: Final = 20_000
_MOST_IN_GROUP: Final = 1_000
_LOOK_AGAIN_SECONDS: Final = 1.0


class Writer(threading.Thread):
    """Brings items to disk in groups, off the event loop: one commit for all that came during the last one."""

    def __init__(self, settings: Settings, wake_sender: threading.Event, *, is_full: bool = False) -> None:
        super().__init__(name="tallygate-writer", daemon=True)
        self._settings = settings
        self._wake_sender = wake_sender
        self._queue: queue.SimpleQueue[tuple[Item, Future[None]] | None] = queue.SimpleQueue()
        self.is_full = is_full
        self.dropped = 0

    def put(self, item: Item) -> Future[None]:
        """Return at once; the future is done when the item is on disk. Also safe in finalizers."""
        written: Future[None] = Future()
        if self._queue.qsize() < _MOST_IN_MEMORY:
            self._queue.put((item, written))
        else:
            self.dropped += 1
            written.set_result(None)
        return written

    def stop(self) -> None:
        """End after what was put before."""
        self._queue.put(None)

    def run(self) -> None:
        """Write until told to stop; what cannot be written waits."""
        spool: Spool | None = None
        messages = _Rarely()
        pause = 0.1
        is_ending = False
        while not is_ending:
            group, is_ending = self._next_group()
            is_done = False
            while not is_done:
                try:
                    spool = spool or Spool(self._settings.spool_directory, self._settings.spool_bytes)
                    self._store(spool, group)
                    is_done, pause = True, 0.1
                except (sqlite3.Error, OSError) as error:
                    self.is_full = True
                    waiting = len(group) + self._queue.qsize()
                    if messages.is_due(error):
                        log.error(  # noqa: TRY400  # the reason is in it
                            "The spool cannot be written (%s): %d wait in memory, %d dropped.",
                            error,
                            waiting,
                            self.dropped,
                        )
                    time.sleep(pause)
                    pause = min(pause * 2, 5)
        if spool is not None:
            spool.close()

    def _next_group(self) -> tuple[list[tuple[Item, Future[None]]], bool]:
        """Return what waits, and whether to end then; nothing after a second of a full spool, to look at it again."""
        group: list[tuple[Item, Future[None]]] = []
        try:
            following = self._queue.get(timeout=_LOOK_AGAIN_SECONDS if self.is_full else None)
            while following is not None and len(group) < _MOST_IN_GROUP:
                group.append(following)
                following = self._queue.get_nowait()
        except queue.Empty:
            return group, False
        if following is not None:
            group.append(following)
        return group, following is None

    def _store(self, spool: Spool, group: list[tuple[Item, Future[None]]]) -> None:
        dropped = spool.store([item for item, _ in group])
        if dropped:
            self.dropped += dropped
            log.error(
                "The spool is full (%d MiB): %d dropped, %d in all.",
                self._settings.spool_bytes // _MIB,
                dropped,
                self.dropped,
            )
        self.is_full = dropped > 0 or spool.is_full()
        for _, written in group:
            written.set_result(None)
        self._wake_sender.set()


_LINGER_SECONDS: Final = 0.05
_FIRST_PAUSE_SECONDS: Final = 0.1
_FAILURES_BEFORE_NARROWING: Final = 3
_MOST_LATER: Final = 100
_LATER_SECONDS: Final = 60.0


class Sender(threading.Thread):
    """Sends what is on disk, the oldest first, until Tallygate answered for it. One per spool: a lock elects it."""

    def __init__(self, settings: Settings, wake: threading.Event) -> None:
        super().__init__(name="tallygate-sender", daemon=True)
        self._settings = settings
        self._wake = wake
        self._stopping = threading.Event()
        self._failures = 0
        self._batch = settings.batch_events
        # What Tallygate failed over again and again is sent singly after the others: how often it was, and when next.
        self._later: dict[int, tuple[int, float]] = {}

    def stop(self) -> None:
        """End after the request under way."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Send whenever this process holds the lock."""
        messages = _Rarely()
        directory = self._settings.spool_directory
        while not self._stopping.is_set():
            try:
                _make_directory(directory)
                with _lock_file(directory / "sender.lock") as lock:
                    self._wait_for(lock)
                    if not self._stopping.is_set():
                        self._send_all()
            except (sqlite3.Error, OSError) as error:
                if messages.is_due(error):
                    log.error("The spool cannot be read (%s): nothing is sent until it can.", error)  # noqa: TRY400
                self._stopping.wait(1)
            except Exception as error:  # the one thread that sends must not end of anything
                if messages.is_due(repr(error)):
                    log.exception("Sending is begun anew")
                self._stopping.wait(1)

    def _wait_for(self, lock: int) -> None:
        """Return with the lock of the spool, which the kernel frees when its process ends, however it ends."""
        while not self._stopping.is_set():
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except OSError:
                self._stopping.wait(0.25)
            else:
                return

    def _send_all(self) -> None:
        spool = Spool(self._settings.spool_directory, self._settings.spool_bytes)
        headers = {"authorization": f"Bearer {self._settings.token}"}
        timeout = httpx.Timeout(self._settings.send_timeout_seconds, connect=2)
        try:
            with httpx.Client(base_url=self._settings.url, headers=headers, timeout=timeout, trust_env=False) as client:
                while not self._stopping.is_set():
                    # Cleared before looking: what comes after the look wakes us at once, other workers' within 0.1 s.
                    self._wake.clear()
                    stored = spool.read(self._batch, 8 * _MIB, self._later)
                    if not stored:
                        self._send_later_ones(client, spool)
                        self._wake.wait(0.1)
                        continue
                    if len(stored) < self._batch:
                        # A request for each event costs both sides more than it is worth; holds count meanwhile.
                        self._stopping.wait(_LINGER_SECONDS)
                        stored = spool.read(self._batch, 8 * _MIB, self._later)
                    self._send(client, spool, stored)
        finally:
            spool.close()

    def _send(self, client: httpx.Client, spool: Spool, stored: list[Stored]) -> None:
        """Send one batch; events first, then voids, each as they came."""
        events = [each for each in stored if each.item.kind == EVENT]
        voids = [each for each in stored if each.item.kind == VOID]
        try:
            if events:
                self._send_events(client, spool, events)
                self._failures = 0
                events = []
                self._send_later_ones(client, spool)
            for each in voids:
                self._send_void(client, spool, each)
        except (httpx.HTTPError, _NotTakenError) as error:
            self._pause(error)
            self._narrow(events, error)
        else:
            self._failures = 0

    def _narrow(self, events: list[Stored], error: Exception) -> None:
        """Look for the event Tallygate may fail over: half as many next time, and the others before a single one."""
        if self._failures < _FAILURES_BEFORE_NARROWING or not _is_trouble(error):
            return
        if len(events) > 1:
            self._batch = len(events) // 2
        elif events and len(self._later) < _MOST_LATER:
            log.error("Tallygate fails over an event (%s): it is sent again after the others.", error)
            self._later[events[0].seq] = (0, 0.0)

    def _send_later_ones(self, client: httpx.Client, spool: Spool) -> None:
        """Send singly what was put behind; once one is taken, Tallygate was away, and all the others follow."""
        failures = 0
        for seq in [seq for seq, (_, due_at) in self._later.items() if due_at <= time.monotonic()]:
            stored = spool.read(1, 0, start=seq)
            tries, _ = self._later.pop(seq)
            try:
                if stored and stored[0].seq == seq:
                    self._send_events(client, spool, stored)
                    self._later = {each: (tried, 0.0) for each, (tried, _) in self._later.items()}
            except (httpx.HTTPError, _NotTakenError):
                failures += 1
                rest = min(_FIRST_PAUSE_SECONDS * 2 ** min(tries, 10), _LATER_SECONDS)
                self._later[seq] = (tries + 1, time.monotonic() + rest)
            if failures == _FAILURES_BEFORE_NARROWING or self._stopping.is_set():
                return

    def _send_events(self, client: httpx.Client, spool: Spool, events: list[Stored]) -> None:
        body = b"[" + b",".join([each.item.body for each in events]) + b"]"
        response = client.post("/v1/events?results=problems", content=body, headers=_JSON)
        if response.status_code in _TOO_LARGE_OR_MALFORMED:
            self._divide(spool, events, response)
            return
        if response.status_code not in {_OK, _ACCEPTED}:
            raise _NotTakenError(response)
        answer = _read_answer(response)
        self._batch = min(self._batch * 2, self._settings.batch_events)
        rejected: dict[int, str] = {}
        for result in answer.get("results", ()):
            if result.get("outcome") == "rejected":
                rejected[events[result["index"]].seq] = json.dumps(result.get("error"))
            elif result.get("outcome") == "conflict":
                log.warning(
                    "Tallygate holds an event in quarantine that differs from one under the same id: %s", result
                )
        if response.status_code == _ACCEPTED and answer.get("rejected"):
            raise _NotTakenError(response)
        rejected = {each.seq: rejected[each.seq] for each in events if self._stays_rejected(client, each, rejected)}
        for reason in rejected.values():
            log.error("Tallygate rejected an event; it is kept in the spool's table `rejected`: %s", reason)
        spool.finish([each.seq for each in events if each.seq not in rejected], rejected)

    @staticmethod
    def _stays_rejected(client: httpx.Client, stored: Stored, rejected: Mapping[int, str]) -> bool:
        """Tell whether a rejected event is not even taken without all that its cost does not need."""
        if stored.seq not in rejected:
            return False
        bare = bare_event(stored.item.body)
        if bare is None:
            return True
        body = b"[" + bare + b"]"
        response = client.post("/v1/events?results=problems", content=body, headers=_JSON)
        if response.status_code in _TOO_LARGE_OR_MALFORMED:
            return True
        if response.status_code not in {_OK, _ACCEPTED}:
            raise _NotTakenError(response)
        answer = _read_answer(response)
        if answer.get("rejected") or any(result.get("outcome") == "rejected" for result in answer.get("results", ())):
            return True
        log.error("Tallygate rejected an event, and took its bare figures: %s", rejected[stored.seq])
        return False

    def _divide(self, spool: Spool, events: list[Stored], response: httpx.Response) -> None:
        """Find the one event that a whole body is refused for: half as many next time, and a single one goes aside."""
        if len(events) > 1:
            self._batch = max(len(events) // 2, 1)
            return
        reason = f"{response.status_code}: {response.text[:1000]}"
        log.error("Tallygate refuses an event; it is kept in the spool's table `rejected`: %s", reason)
        spool.finish([], {events[0].seq: reason})

    @staticmethod
    def _send_void(client: httpx.Client, spool: Spool, void: Stored) -> None:
        if void.item.expires_at > time.time():
            response = client.delete("/v1/reservations/" + quote(void.item.body.decode(), safe=""))
            if response.status_code not in {_OK, 404, 422}:
                raise _NotTakenError(response)
        spool.finish([void.seq], {})

    def _pause(self, error: Exception) -> None:
        """Wait longer after each failure, as long as Tallygate asks for, at most a quarter of a minute."""
        self._failures += 1
        seconds = min(_FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 10), 15.0) * random.uniform(0.5, 1)  # jitter
        if isinstance(error, _NotTakenError):
            seconds = max(seconds, min(error.retry_after, 15.0))
        if self._failures in {1, 10} or self._failures % 100 == 0:
            log.warning("Tallygate did not take events (%s): kept and sent again in %.1f s.", error, seconds)
        self._stopping.wait(seconds)


class _NotTakenError(Exception):
    """Tallygate answered, and took nothing."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"status {response.status_code}: {response.text[:300]}")
        self.status = response.status_code
        try:
            self.retry_after = float(response.headers.get("retry-after", 0))
        except ValueError:
            self.retry_after = 0.0


def _is_trouble(error: Exception) -> bool:
    """Tell whether what was sent may be why: a server's error, no answer in time, a connection that broke off."""
    if isinstance(error, _NotTakenError):
        return error.status >= 500
    return isinstance(error, (httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError))


def _read_answer(response: httpx.Response) -> dict[str, Any]:
    """Return the answer. Raises _NotTakenError for what Tallygate does not say (a proxy's page, say)."""
    try:
        answer = response.json()
    except ValueError:
        raise _NotTakenError(response) from None
    if not isinstance(answer, dict) or not {"recorded", "accepted"} & answer.keys():
        raise _NotTakenError(response)
    return answer


# --- What is reported -------------------------------------------------------------------------------------------------

# Of LiteLLM's payload what Tallygate reads (service/events/litellm_payload.py of it); no prompt, no answer, no header.
_KEPT: Final = _words(
    """id litellm_call_id trace_id session_id call_type status stream cache_hit custom_llm_provider startTime endTime
    model model_id model_group response_cost prompt_tokens completion_tokens total_tokens end_user request_tags
    cost_breakdown"""
)
_KEPT_METADATA: Final = _words(
    """user_api_key_hash user_api_key_alias user_api_key_team_id user_api_key_org_id user_api_key_project_id
    user_api_key_user_id user_api_key_end_user_id internal_call_origin usage_object"""
)
_KEPT_PARAMETERS: Final = _words("n size quality seconds resolution max_results")
_KEPT_ANSWER: Final = _words(
    "model status background usage service_tier meta usage_info tool_usage duration seconds size quality"
)
_FALLBACKS_HEADER: Final = "x-litellm-attempted-fallbacks"


def lean_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Tallygate reads of a standard logging payload: a twentieth of its bytes, and nobody's words."""
    hidden, metadata = _mapping(payload.get("hidden_params")), _mapping(payload.get("metadata"))
    price_map = _mapping(payload.get("model_map_information"))
    lean = _some(payload, _KEPT)
    lean["metadata"] = _some(metadata, _KEPT_METADATA) | _lean_tool_call(metadata.get("mcp_tool_call_metadata"))
    lean["hidden_params"] = _some(hidden, ("litellm_model_name", "batch_models", "usage_object"))
    headers = _mapping(hidden.get("additional_headers"))
    if _FALLBACKS_HEADER in headers:
        lean["hidden_params"]["additional_headers"] = {_FALLBACKS_HEADER: headers[_FALLBACKS_HEADER]}
    lean["model_map_information"] = {
        "model_map_key": price_map.get("model_map_key"),
        "model_map_value": _lean_prices(price_map.get("model_map_value")),
    }
    lean["model_parameters"] = _lean_parameters(_mapping(payload.get("model_parameters")))
    lean["standard_built_in_tools_params"] = _lean_tools(payload.get("standard_built_in_tools_params"))
    lean["guardrail_information"] = _lean_guardrails(payload.get("guardrail_information"))
    for name in ("zero_cost_diagnostic", "response_cost_failure_debug_info"):
        if isinstance(payload.get(name), Mapping):
            lean[name] = {}  # that it is there is what counts
    answer = payload.get("response")
    if isinstance(answer, Mapping):
        lean["response"] = _lean_answer(answer)
    return lean


_EVENT_TEXTS: Final = _words(
    "litellm_call_id trace_id session_id call_type custom_llm_provider model model_id model_group end_user status"
)
_EVENT_FLAGS: Final = ("stream", "cache_hit")
_PART_TEXTS: Final = (
    ("metadata", _words("user_api_key_end_user_id user_api_key_alias internal_call_origin")),
    ("cost_breakdown", _words("service_tier data_residency vertex_location")),
    ("hidden_params", _words("litellm_model_name")),
)
_LONGEST_ID: Final = 16_384


def clean_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event Tallygate takes whatever the client sent: of what is of a wrong type nothing is left."""
    cleaned = dict(event) | _cleaned(event, _EVENT_TEXTS)
    if "id" in event:
        cleaned["id"] = clean_text(event["id"], _LONGEST_ID)
    if "request_tags" in event:
        cleaned["request_tags"] = clean_tags(event["request_tags"])
    for name in _EVENT_FLAGS:
        if not isinstance(event.get(name), bool):
            cleaned.pop(name, None)
    for part, names in _PART_TEXTS:
        if isinstance(event.get(part), Mapping):
            cleaned[part] = {**event[part], **_cleaned(event[part], names)}
        else:
            cleaned.pop(part, None)
    return cleaned


_BARE: Final = _words(
    """id litellm_call_id call_type status custom_llm_provider startTime endTime model model_id model_group
    response_cost prompt_tokens completion_tokens metadata response tallygate"""
)
_BARE_PARTS: Final = (
    ("metadata", _KEPT_METADATA - {"user_api_key_end_user_id", "internal_call_origin"}),
    ("response", _words("model usage")),
    ("tallygate", _words("requested_model reservation_id")),
)


def bare_event(body: bytes) -> bytes | None:
    """Return who used how much of what, of an event that was rejected for something else in it; None if it says not."""
    try:
        event = clean_event(_some(_mapping(json.loads(body)), _BARE))
    except (ValueError, RecursionError):
        return None
    if not {"id", "litellm_call_id"} & event.keys():
        return None
    for part, names in _BARE_PARTS:
        if part in event:
            event[part] = _some(_mapping(event[part]), names)
    return encode_event(event)


def _cleaned(found: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: clean_text(found[name]) for name in names if name in found}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _some(found: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name in names and value is not None}


def _types(items: object, *names: str) -> list[dict[str, Any]]:
    return [_some(_mapping(item), names or ("type",)) for item in _as_list(items)]


def _lean_answer(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer's figures; of its lists how long they are and of what types."""
    lean = _some(answer, _KEPT_ANSWER)
    if isinstance(lean.get("meta"), Mapping):
        lean["meta"] = _some(lean["meta"], ("billed_units",))
    for name in ("data", "pages"):
        if name in answer:
            lean[name] = [{} for _ in _as_list(answer[name])]
    if "choices" in answer:
        messages = [_mapping(_mapping(choice).get("message")) for choice in _as_list(answer["choices"])]
        lean["choices"] = [{"message": {"annotations": _types(message.get("annotations"))}} for message in messages]
    if "output" in answer:
        lean["output"] = [
            _some(item, ("type", "status", "container_id")) | {"action": _some(_mapping(item.get("action")), ("type",))}
            for item in map(_mapping, _as_list(answer["output"]))
        ]
    if "tools" in answer:
        lean["tools"] = [
            _some(tool, ("type",))
            | ({"container": tool["container"]} if isinstance(tool.get("container"), str) else {})
            for tool in map(_mapping, _as_list(answer["tools"]))
        ]
    if "results" in answer:
        lean["results"] = _types(answer["results"], "type", "usage")
    return lean


def _lean_tool_call(call: object) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        return {}
    return {"mcp_tool_call_metadata": _some(call, ("name", "mcp_server_name", "mcp_server_cost_info"))}


def _lean_prices(entry: object) -> dict[str, Any] | None:
    if not isinstance(entry, Mapping):
        return None
    prices = {name: rate for name, rate in entry.items() if rate is not None and ("cost" in name or "pricing" in name)}
    # The key stands first, as LiteLLM writes it: Tallygate then need not look at the rest.
    return {"key": entry.get("key")} | prices


def _lean_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    lean = _some(parameters, _KEPT_PARAMETERS)
    if isinstance(parameters.get("web_search_options"), Mapping):
        lean["web_search_options"] = _cleaned(parameters["web_search_options"], ("search_context_size",))
    if isinstance(parameters.get("query"), (list, tuple)):
        lean["query"] = [None] * len(parameters["query"])
    return lean


def _lean_tools(asked: object) -> dict[str, Any]:
    lean = {}
    for name, options in _mapping(asked).items():
        lean[name] = _cleaned(options, ("search_context_size",)) if isinstance(options, Mapping) else None
    return lean


def _lean_guardrails(runs: object) -> list[dict[str, Any]] | None:
    return _types(runs, "guardrail_usage") if isinstance(runs, (list, tuple)) else None


def payload_from_parts(
    kwargs: Mapping[str, Any], answer: object, start: object, end: object, status: str
) -> dict[str, Any]:
    """Return a payload where LiteLLM failed to build its own: what was used is told all the same."""
    answered = _as_json(answer)
    parameters = _mapping(kwargs.get("litellm_params"))
    metadata = metadata_of(parameters) or _mapping(parameters.get("metadata"))
    usage = _as_json(answered.get("usage"))
    info = _mapping(metadata.get("model_info"))
    return {
        "id": answered.get("id") or kwargs.get("litellm_call_id"),
        "litellm_call_id": kwargs.get("litellm_call_id"),
        "trace_id": kwargs.get("litellm_trace_id"),
        "call_type": kwargs.get("call_type"),
        "status": status,
        "stream": kwargs.get("stream"),
        "cache_hit": kwargs.get("cache_hit"),
        "custom_llm_provider": kwargs.get("custom_llm_provider"),
        "startTime": _timestamp(start),
        "endTime": _timestamp(end),
        "model": metadata.get("deployment") or kwargs.get("model"),
        "model_id": info.get("id"),
        "model_group": metadata.get("model_group"),
        "response_cost": kwargs.get("response_cost"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "end_user": kwargs.get("user"),
        "request_tags": metadata.get("tags"),
        "metadata": {**metadata, "usage_object": usage or None},
        "response": answered,
    }


def _as_json(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    dump = getattr(value, "model_dump", None)
    if dump is None:
        return {}
    try:
        dumped = dump(mode="json")
    except Exception:  # noqa: BLE001  # a response nobody can write down says nothing
        return {}
    return dumped if isinstance(dumped, dict) else {}


def _timestamp(moment: Any) -> float:
    try:
        return float(moment.timestamp())
    except (AttributeError, ValueError, OverflowError, OSError):
        return time.time()


def encode_event(event: Mapping[str, Any]) -> bytes:
    """Return the bytes that are stored and sent, also again: JSON without NaN or Infinity, which are no JSON."""
    try:
        return json.dumps(event, default=_plain, allow_nan=False, ensure_ascii=False).encode()
    except Exception:  # noqa: BLE001  # NaN, a circle, half a character, a name that is no text: the event is told all the same
        return json.dumps(_finite(event), allow_nan=False, ensure_ascii=False).encode()


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    with suppress(Exception):  # an object nobody can write down says nothing
        dump = getattr(value, "model_dump", None)
        return str(value) if dump is None else dump(mode="json")
    return None


# In bits; Python does not write down what has more than some thousand digits.
_LONGEST_NUMBER: Final = 1_024


def _finite(value: Any, depth: int = 0) -> Any:
    """Return a copy without what JSON cannot say; circles end at some depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _LONGEST_NUMBER else None
    if depth > 50:
        return None
    if isinstance(value, Mapping):
        return {
            _finite(name if isinstance(name, str) else str(_plain(name))): _finite(each, depth + 1)
            for name, each in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_finite(each, depth + 1) for each in value]
    return _finite(_plain(value), depth + 1)


# --- LiteLLM's callback -----------------------------------------------------------------------------------------------


class _Workers:
    """The threads of one process: started on first use, anew in a child after a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._running: tuple[int, Writer, Sender] | None = None
        self._is_usable = True

    def try_spool(self) -> None:
        """Open the spool once: what is wrong with it is said at the start, and known before the first call."""
        try:
            Spool(self._settings.spool_directory, self._settings.spool_bytes).close()
        except (sqlite3.Error, OSError) as error:
            self._is_usable = False
            done = "denied" if self._settings.on_spool_full == "deny" else "let through, and their cost waits in memory"
            log.error("The spool cannot be used (%s): calls are %s until it can.", error, done)  # noqa: TRY400

    def start(self) -> Writer:
        """Return the writer of this process."""
        running = self._running
        if running is not None and running[0] == os.getpid():
            return running[1]
        with self._lock:
            if self._running is None or self._running[0] != os.getpid():
                wake = threading.Event()
                writer = Writer(self._settings, wake, is_full=not self._is_usable)
                sender = Sender(self._settings, wake)
                writer.start()
                sender.start()
                self._running = (os.getpid(), writer, sender)
            return self._running[1]

    def void(self, reservation_id: str | None) -> None:
        """Have a hold voided, behind the events that came before."""
        if reservation_id is not None:
            self.start().put(Item(VOID, reservation_id.encode(), self._lapses_at()))

    def void_forgotten(self, reservation_id: str, state: CallState) -> None:
        """Have the hold of a call voided that ended without a word. Called by the garbage collector: never waits."""
        running = self._running
        if state.holds and running is not None and running[0] == os.getpid():
            running[1].put(Item(VOID, reservation_id.encode(), self._lapses_at()))

    def _lapses_at(self) -> float:
        """Return when a hold is over anyway, even if this clock is set an hour ahead meanwhile."""
        return time.time() + self._settings.hold_seconds + 3600

    def forget(self) -> None:
        """After a fork: the threads are the parent's, and its lock may be held by one that is not here."""
        _close_inherited_locks()
        self._lock = threading.Lock()
        self._running = None

    def flush(self) -> None:
        """Give what is queued its time to reach the disk, and Tallygate if it answers; what is on disk is safe."""
        if self._running is None or self._running[0] != os.getpid():
            return
        _, writer, sender = self._running
        ends_at = time.monotonic() + self._settings.flush_seconds
        written = writer.put(Item(VOID, b"", 0.0))
        try:
            written.result(self._settings.flush_seconds)
            spool = Spool(self._settings.spool_directory, self._settings.spool_bytes)
            while time.monotonic() < ends_at and spool.count():
                time.sleep(0.02)
            spool.close()
        except Exception as error:  # noqa: BLE001  # the process ends; the spool is sent by the next one
            log.warning("The spool is sent when the proxy starts again: %s", error)
        sender.stop()
        sender.join(max(ends_at - time.monotonic(), 0.1))


_RENEWAL_TICK_SECONDS: Final = 5.0
_RENEWALS_AT_ONCE: Final = 16
_AFTER_FAILURE_SECONDS: Final = 20.0
# Something kept what LiteLLM had of a call that took longer; its hold is not kept alive for it.
_LONGEST_CALL_SECONDS: Final = 6 * 3600.0
# How long LiteLLM's logging waits for an event to be on disk; a disk that takes longer holds nobody up.
_WRITE_SECONDS: Final = 1.0


class _PROXY_Tallygate(CustomLogger):  # noqa: N801  # named so that LiteLLM calls it for `no-log` requests, too
    """Asks before, reports after. One instance per process, named in `litellm_settings.callbacks`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._gate = Gate(settings)
        self._workers = _Workers(settings)
        self._denied_until = 0.0
        self._silent_until = 0.0
        self._holding: weakref.WeakValueDictionary[str, Call] = weakref.WeakValueDictionary()
        self._renewing: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()
        os.register_at_fork(after_in_child=self._workers.forget)
        atexit.register(self._workers.flush)
        self._workers.try_spool()
        self._workers.start()

    # Before the call

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> None:  # noqa: ARG002  # LiteLLM's names
        """Ask Tallygate, and stop the call by an exception LiteLLM passes on as it is."""
        if not isinstance(data, dict):
            return
        await self._gate_call(user_api_key_dict, data, metadata_of(data), call_type)

    async def _gate_call(self, auth: Any, data: dict[str, Any], metadata: dict[str, Any], call_type: Any) -> None:
        """Ask about a call of a type that can cost anything, and note on it what its event repeats."""
        name = str(getattr(call_type, "value", call_type))
        if not is_asked_about(name):
            call = Call()
            call.state.identity = identity_of(auth, metadata)
            attach_call(data, metadata, call)
            return
        dimensions = dimensions_of(auth, data, metadata)
        target = target_of(clean_text(data.get("model")), _router(), dimensions.get("team"))
        call = Call(requested_model=target.groups[0])
        call.state.identity = identity_of(auth, metadata)
        attach_call(data, metadata, call)
        if is_routed(name, data):
            call.state.is_routed = True
            drop_provider(data)
        routes = routes_of(target.deployments)
        question = self._question(auth, data, dimensions, name, call, routes)
        if not self._settings.check:
            call.pop("reservation_id", None)
            strip_fallbacks(data)
            return
        refusal = refusal_of(data, name)
        if refusal is not None:
            call.state.is_denied = True
            raise _stopped(Denial(400, refusal, "invalid_request_error", {}))
        self._note_groups(call, question, clean_text(data.get("model")))
        for group in target.groups[1:]:
            answer = await self._ask_or_stop(call, _about(call, model=group, **told_routes(routes)))
            self._note_routes(call, answer, None)
        await self._decide_on_named(call, fallbacks_named(data), dimensions.get("team"))
        await self._decide(call, question)

    @staticmethod
    def _note_groups(call: Call, question: Mapping[str, Any], model: str | None) -> None:
        """Keep on the call what it was asked about, for what LiteLLM turns to beyond that."""
        call.state.question = {name: value for name, value in question.items() if name not in _OF_ONE_WAY}
        names = [model, call["requested_model"], *question["fallback_models"]]
        names += [target_of_alias(name, _router()) for name in names]
        call.state.groups = frozenset(name for name in names if name is not None)

    async def _decide_on_named(self, call: Call, named: Sequence[str], team: str | None) -> None:
        """Ask about each fallback a client names as if it had asked for that: else it would go round that budget."""
        for name in named:
            target = target_of(name, _router(), team)
            told = told_routes(routes_of(target.deployments))
            for group in target.groups:
                answer = await self._ask_or_stop(call, _about(call, model=group, fallback_models=[], **told))
                self._note_routes(call, answer, name)

    @staticmethod
    def _note_routes(call: Call, answer: Mapping[str, Any] | None, fallback: str | None) -> None:
        """Keep which ways an answer allows and which not; `fallback`: the group they are of, if not the requested."""
        routes = [route for route in _as_list((answer or {}).get("routes")) if isinstance(route, Mapping)]
        routes = routes if fallback is None else [{**route, "requested_fallback": fallback} for route in routes]
        denied = [route for route in routes if route.get("allowed") is False]
        call.state.denied_routes = [*call.state.denied_routes, *denied]
        allowed = [route for route in routes if route.get("allowed") is not False]
        call.state.allowed_routes = [*call.state.allowed_routes, *allowed]

    def _question(
        self,
        auth: Any,
        data: Mapping[str, Any],
        dimensions: Mapping[str, Any],
        call_type: str,
        call: Call,
        routes: Sequence[dict[str, str]],
    ) -> dict[str, Any]:
        """Return the body of the check, and note on the call what its event will repeat."""
        call["session"], call["agent"] = dimensions.get("session"), dimensions.get("agent")
        if plain_call_type(call_type) == "speech":
            call["quantities"] = {"input_characters": characters_of(data)}
        attempts, longest = attempts_of(data), longest_answer_of(routes, call["requested_model"])
        limits = [output_limit(each, call_type, longest) for each in attempts]
        question: dict[str, Any] = {
            "dimensions": dimensions,
            "model": call["requested_model"],
            "call_type": call_type[:100],
            "input_tokens": max(map(estimate_input_tokens, attempts)),
            "max_output_tokens": None if None in limits else max(limit for limit in limits if limit is not None),
            "fallback_models": fallback_models(data, auth, _router()),
            **quantities_of(call_type, data),
        }
        question |= told_routes(routes, len(question["fallback_models"]))
        tier = clean_text(data.get("service_tier"), 100)
        if tier is not None and tier not in {"auto", "default"}:
            question["service_tier"] = tier
        options = data.get("web_search_options")
        if isinstance(options, Mapping):
            question.setdefault("quantities", {})["web_searches"] = 1
            question["search_context_size"] = clean_text(options.get("search_context_size"), 100)
        if plain_call_type(call_type) in _COST_UNKNOWN:
            return question | {"estimated_cost_usd": 0}
        reservation_id = uuid.uuid4().hex
        call["reservation_id"] = reservation_id
        return question | {
            "request_id": reservation_id,
            "reserve": True,
            "ttl_seconds": self._settings.hold_seconds,
        }

    async def _decide(self, call: Call, question: dict[str, Any]) -> None:
        """Let the call go on, or raise what its client is told."""
        if self._settings.on_spool_full == "deny" and self._workers.start().is_full:
            call.state.is_denied = True
            raise _stopped(Denial(503, "What calls cost cannot be recorded at the moment.", "service_unavailable", {}))
        if time.monotonic() < self._denied_until:
            call.state.is_denied = True
            raise _stopped(_UNAVAILABLE)
        answer = await self._ask_or_stop(call, question)
        if answer is None:
            return
        self._note_routes(call, answer, None)
        if answer.get("reservation") is not None:
            self._keep_hold(call)

    async def _ask_or_stop(self, call: Call, question: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer, None where there is none and calls go on then; a denial is raised."""
        try:
            answer = await self._gate.ask(question)
        except UnreachableError as error:
            self._go_on_unasked(call, error)
            return None
        except asyncio.CancelledError:
            self._workers.void(call.get("reservation_id"))
            raise
        if isinstance(answer, Denial):
            call.state.is_denied = True
            raise _stopped(answer)
        return answer

    def _go_on_unasked(self, call: Call, error: UnreachableError) -> None:
        """Do what the operator declared for the time Tallygate cannot be asked."""
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + 10
            done = "let through" if self._settings.on_unreachable == "allow" else "denied"
            log.error("Tallygate cannot be asked (%s): calls are %s.", error, done)
        if self._settings.on_unreachable == "allow":
            if error.was_sent and "reservation_id" in call:
                # It may have been placed: it ends like any other.
                self._keep_hold(call)
            return
        call.state.is_denied = True
        if error.is_outage:
            self._denied_until = time.monotonic() + self._settings.denial_seconds
        if error.was_sent:
            self._workers.void(call.get("reservation_id"))
        raise _stopped(_UNAVAILABLE)

    def _keep_hold(self, call: Call) -> None:
        """Let the hold live as long as the call, and not longer, whatever LiteLLM tells of its end."""
        call.state.holds = True
        call.state.held_since = call.state.renewed_at = time.monotonic()
        self._holding[call["reservation_id"]] = call
        # A client that goes away before the first chunk of a stream ends a call without any callback.
        weakref.finalize(call, self._workers.void_forgotten, call["reservation_id"], call.state).atexit = False
        loop = asyncio.get_running_loop()
        if loop not in self._renewing or self._renewing[loop].done():
            self._renewing[loop] = loop.create_task(self._renew_holds())

    async def _renew_holds(self) -> None:
        """Renew the holds of calls that take long: a stream, a realtime session, a fallback after a failure."""
        while True:
            await asyncio.sleep(min(self._settings.hold_seconds / 3, _RENEWAL_TICK_SECONDS))
            due = self._due_holds(time.monotonic())
            for start in range(0, len(due), _RENEWALS_AT_ONCE):
                group = due[start : start + _RENEWALS_AT_ONCE]
                if not any(await asyncio.gather(*[self._renew(*each) for each in group])):
                    break  # Tallygate is away: the others would wait for nothing

    def _due_holds(self, now: float) -> list[tuple[str, CallState]]:
        """Return the holds to renew, the one that waits longest first."""
        third = self._settings.hold_seconds / 3
        due: list[tuple[str, CallState]] = []
        for reservation_id, call in list(self._holding.items()):
            state = call.state
            # The event of a failed attempt has Tallygate end the hold within a minute; who knows when it gets there.
            rest = min(third, _AFTER_FAILURE_SECONDS) if state.has_failed_attempt else third
            if now > state.held_since + _LONGEST_CALL_SECONDS:
                self._holding.pop(reservation_id, None)
            elif state.holds and now >= state.renewed_at + rest:
                due.append((reservation_id, state))
        return sorted(due, key=lambda each: each[1].renewed_at)

    async def _renew(self, reservation_id: str, state: CallState) -> bool:
        """Renew one hold; tell whether Tallygate answered. Without an answer it stays due."""
        started = time.monotonic()
        is_renewed = await self._gate.renew(reservation_id)
        if is_renewed is False:
            self._holding.pop(reservation_id, None)
        elif is_renewed:
            state.renewed_at = started
        return is_renewed is not None

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: Any,
        messages: Any,  # noqa: ARG002  # LiteLLM's names
        request_kwargs: Any = None,
        parent_otel_span: Any = None,  # noqa: ARG002
    ) -> Any:
        """Leave out the deployments Tallygate denied the call; with none left LiteLLM turns to its fallbacks."""
        call = await self._call_of(request_kwargs, model, "acompletion")
        if call is not None and call.state.is_routed and isinstance(request_kwargs, dict):
            drop_provider(request_kwargs)
        if call is None or not isinstance(healthy_deployments, list):
            return healthy_deployments
        group = clean_text(model) or ""
        if group and call.state.question is not None and group not in call.state.groups:
            await self._ask_about_group(call, group)
        if not call.state.denied_routes:
            return healthy_deployments
        return [each for each in healthy_deployments if is_allowed_route(group, each, call)]

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
        """Ask about a call no other hook saw: one that names a deployment, on a route without the proxy's hooks."""
        if isinstance(kwargs, dict):
            call = await self._call_of(kwargs, None, call_type or "acompletion")
            if call is not None and call.state.is_late:
                restore_provider(kwargs, _router())

    async def _call_of(self, kwargs: Any, model: str | None, call_type: Any) -> Call | None:
        """Return the call of a request; one of a client's that was not asked about yet is asked about now."""
        call = find_call(kwargs)
        if call is None and isinstance(kwargs, dict):
            if _was_stopped.get():
                raise _stopped(_EXCEEDED)
            places = [place for place in map(kwargs.get, _METADATA_KEYS) if isinstance(place, dict)]
            metadata = next((place for place in places if _KEY_OF_CLIENT in place), None)
            if metadata is None:
                return None
            asked_for = model or metadata.get("model_group") or kwargs.get("model")
            await self._gate_late(kwargs, asked_for, metadata, call_type)
            call = find_call({"metadata": metadata})
            if call is not None:
                call.state.is_late = True
        if call is not None and call.state.is_denied:
            raise _stopped(_EXCEEDED)
        return call

    async def _gate_late(self, kwargs: Mapping[str, Any], model: Any, metadata: dict[str, Any], call_type: Any) -> None:
        """Ask about a call no hook saw, with the fallbacks its client sent: LiteLLM took them out of it before."""
        body = _mapping(_mapping(kwargs.get("proxy_server_request")).get("body"))
        taken_out = {name: body[name] for name in _TAKEN_OUT if name in body}
        try:
            await self._gate_call(None, {**taken_out, **kwargs, "model": model}, metadata, call_type)
        except BaseException:
            _was_stopped.set(True)
            raise

    async def _ask_about_group(self, call: Call, group: str) -> None:
        """Ask about a model group LiteLLM turns to that was not foreseen; what is denied of it is left out."""
        call.state.groups |= {group}
        try:
            answer = await self._gate.ask(_about(call, fallback_models=[group]))
        except UnreachableError as error:
            self._go_on_unasked(call, error)
            return
        if isinstance(answer, Denial):
            call.state.denied_routes = [*call.state.denied_routes, {"deployment": None, "requested_fallback": group}]
            return
        routes = [route for route in _as_list(answer.get("routes")) if isinstance(route, Mapping)]
        routes = [route for route in routes if route.get("requested_fallback") == group]
        self._note_routes(call, {"routes": routes}, None)

    # After it

    async def async_logging_hook(self, kwargs: Any, result: Any, call_type: Any) -> tuple[Any, Any]:  # noqa: ARG002  # LiteLLM's names
        """Note which model a stream came from: the payload of a stream names the alias the client asked for instead."""
        served = getattr(result, "model", None)
        if isinstance(kwargs, dict) and kwargs.get("stream") is True and isinstance(served, str):
            kwargs[_SERVED_KEY] = served
        return kwargs, result

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Bring a success to disk; it settles the hold."""
        call = find_call(kwargs)
        if call is not None and call.state.holds:
            call.state.holds = False
            self._holding.pop(call.get("reservation_id", ""), None)
        written = self._record(kwargs, response_obj, start_time, end_time, "success")
        if not self._workers.start().is_full:
            await asyncio.wait({asyncio.wrap_future(written)}, timeout=_WRITE_SECONDS)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Bring a failure to disk: LiteLLM may go on with a retry or a fallback, so the hold stays."""
        call = find_call(kwargs)
        if call is None or not call.state.is_denied:
            # LiteLLM answers the client after this only: it waits for no disk.
            self._record(kwargs, response_obj, start_time, end_time, "failure")
        if call is not None and call.state.holds:
            call.state.has_failed_attempt = True
            call.state.renewed_at = -math.inf  # at once

    async def async_post_call_failure_hook(
        self,
        request_data: Any,
        original_exception: Any,  # noqa: ARG002  # LiteLLM's names
        user_api_key_dict: Any,  # noqa: ARG002
        traceback_str: Any = None,  # noqa: ARG002
    ) -> None:
        """Void the hold: the request is over, with all its retries and fallbacks."""
        call = find_call(request_data)
        if call is not None and call.state.holds:
            call.state.holds = False
            self._holding.pop(call.get("reservation_id", ""), None)
            self._workers.void(call.get("reservation_id"))

    def _record(self, kwargs: Any, answer: Any, start: Any, end: Any, status: str) -> Future[None]:
        """Hand the event to the writer; the future is done when it is on disk."""
        payload = kwargs.get("standard_logging_object")
        if not isinstance(payload, Mapping):
            payload = payload_from_parts(kwargs, answer, start, end, status)
        event = clean_event(payload if self._settings.sends_content else lean_payload(payload))
        served = kwargs.get(_SERVED_KEY)
        if isinstance(served, str) and isinstance(event.get("response"), dict):
            event["response"] = {**event["response"], "model": served}
        call = find_call(kwargs)
        if call:
            event["tallygate"] = {name: value for name, value in call.items() if value is not None}
            if status == "success" and event.get("id") in {None, "", event.get("litellm_call_id")}:
                # Where an answer has no id LiteLLM takes the call's, which a client may choose, and repeat.
                event["id"] = f"{clean_text(event.get('litellm_call_id')) or ''}#{call.number}"
        else:
            event.pop("tallygate", None)
        if call is not None and call.state.identity:
            told = {**_mapping(event.get("metadata")), **call.state.identity}
            event["metadata"] = {name: value for name, value in told.items() if value is not None}
        return self._workers.start().put(Item(EVENT, encode_event(event)))


# Set where a call was stopped that LiteLLM may go on with: a fallback may have other metadata, with no call in it.
_was_stopped: Final[ContextVar[bool]] = ContextVar("tallygate_was_stopped", default=False)
_TAKEN_OUT: Final = (*_FALLBACK_RULES, "router_settings_override", "disable_fallbacks", "specific_deployment")
_EXCEEDED: Final = Denial(402, "Budget has been exceeded!", "budget_exceeded", {})
# Of a question: what holds for the models it was asked about, and its hold.
_OF_ONE_WAY: Final = _words("request_id reserve ttl_seconds deployment served_models routes")
# LiteLLM writes it into the metadata of each request that came with a key.
_KEY_OF_CLIENT: Final = "user_api_key_hash"


def _about(call: Call, **others: Any) -> dict[str, Any]:
    """Return the question of a call about another way it may go, without a hold."""
    return {**(call.state.question or {}), **others}


# A client that was denied while Tallygate is away may try again soon.
_UNAVAILABLE: Final = Denial(
    503, "Budgets cannot be checked at the moment.", "service_unavailable", {"retry-after": "1"}
)


def _stopped(denial: Denial) -> Exception:
    """Return what LiteLLM answers a client with as it is: status, headers, and `error` with type and code."""
    from litellm.proxy._types import ProxyException  # noqa: PLC0415  # half of the proxy hangs on it

    exception = ProxyException(
        message=denial.message,
        type=denial.type,
        param=None,
        code=denial.status,
        headers=dict(denial.headers),
        provider_specific_fields=None if denial.detail is None else {"tallygate": denial.detail},
    )
    # Some routes ask an exception for this instead.
    exception.status_code = denial.status  # type: ignore[attr-defined]
    return exception


def _router() -> object:
    """Return the proxy's router, once there is one."""
    return getattr(sys.modules.get("litellm.proxy.proxy_server"), "llm_router", None)


def __getattr__(name: str) -> Any:
    """Make `handler` when the proxy's configuration asks for it, and not for whoever imports the module's parts."""
    if name != "handler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()["handler"] = _PROXY_Tallygate(Settings.from_environment(os.environ))
    return made
