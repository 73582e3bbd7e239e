"""Builders of events: the payload of a small real call with what a test wants otherwise, and its decoded form."""

import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from service.events.usage_event import UsageEvent
from service.identity.dimensions import Dimensions
from service.identity.models import ModelClaims
from service.kit.clock import utc_now
from service.kit.ids import new_id
from service.pricing.usage import PricingBasis, ReportedCost, Usage

CAPTURED = Path(__file__).with_name("data")
# Shortly after the captured calls were made.
CAPTURED_RECEIVED_AT = datetime(2026, 11, 6, 11, 0, tzinfo=UTC)


def captured_body(name: str) -> bytes:
    """Return the body of a captured request, byte for byte."""
    return CAPTURED.joinpath(name).read_bytes()


def captured_events(name: str) -> list[dict[str, Any]]:
    """Return the elements of a captured body."""
    body = captured_body(name)
    if name.endswith(".ndjson"):
        return [msgspec.json.decode(line) for line in body.splitlines()]
    decoded = msgspec.json.decode(body)
    return decoded if isinstance(decoded, list) else [decoded]


@cache
def _plain_chat() -> dict[str, Any]:
    [event] = captured_events("plain_chat.json")
    return event


def a_litellm_event(
    *,
    began_at: datetime | None = None,
    usage: dict[str, Any] | None = None,
    is_new: bool = True,
    **overrides: Any,
) -> dict[str, Any]:
    """Return the payload of a chat completion that began two seconds ago, with ids of its own unless `is_new` is False.

    `overrides` replace top-level fields; a dict given for a field that is a dict is merged into it. `usage` is merged
    into the usage object.
    """
    event = copy.deepcopy(_plain_chat())
    if is_new:
        event["id"] = f"chatcmpl-{new_id()}"
        event["litellm_call_id"] = str(new_id())
        event["trace_id"] = str(new_id())
    start = (began_at or utc_now() - timedelta(seconds=2)).timestamp()
    event |= {"startTime": start, "endTime": start + 0.25, "completionStartTime": start + 0.25}
    event["metadata"]["usage_object"] |= usage or {}
    for name, value in overrides.items():
        is_merged = isinstance(value, dict) and isinstance(event.get(name), dict)
        event[name] = event[name] | value if is_merged else value
    return event


def a_usage_event(**overrides: Any) -> UsageEvent:
    """Return the decoded form of a small chat completion that began two seconds ago.

    Token counts may be given by their names in Usage, tags and people by their names in Dimensions, names of models by
    theirs in ModelClaims; everything else by its name in UsageEvent.
    """
    usage = Usage(**({"input_tokens": 412, "output_tokens": 96} | _taken(overrides, Usage)))
    dimensions = {"team": "team-4f1c", "user": "u-1001", "api_key": "2057f4e5d133d1b9"} | _taken(overrides, Dimensions)
    models = {
        "model_group": "gpt-4.1-mini",
        "model": "openai/gpt-4.1-mini",
        "deployment_model": "openai/gpt-4.1-mini",
        "provider": "openai",
    } | _taken(overrides, ModelClaims)
    event_id = overrides.pop("event_id", None) or f"acompletion:success:{new_id()}:chatcmpl-{new_id()}"
    values = {
        "source": "litellm",
        "event_id": event_id,
        "fingerprint": event_id.encode().ljust(32, b"\0")[:32],
        "fingerprint_version": 1,
        "call_type": "acompletion",
        "status": "success",
        "is_stream": False,
        "is_cache_hit": False,
        "occurred_at": utc_now() - timedelta(seconds=2),
        "duration_ms": 250,
        "request_id": str(new_id()),
        "response_id": f"chatcmpl-{new_id()}",
        "trace_id": str(new_id()),
        "reservation_id": None,
        "attempt": None,
        "is_final": True,
        "dimensions": Dimensions(**dimensions),
        "automatic_tags": (),
        "models": ModelClaims(**models),
        "usage": usage,
        "basis": PricingBasis(call_type="acompletion"),
        "reported": ReportedCost(total_usd=Decimal("0.0003184")),
    }
    return UsageEvent(**(values | overrides))


def _taken(overrides: dict[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Remove what belongs to the struct from the overrides and return it."""
    names = [name for name in struct.__struct_fields__ if name in overrides]
    return {name: overrides.pop(name) for name in names}
