"""Translates LiteLLM's payload of old (`generic_api_use_v1`), whose every value is a text, into today's. Pure.

What Python printed is read field by field and never evaluated. Two things that payload does not say: whether the call
failed (then it has no response) and the gateway's time zone (taken to be UTC).
"""

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from service.events import problems
from service.events.problems import RefusedEventError
from service.events.python_repr import ReprError, read_fields, read_literal, read_texts

_MAX_BYTES: Final = 4 << 20
_MAX_USAGE_TEXT: Final = 16_384

# The response's own text stands behind these fields; nothing of it is read.
_RESPONSE_HEAD = re.compile(r"\w+\(id='[^'\\]*', created=\d+, model='([^'\\]*)'")
_TIME_FORMATS: Final = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S")
_IDENTITY: Final = (
    "user_api_key_hash",
    "user_api_key_alias",
    "user_api_key_team_id",
    "user_api_key_org_id",
    "user_api_key_project_id",
    "user_api_key_user_id",
    "user_api_key_end_user_id",
)
_NO_VALUE: Final = frozenset({"", "None"})


class LegacyPayload(msgspec.Struct, frozen=True, gc=False):
    """The declared fields of the old payload."""

    startTime: str  # noqa: N815  (LiteLLM's name)
    endTime: str  # noqa: N815  (same)
    usage: str
    metadata: str
    cost: str
    id: str = ""
    call_type: str = ""
    cache_hit: str = ""
    model: str = ""
    user: str = ""
    response: str = ""


_LEGACY = msgspec.json.Decoder(LegacyPayload)
_encode = msgspec.json.Encoder(decimal_format="number").encode


def translate_legacy(raw: bytes) -> bytes | None:
    """Return the payload in today's form, or None if it is not of the old one; refuse one that cannot be read."""
    if len(raw) > _MAX_BYTES:
        return None
    try:
        legacy = _LEGACY.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    try:
        return _encode(_translate(legacy, read_fields(legacy.metadata)))
    except (ReprError, RecursionError) as error:
        detail = f"A payload of the old form (generic_api_use_v1) whose metadata cannot be read: {error}."
        raise RefusedEventError(problems.UNREADABLE_LEGACY_PAYLOAD, detail, "metadata") from error


def _translate(legacy: LegacyPayload, metadata: dict[str, str]) -> dict[str, Any]:
    hidden = read_fields(metadata["hidden_params"]) if metadata.get("hidden_params", "").startswith("{") else {}
    model_info = read_fields(metadata["model_info"]) if metadata.get("model_info", "").startswith("{") else {}
    deployment = _text(metadata.get("deployment"))
    answer = _RESPONSE_HEAD.match(legacy.response)
    return {
        "id": legacy.id,
        "litellm_call_id": _text(metadata.get("litellm_call_id")),
        "trace_id": _text(metadata.get("litellm_trace_id")),
        "call_type": legacy.call_type,
        "status": "failure" if legacy.response in _NO_VALUE else "success",
        "cache_hit": legacy.cache_hit == "True",
        "custom_llm_provider": _text(hidden.get("custom_llm_provider")),
        "startTime": _seconds(legacy.startTime),
        "endTime": _seconds(legacy.endTime),
        "model": deployment or legacy.model,
        "model_id": _text(model_info.get("id")),
        "model_group": _text(metadata.get("model_group")),
        "response_cost": _amount(legacy.cost),
        "end_user": None if legacy.user in _NO_VALUE else legacy.user,
        "request_tags": read_texts(metadata.get("tags")),
        "metadata": {name: _text(metadata.get(name)) for name in _IDENTITY} | {"usage_object": _usage(legacy.usage)},
        "hidden_params": {"litellm_model_name": deployment},
        "response": {"model": answer[1]} if answer is not None else None,
        "tallygate": {"requested_model": _text(metadata.get("original_model_group"))},
    }


def _usage(text: str) -> dict[str, Any] | None:
    """Return a printed usage object with the parts it has."""
    if "(" not in text or len(text) > _MAX_USAGE_TEXT:
        return None
    usage: dict[str, Any] = {}
    for name, value in read_fields(text).items():
        usage[name] = _usage(value) if value.endswith(")") else read_literal(value)
    return usage


def _text(value: str | None) -> str | None:
    literal = read_literal(value)
    if not isinstance(literal, str) or not literal:
        return None
    # Python can print half a surrogate pair; UTF-8 cannot hold it.
    return literal.encode("utf-8", "replace").decode()


def _seconds(text: str) -> float | None:
    for time_format in _TIME_FORMATS:
        try:
            return datetime.strptime(text, time_format).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return None


def _amount(text: str) -> Decimal | None:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None
